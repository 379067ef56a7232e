//! `gpuvm run`: guests with their GPUs.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use gpu_model::BarSizes;
use mmio::VmId;
use mmio::bring_up::Recorder;
use tracing::{info, warn};

use super::guest::{Guest, GuestOptions};
use super::recording::Recording;
use super::sharing::{self, Shared, Source};
use crate::control::{ControlServer, Fleet, Seat};
use crate::devices::marker::Marks;
use crate::ending::Ending;
use crate::gpu::{GpuConfig, Poller, VirtualSlot, WholeConfig, WholeSource, Wires};
use crate::host;
use crate::io::{self as events, ConsolePlace, Signals, Subscriber};
use crate::machine::{Machine, MachineConfig, MachineError};
use crate::memory::Pages;
use crate::metrics::Metrics;
use crate::seccomp::{self, Sandbox, SeccompMode};
use crate::terminal::RawTerminal;

/// Most guests on one card.
const MOST_GUESTS: u16 = 8;

/// Arguments of `gpuvm run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    guest: GuestOptions,

    /// A guest, described by a file with the same options as keys: name, kernel, initrd, cmdline,
    /// memory, cpus, disk, bar1, bar3, console. May be given several times; all share the card.
    #[arg(long, value_name = "FILE.toml", conflicts_with = "vms")]
    vm: Vec<PathBuf>,

    /// So many guests that are alike.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_GUESTS)))]
    vms: u16,

    /// Write the guests' consoles to files here, NAME.log. Without it, the console of a single
    /// guest is the terminal, and those of several are lines behind their names.
    #[arg(long, value_name = "DIR")]
    console_dir: Option<PathBuf>,

    /// The GPU that the guests get: a software card in this process, or a card on the bus, bound to
    /// vfio-pci. Without it they get none.
    #[arg(long, value_name = "none|soft|vfio:BDF", default_value = "none", value_parser = parse_gpu)]
    gpu: Gpu,

    /// How a guest gets it.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Mode::Fv)]
    mode: Mode,

    /// Write to FILE how the guest's driver brings the card up, so that it can be shared afterwards
    /// (`--bring-up`). The guest has to have the whole card, and to use its engines.
    #[arg(long, value_name = "FILE")]
    record_bring_up: Option<PathBuf>,

    #[command(flatten)]
    sharing: sharing::Options,

    /// Print exits, what each virtual GPU cost, and the counters at moments that guests marked, at the
    /// end, to standard error.
    #[arg(long)]
    stats: bool,

    /// Listen here for actions: see `gpuvm ctl`.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,

    /// What happens on a system call that the VMM does not need.
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    seccomp: SeccompMode,

    /// What to do when a guest resets itself.
    #[arg(long, value_enum, default_value_t = OnReset::Restart)]
    on_reset: OnReset,
}

/// Where the guests' GPUs come from, if they have any.
type Gpu = Option<Source>;

fn parse_gpu(text: &str) -> Result<Gpu, String> {
    match text {
        "none" => Ok(None),
        _ => text.parse().map(Some),
    }
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
    /// It has ended, with status 3.
    Exit,
}

impl Args {
    fn guests(&self) -> anyhow::Result<Vec<Guest>> {
        let guests: Vec<Guest> = if self.vm.is_empty() {
            (0..self.vms)
                .map(|n| self.guest.guest(format!("vm{n}")))
                .collect::<anyhow::Result<_>>()?
        } else {
            let files = self.vm.iter().enumerate();
            files
                .map(|(n, file)| self.guest.guest_in(file, format!("vm{n}")))
                .collect::<anyhow::Result<_>>()?
        };
        if guests.len() > usize::from(MOST_GUESTS) {
            bail!("{} guests: 1 to {MOST_GUESTS} are possible", guests.len());
        }
        for (n, guest) in guests.iter().enumerate() {
            if guests[..n].iter().any(|other| other.name == guest.name) {
                bail!("Two guests are called {}", guest.name);
            }
        }
        Ok(guests)
    }

    fn console(&self, guest: &Guest, alone: bool) -> ConsolePlace {
        if let Some(file) = &guest.console {
            return ConsolePlace::File(file.clone());
        }
        match &self.console_dir {
            Some(directory) => ConsolePlace::File(directory.join(format!("{}.log", guest.name))),
            None if alone => ConsolePlace::Terminal,
            None => ConsolePlace::Lines(guest.name.clone()),
        }
    }

