//! The card's interrupts: acknowledged, and told apart by the machine that owns the cause.
//!
//! What went wrong on a channel is contained before its machine hears of it, so that nobody else
//! waits for a guest's handler. The exception is a PBDMA, whose interrupt asks software for an
//! answer: it waits for the guest, but not for ever.

use std::time::Instant;

use mmio::regs::falcon::{self, offset};
use mmio::regs::pfifo::{self, EngState};
use mmio::regs::pgraph::{self, FecsIntr, FifoControl, Trap, tpc};
use mmio::regs::pmc::Intr;
use mmio::regs::{pce, pmc, ppci};
use mmio::{RegId, VmId};

use super::{Aggregator, Handler, Owner};
use crate::card::Registers;

/// The registers of PGRAPH's units that hold errors.
pub(super) const UNIT_TRAPS: [(Trap, RegId); 5] = [
    (Trap::DISPATCH, pgraph::DISPATCH_TRAP),
    (Trap::M2MF, pgraph::M2MF_TRAP),
    (Trap::CCACHE, pgraph::CCACHE_TRAP),
    (Trap::SHADER, pgraph::SHADER_TRAP),
    (Trap::MACRO, pgraph::MACRO_TRAP),
];
/// Other registers that describe a trap.
const TRAP_DETAILS: [RegId; 8] = [
    pgraph::TRAP,
    pgraph::DATA_ERROR,
    pgraph::TRAP_GPCS,
    pgraph::TRAP_ROPS,
    pgraph::TRAPPED_ADDR,
    pgraph::TRAPPED_DATA,
    pgraph::MACRO_TRAP_PC,
    pgraph::MACRO_TRAP_OP,
];

/// A register of BAR0 and what it is to show.
pub type Shown = (u32, u32);

/// What a machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The MMU refused an access: fault unit and its registers.
    Fault {
        /// The unit, 0-31.
        unit: u32,
        /// The guest's channel, if it was one's.
        guest: Option<u32>,
        /// Instance block (the guest's), address low and high, type.
        registers: [u32; 4],
    },
    /// One more PBDMA waits for the machine.
    Pbdma,
    /// The machine's runlist was taken over.
    Runlist,
    /// A non-stalling interrupt of one of the machines that have work on the card, or listen.
    Engine {
        /// Number of the engine.
        engine: usize,
        /// Its sources.
        bits: u32,
    },
    /// A channel did not leave its engine in time and was killed.
    Hung,
    /// An engine's own interrupt, as its registers showed it.
    Engaged {
        /// The line at PMC.
        line: Intr,
        /// The registers, the one with the pending bits first.
        registers: Vec<Shown>,
    },
}

impl Aggregator {
    /// Deals with all that the card reports; what the machines are to hear.
    pub fn service(&self) -> Vec<(VmId, Event)> {
        let card = self.card();
        // Before the look: a cause that comes after it sends another message.
        card.set(ppci::MSI_REARM, 0xff);
        let mut events = Vec::new();
        let pending = Intr::from_bits_retain(card.get(pmc::INTR_HOST));
        if pending.contains(Intr::PFIFO) {
            self.service_pfifo(&mut events);
        }
        if pending.contains(Intr::PGRAPH) {
            events.extend(self.service_pgraph());
        }
        for (line, base, engine) in [(Intr::CE0, falcon::CE0, 4), (Intr::CE1, falcon::CE1, 5)] {
            if pending.contains(line) {
                events.extend(self.service_copy(line, base, engine));
            }
        }
        events
    }

