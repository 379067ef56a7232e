//! `cargo xtask run`: the quick loop.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use e2e::{
    Board, Card, CardOptions, Device, Initramfs, Kernel, Machine, Outcome, Session, Severity, Step,
};

use crate::{build, testbed, workspace};

/// Arguments of `cargo xtask run`.
#[derive(Args)]
pub struct Arguments {
    /// Guest kernel: 6.1 or 6.12
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,
    /// The card's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    vram: u32,
    /// Another argument for `gpuvm gpu`; may be given several times
    #[arg(long = "gpu-arg", value_name = "ARG", allow_hyphen_values = true)]
    gpu_arguments: Vec<String>,
    /// Parameters for nouveau, as modprobe takes them
    #[arg(long, value_name = "PARAMETERS", default_value = "")]
    nouveau: String,
    /// Do not load nouveau
    #[arg(long, conflicts_with = "nouveau")]
    no_nouveau: bool,
    /// Put this file of the host into the guest's /bin; may be given several times
    #[arg(long, value_name = "FILE")]
    add: Vec<PathBuf>,
    /// How long the guest may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    time_out: u64,
    /// What to run in the guest: words of a shell command line
    #[arg(last = true)]
    command: Vec<String>,
}

/// Boots the guest and runs the command; its exit status.
///
/// # Errors
///
/// When something fails before the command ends.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let session = Session::new(true)?;
    let testbed = testbed::open()?;
    let gpuvm = build::gpuvm()?;
    let artefacts = workspace::target().join("run");
    fs::create_dir_all(&artefacts)
        .with_context(|| format!("Cannot make {}", artefacts.display()))?;

    let mut files = Initramfs::new(&testbed, arguments.kernel, &["nouveau"])?;
    for program in build::guest_tools()?.iter().chain(&arguments.add) {
        let name = program.file_name().context("A program without a name")?;
        files.add(&format!("/bin/{}", name.display()), program)?;
    }

    let options = CardOptions {
        gpuvm,
        vram_mib: arguments.vram,
        arguments: arguments.gpu_arguments.clone(),
    };
    let card = Card::start(&session, &options, &artefacts)?;
    let mut machine = Machine::new(arguments.kernel, files);
    machine.board = Board::Pc;
    machine.devices.push(Device::VfioUser {
        socket: card.socket(),
    });
    machine.time_out = Duration::from_secs(arguments.time_out);
    if !arguments.no_nouveau {
        machine.steps.push(Step::new(
            "probe",
            format!("modprobe nouveau {}", arguments.nouveau),
        ));
    }
    if !arguments.command.is_empty() {
        machine
            .steps
            .push(Step::new("command", arguments.command.join(" ")));
    }
    let outcome = machine.run(&session, &testbed, &artefacts);
    if outcome.is_err() {
        eprintln!("The logs are in {}", artefacts.display());
    }
    let outcome = outcome?;
    card.stop()?;
    report(&outcome);
    let status = outcome
        .steps
        .iter()
        .map(|step| step.status)
        .find(|status| *status != 0);
    Ok(status.map_or(ExitCode::SUCCESS, |status| ExitCode::from(status as u8)))
}

/// Shows what the kernel said about the card, complaints marked.
fn report(outcome: &Outcome) {
    println!();
    for line in &outcome.dmesg.lines {
        if line.text.contains("nouveau") || line.text.contains("[drm") {
            let mark = match line.severity {
                Severity::Error => 'E',
                Severity::Warning => 'W',
                Severity::Info => ' ',
            };
            println!("{mark} {line}");
        }
    }
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
