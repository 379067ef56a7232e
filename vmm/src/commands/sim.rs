//! `gpuvm sim`: what schedulers would do with machines that this host could not carry.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use bench::report::{self, Page};
use sched::sim::{Costs, Mix, Outcome, Scenario, VmOutcome};
use sched::{Config, MICROSECOND, MILLISECOND, Policy, SECOND, Settings};

/// Most machines, and most seconds: beyond that the memory for figures grows unpleasantly.
const MOST_VMS: u64 = 1024;
const MOST_SECONDS: u64 = 600;

/// What is said of each scheduler.
const COLUMNS: [&str; 9] = [
    "sched",
    "Jain min",
    "Jain avg",
    "error pp",
    "lost %",
    "starved",
    "p50 ms",
    "p99 ms",
    "longest ms",
];

/// Arguments of `gpuvm sim`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Schedulers to compare: direct, fifo, credit, band, drr, equal, fixed.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_values_t = Policy::ALL,
    )]
    sched: Vec<Policy>,

    /// Virtual machines.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=MOST_VMS))]
    vms: u64,

    /// What they do: equal, unlike, short-long, bursty, copies.
    #[arg(long, value_name = "NAME", default_value_t = Mix::Unlike)]
    workload: Mix,

    /// Seconds of the virtual clock.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    seconds: u64,

    /// Weights of the machines, from the first on; 100 for the rest.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    weight: Vec<u32>,

    /// Caps of the machines, from the first on, in percent of an engine; 100 for the rest.
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',')]
    cap: Vec<u32>,

    /// Take a channel off its engine after so many milliseconds; 0 never does.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    timeslice: u64,

    /// Credits of CREDIT and BAND are given so often; GPUvm had 500, Gdev 30.
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    period: u64,

    /// Microseconds from one channel to another on an engine.
    #[arg(long, value_name = "US", default_value_t = Costs::default().switch / MICROSECOND)]
    switch: u64,

    /// What chance depends on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Print everything as JSON, an object per scheduler.
    #[arg(long)]
    json: bool,

    /// Also make a page with pictures of shares over time, in this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Simulates and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut scenario = Scenario::new(
        Config::new(Policy::Direct),
        args.workload,
        args.vms as usize,
    );
    scenario.duration = args.seconds * SECOND;
    scenario.seed = args.seed;
    scenario.costs.switch = args.switch * MICROSECOND;
    ensure!(
        args.weight.len().max(args.cap.len()) <= scenario.vms.len(),
        "More weights or caps than virtual machines"
    );
    for (vm, weight) in scenario.vms.iter_mut().zip(&args.weight) {
        vm.settings.weight = *weight;
    }
    for (vm, cap) in scenario.vms.iter_mut().zip(&args.cap) {
        vm.settings.cap = cap.saturating_mul(10);
    }
    for vm in &scenario.vms {
        vm.settings.check()?;
    }
    let weighted = scenario
        .vms
        .iter()
        .any(|vm| vm.settings != Settings::default());
    let about = format!(
        "{} machines, workload {}, {} s of virtual time",
        args.vms, args.workload, args.seconds
    );
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "{about}\n")?;
        write_row(&mut out, &COLUMNS.map(String::from))?;
    }
    let mut outcomes = Vec::new();
    for policy in args.sched {
        scenario.config = Config {
            timeslice: (args.timeslice > 0).then_some(args.timeslice * MILLISECOND),
            period: args.period * MILLISECOND,
            ..Config::new(policy)
        };
        let outcome = scenario.run();
        match args.json {
            true => writeln!(out, "{}", serde_json::to_string(&outcome)?)?,
            false => write_row(&mut out, &row(&outcome))?,
        }
        outcomes.push(outcome);
    }
    if !args.json && weighted {
        writeln!(out, "\n{WEIGHTED}")?;
    }
    if let Some(directory) = &args.out {
        let page = page(&about, &scenario, &outcomes, weighted)?;
        let page = write_page(&page, directory)?;
        // Standard output may be for another program.
        eprintln!("The page is {}", page.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said where machines are to have unlike shares.
const WEIGHTED: &str = "Jain's index is over shares divided by weights.";

/// The figures of [`COLUMNS`].
fn row(outcome: &Outcome) -> [String; COLUMNS.len()] {
    let mean = match outcome.jain.len() {
        0 => 1.0,
        windows => outcome.jain.iter().sum::<f64>() / windows as f64,
    };
    // The machine that waits longest stands for all: means would hide it.
    let worst = |latency: fn(&VmOutcome) -> u64| {
        let most = outcome.vms.iter().map(latency).max().unwrap_or(0);
        format!("{:.2}", most as f64 / MILLISECOND as f64)
    };
    [
        outcome.policy.to_string(),
        format!("{:.4}", outcome.worst_jain()),
        format!("{mean:.4}"),
        format!("{:.2}", outcome.share_error),
        format!("{:.2}", 100.0 * outcome.lost),
        outcome.starved.to_string(),
        worst(|vm| vm.latency_p50),
        worst(|vm| vm.latency_p99),
        worst(|vm| vm.latency_max),
    ]
}

fn write_row(out: &mut impl Write, cells: &[String; COLUMNS.len()]) -> io::Result<()> {
    let [policy, figures @ ..] = cells;
    write!(out, "{policy:<8}")?;
    for figure in figures {
        write!(out, " {figure:>10}")?;
    }
    writeln!(out)
}

/// A page with the figures, and pictures of shares over time.
fn page(
    about: &str,
    scenario: &Scenario,
    outcomes: &[Outcome],
    weighted: bool,
) -> anyhow::Result<Page> {
    let mut page = Page::new("GPUvm: what schedulers would do");
    page.paragraph(&format!(
        "{about}, by gpuvm sim: the code that schedules a card, on a virtual clock. Jain's index (1: \
         all equal) and the error of shares, in percentage points, are those of windows of a second, of \
         machines that always had work; lost is the time in which there was work and the card did \
         none; starved counts machines that got nothing in such a window. Latencies, from a \
         submission to its end, are those of the machine that waits longest."
    ));
    if weighted {
        page.paragraph(&format!("{WEIGHTED} So are the pictures'."));
    }
    page.table(
        &COLUMNS,
        &outcomes.iter().map(|o| row(o).to_vec()).collect::<Vec<_>>(),
    );
    let mut pictures = Vec::new();
    for outcome in outcomes {
        let windows = shares(scenario, outcome);
        let title = format!("{} machines, {}", outcome.vms.len(), outcome.policy);
        let picture =
            report::shares(&title, &windows).map_err(|error| anyhow!("Cannot draw: {error}"))?;
        pictures.push((format!("sim-{}", outcome.policy), picture));
    }
    page.gallery(
        pictures,
        "Shares of the time that the card worked, by machine; dashed: even shares",
    );
    Ok(page)
}

/// By window, the share of each machine, divided by its weight.
fn shares(scenario: &Scenario, outcome: &Outcome) -> Vec<Vec<f64>> {
    let windows = outcome.vms.first().map_or(0, |vm| vm.windows.len());
    let of_window = |n: usize| {
        let vms = scenario.vms.iter().zip(&outcome.vms);
        let worked: Vec<f64> = vms
            .map(|(vm, had)| had.windows[n] as f64 / f64::from(vm.settings.weight))
            .collect();
        let total: f64 = worked.iter().sum();
        (total > 0.0).then(|| worked.iter().map(|worked| worked / total).collect())
    };
    (0..windows).filter_map(of_window).collect()
}

fn write_page(page: &Page, directory: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(directory)
        .with_context(|| format!("Cannot make {}", directory.display()))?;
    page.write(&directory.join("sim.html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_of_hundreds_of_machines_has_a_picture_for_each_scheduler() {
        let mut scenario = Scenario::new(Config::new(Policy::Drr), Mix::Unlike, 200);
        scenario.duration = 2 * SECOND;
        let outcome = scenario.run();
        let shares = shares(&scenario, &outcome);
        assert_eq!(shares.len(), 2);
        assert!((shares[0].iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let page = page("200 machines", &scenario, &[outcome], false).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = write_page(&page, &directory.path().join("new")).unwrap();
        assert!(fs::read_to_string(file).unwrap().contains("200 guests"));
        assert!(directory.path().join("new/plots/sim-drr.svg").exists());
    }
}