    fn service_pfifo(&self, events: &mut Vec<(VmId, Event)>) {
        let card = self.card();
        let pending = pfifo::Intr::from_bits_retain(card.get(pfifo::INTR));
        card.set(pfifo::INTR, pending.bits());
        if pending.contains(pfifo::Intr::VM_FAULT) {
            let units = card.get(pfifo::VM_FAULT_SOURCE);
            let faults = (0..32).filter(|unit| units >> unit & 1 != 0);
            events.extend(faults.filter_map(|unit| self.service_fault(unit)));
        }
        if pending.contains(pfifo::Intr::SCHED_ERROR) {
            events.extend(self.kill_stuck());
        }
        if pending.contains(pfifo::Intr::PBDMA) {
            let units = card.get(pfifo::PBDMA_INTR_SOURCE) as usize;
            let units = (0..pfifo::PBDMAS as usize).filter(|unit| units >> unit & 1 != 0);
            events.extend(units.filter_map(|unit| self.service_pbdma(unit)));
        }
        if pending.contains(pfifo::Intr::RUNLIST) {
            card.set(pfifo::INTR_RUNLIST, card.get(pfifo::INTR_RUNLIST));
            let done = self.runlist_done();
            events.extend(self.machines(done).map(|vm| (vm, Event::Runlist)));
        }
        if pending.contains(pfifo::Intr::ENGINE) {
            let source = card.get(pfifo::ENGINE_INTR_SOURCE);
            let mut raised = [0; 16];
            for engine in (0..16).filter(|engine| source >> engine & 1 != 0) {
                let register = pfifo::ENGINE_INTR.offset() + 4 * engine as u32;
                raised[engine] = card.load(register);
                card.store(register, raised[engine]);
            }
            // The card says which engine, not for whom. Asked behind that: work which came meanwhile
            // may be among what raised it.
            let concerned = match self.layout.vgpus() {
                1 => 1,
                _ => self.busy_machines() | *self.listeners.lock(),
            };
            let raised = raised
                .into_iter()
                .enumerate()
                .filter(|(_, bits)| *bits != 0);
            for (engine, bits) in raised {
                let machines = self.machines(concerned);
                events.extend(machines.map(|vm| (vm, Event::Engine { engine, bits })));
            }
        }
    }

    /// Machine `vm` wants to hear of non-stalling interrupts, or no more. Drivers end each submission
    /// with one, and mostly nobody waits for it: then the card keeps it to itself, pending.
    pub fn listen(&self, vm: VmId, listens: bool) {
        let mut listeners = self.listeners.lock();
        let before = *listeners;
        match listens {
            true => *listeners |= 1 << vm.0,
            false => *listeners &= !(1 << vm.0),
        }
        if (before == 0) != (*listeners == 0) {
            let interrupts = Self::interrupts_for(*listeners);
            self.card.set(pfifo::INTR_EN, interrupts.bits());
        }
    }

    /// Interrupts of PFIFO that the card is to send while these machines listen.
    pub(super) fn interrupts_for(listeners: u32) -> pfifo::Intr {
        let mut interrupts = pfifo::Intr::from_bits_retain(u32::MAX);
        interrupts.set(pfifo::Intr::ENGINE, listeners != 0);
        interrupts
    }

    fn machines(&self, bits: u32) -> impl Iterator<Item = VmId> {
        let machines = (0..self.layout.vgpus()).map(VmId);
        machines.filter(move |vm| bits >> vm.0 & 1 != 0)
    }

    /// A fault: the channel is stopped, the engine goes on for others.
    fn service_fault(&self, unit: u32) -> Option<(VmId, Event)> {
        let card = self.card();
        let register = |id: RegId| card.load(id.offset() + 0x10 * unit);
        let mut registers = [
            pfifo::VM_FAULT_INST,
            pfifo::VM_FAULT_ADDR_LOW,
            pfifo::VM_FAULT_ADDR_HIGH,
            pfifo::VM_FAULT_TYPE,
        ]
        .map(register);
        card.set(pfifo::VM_FAULT_SOURCE, 1 << unit);
        let owner = self.owner_of_instance(registers[0]);
        if let Some(owner) = owner {
            self.stop(owner.chid);
        }
        if let Some(engine) = engine_of(unit) {
            card.set(pfifo::ENG_FAULT, 1 << engine);
        }
        let Some(owner) = owner else {
            tracing::debug!("A fault of unit {unit:#x} belongs to no machine: {registers:#x?}");
            return None;
        };
        registers[0] = owner.instance;
        let guest = Some(owner.guest);
        let fault = Event::Fault {
            unit,
            guest,
            registers,
        };
        Some((owner.vm, fault))
    }

    fn owner_of_instance(&self, word: u32) -> Option<Owner> {
        let address = u64::from(word & 0x0fff_ffff) << 12;
        self.owner(self.layout.channel_at(address)?)
    }

    /// Channels that keep an engine for too long are killed.
    fn kill_stuck(&self) -> Vec<(VmId, Event)> {
        let stuck = EngState::SWITCH | EngState::SWITCH_STUCK;
        let mut killed = Vec::new();
        for engine in 0..pfifo::ENGINES {
            let state = self.card.load(pfifo::ENG_STATE.offset() + 4 * engine);
            // Either alone is a switch that takes its time.
            if EngState::from_bits_retain(state).contains(stuck)
                && let Some(owner) = self.owner(state & EngState::CHID.bits())
            {
                self.kill(owner.chid);
                killed.push((owner.vm, Event::Hung));
            }
        }
        killed
    }

