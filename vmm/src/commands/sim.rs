//! `gpuvm sim`: what schedulers would do with machines that this host could not carry.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::ensure;
use sched::sim::{Costs, Mix, Outcome, Scenario};
use sched::{Config, MICROSECOND, MILLISECOND, Policy, SECOND, Settings};

/// Most machines, and most seconds: beyond that the memory for figures grows unpleasantly.
const MOST_VMS: u64 = 1024;
const MOST_SECONDS: u64 = 600;

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
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{} machines, workload {}, {} s of virtual time\n\n{:<8} {:>9} {:>9} {:>9} {:>7} {:>8} \
             {:>9} {:>9} {:>9}",
            args.vms,
            args.workload,
            args.seconds,
            "sched",
            "Jain min",
            "Jain avg",
            "error pp",
            "lost %",
            "starved",
            "p50 ms",
            "p99 ms",
            "longest ms",
        )?;
    }
    for policy in args.sched {
        scenario.config = Config {
            timeslice: (args.timeslice > 0).then_some(args.timeslice * MILLISECOND),
            period: args.period * MILLISECOND,
            ..Config::new(policy)
        };
        let outcome = scenario.run();
        match args.json {
            true => writeln!(out, "{}", serde_json::to_string(&outcome)?)?,
            false => write_row(&mut out, &outcome)?,
        }
    }
    if !args.json
        && scenario
            .vms
            .iter()
            .any(|vm| vm.settings != Settings::default())
    {
        writeln!(out, "\nJain's index is over shares divided by weights.")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_row(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let mean = match outcome.jain.len() {
        0 => 1.0,
        windows => outcome.jain.iter().sum::<f64>() / windows as f64,
    };
    // The machine that waits longest stands for all: means would hide it.
    let worst = |latency: fn(&sched::sim::VmOutcome) -> u64| {
        let most = outcome.vms.iter().map(latency).max().unwrap_or(0);
        most as f64 / MILLISECOND as f64
    };
    writeln!(
        out,
        "{:<8} {:>9.4} {mean:>9.4} {:>9.2} {:>7.2} {:>8} {:>9.2} {:>9.2} {:>9.2}",
        outcome.policy,
        outcome.worst_jain(),
        outcome.share_error,
        100.0 * outcome.lost,
        outcome.starved,
        worst(|vm| vm.latency_p50),
        worst(|vm| vm.latency_p99),
        worst(|vm| vm.latency_max),
    )
}
