//! What guests do in a job, and what they print.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Step, StepResult, debian};

use crate::job::{Job, Kernels, Size, Suite, Way};
use crate::record::{Counters, GuestResult};

/// The step that is measured.
const BENCH: &str = "bench";
/// The step that loads the driver.
const PROBE: &str = "probe";
/// The step in which guests that share wait for one another, and what it prints when it does: then
/// a byte on the third serial port is no longer lost, but ends it.
pub const TOGETHER: &str = "together";
pub const WAITING: &str = "waiting";

/// Lets the VMM keep what it has counted so far: a store to its port of marks.
const MARK: &str = "printf '\\001' | dd of=/dev/port bs=1 seek=1776 2>/dev/null";
/// Submissions that a guest that shares has under way: enough to keep the card at work while the
/// host has no processor for the guest. Of eight guests, one with kernels of 2.5 ms has a second's.
pub const AHEAD: u32 = 64;

/// The steps of guest `number`; the number may be a word of the guest's shell.
pub fn steps(job: &Job, number: &str) -> Vec<Step> {
    let mut steps = vec![Step::new(
        PROBE,
        "modprobe nouveau && ls /dev/dri/renderD128",
    )];
    if job.suite == Suite::Rodinia {
        steps.push(debian::mount());
        // Reads what programs read from the disk, so that the first one does not pay for all.
        steps.push(Step::new("warm-up", "debian rodinia --list"));
    }
    if waits_for_others(job) {
        let script = format!("exec 3</dev/ttyS2; echo {WAITING}; head -c1 <&3 >/dev/null");
        steps.push(Step::new(TOGETHER, script));
    }
    steps.push(Step::new(BENCH, script(job, number)));
    steps
}

/// Whether guests of a job begin together. Where QEMU interprets them, they boot for as long as they
/// work, and a guest that boots takes the host's processors from those that work.
pub fn waits_for_others(job: &Job) -> bool {
    job.suite == Suite::Sharing && job.way == Way::VfioUser
}

fn script(job: &Job, number: &str) -> String {
    let large = job.size != Size::Small;
    match job.suite {
        Suite::Boot => {
            r#"echo "{\"type\":\"boot\",\"uptime_s\":$(cut -d' ' -f1 /proc/uptime)}""#.into()
        }
        Suite::Micro => match large {
            true => "gpubench copy --json --max 16 --time 50".into(),
            false => "gpubench copy --json --max 1 --time 10".into(),
        },
        Suite::Copy => match large {
            true => "gpubench copy --json --max 64 --time 100".into(),
            false => "gpubench copy --json --max 16 --time 20".into(),
        },
        // Each in a process of its own, as programs are: `init` has the driver in it.
        Suite::Rodinia => {
            let mark = if job.way == Way::VfioUser { ":" } else { MARK };
            let names = match &job.workloads[..] {
                [] => r#"$(debian rodinia --list --json | tr -d '"')"#.to_owned(),
                some => some.join(" "),
            };
            format!(
                "mark() {{ {mark}; }}\nwrong=0\nfor name in {names}; do\n    mark\n    \
                 debian rodinia $name --size {} --json || wrong=1\ndone\nmark\nexit $wrong",
                job.size
            )
        }
        Suite::Contexts => {
            let seconds = if large { 10 } else { 2 };
            format!(
                "for n in 1 2 4 8 16; do\n    \
                 gpubench load --json --engine m2mf --kib 64 --channels $n --seconds {seconds} \
                 || exit 1\ndone"
            )
        }
        Suite::Sharing => sharing(job, number, if large { 60 } else { 20 }),
    }
}

/// What guest `number` does beside others; or one alone: what each of them does, for a shorter time.
fn sharing(job: &Job, number: &str, seconds: u32) -> String {
    let kernels = job.load.kernels();
    let (guests, seconds) = match job.guests {
        1 => ("*".to_owned(), seconds / 2),
        _ => (format!("$(({number} % {}))", kernels.len()), seconds),
    };
    let mut script = String::new();
    for (n, kernels) in kernels.iter().enumerate() {
        let Kernels {
            turns,
            batch,
            burst,
        } = kernels;
        script += &format!(
            "case {n} in {guests})\n    \
             gpubench load --json --kernel {turns} --batch {batch} --ahead {AHEAD} \
             --burst {burst} --seconds {seconds} || exit 1;;\nesac\n"
        );
    }
    script
}

/// How long a job may take: many times what it takes on an idle machine.
pub fn time_out(job: &Job) -> Duration {
    let seconds = match (job.suite, job.size) {
        (Suite::Rodinia, Size::Small) => 1200,
        (Suite::Rodinia, _) => 7200,
        (_, Size::Small) => 900,
        _ => 2700,
    };
    Duration::from_secs(seconds * u64::from(job.guests.max(1)))
}

