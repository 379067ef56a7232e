//! How `run` and `serve` share a card: the options, and what they lead to.

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use gf100::Falcons;
use gpu_model::{
    BarSizes, BringUpError, Host, HostError, Layout, Limits, Optimisations, Scheduled, Settings,
    Slot, Tracking, VRAM_UNIT, VirtualGpu,
};
use mmio::VmId;
use sched::{MILLISECOND, Policy};

use super::recording;
use crate::gpu::HostCard;
use crate::size::Size;
use crate::soft_card::{CardCost, SoftCard};
use crate::vfio::{Address, Device, VfioCard};
use crate::vm::StoreLog;

/// Video memory for the shadow tables of each virtual GPU.
const TABLES: u64 = 64 << 20;

/// Options of a shared card.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Video memory of each GPU; only what is touched costs memory of the host.
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub vram: Size,

    /// Channels of each GPU; without it, an equal part of the card's.
    #[arg(long, value_name = "N")]
    channels: Option<u32>,

    /// What each virtual GPU shows in BAR1, where control pages and buffers are: a power of two, for
    /// all machines or for one after the other. Without it, as much as the card does.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',')]
    bar1: Vec<Size>,

    /// Likewise in BAR3, where the driver's own structures are.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',')]
    bar3: Vec<Size>,

    /// Bring the card up as a record says: a card on the bus has no firmware of its own. Made by
    /// `gpuvm run --mode passthrough --record-bring-up FILE`.
    #[arg(long, value_name = "FILE")]
    bring_up: Option<PathBuf>,

    #[command(flatten)]
    pub cost: CardCost,

    /// Optimisations: none (as GPUvm was published), paper, all, or names of some, separated by
    /// commas.
    #[arg(long, value_name = "NAME,…", default_value = "all")]
    opt: Optimisations,

    /// How it is known which page tables a guest stored to: log (KVM's dirty log), ring (its dirty
    /// rings), trap (page tables are mapped for loads only), compare (they are read again), hybrid
    /// (trap or compare, page by page). For the optimisation incremental.
    #[arg(long, value_enum, value_name = "WAY", default_value_t)]
    track: Track,

    /// Kill a channel that blocks others for so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    hang_ms: u64,

    /// Who may use the card when: direct (everybody at once), fifo, credit, band, drr, equal,
    /// fixed.
    #[arg(long, value_name = "NAME", default_value_t = Policy::Direct)]
    sched: Policy,

    /// Take a channel off its engine after so many milliseconds if others wait; 0 never does.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    timeslice: u64,

    /// Weights of the machines, from the first on; 100 for the rest.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    weight: Vec<u32>,

    /// Most that the machines get of an engine, in percent, from the first on; 100 for the rest.
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',')]
    cap: Vec<u32>,

    /// Priorities of the machines, from the first on; 0 for the rest. The higher goes first.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    priority: Vec<u8>,
}

/// How it is known which page tables a guest stored to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Track {
    /// KVM's dirty log; traps over vfio-user.
    #[default]
    Auto,
    /// Stores to page tables exit.
    Trap,
    /// KVM's dirty log.
    Log,
    /// KVM's dirty rings.
    Ring,
    /// Page tables are read and compared.
    Compare,
    /// Stores to page tables that are seldom stored to exit; others are read and compared.
    Hybrid,
}

impl Track {
    const fn tracking(self) -> Tracking {
        match self {
            Self::Auto | Self::Log | Self::Ring => Tracking::Logged,
            Self::Trap => Tracking::Trapped,
            Self::Compare => Tracking::Compared,
            Self::Hybrid => Tracking::Hybrid,
        }
    }
}

