//! What the threads of PFIFO and its registers share, and the rules by which channels, PBDMAs and
//! engines find each other. Nothing here waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mmio::layout::pushbuffer::Semaphore;
use mmio::regs::pfifo::{self, Intr, PbdmaIntr};

use crate::engine::{ChannelRef, EngineId};
use crate::memory::{Fault, FaultClient, FaultReport, FaultUnit, HubClient, PhysAddr};

/// Channels of the card.
pub const CHANNELS: usize = pfifo::CHANNELS as usize;
/// PBDMAs of the card.
pub const PBDMAS: usize = pfifo::PBDMAS as usize;

/// The unit that faults for PBDMAs.
const PBDMA_UNIT: usize = FaultUnit::Pfifo0 as usize;

/// Who uses an engine: a PBDMA, or the scheduler when it takes a context off it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The PBDMA with this number.
    Pbdma(usize),
    /// The scheduler.
    Scheduler,
}

/// A pending acquire.
#[derive(Clone, Copy, Debug)]
pub struct Acquire {
    /// Where.
    pub address: u64,
    /// What for.
    pub sequence: u32,
    /// How.
    pub operation: Semaphore,
    /// When it times out, in units of 1024 ns of PTIMER.
    pub deadline: Option<u32>,
    /// When to look next.
    pub due: Instant,
    /// How long to wait before the look after that.
    pub interval: Duration,
}

impl Acquire {
    /// The first interval between looks at memory.
    pub const FIRST: Duration = Duration::from_micros(20);
    /// The longest.
    pub const LONGEST: Duration = Duration::from_micros(100);

    /// Whether it has timed out at PTIMER's `now`.
    pub fn expired(&self, now: u64) -> bool {
        self.deadline
            .is_some_and(|deadline| ((now >> 10) as u32).wrapping_sub(deadline) as i32 >= 0)
    }

    /// Puts off the next look.
    pub fn back_off(&mut self, now: Instant) {
        self.due = now + self.interval;
        self.interval = (self.interval * 2).min(Self::LONGEST);
    }
}

/// What a channel waits for before it can go on.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// Nothing.
    None,
    /// The engine with this index.
    Engine(usize),
    /// Memory.
    Semaphore(Acquire),
    /// Software, after a fault on the engine with this index or in PFIFO itself.
    Fault(Option<usize>),
}

/// A row of the channel table.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The channel, if there is one.
    pub channel: Option<ChannelRef>,
    /// Counts the channels that were in this row.
    pub binding: u64,
    /// It was on a PBDMA, so engines may know it.
    pub known: bool,
    /// Software lets it run.
    pub runnable: bool,
    /// It is on the runlist.
    pub listed: bool,
    /// It may have work: set by a doorbell, cleared before its PBDMA looks.
    pub pending: bool,
    /// The PBDMA that has its state.
    pub loaded: Option<usize>,
    /// It is to leave that PBDMA.
    pub leave: bool,
    /// What it waits for.
    pub wait: Wait,
    /// The engine that it used last, by index.
    pub uses: Option<usize>,
}

impl Slot {
    /// A row without a channel.
    pub const EMPTY: Self = Self {
        channel: None,
        binding: 0,
        known: false,
        runnable: false,
        listed: false,
        pending: false,
        loaded: None,
        leave: false,
        wait: Wait::None,
        uses: None,
    };

    /// Software wants it to run.
    pub fn scheduled(&self) -> bool {
        self.channel.is_some() && self.runnable && self.listed && !self.leave
    }
}

/// An engine as the scheduler sees it.
#[derive(Debug)]
pub struct EngineSlot {
    /// Which.
    pub id: EngineId,
    /// The PBDMAs that may use it, as bits.
    pub pbdmas: u32,
    /// Who calls it.
    pub owner: Option<Owner>,
    /// The channel whose context it has.
    pub resident: Option<ChannelRef>,
    /// A fault of it was not cleared.
    pub faulted: bool,
    /// Software holds it.
    pub frozen: bool,
    /// The scheduler wants it next.
    pub wanted: bool,
    /// Channels that wait for it, in order.
    pub waiters: VecDeque<u8>,
    /// Counts wake-ups by the engine.
    pub wakes: u64,
}

