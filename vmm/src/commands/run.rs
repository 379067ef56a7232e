//! `gpuvm run`: one guest.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use tracing::info;

use crate::boot::BootSource;
use crate::ending::Ending;
use crate::machine::{GpuConfig, Machine, MachineConfig};
use crate::seccomp::{self, Sandbox, SeccompMode};
use crate::size::Size;
use crate::terminal::RawTerminal;
use crate::virtio::DiskOptions;

/// Arguments of `gpuvm run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kernel: a bzImage, or an ELF file with a PVH entry point.
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,

    /// The initial RAM disk.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// The kernel's command line.
    #[arg(long, default_value = "console=ttyS0")]
    cmdline: String,

    /// RAM, with K, M or G behind the number.
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    memory: Size,

    /// Number of virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    cpus: u8,

    /// A raw disk image; may be given several times.
    #[arg(long, value_name = "FILE[,ro]")]
    disk: Vec<DiskOptions>,

    /// The GPU that the guest gets.
    #[arg(long, value_enum, value_name = "GPU", default_value_t)]
    gpu: Gpu,

    /// Its video memory.
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    vram: Size,

    /// Listen here for actions: see `gpuvm ctl`.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,

    /// What happens on a system call that the VMM does not need.
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    seccomp: SeccompMode,

    /// What to do when the guest resets itself.
    #[arg(long, value_enum, default_value_t = OnReset::Restart)]
    on_reset: OnReset,
}

/// Where the guest's GPU comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Gpu {
    /// There is none.
    #[default]
    None,
    /// A software card in this process.
    Soft,
}

/// What a reset leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnReset {
    /// The guest starts anew.
    Restart,
    /// The command exits with status 3.
    Exit,
}

/// Runs the guest until it ends; the exit status says how (see [`Ending::exit_code`]).
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = MachineConfig {
        boot: BootSource {
            kernel: args.kernel,
            initrd: args.initrd,
            cmdline: args.cmdline,
        },
        memory: args.memory.bytes(),
        cpus: args.cpus,
        control: args.control,
        disks: args.disk,
        gpu: match args.gpu {
            Gpu::None => None,
            Gpu::Soft => Some(GpuConfig::Soft {
                vram: args.vram.bytes(),
            }),
        },
        seccomp: args.seccomp,
    };
    let _terminal = RawTerminal::new().context("Cannot set up the terminal")?;
    seccomp::enter(Sandbox::Process, args.seccomp)?;
    loop {
        let ending = Machine::start(&config)?.wait()?;
        if ending == Ending::Reset && args.on_reset == OnReset::Restart {
            info!("restarting");
            continue;
        }
        return Ok(ending.exit_code());
    }
}