/// What `opt` and `track` are where machines are in other processes: see [`Options::remote`].
fn remote(mut opt: Optimisations, track: Track) -> anyhow::Result<(Optimisations, Track)> {
    if opt == Optimisations::ALL {
        opt -= Optimisations::LOCAL;
    }
    let local = opt & Optimisations::LOCAL;
    if !local.is_empty() {
        bail!("Not available over vfio-user, where every access is a message: {local}");
    }
    match track {
        Track::Auto | Track::Compare => Ok((opt, track)),
        // Every store exits anyway.
        Track::Trap => Ok((opt, Track::Auto)),
        Track::Log | Track::Ring | Track::Hybrid => {
            bail!("Over vfio-user, where no store passes unseen, --track is trap or compare")
        }
    }
}

/// Fails unless `opt` and `track` are what `--opt` and `--track` take: of machines that are in other
/// processes, if `elsewhere`.
///
/// # Errors
///
/// What is wrong with them.
pub fn check(opt: &str, track: &str, elsewhere: bool) -> anyhow::Result<()> {
    let opt: Optimisations = opt.parse()?;
    let Ok(track) = Track::from_str(track, false) else {
        let known: Vec<String> = Track::value_variants()
            .iter()
            .filter_map(|known| Some(known.to_possible_value()?.get_name().to_owned()))
            .collect();
        bail!("There is no --track {track:?}, only {}", known.join(", "));
    };
    if elsewhere {
        remote(opt, track)?;
    }
    Ok(())
}

/// A card that is shared.
pub struct Shared {
    /// It.
    pub card: Arc<dyn HostCard>,
    /// Its virtual GPUs.
    pub host: Host,
    /// What decides whose turn it is; none if everybody has the card at once.
    pub scheduler: Option<Arc<Scheduled>>,
}

/// Where cards come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A software card in this process.
    Soft,
    /// A card on the bus, bound to `vfio-pci`.
    Vfio(Address),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "soft" => Ok(Self::Soft),
            Some(("vfio", address)) => address.parse().map(Self::Vfio),
            _ => Err(format!("{text:?} is no card: write soft or vfio:BDF")),
        }
    }
}

/// A machine that gets a part of a card.
pub struct Machine {
    /// Where its virtual GPU is.
    pub slot: Arc<dyn Slot>,
    /// What its BARs are to show, where that differs from the options.
    pub bars: BarSizes,
}

impl From<Arc<dyn Slot>> for Machine {
    fn from(slot: Arc<dyn Slot>) -> Self {
        let bars = BarSizes::default();
        Self { slot, bars }
    }
}

/// The size for machine `n` of `machines`, of an option that has one for all or one for each.
fn size_for(
    option: &str,
    sizes: &[Size],
    n: usize,
    machines: usize,
) -> anyhow::Result<Option<u64>> {
    let size = match sizes {
        [] => return Ok(None),
        [all] => all,
        each if each.len() == machines => &each[n],
        each => bail!(
            "{option} has {} sizes, but there are {machines} machines",
            each.len()
        ),
    };
    Ok(Some(size.bytes()))
}

impl Options {
    /// The card of `source`, shared between `machines`.
    ///
    /// # Errors
    ///
    /// There is no such card, or it cannot be shared like that.
    pub fn share_card(&self, source: &Source, machines: Vec<Machine>) -> anyhow::Result<Shared> {
        match source {
            Source::Soft => self.share_soft(machines),
            Source::Vfio(address) => {
                let card = VfioCard::new(Device::open(address)?)?;
                let vram = card.vram_size();
                self.share(Arc::new(card), vram, machines)
            }
        }
    }

    /// The options where machines are in other processes: what cannot be done there is refused, but
    /// for `all`, which means all that can.
    ///
    /// # Errors
    ///
    /// An optimisation that needs the machine.
    pub fn remote(mut self) -> anyhow::Result<Self> {
        (self.opt, self.track) = remote(self.opt, self.track)?;
        Ok(self)
    }

    /// How machines of this process are to log stores.
    pub fn store_log(&self) -> StoreLog {
        match self.track {
            Track::Ring => StoreLog::Rings,
            _ => StoreLog::Slots,
        }
    }

