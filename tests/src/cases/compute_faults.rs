//! Kernels that go wrong on the card: the guest's driver says so, the program comes to no good end,
//! and the next one works. Some are launched by hand, the others are OpenCL.

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, gputest};
use crate::{Outcome, Step, debian, dmesg::Line};

/// Memory of the card in MiB.
const VRAM_MIB: u32 = 512;

/// How long a guest may take, in seconds.
const TIME_OUT: u64 = 500;

/// A kernel of `corpus --faults`, how many seconds the program may take before it is killed, and
/// what the driver says of it: all the parts, in one line.
const FAULTS: [(&str, u32, &[&str]); 3] = [
    ("fault_address", 120, &["fault", "[PGRAPH]", "NOT_PRESENT"]),
    ("fault_alignment", 120, &["MP trap", "[MISALIGNED_ADDR]"]),
    // Mesa waits for ever; what ends the kernel is that the program is killed, whose channel the
    // driver gives 15 s to become idle.
    ("fault_endless", 40, &["failed to idle channel"]),
];

/// What a program has to do after each of them.
const NEXT: &str = "cl_shared_reverse";

/// On the bare card.
pub fn run(context: &Context<'_>) -> Result<String> {
    let mut steps = vec![Step::new("gputest", "gputest kernels")];
    for (name, seconds, _) in FAULTS {
        let command = format!("timeout -s KILL {seconds} debian corpus --faults {name}");
        steps.push(Step::new(
            name,
            format!("{command}; echo \"ended with $?\""),
        ));
        let next = format!("debian corpus --api opencl {NEXT}");
        steps.push(Step::new(&format!("after-{name}"), next));
    }
    let card = context.card(VRAM_MIB, 0, &[])?;
    let machine = context.debian_machine(&card, 0, steps, TIME_OUT)?;
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;
    context.stop(card)?;
    outcome.step("probe")?;
    outcome.step(debian::STEP)?;
    let by_hand = gputest::verdict(&outcome, "gputest")?;
    for (name, _, parts) in FAULTS {
        judge(&outcome, name, parts).with_context(|| format!("With {name}"))?;
    }
    if let Some(line) = outcome.dmesg.trouble() {
        bail!("The kernel is in trouble: {line}");
    }
    Ok(format!(
        "{by_hand}; {} of OpenCL, each reported and survived",
        FAULTS.len()
    ))
}

fn judge(outcome: &Outcome, name: &str, parts: &[&str]) -> Result<()> {
    let output = &outcome.step(name)?.output;
    ensure!(
        output.contains("ended with ") && !output.contains("ended with 0"),
        "The program took it for a success: {output}"
    );
    let said = |line: &Line| parts.iter().all(|part| line.text.contains(part));
    ensure!(
        outcome.dmesg.lines.iter().any(said),
        "The driver did not say {parts:?}"
    );
    outcome
        .step(&format!("after-{name}"))
        .context("The next program failed")?;
    Ok(())
}
