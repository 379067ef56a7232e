//! `cargo xtask run`: the quick loop.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;

use e2e::{
    Card, CardOptions, Device, Dmesg, Initramfs, Kernel, Machine, Outcome, Session, Severity, Step,
    Testbed, debian, nested,
};

use crate::{
    build::{self, Programs},
    testbed, workspace,
};

/// Arguments of `cargo xtask run`.
#[derive(Args)]
pub struct Arguments {
    /// Guest kernel: 6.1 or 6.12
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,
    /// The card's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    vram: u32,
    /// Share the card between so many virtual GPUs, with that memory each; the guest has the first
    #[arg(long, value_name = "N", default_value_t = 0)]
    vgpus: u16,
    /// Another argument for `gpuvm gpu` or `gpuvm serve`; may be given several times
    #[arg(long = "gpu-arg", value_name = "ARG", allow_hyphen_values = true)]
    gpu_arguments: Vec<String>,
    /// Parameters for nouveau, as modprobe takes them
    #[arg(long, value_name = "PARAMETERS", default_value = "")]
    nouveau: String,
    /// Do not load nouveau
    #[arg(long, conflicts_with = "nouveau")]
    no_nouveau: bool,
    /// Give the guest a Debian 13 with Mesa, clinfo, rodinia and what `--add` names: `debian
    /// COMMAND` runs there
    #[arg(long, conflicts_with = "nested")]
    debian: bool,
    /// Put this file of the host into the guest's /bin; may be given several times
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// How long the machine may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    time_out: u64,
    /// Run the command in a machine with KVM and a static gpuvm instead; the guest for it is in
    /// /guest/vmlinuz and /guest/initramfs.cpio. The card is left to gpuvm
    #[arg(long)]
    nested: bool,
    /// With --nested: the card is in the outer machine, bound to vfio-pci
    #[arg(long, requires = "nested")]
    vfio: bool,
    /// With --nested: what the inner guest runs
    #[arg(long, value_name = "COMMAND", requires = "nested")]
    inner: Option<String>,
    /// What to run: words of a shell command line
    #[arg(last = true)]
    command: Vec<String>,
}

/// Boots the guest and runs the command; its exit status.
///
/// # Errors
///
/// When something fails before the command ends.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let session = Session::echoing()?;
    let testbed = testbed::open()?;
    let programs = build::programs()?;
    let artefacts = workspace::target().join("run");
    fs::create_dir_all(&artefacts)
        .with_context(|| format!("Cannot make {}", artefacts.display()))?;

    let card = if arguments.nested && !arguments.vfio {
        None
    } else {
        Some(Card::start(
            &session,
            &card_options(arguments, &programs),
            &artefacts,
        )?)
    };
    let socket = card.as_ref().map(|card| card.socket(0));
    let machine = machine(arguments, &testbed, &programs, socket.as_deref())?;
    let outcome = machine.run(&session, &testbed, &artefacts);
    if outcome.is_err() {
        eprintln!("The logs are in {}", artefacts.display());
    }
    let outcome = outcome?;
    report(&outcome);
    if let Some(card) = card {
        card.stop()?;
    }
    let status = outcome
        .steps
        .iter()
        .map(|step| step.status)
        .find(|status| *status != 0);
    Ok(status.map_or(ExitCode::SUCCESS, |status| ExitCode::from(status as u8)))
}

fn card_options(arguments: &Arguments, programs: &Programs) -> CardOptions {
    CardOptions {
        gpuvm: programs.gpuvm.clone(),
        vram_mib: arguments.vram,
        vgpus: arguments.vgpus,
        arguments: arguments.gpu_arguments.clone(),
    }
}

fn machine(
    arguments: &Arguments,
    testbed: &Testbed,
    programs: &Programs,
    socket: Option<&Path>,
) -> Result<Machine> {
    let mut modules = vec!["nouveau"];
    if arguments.debian {
        modules.extend(debian::MODULES);
    }
    let mut files = Initramfs::new(testbed, arguments.kernel, &modules)?;
    files.add_programs(&programs.guest_tools)?;
    if arguments.debian {
        let tools = [&programs.debian_tools[..], &arguments.add].concat();
        debian::add_to(&mut files, &tools)?;
    }
    files.add_programs(&arguments.add)?;
    let mut guest_steps = Vec::new();
    if !arguments.no_nouveau {
        guest_steps.push(Step::new(
            "probe",
            format!("modprobe nouveau {}", arguments.nouveau),
        ));
    }
    let command = arguments.command.join(" ");
    let command = (!command.is_empty()).then(|| Step::new("command", command));

    let mut machine = if arguments.nested {
        guest_steps.extend(
            arguments
                .inner
                .as_ref()
                .map(|script| Step::new("inner", script)),
        );
        files.add_steps(&guest_steps);
        nested::machine(testbed, arguments.kernel, &programs.gpuvm, &files, socket)?
    } else {
        let mut machine = Machine::new(arguments.kernel, files);
        machine.devices.extend(socket.map(|s| Device::VfioUser {
            socket: s.to_owned(),
        }));
        machine.steps = guest_steps;
        if arguments.debian {
            debian::attach(&mut machine, testbed);
        }
        machine
    };
    machine.steps.extend(command);
    machine.time_out = Duration::from_secs(arguments.time_out);
    Ok(machine)
}

/// Shows what the kernels said about the card, complaints marked.
fn report(outcome: &Outcome) {
    outcome.inner.iter().for_each(show);
    show(&outcome.dmesg);
    println!();
    for step in &outcome.steps {
        println!(
            "{:10} status {:3}  {:7.2} s guest time",
            step.name, step.status, step.seconds
        );
    }
    println!(
        "{:10} {:18.2} s wall time",
        "all",
        outcome.wall.as_secs_f64()
    );
}

fn show(dmesg: &Dmesg) {
    println!();
    for line in &dmesg.lines {
        if line.text.contains("nouveau") || line.text.contains("[drm") {
            let mark = match line.severity {
                Severity::Error => 'E',
                Severity::Warning => 'W',
                Severity::Info => ' ',
            };
            println!("{mark} {line}");
        }
    }
}
