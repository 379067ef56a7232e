//! `gpuvm serve`: one card as several virtual GPUs, each on a vfio-user socket.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::Context;
use gpu_model::Slot;

use super::sharing::{self, Source};
use crate::vfio_user::{Irqs, Server, SocketFile};

/// Arguments of `gpuvm serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card.
    #[arg(long, value_name = "soft|vfio:BDF", default_value = "soft")]
    gpu: Source,

    /// Virtual GPUs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    vgpus: u16,

    /// Where the sockets are made: vgpu0, vgpu1, …, removed at the end.
    #[arg(long, value_name = "DIR")]
    socket_dir: PathBuf,

    #[command(flatten)]
    sharing: sharing::Options,

    /// Print what each virtual GPU cost at the end.
    #[arg(long)]
    stats: bool,
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let irqs: Vec<Arc<Irqs>> = (0..args.vgpus).map(|_| Arc::default()).collect();
    let slots = irqs
        .iter()
        .map(|irqs| irqs.clone() as Arc<dyn Slot>)
        .collect();
    let shared = args.sharing.remote()?.share_card(&args.gpu, slots)?;

    let (ended, end) = mpsc::channel();
    ctrlc::set_handler({
        let ended = ended.clone();
        // Nobody listens any more once the command is on its way out.
        move || drop(ended.send(Ok(())))
    })
    .context("Cannot catch signals")?;
    let mut sockets: Vec<SocketFile> = Vec::new();
    for (vgpu, irqs) in shared.host.vgpus().iter().zip(irqs) {
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
        shared.write_counters(&mut io::stdout())?;
    }
    served?;
    Ok(ExitCode::SUCCESS)
}