    /// A PBDMA waits: its machine gets it, and no more interrupts of it come until then.
    fn service_pbdma(&self, unit: usize) -> Option<(VmId, Event)> {
        let card = self.card();
        // Held meanwhile: whoever ends the channel after the question finds the handler.
        let mut handlers = self.handlers.lock();
        card.store(pbdma(pfifo::PBDMA_INTR_EN, unit), 0);
        let shown = card.load(pbdma(pfifo::PBDMA_CH, unit));
        let there = shown & pfifo::PBDMA_CH_ACTIVE != 0;
        let owner = there.then(|| self.owner(shown & EngState::CHID.bits()));
        let Some(owner) = owner.flatten() else {
            // Its channel is gone, and the unit waits for an answer all the same.
            self.free_pbdma(unit);
            return None;
        };
        handlers[unit] = Some(Handler {
            owner,
            since: Instant::now(),
        });
        Some((owner.vm, Event::Pbdma))
    }

    /// Whether a PBDMA waits for the guest whose channel `chid` is.
    pub(super) fn awaits_guest(&self, chid: u32) -> bool {
        let handlers = *self.handlers.lock();
        let mut waiting = handlers.iter().flatten();
        waiting.any(|handler| handler.owner.chid == chid)
    }

    /// The owner of the channel for which PBDMA `unit` waits, if it is `vm`.
    pub fn pbdma_owner(&self, vm: VmId, unit: usize) -> Option<Owner> {
        let handler = (*self.handlers.lock().get(unit)?)?;
        (handler.owner.vm == vm).then_some(handler.owner)
    }

    /// Stores the pending bits of a PBDMA that waits for `vm`, which goes on when none is left.
    pub fn acknowledge_pbdma(&self, vm: VmId, unit: usize, bits: u32) {
        // Held until the interrupts are let through: the next one makes a new handler after that.
        let mut handlers = self.handlers.lock();
        let handler = handlers.get_mut(unit);
        let own = handler.filter(|handler| handler.is_some_and(|handler| handler.owner.vm == vm));
        let Some(handler) = own else { return };
        let register = pbdma(pfifo::PBDMA_INTR, unit);
        let rest = self.card.load(register) & !bits;
        self.card.store(register, bits);
        if rest == 0 {
            *handler = None;
            self.unmask_pbdma(unit);
        }
    }

    /// Lets the interrupts of a PBDMA through.
    pub(super) fn unmask_pbdma(&self, unit: usize) {
        self.card.store(pbdma(pfifo::PBDMA_INTR_EN, unit), u32::MAX);
    }

    /// Lets a PBDMA go on whatever it waits for.
    fn free_pbdma(&self, unit: usize) {
        self.card.store(pbdma(pfifo::PBDMA_INTR, unit), u32::MAX);
        self.unmask_pbdma(unit);
    }

    /// PBDMAs go on that wait for a handler whose channel is gone.
    pub(super) fn release_handlers(&self, gone: impl Fn(&Handler) -> bool) {
        for unit in 0..pfifo::PBDMAS as usize {
            let handler = &mut self.handlers.lock()[unit];
            if handler.as_ref().is_some_and(&gone) {
                *handler = None;
                self.free_pbdma(unit);
            }
        }
    }

    /// Kills channels whose machines leave a PBDMA waiting; the machines are told.
    pub fn watch(&self) -> Vec<(VmId, Event)> {
        let late = |handler: &&Handler| handler.since.elapsed() > self.limits.hang;
        let handlers = *self.handlers.lock();
        let late = handlers.iter().flatten().filter(late).map(|h| h.owner);
        let owners: Vec<Owner> = late.chain(self.expelled()).collect();
        for owner in &owners {
            self.kill(owner.chid);
        }
        owners.iter().map(|owner| (owner.vm, Event::Hung)).collect()
    }