/// A PBDMA as the scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub struct PbdmaSlot {
    /// Its thread waits for work.
    pub idle: bool,
    /// The channel that it executes, as long as it does.
    pub running: Option<u8>,
    /// When others may have their turn.
    pub slice_end: Instant,
    /// Since when it is asked to stop.
    pub asked: Option<Instant>,
    /// That took too long, and software knows.
    pub late: bool,
    /// It is to give up on the engine that it waits for.
    pub abort: bool,
    /// Pending interrupts, on which it waits.
    pub intr: PbdmaIntr,
    /// Enabled interrupts.
    pub intr_en: PbdmaIntr,
}

/// A runlist to be taken over.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// RUNLIST_WR as it was at the time.
    pub base: u32,
    /// Entries.
    pub length: u32,
}

/// Faults that software has not read.
#[derive(Debug)]
pub struct Faults {
    /// Units with one.
    pub source: u32,
    /// By unit: instance, address low and high, type.
    pub registers: [[u32; 4]; 32],
    /// Those of PBDMAs that came before software had read the last one.
    pub waiting: VecDeque<[u32; 4]>,
}

/// The scheduler's memory.
#[derive(Debug)]
pub struct State {
    /// The card goes away.
    pub stop: bool,
    /// Counts resets.
    pub epoch: u64,
    /// CTRL says that PFIFO works.
    pub enabled: bool,
    /// FREEZE says that it does not.
    pub frozen: bool,
    /// The channel table.
    pub channels: [Slot; CHANNELS],
    /// Channels in the order of their turns.
    pub runlist: Vec<u8>,
    /// Where in the runlist the next turn is.
    pub turn: usize,
    /// A runlist to be taken over.
    pub update: Option<Update>,
    /// A channel to be taken off PBDMA and engines.
    pub kick: Option<u8>,
    /// Channels that are gone, with the engines (by index, as bits) that still know them: at most
    /// one per row, as none is known anew before that is done.
    pub condemned: Vec<(ChannelRef, u32)>,
    /// The engines.
    pub engines: Vec<EngineSlot>,
    /// The PBDMAs.
    pub pbdmas: [PbdmaSlot; PBDMAS],
    /// Faults.
    pub faults: Faults,
    /// Interrupts that are latched until software clears them.
    pub latched: Intr,
    /// Runlist events.
    pub runlist_intr: u32,
    /// Non-stalling interrupts by engine number.
    pub engine_intr: [u32; 16],
}

impl State {
    /// The state after power-on.
    pub fn new(engines: impl IntoIterator<Item = EngineId>) -> Self {
        let slot = |id| EngineSlot {
            id,
            pbdmas: u32::MAX,
            owner: None,
            resident: None,
            faulted: false,
            frozen: false,
            wanted: false,
            waiters: VecDeque::new(),
            wakes: 0,
        };
        Self {
            stop: false,
            epoch: 0,
            enabled: false,
            frozen: false,
            channels: [Slot::EMPTY; CHANNELS],
            runlist: Vec::new(),
            turn: 0,
            update: None,
            kick: None,
            condemned: Vec::new(),
            engines: engines.into_iter().map(slot).collect(),
            pbdmas: [PbdmaSlot {
                idle: false,
                running: None,
                slice_end: Instant::now(),
                asked: None,
                late: false,
                abort: false,
                intr: PbdmaIntr::empty(),
                intr_en: PbdmaIntr::empty(),
            }; PBDMAS],
            faults: Faults {
                source: 0,
                registers: [[0; 4]; 32],
                waiting: VecDeque::new(),
            },
            latched: Intr::empty(),
            runlist_intr: 0,
            engine_intr: [0; 16],
        }
    }

