//! `gpuvm gpu`: the software card on a vfio-user socket.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::Context;
use gf100::Card;
use mmio::trace::{Census, Observer, Recorder};

use crate::size::Size;
use crate::soft_card::CardCost;
use crate::vfio_user::{Irqs, Observed, Server};

/// Registers that `--stats` lists.
const TOP: usize = 20;

/// Arguments of `gpuvm gpu`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen: a Unix socket, made here and removed at the end.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,

    /// Video memory; only what is touched costs memory of the host.
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    vram: Size,

    /// Write every access to this file, a JSON object per line (`gpuvm trace` reads it).
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// Count accesses and print the counts at the end.
    #[arg(long)]
    stats: bool,

    #[command(flatten)]
    cost: CardCost,
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.cost.quadro_6000(args.vram.bytes());
    let irqs = Arc::new(Irqs::default());
    let card = Arc::new(Card::new(config, irqs.clone()).context("Cannot build the card")?);

    let recorder = match &args.trace {
        Some(path) => {
            let file = File::create(path)
                .with_context(|| format!("Cannot create the trace {}", path.display()))?;
            Some(Arc::new(Recorder::new(Box::new(BufWriter::with_capacity(
                1 << 20,
                file,
            )))))
        }
        None => None,
    };
    let census = args.stats.then(|| Arc::new(Census::default()));
    let observers = [
        recorder
            .clone()
            .map(|recorder| recorder as Arc<dyn Observer>),
        census.clone().map(|census| census as Arc<dyn Observer>),
    ];
    let function = Observed::new(card, observers.into_iter().flatten().collect());

    let (server, _socket) = Server::bind(&args.socket, &function)?;
    let (ended, end) = mpsc::channel();
    ctrlc::set_handler({
        let ended = ended.clone();
        // Nobody listens any more once the command is on its way out.
        move || drop(ended.send(Ok(())))
    })
    .context("Cannot catch signals")?;
    thread::Builder::new()
        .name("vfio-user".into())
        .spawn({
            let irqs = irqs.clone();
            move || {
                let Err(error) = server.run(&function, &irqs);
                drop(ended.send(Err(error)));
            }
        })
        .context("Cannot start the server")?;
    tracing::info!("The card listens on {}", args.socket.display());
    let served = end.recv().context("The server died")?;

    if let Some(census) = census {
        print_census(&census, irqs.sent());
    }
    if let Some(recorder) = recorder {
        recorder.flush().context("The trace is not complete")?;
    }
    served?;
    Ok(ExitCode::SUCCESS)
}

fn print_census(census: &Census, messages: u64) {
    println!(
        "{:<6} {:>12} {:>12} {:>14}",
        "BAR", "reads", "writes", "bytes"
    );
    for count in census.bars() {
        let bar = format!("{:?}", count.bar);
        println!(
            "{bar:<6} {:>12} {:>12} {:>14}",
            count.reads, count.writes, count.bytes
        );
    }
    println!("\nInterrupt messages: {messages}\n");
    println!("{:<32} {:>12} {:>12}", "register", "reads", "writes");
    let registers = census.registers();
    for count in registers.iter().take(TOP) {
        let name = count
            .name
            .clone()
            .unwrap_or_else(|| format!("{:#08x}", count.offset));
        println!("{name:<32} {:>12} {:>12}", count.reads, count.writes);
    }
    let unlisted = registers.iter().filter(|count| count.name.is_none());
    let (words, accesses) = unlisted.fold((0, 0), |(n, sum), count| {
        (n + 1, sum + count.reads + count.writes)
    });
    println!(
        "\nRegisters without a name: {words}, accessed {accesses} times; {} more not told apart",
        census.uncounted()
    );
}
