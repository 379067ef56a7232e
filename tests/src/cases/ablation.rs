//! Every pair of optimisation switches, on and off, in guests of the project's own VMM; and every way to
//! know what guests stored to page tables.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::gputest::passed;
use super::{Context, quiet_log};
use crate::{Initramfs, Step, StepResult, nested};

/// The switches of `--opt`.
const SWITCHES: [&str; 9] = [
    "bar3-remap",
    "lazy-shadow",
    "incremental",
    "bulk",
    "bar1-map",
    "doorbell-direct",
    "doorbell-poll",
    "coalesce",
    "pramin-map",
];

/// What `--track` takes, by row of [`pairwise`]; it matters where `incremental` is on.
const WAYS: [&str; 6] = ["auto", "ring", "auto", "hybrid", "log", "auto"];
/// What it takes besides, with all switches.
const OTHER_WAYS: [&str; 2] = ["trap", "compare"];

/// Cases whose results are checked by `gputest`.
const CASES: &str = "params channel/create copy/ce0-sizes copy/pitch sync/release sync/interrupts";

/// How long a guest may take, in seconds. Where every store to a page table exits, and the emulated
/// hypervisor has to share its host, that is minutes.
const EACH: u64 = 300;
/// How many times its usual time a case may take, for the same reason.
const PATIENCE: u32 = 5;

/// Rows of switches such that any two of them are together on, together off, and each alone on, in
/// some row.
///
/// Source: Kleitman, Spencer, *Families of k-independent sets*, Discrete Mathematics 6 (1973): a
/// column is zero in the first row, and a subset of three of the five others; two such subsets
/// meet, and neither holds the other.
fn pairwise() -> Vec<Vec<&'static str>> {
    let subsets = (0_u32..1 << 5).filter(|subset| subset.count_ones() == 3);
    let columns: Vec<u32> = subsets
        .take(SWITCHES.len())
        .map(|subset| subset << 1)
        .collect();
    (0..6)
        .map(|row| {
            let on = SWITCHES.iter().zip(&columns);
            let on = on.filter(|(_, column)| **column >> row & 1 != 0);
            on.map(|(name, _)| *name).collect()
        })
        .collect()
}

/// What `--opt` and `--track` take in each guest.
fn guests() -> Vec<(String, &'static str)> {
    let rows = pairwise().into_iter().zip(WAYS);
    let rows = rows.map(|(row, way)| (names(&row), way));
    rows.chain(OTHER_WAYS.map(|way| ("all".to_owned(), way)))
        .collect()
}

/// Boots a guest per row, one after the other in one machine with KVM.
pub fn run(context: &Context<'_>) -> Result<String> {
    let mut files = Initramfs::new(context.testbed, context.kernel, &["nouveau"])?;
    files.add_programs(context.tools)?;
    files.add_steps(&[
        Step::new("probe", "modprobe nouveau && ls /dev/dri/renderD128"),
        Step::new("gputest", format!("gputest --patience {PATIENCE} {CASES}")),
        Step::new("gpubench", "gpubench copy --json --max 1 --time 1"),
    ]);
    let (testbed, kernel) = (context.testbed, context.kernel);
    let mut machine = nested::machine(testbed, kernel, &context.gpuvm, &files, None)?;
    let rows = guests();
    machine.time_out = Duration::from_secs(EACH * rows.len() as u64);
    for (n, (row, way)) in rows.iter().enumerate() {
        machine
            .steps
            .push(Step::new(&format!("row{n}"), command(row, way)));
    }
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;
    let inner = |name: &str| -> Vec<&StepResult> {
        let steps = outcome.steps.iter();
        steps.filter(|step| step.name == name).collect()
    };
    let (tests, benches) = (inner("gputest"), inner("gpubench"));
    for (n, (row, way)) in rows.iter().enumerate() {
        let with = || format!("With --opt {row} --track {way}");
        outcome.step(&format!("row{n}")).with_context(with)?;
        let (test, bench) = (tests.get(n), benches.get(n));
        passed(test.with_context(with)?).with_context(with)?;
        let bench = bench.with_context(with)?;
        ensure!(bench.status == 0, "{}: gpubench failed", with());
        quiet_log(outcome.inner.get(n).with_context(with)?).with_context(with)?;
    }
    Ok(format!("{} sets of switches", rows.len()))
}

fn names(row: &[&str]) -> String {
    match row {
        [] => "none".into(),
        some => some.join(","),
    }
}

fn command(row: &str, way: &str) -> String {
    format!(
        "gpuvm run --kernel {} --initrd {} --cmdline '{}' --memory 512M --cpus 1 --gpu soft \
         --mode fv --vram 256M --opt {row} --track {way}",
        nested::KERNEL,
        nested::INITRAMFS,
        nested::PARAMETERS,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_switches_meets_in_all_four_ways() {
        let rows = pairwise();
        for (n, one) in SWITCHES.iter().enumerate() {
            for other in &SWITCHES[n + 1..] {
                for wanted in [(false, false), (false, true), (true, false), (true, true)] {
                    let mut ways = rows
                        .iter()
                        .map(|row| (row.contains(one), row.contains(other)));
                    assert!(ways.any(|way| way == wanted), "{one}, {other}: {wanted:?}");
                }
            }
        }
    }
}
