//! `gpuvm bench`: runs a matrix of benchmarks in stock guests.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use bench::{Load, Matrix, Mode, Plan, Programs, Runner, Size, Suite, Way};
use clap::ValueEnum;
use e2e::{Kernel, Testbed};
use sched::Policy;

use super::sharing;
use crate::host::{self, Kvm};

/// Arguments of `gpuvm bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Suites: micro (small operations), copy (bandwidths), rodinia (OpenCL programs), boot (the
    /// driver's probe), contexts (1 to 16 of them in a guest), sharing (several guests).
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

    /// How guests are run: kvm (by `gpuvm run`), nested (likewise, in a machine with KVM that QEMU
    /// interprets) or vfio-user (interpreted by QEMU, the card over a socket). Without it, the first
    /// of these that can be.
    #[arg(long)]
    way: Option<Way>,

    /// For the suite rodinia: workloads; without it, all of them.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    workloads: Vec<String>,

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

    /// For the suite sharing: what guests do: unlike, equal, short-long, bursty.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "unlike"
    )]
    load: Vec<Load>,

    /// For the suite sharing: how many times longer than a Quadro 6000's engines those of the card
    /// take, so that guests wait for the card, not for the host's processors; 0: as long as the
    /// host takes.
    #[arg(long, value_name = "FACTOR", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    slow_motion: u32,

    /// Whether accesses of the card cost what they cost over PCIe: off, on, or both. Not for the
    /// suite sharing.
    #[arg(long, value_enum, value_name = "WHETHER", default_value_t = Pcie::Off)]
    pcie: Pcie,

    /// How much there is to do: small, medium, large.
    #[arg(long, value_name = "SIZE", default_value_t)]
    size: Size,

    /// How often each run is done.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,

    /// The guests' kernel: 6.1 or 6.12.
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,

    /// Where results go. Runs that are there already are not done again.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,

    /// The gpuvm to measure; without it, this one. For the way nested it has to be static.
    #[arg(long, value_name = "FILE")]
    gpuvm: Option<PathBuf>,

    /// Where gpubench and rodinia are; without it, where this program is.
    #[arg(long, value_name = "DIR,…", value_delimiter = ',')]
    tools: Vec<PathBuf>,
}

/// Whether to charge for accesses over PCIe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pcie {
    Off,
    On,
    Both,
}

impl Pcie {
    fn choices(self) -> Vec<bool> {
        match self {
            Self::Off => vec![false],
            Self::On => vec![true],
            Self::Both => vec![false, true],
        }
    }
}

/// Runs what is not there yet, then makes the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let gpuvm = match &args.gpuvm {
        Some(file) => file.clone(),
        None => std::env::current_exe().context("Cannot find this program")?,
    };
    let way = match args.way {
        Some(way) => way,
        None => best_way(&gpuvm)?,
    };
    check(&args, way, &gpuvm)?;
    let testbed = Testbed::open(&Testbed::root(Path::new("target")))?;
    let mut places = args.tools.clone();
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
    if let Some(rodinia) = &programs.rodinia {
        known_workloads(rodinia, &args.workloads)?;
    }
    eprintln!("Guests are run the way {way}");
    let plan = Plan::new(&Matrix {
        suites: args.suite,
        modes: args.modes,
        way,
        guests: args.guests,
        scheds: args.sched.iter().map(ToString::to_string).collect(),
        loads: args.load,
        slow_motion: args.slow_motion,
        pcie: args.pcie.choices(),
        size: args.size,
        workloads: args.workloads,
        repeat: args.repeat,
    });
    let failures = Runner::new(testbed, programs, args.kernel, &args.out)?.run(&plan)?;
    let report = bench::report::write(&args.out)?;
    print!("{}", report.summary);
    println!("The report is in {}", report.page.display());
    if failures > 0 {
        eprintln!(
            "{failures} runs failed; their logs are in {}",
            args.out.join("logs").display()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails where a guest would, but before there is one.
fn check(args: &Args, way: Way, gpuvm: &Path) -> anyhow::Result<()> {
    for mode in &args.modes {
        if let Some((opt, track)) = mode.options() {
            sharing::check(opt, track, way == Way::VfioUser)
                .with_context(|| format!("Mode {mode}, way {way}"))?;
        }
    }
    ensure!(
        !args.suite.contains(&Suite::Sharing)
            || args.modes.iter().any(|mode| mode.options().is_some()),
        "Only virtual GPUs are shared: the suite sharing needs a mode fv:…"
    );
    match way {
        Way::Kvm => match host::kvm() {
            Kvm::Hardware { .. } | Kvm::Software { .. } => {}
            Kvm::Denied { reason } => bail!("The way kvm needs /dev/kvm: {reason}"),
            Kvm::Absent { .. } => bail!("The way kvm needs /dev/kvm, which this host lacks"),
        },
        Way::Nested => ensure!(
            is_static(gpuvm).with_context(|| format!("Cannot read {}", gpuvm.display()))?,
            "The way nested needs a static gpuvm, which {} is not: use `cargo xtask bench`",
            gpuvm.display()
        ),
        Way::VfioUser => {}
    }
    Ok(())
}

/// Fails if one of `names` is none of the workloads of `rodinia`. Nothing is known where that does
/// not run: it needs the libraries of the guests' Debian.
fn known_workloads(rodinia: &Path, names: &[String]) -> anyhow::Result<()> {
    let listed = Command::new(rodinia).args(["--list", "--json"]).output();
    let Some(listed) = listed.ok().filter(|listed| listed.status.success()) else {
        return Ok(());
    };
    let listed = String::from_utf8_lossy(&listed.stdout);
    let known: Vec<&str> = listed.lines().map(|name| name.trim_matches('"')).collect();
    for name in names {
        ensure!(
            known.contains(&name.as_str()),
            "There is no workload {name:?}, only {}",
            known.join(", ")
        );
    }
    Ok(())
}

/// The first way that can be gone here.
fn best_way(gpuvm: &Path) -> anyhow::Result<Way> {
    if matches!(host::kvm(), Kvm::Hardware { .. }) {
        return Ok(Way::Kvm);
    }
    match is_static(gpuvm).with_context(|| format!("Cannot read {}", gpuvm.display()))? {
        true => Ok(Way::Nested),
        false => Ok(Way::VfioUser),
    }
}

/// Whether a program brings its libraries along: the machine of the way nested has none.
fn is_static(program: &Path) -> std::io::Result<bool> {
    /// A program names its loader close to its beginning, behind the program headers.
    const BEGINNING: u64 = 4096;
    let mut beginning = Vec::new();
    File::open(program)?
        .take(BEGINNING)
        .read_to_end(&mut beginning)?;
    let loader = b"/ld-linux";
    Ok(!beginning.windows(loader.len()).any(|part| part == loader))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_names_a_loader_is_not_static() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        std::fs::write(&program, b"\x7fELF rest").unwrap();
        assert!(is_static(&program).unwrap());
        std::fs::write(&program, b"\x7fELF\0/lib64/ld-linux-x86-64.so.2\0").unwrap();
        assert!(!is_static(&program).unwrap());
        assert!(is_static(&directory.path().join("none")).is_err());
    }
}