    /// The options where guests have whole cards.
    ///
    /// # Errors
    ///
    /// One that makes no sense there.
    pub fn whole(&self) -> anyhow::Result<()> {
        ensure!(
            self.track == Track::Auto,
            "--track is for virtual GPUs: a guest with the whole card has no shadow tables"
        );
        ensure!(
            self.bar1.is_empty() && self.bar3.is_empty(),
            "--bar1 and --bar3 are for virtual GPUs: a guest with the whole card has the card's own"
        );
        ensure!(
            self.bring_up.is_none(),
            "--bring-up is for virtual GPUs: a guest with the whole card brings it up itself"
        );
        Ok(())
    }

    /// What the BARs of each of `machines` show.
    fn bars(&self, machines: &[Machine]) -> anyhow::Result<Vec<BarSizes>> {
        let sizes = machines.iter().enumerate().map(|(n, machine)| {
            let size = |option, sizes| size_for(option, sizes, n, machines.len());
            let (bar1, bar3) = (size("--bar1", &self.bar1)?, size("--bar3", &self.bar3)?);
            Ok(BarSizes {
                bar1: machine.bars.bar1.or(bar1),
                bar3: machine.bars.bar3.or(bar3),
            })
        });
        sizes.collect()
    }

    /// A new software card, shared between `machines`.
    ///
    /// # Errors
    ///
    /// The card cannot be shared like that, or the host does not carry it.
    fn share_soft(&self, machines: Vec<Machine>) -> anyhow::Result<Shared> {
        let vgpus = u16::try_from(machines.len()).context("Too many virtual GPUs")?;
        let vram = Layout::vram_for(vgpus, self.vram.bytes(), TABLES);
        let vram = vram.next_multiple_of(6 * VRAM_UNIT);
        let config = gf100::Config {
            // Nobody has to load firmware, unless there is some.
            falcons: match self.bring_up {
                None => Falcons::Resident,
                Some(_) => Falcons::Empty,
            },
            ..self.cost.quadro_6000(vram)
        };
        let card = SoftCard::new(config).context("Cannot build the card")?;
        self.share(Arc::new(card), vram, machines)
    }

    /// `card` with `vram` bytes of video memory, shared between `machines`.
    fn share(
        &self,
        card: Arc<dyn HostCard>,
        vram: u64,
        machines: Vec<Machine>,
    ) -> anyhow::Result<Shared> {
        let vgpus = u16::try_from(machines.len()).context("Too many virtual GPUs")?;
        let bars = self.bars(&machines)?;
        let layout = Layout::new(vgpus, self.vram.bytes(), vram);
        let layout = layout.and_then(|layout| match self.channels {
            Some(each) => layout.with_channels(each),
            None => Ok(layout),
        });
        let layout = layout.and_then(|layout| layout.with_bars(&bars));
        let layout = layout.context("The card cannot be shared so")?;
        let mut settings = Settings {
            limits: Limits {
                hang: Duration::from_millis(self.hang_ms),
            },
            optimisations: self.opt,
            tracking: self.track.tracking(),
            bring_up: self.bring_up.as_deref().map(recording::read).transpose()?,
            ..Settings::default()
        };
        let scheduler = self.scheduler(vgpus)?;
        if let Some(scheduler) = &scheduler {
            settings.dispatcher = scheduler.clone();
        }
        let slots = machines.into_iter().map(|machine| machine.slot);
        let host = Host::new(card.clone(), layout, settings, slots.collect());
        let help = |error: &HostError| match error {
            HostError::BringUp(error) if error.wants_record() => {
                "Cannot share the card. Let a guest have all of it once, with gpuvm run --mode \
                 passthrough --record-bring-up FILE, and share it with --bring-up FILE"
            }
            HostError::BringUp(BringUpError::NotInitialised) => {
                "Cannot share the card. If vfio-pci has reset it, an empty line in its reset_method \
                 keeps that from happening: see docs/virtualization.md"
            }
            _ => "Cannot share the card",
        };
        let host = host.map_err(|error| {
            let help = help(&error);
            anyhow::Error::new(error).context(help)
        })?;
        Ok(Shared {
            card,
            host,
            scheduler,
        })
    }