/// What a guest's steps say.
///
/// # Errors
///
/// One of them failed.
pub fn result(steps: &[StepResult], counters: Counters) -> Result<GuestResult> {
    let find = |name: &str| {
        let step = steps.iter().find(|step| step.name == name);
        step.with_context(|| format!("The guest did not come to its step {name}"))
    };
    for step in steps {
        if let Some(wrong) = step.output.lines().find_map(wrong_result) {
            anyhow::bail!("{wrong}");
        }
        step.succeeded()?;
    }
    let (probe, bench) = (find(PROBE)?, find(BENCH)?);
    let lines = bench.output.lines().filter(|line| line.starts_with('{'));
    let lines = lines.filter_map(|line| serde_json::from_str(line).ok());
    let result = |line: &serde_json::Value| line.get("type").is_none_or(|kind| kind != "progress");
    let lines: Vec<serde_json::Value> = lines.filter(result).collect();
    ensure!(!lines.is_empty(), "The guest measured nothing");
    Ok(GuestResult {
        probe_s: probe.seconds,
        bench_s: bench.seconds,
        lines,
        counters,
    })
}

/// What is wrong with a workload, if a line says so.
fn wrong_result(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let workload = line.get("workload")?.as_str()?;
    if let Some(error) = line.get("error") {
        return Some(format!("{workload} failed: {error}"));
    }
    let right = line.get("checked")?.as_bool()?;
    (!right).then(|| format!("The result of {workload} was wrong"))
}

/// The steps of each guest, of a stream in which one guest's follow another's.
pub fn by_guest(steps: &[StepResult]) -> Vec<&[StepResult]> {
    let begins: Vec<usize> = (0..steps.len())
        .filter(|n| steps[*n].name == PROBE)
        .collect();
    let ends = begins.iter().skip(1).copied().chain([steps.len()]);
    begins
        .iter()
        .zip(ends)
        .map(|(begin, end)| &steps[*begin..end])
        .collect()
}

/// The counters that `--stats` printed, by machine.
pub fn counters(log: &str) -> Vec<Counters> {
    let mut all: Vec<Counters> = Vec::new();
    for line in log.lines() {
        let line = line.trim_end();
        if let Some(name) = line.strip_suffix(':')
            && name.starts_with("vm")
        {
            all.push(BTreeMap::new());
        } else if let Some((name, value)) = line.strip_prefix("  ").and_then(|l| l.split_once(": "))
            && let Ok(value) = value.parse()
            && let Some(counters) = all.last_mut()
        {
            counters.insert(name.to_owned(), value);
        }
    }
    all
}

/// Counters of a mark that are told of each run, and what they are called there.
const OF_RUN: [(&str, &str); 7] = [
    ("gpu_entries_written_total", "entries_written"),
    ("gpu_entries_emptied_total", "entries_emptied"),
    ("gpu_sync_written_bytes_total", "shadow_written_bytes"),
    ("gpu_block_written_bytes_total", "block_written_bytes"),
    ("gpu_written_bytes_total", "stored_bytes"),
    ("gpu_syncs_total", "syncs"),
    ("exits_total", "exits"),
];

/// Adds to the lines of runs, each of which lies between two of the marks that `gpuvm run --stats`
/// printed, what the hypervisor did for it. Where there are other numbers of both, nothing is known.
pub fn add_costs_of_runs(lines: &mut [serde_json::Value], log: &str) {
    let marks = log.lines().filter(|line| line.starts_with("{\"mark\":"));
    let marks: Vec<serde_json::Value> = marks
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if marks.len() != lines.len() + 1 {
        return;
    }
    let sum = |mark: &serde_json::Value, name: &str| -> u64 {
        let counters = mark["counters"].as_object().into_iter().flatten();
        let named = counters.filter(|(series, _)| series.split('{').next() == Some(name));
        named.filter_map(|(_, count)| count.as_u64()).sum()
    };
    for (line, ends) in lines.iter_mut().zip(marks.windows(2)) {
        let costs = OF_RUN.map(|(counter, name)| {
            let [begin, end] = [&ends[0], &ends[1]].map(|mark| sum(mark, counter));
            let count: serde_json::Value = end.saturating_sub(begin).into();
            (name.to_owned(), count)
        });
        if let Some(line) = line.as_object_mut() {
            line.insert("hypervisor".into(), costs.into_iter().collect());
        }
    }
}

