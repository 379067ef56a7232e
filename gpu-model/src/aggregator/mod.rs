//! The aggregator: the owner of the card's own registers, which lets the machines share them.
//!
//! It brings the card up once. After that machines reach the card only through the methods here,
//! each of which holds one lock for one bounded step; none waits for another machine's work.

mod bring_up;
mod channels;
mod context;
mod events;
mod fetch;
mod first_context;
mod own_channel;
mod replay;
mod scrub;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mmio::bring_up::Record;
use mmio::layout::pagetable::Aperture;
use mmio::regs::pfb::{self, VmFlush};
use mmio::regs::pfifo;
use mmio::{Bar, VmId};
use parking_lot::{Condvar, Mutex};

use crate::card::{Card, Registers};
use crate::counters::Counters;
use crate::partition::Layout;
use crate::stretch::Stretches;
use crate::submission::{Dispatcher, Gate};
use crate::vram::Vram;

pub use self::bring_up::BringUpError;
pub use self::channels::Owner;
use self::channels::{Runlists, Table};
pub use self::context::HostMethod;
pub(crate) use self::events::pbdma;
pub use self::events::{Event, Shown};
use self::own_channel::OwnChannel;

/// How long a step of the card may take: a kick, the take-over of a runlist.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long to wait between looks at the card.
const LOOK: Duration = Duration::from_micros(20);
/// How long an interrupt may come behind the work that raised it.
const AFTERMATH: Duration = Duration::from_secs(1);

/// What an operator may choose.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a channel may keep an engine that others wait for, or leave an interrupt of its
    /// PBDMA unhandled, before it is killed.
    pub hang: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hang: Duration::from_secs(2),
        }
    }
}

/// The owner of a card.
pub struct Aggregator {
    card: Arc<dyn Card>,
    vram: Vram,
    layout: Layout,
    /// What of the card's memory is behind its BARs.
    stretches: Stretches,
    limits: Limits,
    /// Bytes of a PGRAPH context, as the card's firmware says.
    context_size: u32,
    /// The context that every machine's first one is, where the card was brought up by a record.
    first_context: Option<Box<[u8]>>,
    dispatcher: Arc<dyn Dispatcher>,
    /// It decides when doorbells reach the card; otherwise they pass it by.
    dispatches: bool,
    /// By machine.
    counters: Box<[Arc<Counters>]>,
    table: Table,
    /// By machine, when it last had work on the card.
    flights: Mutex<Box<[Option<Instant>]>>,
    /// Somebody looks at the engines.
    watched: AtomicBool,
    /// Work is in flight again.
    rung: Condvar,
    runlists: Mutex<Runlists>,
    /// Machines that listen to non-stalling interrupts, as bits.
    listeners: Mutex<u32>,
    /// PBDMAs whose interrupt a machine is to handle, and since when.
    handlers: Mutex<[Option<Handler>; pfifo::PBDMAS as usize]>,
    /// One kick at a time: the card knows no more.
    kick: Mutex<()>,
    /// The two registers of a flush belong together.
    flush: Mutex<()>,
    /// One context is built at a time.
    building: Mutex<()>,
    /// What moves memory; one range at a time.
    own: Mutex<OwnChannel>,
}

/// A machine that handles the interrupt of a PBDMA.
#[derive(Clone, Copy, Debug)]
struct Handler {
    owner: Owner,
    since: Instant,
}

impl Aggregator {
    /// Takes `card` over and brings it up, by `record` if there is one; `dispatcher` decides when it
    /// works for whom.
    ///
    /// # Errors
    ///
    /// The card does not come up.
    pub fn new(
        card: Arc<dyn Card>,
        layout: Layout,
        limits: Limits,
        dispatcher: Arc<dyn Dispatcher>,
        record: Option<&Record>,
    ) -> Result<Arc<Self>, BringUpError> {
        let machines = usize::from(layout.vgpus());
        let mut aggregator = Self {
            vram: Vram::new(card.clone()),
            dispatches: dispatcher.decides(),
            dispatcher,
            counters: (0..machines).map(|_| Arc::default()).collect(),
            table: Table::new(),
            flights: Mutex::new(vec![None; machines].into()),
            watched: AtomicBool::new(true),
            rung: Condvar::new(),
            runlists: Mutex::new(Runlists::new(layout.vgpus())),
            stretches: layout.stretches(card.bar_size(Bar::Bar1), card.bar_size(Bar::Bar3)),
            layout,
            limits,
            card,
            context_size: 0,
            first_context: None,
            listeners: Mutex::default(),
            handlers: Mutex::default(),
            kick: Mutex::default(),
            flush: Mutex::default(),
            building: Mutex::default(),
            own: Mutex::default(),
        };
        aggregator.bring_up(record)?;
        let aggregator = Arc::new(aggregator);
        let gate: Weak<Self> = Arc::downgrade(&aggregator);
        aggregator.dispatcher.attach(gate as Weak<dyn Gate>);
        Ok(aggregator)
    }

    /// What machine `vm` costs.
    pub fn counters(&self, vm: VmId) -> &Arc<Counters> {
        &self.counters[usize::from(vm.0)]
    }

    /// The card.
    pub fn card(&self) -> &dyn Card {
        &*self.card
    }

    /// The card's memory.
    pub fn vram(&self) -> &Vram {
        &self.vram
    }

    /// Who owns what.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What of the card's memory is behind its BARs.
    pub fn stretches(&self) -> &Stretches {
        &self.stretches
    }

    /// Bytes of a PGRAPH context.
    pub fn context_size(&self) -> u32 {
        self.context_size
    }

    /// The context that every machine's first one is, if it is made: without it, the card makes one
    /// of what the machine's driver does ([`build_context`](Self::build_context)).
    pub fn first_context(&self) -> Option<&[u8]> {
        self.first_context.as_deref()
    }

    /// Lets the card forget translations of the directory at `directory` of its memory.
    pub fn flush_tlb(&self, directory: u64) {
        let _one = self.flush.lock();
        self.card.flush(false);
        let control = |bits| self.wait(|| self.card.get(pfb::MMU_CTRL) & bits != 0);
        if !control(pfb::FLUSH_SLOTS) {
            tracing::debug!("The card has no room for another flush");
        }
        let space = (directory >> 8) as u32 | Aperture::Vram.target() as u32;
        self.card.set(pfb::VM_FLUSH_PDB, space);
        let flush = VmFlush::PAGE_ALL | VmFlush::TRIGGER;
        self.card.set(pfb::VM_FLUSH, flush.bits());
        if !control(pfb::FLUSH_DONE) {
            tracing::debug!("The card does not finish a flush");
        }
    }

    /// Waits until `done`, but not for ever; whether it is.
    fn wait(&self, done: impl FnMut() -> bool) -> bool {
        self.wait_at_most(PATIENCE, done)
    }

    fn wait_at_most(&self, patience: Duration, mut done: impl FnMut() -> bool) -> bool {
        let begin = Instant::now();
        while !done() {
            if begin.elapsed() > patience {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// The machine with partition index `vm` has nothing of the card any more: its channels are
    /// dead. `false` if an engine still works for one.
    pub fn evict(&self, vm: VmId) -> bool {
        let channels = self.layout.partition(vm).channels;
        let stuck = channels.filter(|&chid| !self.kill(chid)).count();
        self.set_runlist(vm, Vec::new());
        stuck == 0
    }
}