    /// An interrupt of PGRAPH: acknowledged at once, its registers kept for the machine.
    fn service_pgraph(&self) -> Option<(VmId, Event)> {
        let card = self.card();
        let pending = card.get(pgraph::INTR);
        let owner = self
            .owner_on(0)
            .or_else(|| self.owner_of_instance(card.get(pgraph::FECS_CHAN)));
        let trap = Trap::from_bits_retain(card.get(pgraph::TRAP));
        let mut registers = vec![(pgraph::INTR.offset(), pending)];
        let mut show = |offset: u32| registers.push((offset, card.load(offset)));
        TRAP_DETAILS.iter().for_each(|id| show(id.offset()));
        UNIT_TRAPS.iter().for_each(|(_, id)| show(id.offset()));
        pgraph::SUBCHANNEL_CLASS.elements().for_each(&mut show);
        show(pgraph::FECS_INTR_UP.offset());
        (2..6).for_each(|index| show(pgraph::FECS_SCRATCH.offset() + 4 * index));
        let gpcs = card.get(pgraph::TRAP_GPCS);
        let gpcs: Vec<u32> = (0..8).filter(|gpc| gpcs >> gpc & 1 != 0).collect();
        let gpc_trap = |gpc| pgraph::GPC_TRAP.offset() + gpc * pgraph::GPC_STRIDE;
        for &gpc in &gpcs {
            show(gpc_trap(gpc));
            for unit in self.tpcs(gpc) {
                for place in [tpc::TRAP, tpc::MP_WARP_ERROR, tpc::MP_GLOBAL_ERROR] {
                    show(tpc::offset(gpc, unit, place));
                }
            }
        }
        let acknowledge = |offset: u32| card.store(offset, card.load(offset));
        for &gpc in &gpcs {
            for unit in self.tpcs(gpc) {
                acknowledge(tpc::offset(gpc, unit, tpc::MP_GLOBAL_ERROR));
                card.store(tpc::offset(gpc, unit, tpc::MP_WARP_ERROR), 0);
                acknowledge(tpc::offset(gpc, unit, tpc::TRAP));
            }
            acknowledge(gpc_trap(gpc));
        }
        acknowledge(pgraph::TRAP_GPCS.offset());
        for (_, register) in UNIT_TRAPS.iter().filter(|(unit, _)| trap.contains(*unit)) {
            card.set(*register, pgraph::TRAP_RESET | pgraph::TRAP_ENABLE);
        }
        card.set(pgraph::FECS_INTR_UP_ACK, FecsIntr::all().bits());
        card.set(pgraph::TRAP, trap.bits());
        card.set(pgraph::INTR, pending);
        let pull = FifoControl::PULL | FifoControl::UNK16;
        card.set(pgraph::FIFO_CONTROL, pull.bits());
        let owner = owner?;
        registers.push((
            pgraph::FECS_CHAN.offset(),
            owner.instance & 0x0fff_ffff | 1 << 31,
        ));
        let line = Intr::PGRAPH;
        Some((owner.vm, Event::Engaged { line, registers }))
    }

    fn tpcs(&self, gpc: u32) -> std::ops::Range<u32> {
        let count = pgraph::GPC_TPCS.offset() + gpc * pgraph::GPC_STRIDE;
        0..self.card.load(count).min(4)
    }

    /// The owner of the channel that engine `number` is on.
    fn owner_on(&self, number: u32) -> Option<Owner> {
        let state = self.card.load(pfifo::ENG_STATE.offset() + 4 * number);
        let on = EngState::from_bits_retain(state).contains(EngState::ON_CHANNEL);
        on.then(|| self.owner(state & EngState::CHID.bits()))
            .flatten()
    }

    /// An interrupt of a copy engine, likewise.
    fn service_copy(&self, line: Intr, base: u32, engine: u32) -> Option<(VmId, Event)> {
        let card = self.card();
        let pending = card.load(base + offset::INTR);
        let current = base + offset::CHANNEL_CUR;
        let owner = self
            .owner_on(engine)
            .or_else(|| self.owner_of_instance(card.load(current)));
        let number = base - falcon::CE0;
        let details = [pce::DISPATCH_ERROR, pce::DISPATCH_DATA].map(|id| id.offset() + number);
        let mut registers = vec![(base + offset::INTR, pending)];
        registers.extend(details.map(|offset| (offset, card.load(offset))));
        card.store(base + offset::INTR_ACK, pending);
        let owner = owner?;
        registers.push((current, owner.instance & 0x0fff_ffff | 1 << 30));
        Some((owner.vm, Event::Engaged { line, registers }))
    }
}

/// A register of PBDMA `unit`.
pub(crate) const fn pbdma(register: RegId, unit: usize) -> u32 {
    register.offset() + 0x2000 * unit as u32
}

/// Engines by number, and the units that fault for them.
///
/// Source: K61 `nvkm/engine/fifo/gf100.c gf100_fifo_fault_engine, gf100_fifo_engine_id`.
pub(super) const ENGINE_UNITS: [(u32, u32); 3] = [(0, 0x00), (4, 0x15), (5, 0x16)];

/// The engine behind a fault unit.
fn engine_of(unit: u32) -> Option<u32> {
    let known = ENGINE_UNITS
        .iter()
        .find(|(_, of_engine)| *of_engine == unit);
    known.map(|(engine, _)| *engine)
}
