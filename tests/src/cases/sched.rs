//! Two guests under a scheduler.

use std::fs;
use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::two_vms::directory;
use super::{Context, quiet};
use crate::{Outcome, Step, session::POLL};

/// Memory of each virtual GPU.
const VRAM_MIB: u32 = 256;
/// A machine's time limit in seconds.
const SECONDS: u64 = 400;
/// How the card is shared; time slices, so that channels are taken off and go on.
const POLICY: &[&str] = &["--sched", "drr", "--timeslice", "5", "--weight", "200,100"];
/// Unlike work: copies of 1 MiB, and of 8. What was copied is checked at the end.
const LOADS: [&str; 2] = [
    "gpubench load --kib 1024 --seconds 10",
    "gpubench load --kib 8192 --seconds 10",
];

/// Both guests do what they would do alone, and the scheduler knows of it.
pub fn run(context: &Context<'_>) -> Result<String> {
    let arguments = [&["--stats", "--hang-ms", "20000"], POLICY].concat();
    let card = context.card(VRAM_MIB, 2, &arguments)?;
    let machines = (0..)
        .zip(LOADS)
        .map(|(n, load)| context.machine(&card, n, vec![Step::new("load", load)], SECONDS))
        .collect::<Result<Vec<_>>>()?;
    let mut running = machines
        .iter()
        .enumerate()
        .map(|(n, machine)| {
            machine.start(context.testbed, &directory(context, &format!("guest{n}"))?)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut outcomes: [Option<Outcome>; 2] = [None, None];
    while outcomes.iter().any(Option::is_none) {
        for (running, outcome) in running.iter_mut().zip(&mut outcomes) {
            if outcome.is_none() {
                *outcome = running.poll(context.session)?;
            }
        }
        thread::sleep(POLL);
    }
    for (n, outcome) in outcomes.iter().flatten().enumerate() {
        let guest = || format!("Guest {n}");
        outcome.step("load").with_context(guest)?;
        quiet(outcome).with_context(guest)?;
    }
    let artefacts = context.artefacts.join("card.log");
    context.stop(card)?;
    let log = fs::read_to_string(&artefacts)
        .with_context(|| format!("Cannot read {}", artefacts.display()))?;
    let counted = |name: &str| -> Vec<u64> {
        let lines = log.lines().filter_map(|line| line.trim().split_once(": "));
        let named = lines.filter(|(key, _)| *key == name);
        named.filter_map(|(_, value)| value.parse().ok()).collect()
    };
    let busy = counted("scheduled_compute_ns");
    ensure!(
        busy.len() == 2 && busy.iter().all(|time| *time > 0),
        "The scheduler accounted for {busy:?} ns"
    );
    ensure!(
        counted("hangs").iter().all(|count| *count == 0),
        "A channel was killed"
    );
    let milliseconds: Vec<u64> = busy.iter().map(|time| time / 1_000_000).collect();
    Ok(format!("{milliseconds:?} ms of the card"))
}
