//! The card of this process, and what its driver set up once for all channels.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gf100::memory::PhysAddr;
use gf100::{Bus, Card};
use mmio::layout::userd;
use mmio::regs::pmc::Enable;
use mmio::regs::{falcon, pfb, pfifo, pgraph, pmc, ptimer};
use mmio::{Bar, RegId};
use parking_lot::{Condvar, Mutex};
use thiserror::Error;

use crate::channel::Channel;
use crate::error::Error as RequestError;
use crate::interrupts;
use crate::memory::Heap;
use crate::settings::Settings;

/// Control pages, in video memory, which an untranslated BAR1 shows.
const USERD: u64 = 0x4_0000;
/// The runlist.
const RUNLIST: u64 = USERD + userd::STRIDE * pfifo::CHANNELS as u64;
/// Where buffers and tables begin.
const HEAP: u64 = 0x10_0000;
/// System memory that buffers can have.
const GART_SIZE: u64 = 16 << 30;
/// How long the card may take for what it does at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bits of an error acknowledgement of a PBDMA's method. Source: K61 `nvkm/engine/fifo/gf100.c
/// gf100_fifo_intr_pbdma`.
const CACHE_ADDR_SKIP: u32 = 0x8060_0008;

/// What PFIFO interrupts for as long as nobody waits for a fence: an interrupt costs the card and this
/// process as much as a small grid. Source: K61 `nvkm/engine/fifo/gf100.c gf100_fifo_uevent_init`.
const QUIET: pfifo::Intr = pfifo::Intr::all().difference(pfifo::Intr::ENGINE);