    /// Back to power-on state. PBDMAs and engines that are in use notice by the epoch.
    pub fn reset(&mut self) {
        let fresh = Self::new(self.engines.iter().map(|engine| engine.id));
        let all = (1 << self.engines.len()) - 1;
        let mut condemned: Vec<_> = std::mem::take(&mut self.condemned);
        let known = self.channels.iter().filter(|slot| slot.known);
        condemned.extend(known.filter_map(|slot| Some((slot.channel?, all))));
        let old = std::mem::replace(self, fresh);
        self.stop = old.stop;
        self.epoch = old.epoch + 1;
        self.condemned = condemned;
        for (new, old) in self.engines.iter_mut().zip(old.engines) {
            (new.owner, new.wakes) = (old.owner, old.wakes + 1);
        }
        for (new, old) in self.pbdmas.iter_mut().zip(old.pbdmas) {
            (new.idle, new.running) = (old.idle, old.running);
            new.asked = old.running.map(|_| Instant::now());
            new.abort = old.running.is_some();
        }
    }

    /// Pending interrupts.
    pub fn intr(&self) -> Intr {
        let mut intr = self.latched;
        intr.set(Intr::VM_FAULT, self.faults.source != 0);
        intr.set(Intr::PBDMA, self.pbdma_source() != 0);
        intr.set(Intr::RUNLIST, self.runlist_intr != 0);
        intr.set(Intr::ENGINE, self.engine_source() != 0);
        intr
    }

    /// PBDMAs with an enabled interrupt.
    pub fn pbdma_source(&self) -> u32 {
        let pending =
            |(n, unit): (usize, &PbdmaSlot)| u32::from(unit.intr.intersects(unit.intr_en)) << n;
        self.pbdmas.iter().enumerate().map(pending).sum()
    }

    /// Engines with a non-stalling interrupt.
    pub fn engine_source(&self) -> u32 {
        let pending = |(n, intr): (usize, &u32)| u32::from(*intr != 0) << n;
        self.engine_intr.iter().enumerate().map(pending).sum()
    }

    /// Keeps a fault for software; of two in one unit the first.
    pub fn report(&mut self, fault: &FaultReport) {
        self.report_raw(fault.unit as usize, fault.registers());
    }

    /// Keeps a fault of a PBDMA for software. PBDMAs share a unit, but each fault of one stopped
    /// another channel, which waits for software: software reads one after the other.
    pub fn report_in_turn(&mut self, instance: PhysAddr, fault: Fault) {
        let fault = FaultReport {
            // The hardware has a unit per PBDMA; drivers know but the first.
            unit: FaultUnit::Pfifo0,
            client: FaultClient::Hub(HubClient::Pfifo),
            instance: Some(instance),
            fault,
        };
        let waiting = &mut self.faults.waiting;
        if self.faults.source & 1 << PBDMA_UNIT == 0 {
            self.report(&fault);
        } else if waiting.len() < CHANNELS {
            waiting.push_back(fault.registers());
        }
    }

    /// Software has read the faults of these units, as bits.
    pub fn clear_reports(&mut self, units: u32) {
        self.faults.source &= !units;
        if units >> PBDMA_UNIT & 1 != 0
            && let Some(next) = self.faults.waiting.pop_front()
        {
            self.report_raw(PBDMA_UNIT, next);
        }
    }

    /// Keeps the fault registers of a unit.
    pub fn report_raw(&mut self, unit: usize, registers: [u32; 4]) {
        let bit = 1 << unit;
        if self.faults.source & bit == 0 {
            self.faults.source |= bit;
            self.faults.registers[unit] = registers;
        }
    }

    /// Whether channel `chid` could use engine `engine` now.
    pub fn claimable(&self, engine: usize, chid: u8) -> bool {
        let slot = &self.engines[engine];
        slot.owner.is_none()
            && !slot.faulted
            && !slot.frozen
            && !slot.wanted
            && self.first_waiter(engine).is_none_or(|first| first == chid)
    }

    /// The channel whose turn it is on an engine. One that may not run keeps its place but is
    /// passed over.
    pub fn first_waiter(&self, engine: usize) -> Option<u8> {
        let waiters = self.engines[engine].waiters.iter();
        waiters.copied().find(|&chid| self.may_run(chid))
    }

