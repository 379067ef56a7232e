//! `gpuvm serve`: one card as several virtual GPUs, each on a vfio-user socket.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use gf100::Config;
use gpu_model::{Algorithm, BARS, Host, Layout, Limits, Slot, VRAM_UNIT, VirtualGpu};

use crate::size::Size;
use crate::soft_card::SoftCard;
use crate::vfio_user::{Irqs, Server, SocketFile};

/// Video memory for the shadow tables of each virtual GPU.
const TABLES: u64 = 64 << 20;

/// Which card is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Gpu {
    /// The software card, in this process.
    Soft,
}

/// How shadow tables follow a guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sync {
    /// Everything, word by word, at every flush: as GPUvm was published.
    Naive,
    /// Everything, in blocks.
    Bulk,
    /// What differs from the last time.
    Incremental,
}

/// Arguments of `gpuvm serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card.
    #[arg(long, value_enum, default_value = "soft")]
    gpu: Gpu,

    /// Virtual GPUs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    vgpus: u16,

    /// Where the sockets are made: vgpu0, vgpu1, …, removed at the end.
    #[arg(long, value_name = "DIR")]
    socket_dir: PathBuf,

    /// Video memory of each virtual GPU; only what is touched costs memory of the host.
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    vram: Size,

    /// How shadow page tables follow the guest's.
    #[arg(long, value_enum, default_value = "incremental")]
    sync: Sync,

    /// Kill a channel that blocks others for so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    hang_ms: u64,

    /// Print what each virtual GPU cost at the end.
    #[arg(long)]
    stats: bool,
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let each = args.vram.bytes();
    let Gpu::Soft = args.gpu;
    let vram = Layout::vram_for(args.vgpus, each, TABLES).next_multiple_of(6 * VRAM_UNIT);
    let layout = Layout::new(args.vgpus, each, vram).context("The card cannot be shared so")?;
    let config = Config::quadro_6000(vram);
    let card = Arc::new(SoftCard::new(config).context("Cannot build the card")?);
    let irqs: Vec<Arc<Irqs>> = (0..args.vgpus).map(|_| Arc::default()).collect();
    let slots = irqs
        .iter()
        .map(|irqs| irqs.clone() as Arc<dyn Slot>)
        .collect();
    let limits = Limits {
        hang: Duration::from_millis(args.hang_ms),
    };
    let algorithm = match args.sync {
        Sync::Naive => Algorithm::Naive,
        Sync::Bulk => Algorithm::Bulk,
        Sync::Incremental => Algorithm::Incremental,
    };
    let host =
        Host::new(card, layout, limits, algorithm, slots).context("Cannot share the card")?;

    let (ended, end) = mpsc::channel();
    ctrlc::set_handler({
        let ended = ended.clone();
        // Nobody listens any more once the command is on its way out.
        move || drop(ended.send(Ok(())))
    })
    .context("Cannot catch signals")?;
    let mut sockets: Vec<SocketFile> = Vec::new();
    for (vgpu, irqs) in host.vgpus().iter().zip(irqs) {
        let name = format!("vgpu{}", vgpu.vm().0);
        let path = args.socket_dir.join(&name);
        let (server, socket) = Server::bind(&path, vgpu)?;
        sockets.push(socket);
        thread::Builder::new()
            .name(name)
            .spawn({
                let (vgpu, ended) = (vgpu.clone(), ended.clone());
                move || {
                    let Err(error) = server.run(&vgpu, &irqs);
                    drop(ended.send(Err(error)));
                }
            })
            .context("Cannot start a server")?;
        tracing::info!("A virtual GPU listens on {}", path.display());
    }
    let served = end.recv().context("The servers died")?;
    if args.stats {
        host.vgpus().iter().for_each(|vgpu| print_counters(vgpu));
    }
    served?;
    Ok(ExitCode::SUCCESS)
}

fn print_counters(vgpu: &VirtualGpu) {
    let counters = vgpu.counters();
    println!("{}:", vgpu.vm());
    for (n, bar) in BARS.iter().enumerate() {
        println!(
            "  {bar:?}: {} reads, {} writes, {} bytes",
            counters.reads[n].load(Ordering::Relaxed),
            counters.writes[n].load(Ordering::Relaxed),
            counters.bytes[n].load(Ordering::Relaxed),
        );
    }
    for (what, counter) in [
        ("stores refused", &counters.refused),
        ("TLB flushes", &counters.flushes),
        ("syncs", &counters.syncs),
        ("entries scanned", &counters.entries_scanned),
        ("entries written", &counters.entries_written),
        ("entries rejected", &counters.entries_rejected),
        ("events", &counters.events),
        ("faults", &counters.faults),
    ] {
        println!("  {what}: {}", counter.load(Ordering::Relaxed));
    }
    println!("  interrupt messages: {}", vgpu.messages());
    for (chid, doorbells) in counters.doorbells.iter().enumerate() {
        let doorbells = doorbells.load(Ordering::Relaxed);
        if doorbells != 0 {
            println!("  channel {chid}: {doorbells} doorbells");
        }
    }
}