    /// The record that is asked for.
    fn recording(&self, guests: &[Guest]) -> anyhow::Result<Option<Recording>> {
        let Some(path) = &self.record_bring_up else {
            return Ok(None);
        };
        ensure!(
            self.gpu.is_some() && self.mode == Mode::Passthrough && guests.len() == 1,
            "--record-bring-up is for one guest that has the whole card: see --gpu and --mode"
        );
        Recording::begin(path).map(Some)
    }

    /// The card, if it is shared, and what each of `guests` gets of it.
    fn gpus(
        &self,
        guests: &[Guest],
        recorder: Option<Arc<Recorder>>,
    ) -> anyhow::Result<(Option<Shared>, Vec<Option<GpuConfig>>)> {
        if self.gpu.is_none() || self.mode == Mode::Passthrough {
            self.sharing.whole()?;
            if let Some(guest) = guests
                .iter()
                .find(|guest| guest.bars != BarSizes::default())
            {
                bail!(
                    "{} has bar1 or bar3, which are for virtual GPUs",
                    guest.name
                );
            }
        }
        let count = guests.len();
        match (&self.gpu, self.mode) {
            (None, _) => Ok((None, vec![None; count])),
            (Some(Source::Soft), Mode::Passthrough) => {
                let vram = self.sharing.vram.bytes();
                let source = WholeSource::Soft(self.sharing.cost.quadro_6000(vram));
                let whole = WholeConfig { source, recorder };
                Ok((None, vec![Some(GpuConfig::Whole(whole)); count]))
            }
            (Some(Source::Vfio(address)), Mode::Passthrough) => {
                if count != 1 {
                    bail!("A card on the bus can be passed through to one guest, not to {count}");
                }
                let source = WholeSource::Vfio(address.clone());
                let whole = WholeConfig { source, recorder };
                Ok((None, vec![Some(GpuConfig::Whole(whole))]))
            }
            (Some(source), Mode::Fv) => {
                let wires: Vec<Arc<Wires>> = guests.iter().map(|_| Arc::default()).collect();
                let machines = wires
                    .iter()
                    .zip(guests)
                    .map(|(wires, guest)| sharing::Machine {
                        slot: wires.clone(),
                        bars: guest.bars,
                    });
                let shared = self.sharing.share_card(source, machines.collect())?;
                let parts = shared.host.vgpus().iter().zip(wires).map(|(vgpu, wires)| {
                    Some(GpuConfig::Virtual(VirtualSlot {
                        vgpu: vgpu.clone(),
                        card: shared.card.clone(),
                        wires,
                        scheduler: shared.scheduler.clone(),
                    }))
                });
                let parts = parts.collect();
                Ok((Some(shared), parts))
            }
        }
    }
}

/// Runs the guests until all have ended; the exit status says how (see [`Ending::exit_code`]). Of
/// several guests, that of the first counts that did not end by a power-off.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let guests = args.guests()?;
    check_memory(&guests)?;
    let recording = args.recording(&guests)?;
    // Before there are other threads: signals are for the one that waits for them.
    events::block_signals().context("Cannot block signals")?;
    let _terminal = RawTerminal::new().context("Cannot set up the terminal")?;
    seccomp::enter(Sandbox::Process, args.seccomp)?;
    let recorder = recording.as_ref().map(Recording::recorder);
    let (shared, gpus) = args.gpus(&guests, recorder)?;
    let _poller = shared
        .as_ref()
        .map(|shared| Poller::start(shared.host.vgpus().to_vec()))
        .transpose()?;
    let metrics = Metrics::default();
    let machine = |(id, (guest, gpu)): (u16, (&Guest, Option<GpuConfig>))| {
        let metrics = metrics.of_vm(&guest.name);
        if let Some(GpuConfig::Virtual(slot)) = &gpu {
            slot.tenancy().count_in(&metrics);
        }
        MachineConfig {
            id: VmId(id),
            seat: Seat::new(&guest.name),
            metrics,
            marks: Marks::default(),
            console: args.console(guest, guests.len() == 1),
            boot: guest.boot.clone(),
            memory: guest.memory.bytes(),
            pages: guest.pages,
            cpus: guest.cpus,
            disks: guest.disks.clone(),
            gpu,
            store_log: args.sharing.store_log(),
            seccomp: args.seccomp,
        }
    };
    let configs: Vec<MachineConfig> = (0..).zip(guests.iter().zip(gpus)).map(machine).collect();
    let seats = configs.iter().map(|config| config.seat.clone()).collect();
    let marks: Vec<Marks> = configs.iter().map(|config| config.marks.clone()).collect();
    let fleet = Arc::new(Fleet::new(seats, metrics.clone())?);
    let operator = serve_operator(&fleet, &args)?;
    let endings = run_all(configs, &fleet, args.on_reset);
    fleet.closed().pull(Ending::Stopped);
    if let Ok(served) = operator.join() {
        served?;
    }
    if args.stats {
        for (name, count) in metrics.snapshot() {
            if name.starts_with("exit") {
                eprintln!("{name}: {count}");
            }
        }
        for mark in marks.iter().flat_map(|marks| marks.lock().clone()) {
            eprintln!("{}", serde_json::to_string(&mark)?);
        }
        if let Some(shared) = shared {
            shared.write_counters(&mut io::stderr())?;
        }
    }
    let endings = endings?;
    if let Some(recording) = recording {
        recording.finish(&guests[0].boot.kernel)?;
    }
    let worst = endings.iter().find(|ending| **ending != Ending::PowerOff);
    Ok(worst.unwrap_or(&Ending::PowerOff).exit_code())
}