    /// Forgets channels that no longer wait for an engine.
    pub fn prune(&mut self, engine: usize) {
        let channels = &self.channels;
        self.engines[engine].waiters.retain(|&chid| {
            let slot = &channels[usize::from(chid)];
            slot.channel.is_some() && matches!(slot.wait, Wait::Engine(at) if at == engine)
        });
    }

    /// Whether nobody keeps channel `chid` from running.
    fn may_run(&self, chid: u8) -> bool {
        self.channels[usize::from(chid)].scheduled()
            && self.kick != Some(chid)
            && !self.condemned.iter().any(|(dead, _)| dead.chid == chid)
    }

    /// Whether what channel `chid` waits for is there, as far as the scheduler can tell.
    fn ready(&self, chid: u8) -> bool {
        match self.channels[usize::from(chid)].wait {
            Wait::None => true,
            Wait::Engine(engine) => self.claimable(engine, chid),
            Wait::Semaphore(_) | Wait::Fault(_) => false,
        }
    }

    /// Whether channel `chid` could run on the PBDMA that has it, or on any if none has.
    pub fn can_run(&self, chid: u8) -> bool {
        self.channels[usize::from(chid)].pending && self.may_run(chid) && self.ready(chid)
    }

    /// Whether a PBDMA could take channel `chid`.
    pub fn takeable(&self, chid: u8) -> bool {
        self.channels[usize::from(chid)].loaded.is_none() && self.can_run(chid)
    }

    /// Whether PBDMA `pbdma` may use the engine with this index.
    pub fn may_use(&self, pbdma: usize, engine: usize) -> bool {
        self.engines[engine].pbdmas >> pbdma & 1 != 0
    }

    /// Whether PBDMA `pbdma` could get on with channel `chid`, as far as engines go.
    fn serves(&self, pbdma: usize, chid: u8) -> bool {
        match self.channels[usize::from(chid)].wait {
            Wait::Engine(engine) => self.may_use(pbdma, engine),
            _ => true,
        }
    }

    /// Whether PBDMA `pbdma` may use the engine that channel `chid` will probably want.
    fn suits(&self, pbdma: usize, chid: u8) -> bool {
        let uses = self.channels[usize::from(chid)].uses;
        self.serves(pbdma, chid) && uses.is_none_or(|engine| self.may_use(pbdma, engine))
    }

    /// The idle PBDMA that channel `chid` goes to.
    pub fn idle_pbdma(&self, chid: u8) -> Option<usize> {
        let mut idle = (0..PBDMAS).filter(|&unit| self.pbdmas[unit].idle);
        idle.clone()
            .find(|&unit| self.suits(unit, chid))
            .or_else(|| idle.find(|&unit| self.serves(unit, chid)))
    }

    /// The next channel that PBDMA `pbdma` can take, in turn; rather one that suits it.
    pub fn pick(&mut self, pbdma: usize) -> Option<u8> {
        let len = self.runlist.len();
        let mut takeable = (0..len)
            .map(|n| (self.turn + n) % len)
            .filter(|&at| self.takeable(self.runlist[at]) && self.serves(pbdma, self.runlist[at]));
        let at = takeable
            .clone()
            .find(|&at| self.suits(pbdma, self.runlist[at]))
            .or_else(|| takeable.next())?;
        self.turn = (at + 1) % len;
        Some(self.runlist[at])
    }

    /// Whether somebody waits for what PBDMA `pbdma` has: itself or its engine.
    pub fn contended(&self, pbdma: usize) -> bool {
        let engine = |slot: &EngineSlot| slot.owner == Some(Owner::Pbdma(pbdma));
        self.engines.iter().position(engine).is_some_and(|engine| {
            self.engines[engine].wanted || self.first_waiter(engine).is_some()
        }) || self.runlist.iter().any(|&chid| {
            self.takeable(chid) && self.serves(pbdma, chid) && self.idle_pbdma(chid).is_none()
        })
    }
}
