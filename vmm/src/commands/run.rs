//! `gpuvm run`: one guest.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use gpu_model::Host;
use tracing::info;

use super::sharing;
use crate::boot::BootSource;
use crate::ending::Ending;
use crate::gpu::{GpuConfig, VirtualSlot, Wires};
use crate::machine::{Machine, MachineConfig};
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

    /// How the guest gets it.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Mode::Fv)]
    mode: Mode,

    #[command(flatten)]
    sharing: sharing::Options,

    /// Print what the virtual GPU cost at the end, to standard error.
    #[arg(long)]
    stats: bool,

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

/// How much of a card a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// All of it: nothing is between guest and card.
    Passthrough,
    /// A virtual GPU: full virtualization.
    Fv,
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
    let _terminal = RawTerminal::new().context("Cannot set up the terminal")?;
    seccomp::enter(Sandbox::Process, args.seccomp)?;
    let wires: Arc<Wires> = Arc::default();
    let host = match (args.gpu, args.mode) {
        (Gpu::Soft, Mode::Fv) => Some(args.sharing.share_soft(vec![wires.clone()])?),
        _ => None,
    };
    let vgpu = host.as_ref().map(|host| host.vgpus()[0].clone());
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
        gpu: match (args.gpu, vgpu) {
            (Gpu::None, _) => None,
            (Gpu::Soft, None) => Some(GpuConfig::Soft {
                vram: args.sharing.vram.bytes(),
            }),
            (Gpu::Soft, Some(vgpu)) => Some(GpuConfig::Virtual(VirtualSlot { vgpu, wires })),
        },
        seccomp: args.seccomp,
    };
    let ending = loop {
        let ending = Machine::start(&config)?.wait()?;
        if ending != Ending::Reset || args.on_reset == OnReset::Exit {
            break ending;
        }
        info!("restarting");
    };
    if args.stats {
        for vgpu in host.iter().flat_map(Host::vgpus) {
            sharing::write_counters(vgpu, &mut io::stderr())?;
        }
    }
    Ok(ending.exit_code())
}
