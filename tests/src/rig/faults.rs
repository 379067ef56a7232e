//! OpenCL kernels that go wrong on the card: their program comes to no good end, and the next one
//! works.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Rig;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(300);
/// Gives a kernel five seconds.
const PATIENCE: [&str; 2] = ["--timeout", "5"];
/// A kernel of `corpus --faults`, and what the library says of it.
const FAULTS: [(&str, &str); 3] = [
    ("fault_address", "faulted: no page"),
    ("fault_alignment", "misaligned address"),
    ("fault_endless", "takes longer than"),
];
/// What a program has to do after each of them.
const NEXT: &str = "cl_shared_reverse";

/// Runs each, and something good after it.
pub fn run(rig: &Rig<'_>) -> Result<String> {
    for (name, why) in FAULTS {
        let mut command = rig.program(&[], &PATIENCE);
        command.args(["--device", "NVC0", "--faults", name]);
        let ended = rig.run(&mut command, name, LIMIT)?;
        ensure!(
            !ended.status.success(),
            "{name} was taken for a success: {}",
            ended.output
        );
        ensure!(
            ended.output.contains(why),
            "{name} did not lead to {why:?}: {}",
            ended.output
        );
        let mut command = rig.program(&[], &[]);
        command.args(["--device", "NVC0", NEXT]);
        let next = rig.run(&mut command, "next", LIMIT)?;
        ensure!(
            next.status.success(),
            "After {name}, {NEXT} failed: {}",
            next.output
        );
    }
    Ok(format!(
        "{} faults, each reported and survived",
        FAULTS.len()
    ))
}
