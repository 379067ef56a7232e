//! `gpuvm serve`: one card as several virtual GPUs, each on a vfio-user socket.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::Context;
use event_manager::{EventOps, Events, MutEventSubscriber};
use gpu_model::{MOST_VGPUS, Slot};
use vmm_sys_util::epoll::EventSet;

use super::sharing::{self, Shared, Source};
use crate::control::{ControlServer, Controller, Fleet, Seat, Switches};
use crate::ending::{EndSwitch, Ending};
use crate::gpu::Tenancy;
use crate::io::{self as events, Subscriber};
use crate::metrics::Metrics;
use crate::seccomp::SeccompMode;
use crate::vfio_user::{self, Irqs, Server, SocketFile};

/// Arguments of `gpuvm serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card.
    #[arg(long, value_name = "soft|vfio:BDF", default_value = "soft")]
    gpu: Source,

    /// Virtual GPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_VGPUS)))]
    vgpus: u16,

    /// Where the sockets are made: vgpu0, vgpu1, …, removed at the end.
    #[arg(long, value_name = "DIR")]
    socket_dir: PathBuf,

    #[command(flatten)]
    sharing: sharing::Options,

    /// Listen here for actions: see `gpuvm ctl`. The machines are called vgpu0, vgpu1, …
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,

    /// Print what each virtual GPU cost at the end.
    #[arg(long)]
    stats: bool,
}

/// Serves until SIGINT or SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let irqs: Vec<Arc<Irqs>> = (0..args.vgpus).map(|_| Arc::default()).collect();
    let slots = irqs.iter().map(|irqs| irqs.clone() as Arc<dyn Slot>);
    let machines = slots.map(sharing::Machine::from).collect();
    let shared = args.sharing.remote()?.share_card(&args.gpu, machines)?;

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
    let operator = args
        .control
        .as_deref()
        .map(|path| serve_operator(path, &shared, ended.clone()))
        .transpose()?;
    let served = end.recv().context("The servers died")?;
    if let Some((fleet, thread)) = operator {
        fleet.closed().pull(Ending::Stopped);
        // A panic of the thread was reported when it happened.
        let _ = thread.join();
    }
    if args.stats {
        shared.write_counters(&mut io::stdout())?;
    }
    served?;
    Ok(ExitCode::SUCCESS)
}

type Operator = (Arc<Fleet>, JoinHandle<()>);

/// Starts the thread that listens to the operator, for whom each virtual GPU is a machine. To stop
/// one of them stops the command.
fn serve_operator(
    path: &Path,
    shared: &Shared,
    ended: Sender<Result<(), vfio_user::Error>>,
) -> anyhow::Result<Operator> {
    let metrics = Metrics::default();
    let stop = Arc::new(EndSwitch::new()?);
    let mut seats = Vec::new();
    for vgpu in shared.host.vgpus() {
        let name = format!("vgpu{}", vgpu.vm().0);
        let tenancy = Tenancy {
            vgpu: vgpu.clone(),
            scheduler: shared.scheduler.clone(),
        };
        let metrics = metrics.of_vm(&name);
        tenancy.count_in(&metrics);
        let mut switches = Switches::default();
        tenancy.add_switches(&mut switches);
        let seat = Seat::new(name);
        seat.occupy(Controller {
            gate: Arc::default(),
            vcpus: Vec::new(),
            end: stop.clone(),
            metrics,
            switches,
            memory: 0,
            gpu: Some(tenancy.status()),
            started: Instant::now(),
        });
        seats.push(seat);
    }
    let fleet = Arc::new(Fleet::new(seats, metrics)?);
    let server = ControlServer::bind(path, fleet.clone())
        .with_context(|| format!("Cannot listen at {}", path.display()))?;
    let thread = thread::Builder::new().name("operator".into()).spawn({
        let closed = fleet.closed().clone();
        move || {
            let until = Until {
                stop,
                closed: closed.clone(),
            };
            let subscribers: Vec<Subscriber> = vec![Box::new(server), Box::new(until)];
            if let Err(error) = events::serve(subscribers, &closed, SeccompMode::Off) {
                tracing::error!("The control socket failed: {error}");
            }
            // Nobody listens any more once the command is on its way out.
            drop(ended.send(Ok(())));
        }
    });
    Ok((fleet, thread.context("Cannot start a thread")?))
}

/// Ends the operator's loop when a machine is stopped.
struct Until {
    stop: Arc<EndSwitch>,
    closed: Arc<EndSwitch>,
}

impl MutEventSubscriber for Until {
    fn init(&mut self, ops: &mut EventOps) {
        events::watch(ops, Events::new(self.stop.event(), EventSet::IN));
    }

    fn process(&mut self, _events: Events, ops: &mut EventOps) {
        // Its descriptor stays readable.
        let _ = ops.remove(Events::empty(self.stop.event()));
        self.closed.pull(Ending::Stopped);
    }
}