    fn scheduler(&self, vgpus: u16) -> anyhow::Result<Option<Arc<Scheduled>>> {
        let chosen = [self.weight.len(), self.cap.len(), self.priority.len()];
        let most = chosen.into_iter().max().unwrap_or(0);
        ensure!(
            most <= vgpus.into(),
            "Weights, caps or priorities of {most} machines, but there are {vgpus}"
        );
        if self.sched == Policy::Direct {
            ensure!(
                most == 0 && self.timeslice == 0,
                "Weights, caps, priorities and time slices need a scheduler: see --sched"
            );
            return Ok(None);
        }
        let config = sched::Config {
            timeslice: (self.timeslice > 0).then_some(self.timeslice * MILLISECOND),
            ..sched::Config::new(self.sched)
        };
        let hang = Duration::from_millis(self.hang_ms);
        let scheduler =
            Scheduled::new(config, vgpus, hang).context("Cannot start the scheduler")?;
        for vm in 0..vgpus {
            let default = sched::Settings::default();
            let n = usize::from(vm);
            let settings = sched::Settings {
                weight: self.weight.get(n).copied().unwrap_or(default.weight),
                cap: self.cap.get(n).map_or(default.cap, |cap| cap * 10),
                priority: self.priority.get(n).copied().unwrap_or(default.priority),
            };
            scheduler.set(VmId(vm), settings)?;
        }
        Ok(Some(scheduler))
    }
}

impl Shared {
    /// Writes what each virtual GPU has cost to `out`, and what it had of the card.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_counters(&self, out: &mut impl Write) -> io::Result<()> {
        for vgpu in self.host.vgpus() {
            write_counters(vgpu, out)?;
            let Some(scheduler) = &self.scheduler else {
                continue;
            };
            let usage = scheduler.usage(vgpu.vm());
            writeln!(out, "  scheduled_compute_ns: {}", usage.busy[0])?;
            writeln!(out, "  scheduled_copy_ns: {}", usage.busy[1])?;
            writeln!(out, "  scheduled_submissions: {}", usage.dispatched)?;
            writeln!(out, "  merged_doorbells: {}", usage.merged)?;
            writeln!(out, "  preemptions: {}", usage.preemptions)?;
            writeln!(out, "  longest_wait_ns: {}", usage.longest_wait)?;
        }
        Ok(())
    }
}

fn write_counters(vgpu: &VirtualGpu, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}:", vgpu.vm())?;
    for counter in vgpu.counters() {
        write!(out, "  {}", counter.name)?;
        if let Some((bar, range)) = counter.range {
            write!(out, " {bar:?} {range}")?;
        }
        if let Some(channel) = counter.channel {
            write!(out, " channel {channel}")?;
        }
        if let Some(engine) = counter.engine {
            write!(out, " {engine}")?;
        }
        writeln!(out, ": {}", counter.value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_checked_before_there_is_a_machine() {
        let error = |opt, track, elsewhere| check(opt, track, elsewhere).unwrap_err().to_string();
        assert!(check("paper,bulk", "hybrid", false).is_ok());
        assert!(check("all", "auto", true).is_ok());
        assert!(error("bluk", "auto", false).starts_with("There is no optimisation \"bluk\""));
        assert!(
            error("all", "guess", false).ends_with("only auto, trap, log, ring, compare, hybrid")
        );
        assert!(error("paper", "auto", true).ends_with(": bar3-remap"));
    }

    #[test]
    fn option_has_a_size_for_all_machines_or_for_each() {
        let size = |sizes: &[u64], n| {
            let sizes: Vec<Size> = sizes.iter().copied().map(Size::new).collect();
            size_for("--bar1", &sizes, n, 2)
        };

        assert_eq!(size(&[], 1).unwrap(), None);
        assert_eq!(size(&[8], 1).unwrap(), Some(8));
        assert_eq!(size(&[8, 9], 1).unwrap(), Some(9));
        let error = size(&[8, 9, 10], 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--bar1 has 3 sizes, but there are 2 machines"
        );
    }
}