/// What `gpuvm run --stats` printed of exits, by machine: their number and the time that they took,
/// of all its virtual CPUs, by kind.
pub fn exits(log: &str) -> BTreeMap<String, Counters> {
    let mut all: BTreeMap<String, Counters> = BTreeMap::new();
    for line in log.lines() {
        let Some((name, rest)) = line.split_once('{') else {
            continue;
        };
        let Some((labels, value)) = rest.trim_end().split_once("}: ") else {
            continue;
        };
        let name = match name {
            "exits_total" => "exits",
            "exit_ns_total" => "exit_ns",
            _ => continue,
        };
        let label = |name: &str| {
            let pair = labels.split(',').find_map(|pair| pair.strip_prefix(name))?;
            Some(pair.strip_prefix("=\"")?.trim_end_matches('"').to_owned())
        };
        if let (Some(vm), Some(kind), Ok(value)) =
            (label("vm"), label("kind"), value.parse::<u64>())
        {
            *all.entry(vm)
                .or_default()
                .entry(format!("{name} {kind}"))
                .or_default() += value;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Load;
    use crate::testing;

    fn job(suite: Suite, workloads: &[&str]) -> Job {
        Job {
            load: Load::ShortLong,
            workloads: workloads.iter().map(ToString::to_string).collect(),
            ..testing::job(suite, "passthrough", 1)
        }
    }

    fn step(name: &str, output: &str) -> StepResult {
        StepResult {
            name: name.into(),
            status: 0,
            output: output.into(),
            seconds: 1.0,
        }
    }

    #[test]
    fn counters_are_read_as_they_are_printed() {
        let log =
            "2026 INFO something: 3\nvm0:\n  flushes: 4\n  reads Bar0 pmc: 7\nvm1:\n  flushes: 9\n";
        let all = counters(log);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["reads Bar0 pmc"], 7);
        assert_eq!(all[1]["flushes"], 9);
    }

    #[test]
    fn what_lies_between_two_marks_is_of_the_run_there() {
        let log = "{\"mark\":1,\"counters\":{\"exits_total{vcpu=\\\"0\\\"}\":5,\"exits_total{vcpu=\\\"1\\\"}\":1}}\n\
                   noise\n{\"mark\":1,\"counters\":{\"exits_total{vcpu=\\\"0\\\"}\":9,\"exits_total{vcpu=\\\"1\\\"}\":4,\
                   \"gpu_sync_written_bytes_total{vm=\\\"vm0\\\"}\":80}}";
        let mut lines = [serde_json::json!({"workload": "lud"})];
        add_costs_of_runs(&mut lines, log);
        assert_eq!(lines[0]["hypervisor"]["exits"], 7);
        assert_eq!(lines[0]["hypervisor"]["shadow_written_bytes"], 80);
        let mut two = [serde_json::json!({}), serde_json::json!({})];
        add_costs_of_runs(&mut two, log);
        assert_eq!(two[0], serde_json::json!({}));
    }

    #[test]
    fn exits_of_a_machine_are_summed_over_its_processors() {
        let log = "exits_total{vm=\"vm0\",vcpu=\"0\",kind=\"mmio\"}: 3\n\
                   exits_total{vm=\"vm0\",vcpu=\"1\",kind=\"mmio\"}: 4\r\n\
                   exit_ns_total{vm=\"vm1\",vcpu=\"0\",kind=\"pio\"}: 5\n";
        let all = exits(log);
        assert_eq!(all["vm0"]["exits mmio"], 7);
        assert_eq!(all["vm1"]["exit_ns pio"], 5);
    }

    #[test]
    fn steps_of_guests_that_follow_one_another_are_told_apart() {
        let steps = ["probe", "bench", "probe", "debian", "bench"].map(|name| step(name, "{}"));
        let lengths: Vec<usize> = by_guest(&steps).iter().map(|steps| steps.len()).collect();
        assert_eq!(lengths, [2, 3]);
    }

    #[test]
    fn wrong_workload_is_named() {
        let right = r#"{"workload":"bfs","checked":true}"#;
        let wrong = "{\"workload\":\"lud\",\"checked\":false}\n";
        let of = |output: &str| {
            let steps = [step(PROBE, ""), step(BENCH, output)];
            result(&steps, Counters::new())
        };
        assert_eq!(of(right).unwrap().lines.len(), 1);
        let error = of(wrong).unwrap_err().to_string();
        assert_eq!(error, "The result of lud was wrong");
        assert!(of("nothing").is_err());
    }

    #[test]
    fn workloads_can_be_chosen() {
        let chosen = script(&job(Suite::Rodinia, &["bfs", "nn"]), "0");
        assert!(chosen.contains("for name in bfs nn;"), "{chosen}");
        let all = script(&job(Suite::Rodinia, &[]), "0");
        assert!(all.contains("rodinia --list"), "{all}");
    }

    #[test]
    fn guest_alone_does_what_each_of_several_does() {
        let mut job = job(Suite::Sharing, &[]);
        let alone = sharing(&job, "$guest", 20);
        assert!(alone.contains("case 1 in *)\n    gpubench load"), "{alone}");
        assert!(alone.contains("--seconds 10 "), "{alone}");
        job.guests = 2;
        let one = sharing(&job, "$guest", 20);
        assert!(one.contains("case 0 in $(($guest % 2)))\n"), "{one}");
        assert!(one.contains("--kernel 112 --batch 1"), "{one}");
    }
}
