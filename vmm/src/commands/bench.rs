//! `gpuvm bench`: runs a matrix of benchmarks in stock guests.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use bench::{Matrix, Mode, Plan, Programs, Runner, Suite, Way};
use e2e::{Kernel, Testbed};
use sched::Policy;

/// Arguments of `gpuvm bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Suites: micro, copy, rodinia, boot, sharing.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "micro,boot"
    )]
    suite: Vec<Suite>,

    /// How guests get the card: passthrough, and fv:SWITCHES as for `--opt`, where a plus joins
    /// several.
    #[arg(
        long,
        value_name = "MODE,…",
        value_delimiter = ',',
        default_value = "passthrough,fv:none,fv:lazy-shadow,fv:all"
    )]
    modes: Vec<Mode>,

    /// How guests are run: vfio-user (interpreted by QEMU, the card over a socket) or nested (by
    /// `gpuvm run`, in a machine with KVM that QEMU interprets).
    #[arg(long, default_value = "vfio-user")]
    way: Way,

    /// For the suite sharing: how many guests at a time.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2",
        value_parser = clap::value_parser!(u16).range(1..=8))]
    guests: Vec<u16>,

    /// For the suite sharing: schedulers.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "direct,fifo,band,drr"
    )]
    sched: Vec<Policy>,

    /// How much there is to do: small, medium, large.
    #[arg(long, default_value = "small", value_parser = ["small", "medium", "large"])]
    size: String,

    /// How often each run is done.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,

    /// The guests' kernel: 6.1 or 6.12.
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,

    /// Where results go. Runs that are there already are not done again.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,

    /// The gpuvm to measure; without it, this one. For the way nested it has to be a static one.
    #[arg(long, value_name = "FILE")]
    gpuvm: Option<PathBuf>,

    /// Where gpubench and rodinia are; without it, where this program is.
    #[arg(long, value_name = "DIR,…", value_delimiter = ',')]
    tools: Vec<PathBuf>,
}

/// Runs what is not there yet, then makes the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let testbed = Testbed::open(&Testbed::root(Path::new("target")))?;
    let gpuvm = match args.gpuvm {
        Some(file) => file,
        None => std::env::current_exe().context("Cannot find this program")?,
    };
    let mut places = args.tools;
    places.extend(gpuvm.parent().map(Path::to_owned));
    let find = |name: &str| {
        let found = places.iter().map(|place| place.join(name));
        found.into_iter().find(|path| path.exists())
    };
    let programs = Programs {
        gpubench: find("gpubench").context(
            "There is no gpubench beside this program: see --tools, or use `cargo xtask bench`",
        )?,
        rodinia: find("rodinia"),
        gpuvm,
    };
    ensure!(
        programs.rodinia.is_some() || !args.suite.contains(&Suite::Rodinia),
        "There is no rodinia beside this program: see --tools, or use `cargo xtask bench`"
    );
    let plan = Plan::new(&Matrix {
        suites: args.suite,
        modes: args.modes,
        way: args.way,
        guests: args.guests,
        scheds: args.sched.iter().map(ToString::to_string).collect(),
        size: args.size,
        repeat: args.repeat,
    });
    let failures = Runner::new(testbed, programs, args.kernel, &args.out)?.run(&plan)?;
    let page = bench::report::write(&args.out)?;
    println!("The report is in {}", page.display());
    if failures > 0 {
        eprintln!(
            "{failures} runs failed; their logs are in {}",
            args.out.join("logs").display()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