/// Refuses memory that the host cannot have, and warns of memory that it does not have now: pages
/// come as guests touch them, and when there are none, the host kills what it likes. Huge pages come
/// at once, or not at all.
fn check_memory(guests: &[Guest]) -> anyhow::Result<()> {
    let small = guests.iter().filter(|guest| guest.pages == Pages::Small);
    let wanted = small.fold(0u64, |sum, guest| sum.saturating_add(guest.memory.bytes()));
    let mib = |bytes: u64| bytes >> 20;
    if let Some(total) = host::memory_total().filter(|total| wanted > *total) {
        bail!(
            "{} MiB of memory for guests: this host has {} MiB with its swap",
            mib(wanted),
            mib(total)
        );
    }
    let available = host::memory_available();
    if wanted > available {
        warn!(
            "{} MiB of memory for guests, of which this host has {} MiB now",
            mib(wanted),
            mib(available)
        );
    }
    Ok(())
}

/// Starts the thread that listens to the operator.
fn serve_operator(
    fleet: &Arc<Fleet>,
    args: &Args,
) -> anyhow::Result<JoinHandle<Result<(), events::LoopError>>> {
    let signals = Signals::new(fleet.clone()).context("Cannot wait for signals")?;
    let mut subscribers: Vec<Subscriber> = vec![Box::new(signals)];
    if let Some(path) = &args.control {
        let server = ControlServer::bind(path, fleet.clone())
            .with_context(|| format!("Cannot listen at {}", path.display()))?;
        subscribers.push(Box::new(server));
    }
    let (closed, seccomp) = (fleet.closed().clone(), args.seccomp);
    thread::Builder::new()
        .name("operator".into())
        .spawn(move || events::serve(subscribers, &closed, seccomp))
        .context("Cannot start a thread")
}

/// Runs machines side by side; how each ended. When one cannot run, all end.
fn run_all(
    configs: Vec<MachineConfig>,
    fleet: &Arc<Fleet>,
    on_reset: OnReset,
) -> anyhow::Result<Vec<Ending>> {
    let threads = configs
        .into_iter()
        .map(|config| {
            let fleet = fleet.clone();
            let name = config.seat.name().to_owned();
            let thread = thread::Builder::new().name(name.clone()).spawn(move || {
                let result = run_one(&config, on_reset);
                if result.is_err() {
                    fleet.end(&Ending::Stopped);
                }
                result
            });
            thread
                .map(|thread| (name, thread))
                .context("Cannot start a thread")
        })
        .collect::<anyhow::Result<Vec<_>>>()
        .inspect_err(|_| fleet.end(&Ending::Stopped))?;
    let mut endings = Vec::new();
    let mut failure = None;
    for (name, thread) in threads {
        match thread.join() {
            Ok(Ok(ending)) => endings.push(ending),
            Ok(Err(error)) => {
                failure.get_or_insert(anyhow::Error::new(error).context(format!("{name} failed")));
            }
            // It was reported where it happened.
            Err(_) => endings.push(Ending::Crash("the VMM panicked".into())),
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok(endings),
    }
}

/// Runs one machine, again after each reset.
fn run_one(config: &MachineConfig, on_reset: OnReset) -> Result<Ending, MachineError> {
    loop {
        let ending = Machine::start(config)?.wait()?;
        if let Some(ending) = config.seat.ended() {
            return Ok(ending);
        }
        if ending != Ending::Reset || on_reset == OnReset::Exit {
            return Ok(ending);
        }
        info!(vm = config.seat.name(), "restarting");
    }
}
