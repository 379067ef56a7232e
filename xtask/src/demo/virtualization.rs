//! The demo's second half: one guest with the whole card, and with a virtual GPU.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result};

use e2e::{Initramfs, Outcome, Step, StepResult, cases::Context, nested};

use super::report::{Copy, Event, size};

/// How the guest gets the card: the whole of it, or a part.
const MODES: [&str; 2] = ["passthrough", "fv"];

/// How long both guests may take, in seconds.
const TIME_OUT: u64 = 420;

/// What one mode showed.
struct Run {
    copies: Vec<Copy>,
    probe: f64,
    counters: Vec<(String, u64)>,
}

/// Both modes side by side.
pub struct Comparison(Vec<Run>);

/// What is counted, and the beginnings of the counters that it is the sum of.
const COSTS: [(&str, &[&str]); 7] = [
    ("exits", &["exits_total"]),
    ("accesses intercepted", &["reads ", "writes "]),
    ("bytes intercepted", &["read_bytes ", "written_bytes "]),
    ("TLB flushes", &["tlb_flushes"]),
    ("shadow syncs", &["syncs"]),
    ("entries scanned", &["entries_scanned"]),
    ("entries written", &["entries_written"]),
];

/// Boots a machine that has KVM, and in it the guest with `gpuvm run`, once in each mode.
///
/// # Errors
///
/// When a guest does not come to its end, or measures nothing.
pub fn run(context: &Context<'_>) -> Result<Comparison> {
    let mut files = Initramfs::new(context.testbed, context.kernel, &["nouveau"])?;
    files.add_programs(context.tools)?;
    files.add_steps(&[
        Step::new("probe", "modprobe nouveau && ls /dev/dri/renderD128"),
        Step::new("benchmark", "gpubench copy --json --max 4 --time 50"),
    ]);
    let (testbed, kernel) = (context.testbed, context.kernel);
    let mut machine = nested::machine(testbed, kernel, &context.gpuvm, &files, None)?;
    machine.time_out = Duration::from_secs(TIME_OUT);
    let step = |mode| Step::new(mode, nested::run_guest("soft", mode, "--vram 256M"));
    machine.steps.extend(MODES.map(step));
    let outcome = machine.run(context.session, testbed, &context.artefacts)?;
    Comparison::new(&outcome)
}

impl Comparison {
    fn new(outcome: &Outcome) -> Result<Self> {
        let all = |name: &str| -> Vec<&StepResult> {
            let steps = outcome.steps.iter();
            steps.filter(|step| step.name == name).collect()
        };
        let (probes, benchmarks) = (all("probe"), all("benchmark"));
        let mut runs = Vec::new();
        for (n, mode) in MODES.iter().enumerate() {
            let outer = outcome.step(mode)?;
            let missing = || format!("The guest in mode {mode} did not come to its end");
            let benchmark = benchmarks.get(n).with_context(missing)?;
            benchmark.succeeded()?;
            let copies: Vec<Copy> = benchmark.output.lines().filter_map(copy).collect();
            copies.first().context("The benchmark measured nothing")?;
            runs.push(Run {
                copies,
                probe: probes.get(n).with_context(missing)?.seconds,
                counters: outer.output.lines().filter_map(counter).collect(),
            });
        }
        Ok(Self(runs))
    }

    /// The comparison as a part of a Markdown document.
    pub fn markdown(&self) -> String {
        let [whole, part] = &self.0[..] else {
            return String::new();
        };
        let mut text = String::from(
            "\n## Full virtualization against the whole card\n\n\
             The same guest under `gpuvm run`, in a machine with KVM under emulation: with the whole \
             card (passthrough) and with a virtual GPU (fv, all optimisations). Both ran one after \
             the other in one machine; only their ratio means anything.\n\n\
             | engine | direction | size | passthrough MiB/s | fv MiB/s | ratio |\n\
             |---|---|--:|--:|--:|--:|\n",
        );
        for (whole, part) in whole.copies.iter().zip(&part.copies) {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.1} | {:.1} | {:.2} |",
                whole.engine,
                whole.direction,
                size(whole.bytes),
                whole.mib_per_s,
                part.mib_per_s,
                part.mib_per_s / whole.mib_per_s
            );
        }
        let _ = write!(
            text,
            "\n| cost of the guest's whole life | passthrough | fv |\n|---|--:|--:|\n\
             | nouveau's probe, s | {:.2} | {:.2} |\n",
            whole.probe, part.probe
        );
        for (what, of) in COSTS {
            let _ = writeln!(text, "| {what} | {} | {} |", whole.sum(of), part.sum(of));
        }
        text
    }
}

impl Run {
    /// The sum of counters whose names begin so; a dash if there is none.
    fn sum(&self, beginnings: &[&str]) -> String {
        let of = |(name, _): &&(String, u64)| {
            let rest = |beginning: &&str| {
                let rest = name.strip_prefix(*beginning)?;
                (beginning.ends_with(' ') || rest.is_empty() || rest.starts_with('{')).then_some(())
            };
            beginnings.iter().find_map(rest).is_some()
        };
        let mut values = self.counters.iter().filter(of).map(|(_, value)| *value);
        match values.next() {
            Some(first) => (first + values.sum::<u64>()).to_string(),
            None => "-".into(),
        }
    }
}

/// The short form for a terminal.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [whole, part] = &self.0[..] else {
            return Ok(());
        };
        writeln!(f, "                               passthrough           fv")?;
        let largest = whole.copies.iter().map(|copy| copy.bytes).max();
        for (whole, part) in whole.copies.iter().zip(&part.copies) {
            if Some(whole.bytes) == largest {
                let what = format!(
                    "{} {} {}, MiB/s",
                    whole.engine,
                    whole.direction,
                    size(whole.bytes)
                );
                writeln!(
                    f,
                    "{what:28} {:>13.1} {:>12.1}",
                    whole.mib_per_s, part.mib_per_s
                )?;
            }
        }
        writeln!(
            f,
            "{:28} {:>13.2} {:>12.2}",
            "probe, s", whole.probe, part.probe
        )?;
        for (what, of) in COSTS {
            writeln!(f, "{what:28} {:>13} {:>12}", whole.sum(of), part.sum(of))?;
        }
        Ok(())
    }
}

fn copy(line: &str) -> Option<Copy> {
    match serde_json::from_str(line) {
        Ok(Event::Copy(copy)) => Some(copy),
        _ => None,
    }
}

/// A counter as `gpuvm run --stats` prints it.
fn counter(line: &str) -> Option<(String, u64)> {
    let (name, value) = line.trim().rsplit_once(": ")?;
    Some((name.to_owned(), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_by_the_beginnings_of_their_names() {
        let text = "exits_total{vm=\"vm0\",kind=\"pio\"}: 3\nexits_total{vm=\"vm0\",kind=\"other\"}: 4\n\
                    vm0:\n  reads Bar0 pmc: 5\n  read_bytes Bar0 pmc: 20\n  writes Bar3 memory: 6\n\
                    \u{20} syncs: 7\n  syncs_deferred: 9\n";
        let run = Run {
            copies: Vec::new(),
            probe: 0.0,
            counters: text.lines().filter_map(counter).collect(),
        };

        let sums = COSTS.map(|(_, of)| run.sum(of));

        assert_eq!(sums, ["7", "11", "20", "-", "7", "-", "-"]);
    }
}