/// Why there is no device.
#[derive(Debug, Error)]
pub enum Error {
    /// The card does not work.
    #[error("There is no card")]
    Card(#[from] gf100::Error),
    /// The host has no memory or no thread.
    #[error("The host does not carry the card")]
    Host(#[from] io::Error),
}

/// Counts what may interest somebody who waits: interrupts, fences, deaths.
#[derive(Default)]
pub struct Events {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Events {
    /// How many there were.
    pub fn count(&self) -> u64 {
        *self.count.lock()
    }

    /// There is another one.
    pub fn notify(&self) {
        *self.count.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits until there are more than `seen`, but not longer than `limit`.
    pub fn wait(&self, seen: u64, limit: Duration) {
        let mut count = self.count.lock();
        if *count == seen {
            self.changed.wait_for(&mut count, limit);
        }
    }
}

/// The interrupt pin. The driver's thread looks whenever its level rises.
#[derive(Default)]
pub struct Line {
    raised: Events,
    /// Those of the device: who waits for a fence need not wait for the driver's thread, too.
    waiters: Arc<Events>,
}

impl Line {
    /// What the driver's thread waits for.
    pub fn events(&self) -> &Events {
        &self.raised
    }
}

impl Bus for Line {
    fn msi(&self) {
        self.waiters.notify();
        self.raised.notify();
    }

    fn intx(&self, level: bool) {
        if level {
            self.msi();
        }
    }
}

/// The card and what channels share.
pub struct Device {
    card: Card,
    line: Arc<Line>,
    /// Video memory for buffers and tables.
    pub vram: Arc<Heap>,
    /// System memory for buffers.
    pub gart: Arc<Heap>,
    /// Fences that passed while somebody [listened](Device::listen), channels that died.
    pub events: Arc<Events>,
    /// The next fence interrupts.
    listening: Mutex<bool>,
    channels: Mutex<Vec<Option<Weak<Channel>>>>,
    /// Bytes of a channel's context in PGRAPH.
    context_size: u64,
    settings: Settings,
}

impl Device {
    /// Powers the card on and brings it up.
    ///
    /// # Errors
    ///
    /// The settings ask for an impossible card, or the host lacks memory or threads.
    pub fn new(settings: Settings) -> Result<Arc<Self>, Error> {
        let line = Arc::new(Line::default());
        let card = Card::new(settings.config(), line.clone())?;
        let memory = card.memory().clone();
        let events = line.waiters.clone();
        let mut device = Self {
            card,
            line,
            vram: Heap::vram(memory.clone(), HEAP),
            gart: Heap::system(memory, GART_SIZE)?,
            events,
            listening: Mutex::new(false),
            channels: Mutex::new(vec![None; pfifo::CHANNELS as usize]),
            context_size: 0,
            settings,
        };
        device.write(pmc::ENABLE, 0, !0);
        device.start_fifo();
        device.start_graphics();
        device.start_falcon(falcon::CE0);
        device.start_falcon(falcon::CE1);
        device.context_size = device.read(pgraph::FECS_SCRATCH, 1).into();
        device.write(pmc::INTR_EN_HOST, 0, 1);
        let device = Arc::new(device);
        let weak = Arc::downgrade(&device);
        let line = device.line.clone();
        std::thread::Builder::new()
            .name("gf100-drm".into())
            .spawn(move || interrupts::run(&weak, &line))?;
        Ok(device)
    }

    fn start_fifo(&self) {
        for unit in 0..pfifo::PBDMAS {
            self.write(pfifo::PBDMA_INTR, unit, !0);
            self.write(pfifo::PBDMA_INTR_EN, unit, !0);
        }
        let base = pfifo::BAR1_BASE_ENABLE | (USERD >> 12) as u32;
        self.write(pfifo::BAR1_BASE, 0, base);
        self.write(pfifo::INTR, 0, !0);
        self.write(pfifo::INTR_EN, 0, QUIET.bits());
        self.write(pfifo::ENGINE_INTR_EN, 0, 1);
        self.write(pfifo::CTRL, 0, pfifo::CTRL_ENABLE);
    }

    /// Brings PGRAPH up after power-on or a reset.
    ///
    /// Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_init, gf100_gr_init_ctxctl_int`.
    fn start_graphics(&self) {
        let pull = pgraph::FifoControl::PULL | pgraph::FifoControl::UNK16;
        self.write(pgraph::FIFO_CONTROL, 0, pull.bits());
        self.write(pgraph::INTR, 0, !0);
        self.write(pgraph::INTR_EN, 0, !0);
        for register in [
            pgraph::DISPATCH_TRAP,
            pgraph::M2MF_TRAP,
            pgraph::CCACHE_TRAP,
            pgraph::MACRO_TRAP,
            pgraph::SHADER_TRAP,
        ] {
            self.write(register, 0, pgraph::TRAP_RESET | pgraph::TRAP_ENABLE);
        }
        for register in [
            pgraph::TRAP,
            pgraph::TRAP_EN,
            pgraph::TRAP_GPCS,
            pgraph::TRAP_GPCS_EN,
            pgraph::TRAP_ROPS,
            pgraph::TRAP_ROPS_EN,
        ] {
            self.write(register, 0, !0);
        }
        self.start_falcon(falcon::FECS);
    }

    /// Starts the falcon at `base`, whose firmware the card has.
    fn start_falcon(&self, base: u32) {
        self.write(RegId(base + falcon::offset::UC_CTRL), 0, falcon::START);
    }

    /// The card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// What the user chose.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// From now on the next fence that passes counts among [`Device::events`]. What passed before has
    /// to be looked for.
    pub fn listen(&self) {
        let mut listening = self.listening.lock();
        if !*listening {
            self.acknowledge_fences();
            self.write(pfifo::INTR_EN, 0, pfifo::Intr::all().bits());
            *listening = true;
        }
    }

    /// A fence passed: those who wait hear of it, and whoever waits on has to listen again.
    pub fn fence_passed(&self) {
        {
            let mut listening = self.listening.lock();
            self.write(pfifo::INTR_EN, 0, QUIET.bits());
            self.acknowledge_fences();
            *listening = false;
        }
        self.events.notify();
    }

    fn acknowledge_fences(&self) {
        let engines = self.read(pfifo::ENGINE_INTR_SOURCE, 0);
        for engine in (0..u32::BITS).filter(|engine| engines & 1 << engine != 0) {
            let causes = self.read(pfifo::ENGINE_INTR, engine);
            self.write(pfifo::ENGINE_INTR, engine, causes);
        }
    }

    /// Bytes of a channel's context in PGRAPH.
    pub fn context_size(&self) -> u64 {
        self.context_size
    }

    /// Loads element `index` of a register.
    pub fn read(&self, register: RegId, index: u32) -> u32 {
        let mut data = [0; 4];
        self.card
            .read(Bar::Bar0, offset_of(register, index), &mut data);
        u32::from_le_bytes(data)
    }

    /// Stores to element `index` of a register.
    pub fn write(&self, register: RegId, index: u32, value: u32) {
        let at = offset_of(register, index);
        self.card.write(Bar::Bar0, at, &value.to_le_bytes());
    }

    /// The card's clock, in nanoseconds.
    pub fn time(&self) -> u64 {
        loop {
            let high = self.read(ptimer::TIME_1, 0);
            let low = self.read(ptimer::TIME_0, 0);
            if self.read(ptimer::TIME_1, 0) == high {
                return u64::from(high) << 32 | u64::from(low);
            }
        }
    }

    /// GPCs in bits 0-7, TPCs in 8-31, ROPs from bit 32, as `GETPARAM` has them.
    ///
    /// Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_units`.
    pub fn graph_units(&self) -> u64 {
        let units = self.read(pgraph::FECS_UNITS, 0);
        let gpcs = units & 0x1f;
        let tpcs: u32 = (0..gpcs).map(|gpc| self.read(pgraph::GPC_TPCS, gpc)).sum();
        u64::from(units >> 16 & 0x1f) << 32 | u64::from(tpcs) << 8 | u64::from(gpcs)
    }

    /// Makes all engines forget translations of an address space.
    pub fn flush_tlb(&self, directory: PhysAddr) {
        let pdb = (directory.address >> 12) << 4;
        self.write(pfb::VM_FLUSH_PDB, 0, pdb as u32);
        let flush = pfb::VmFlush::TRIGGER | pfb::VmFlush::PAGE_ALL;
        self.write(pfb::VM_FLUSH, 0, flush.bits());
    }

    /// Reserves a channel number and makes the channel with it.
    ///
    /// # Errors
    ///
    /// All are in use, or the channel cannot be made.
    pub fn add_channel(
        self: &Arc<Self>,
        make: impl FnOnce(u32) -> Result<Arc<Channel>, RequestError>,
    ) -> Result<Arc<Channel>, RequestError> {
        let mut channels = self.channels.lock();
        let chid = channels
            .iter()
            .position(Option::is_none)
            .ok_or(RequestError::NoMemory)?;
        let channel = make(chid as u32)?;
        channels[chid] = Some(Arc::downgrade(&channel));
        let word = pfifo::CHAN_VALID | 1 << 30 | channel.instance().to_channel_word();
        self.write(pfifo::CHAN, chid as u32, word);
        self.write(pfifo::CHAN_STATE, chid as u32, channel_state(true));
        self.submit_runlist(&channels);
        Ok(channel)
    }

    /// Takes a channel off the card; it is on no engine when this returns.
    pub fn remove_channel(&self, chid: u32) {
        let mut channels = self.channels.lock();
        self.write(pfifo::CHAN_STATE, chid, channel_state(false));
        self.write(pfifo::KICK, 0, chid);
        self.poll(|| self.read(pfifo::KICK, 0) & pfifo::KICK_PENDING == 0);
        channels[chid as usize] = None;
        self.submit_runlist(&channels);
        self.write(pfifo::CHAN, chid, 0);
    }

    /// All channels.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        let channels = self.channels.lock();
        live(&channels).collect()
    }

    /// The channel with this instance block, of which a register shows the page.
    pub fn channel_at(&self, page: u32) -> Option<Arc<Channel>> {
        let at = u64::from(page & 0x0fff_ffff) << 12;
        self.channels()
            .into_iter()
            .find(|channel| channel.instance().address == at)
    }

    /// Kills a channel: it runs no more, and whatever `engine` did for it is gone. `acknowledge`
    /// lets go of the unit that reported what it dies of, once the channel has no leave to run.
    ///
    /// Source: K61 `nvkm/engine/fifo/gf100.c gf100_fifo_recover, gf100_fifo_recover_work`.
    pub fn kill(
        &self,
        channel: &Channel,
        engine: Option<u32>,
        why: &str,
        acknowledge: impl FnOnce(),
    ) {
        let channels = self.channels.lock();
        if !channel.die(why) {
            return acknowledge();
        }
        eprintln!("gf100-drm: channel {} killed: {why}", channel.chid());
        self.write(pfifo::CHAN_STATE, channel.chid(), channel_state(false));
        if let Some(engine) = engine {
            self.write(pfifo::ENG_FREEZE, 0, 1 << engine);
            let unit = match engine {
                4 => Enable::CE0,
                5 => Enable::CE1,
                _ => Enable::PGRAPH,
            };
            self.write(pmc::ENABLE, 0, !unit.bits());
            self.write(pmc::ENABLE, 0, !0);
            match engine {
                4 => self.start_falcon(falcon::CE0),
                5 => self.start_falcon(falcon::CE1),
                _ => self.start_graphics(),
            }
        }
        acknowledge();
        self.submit_runlist(&channels);
        if let Some(engine) = engine {
            self.write(pfifo::ENG_FAULT, 0, 1 << engine);
            self.write(pfifo::ENG_FREEZE, 0, 0);
        }
        drop(channels);
        self.events.notify();
    }

    /// Lets a PBDMA go on without the method at hand.
    pub fn skip_method(&self, unit: u32) {
        let pending = self.read(pfifo::PBDMA_INTR, unit);
        self.write(pfifo::PBDMA_CACHE_ADDR, unit, CACHE_ADDR_SKIP);
        self.write(pfifo::PBDMA_INTR, unit, pending);
    }

    /// Puts all channels that live on the runlist.
    fn submit_runlist(&self, channels: &[Option<Weak<Channel>>]) {
        let vram = self.card.memory().vram();
        let mut length = 0;
        for channel in live(channels) {
            if channel.is_alive() {
                vram.store(RUNLIST + 8 * length, channel.chid());
                vram.store(RUNLIST + 8 * length + 4, 4u32);
                length += 1;
            }
        }
        self.write(pfifo::RUNLIST_WR, 0, (RUNLIST >> 12) as u32);
        let words = 0x01f0_0000 | length as u32;
        self.write(pfifo::RUNLIST_WR_LEN, 0, words);
        self.poll(|| self.read(pfifo::RUNLIST_RD_LEN, 0) & pfifo::RUNLIST_PENDING == 0);
    }

    /// A word of a channel's control page.
    pub fn control(&self, chid: u32, offset: u64) -> u32 {
        self.card.memory().vram().load(userd(chid) + offset)
    }

    /// Physical address of a channel's control page.
    pub fn control_page(&self, chid: u32) -> u64 {
        let at = userd(chid);
        self.card.memory().vram().fill(at, userd::STRIDE, 0);
        at
    }

    /// Rings a channel's doorbell.
    pub fn ring(&self, chid: u32, put: u32) {
        let at = userd(chid) + userd::GP_PUT;
        self.card.write(Bar::Bar1, at, &put.to_le_bytes());
    }

    fn poll(&self, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

/// The channels that exist.
fn live(channels: &[Option<Weak<Channel>>]) -> impl Iterator<Item = Arc<Channel>> {
    channels
        .iter()
        .filter_map(|channel| channel.as_ref()?.upgrade())
}

fn userd(chid: u32) -> u64 {
    USERD + userd::STRIDE * u64::from(chid)
}

fn offset_of(register: RegId, index: u32) -> u64 {
    let described = register.describe();
    described.map_or(u64::from(register.offset()), |register| {
        register.offset_of(index).into()
    })
}

/// `CHAN_STATE` with and without leave to run. Source: K61 `nvkm/engine/fifo/gpfifogf100.c
/// gf100_fifo_gpfifo_init`.
fn channel_state(runnable: bool) -> u32 {
    0x001f_0000 | u32::from(runnable)
}
