//! What drivers see of PFIFO. No store waits for a thread: it changes the state and wakes one.

use mmio::regs::pfifo::{self, ChanState, EngState, Intr, PbdmaIntr};
use mmio::{Hit, RegId};

use super::Inner;
use super::state::{Owner, PBDMAS, Slot, State, Update, Wait};
use crate::engine::ChannelRef;
use crate::memory::PhysAddr;

/// The PBDMAs that there are, as bits.
const PBDMA_MASK: u32 = (1 << PBDMAS) - 1;
/// A fault's type when nobody accessed anything: reason 0, from the hub.
const INJECTED: u32 = 1 << 6;

impl Inner {
    /// A load; `None` where the register file knows.
    pub fn read(&self, at: Hit) -> Option<u32> {
        let index = at.index as usize;
        let state = self.lock();
        Some(match at.register.id {
            pfifo::INTR => state.intr().bits(),
            pfifo::RUNLIST_RD_LEN => {
                let pending = match state.update {
                    Some(_) => pfifo::RUNLIST_PENDING,
                    None => 0,
                };
                self.file(pfifo::RUNLIST_RD_LEN) | pending
            }
            pfifo::VM_FAULT_SOURCE => state.faults.source,
            pfifo::VM_FAULT_INST => state.faults.registers[index][0],
            pfifo::VM_FAULT_ADDR_LOW => state.faults.registers[index][1],
            pfifo::VM_FAULT_ADDR_HIGH => state.faults.registers[index][2],
            pfifo::VM_FAULT_TYPE => state.faults.registers[index][3],
            pfifo::PBDMA_INTR_SOURCE => state.pbdma_source(),
            pfifo::ENGINE_INTR_SOURCE => state.engine_source(),
            pfifo::ENGINE_INTR => state.engine_intr[index],
            pfifo::ENG_FAULT => state
                .engines
                .iter()
                .map(|engine| u32::from(engine.faulted) << engine.id as u32)
                .sum(),
            pfifo::INTR_RUNLIST => state.runlist_intr,
            pfifo::ENG_STATE => engine_state(&state, at.index),
            pfifo::CHAN_STATE => self.channel_state(&state, at),
            pfifo::PBDMA_INTR => state.pbdmas[index].intr.bits(),
            _ => return None,
        })
    }

    /// A store; `false` where the register file is all there is to it.
    pub fn write(&self, at: Hit, value: u32) -> bool {
        let index = at.index as usize;
        let file = &self.shared.registers;
        let store = || file.write(at.register.offset_of(at.index), value);
        let mut guard = self.lock();
        let state = &mut *guard;
        match at.register.id {
            pfifo::INTR => state.latched &= !Intr::from_bits_retain(value),
            pfifo::INTR_EN => store(),
            pfifo::CTRL => {
                store();
                state.enabled = value & pfifo::CTRL_ENABLE != 0;
                self.wake_all(state);
            }
            pfifo::PBDMA_ENABLE | pfifo::PBDMA_ENABLE_PMC => {
                file.write(at.register.id.offset(), value & PBDMA_MASK);
            }
            pfifo::ENG_PBDMA_MASK => {
                store();
                self.assign(state, at.index, !value);
            }
            pfifo::RUNLIST_WR_LEN => {
                store();
                state.update = Some(Update {
                    base: self.file(pfifo::RUNLIST_WR),
                    length: value & pfifo::RUNLIST_LENGTH,
                });
                self.wake_scheduler();
            }
            pfifo::VM_FAULT_SOURCE => state.clear_reports(value),
            pfifo::ENGINE_INTR => state.engine_intr[index] &= !value,
            pfifo::ENG_FAULT => self.clear_faults(state, value),
            pfifo::ENG_FREEZE => {
                store();
                self.freeze(state, value);
            }
            pfifo::KICK => self.kick(state, value),
            pfifo::FREEZE => {
                store();
                state.frozen = value & 1 != 0;
                if state.frozen {
                    (0..PBDMAS).for_each(|unit| self.ask_to_stop(state, unit));
                }
                self.wake_all(state);
            }
            pfifo::INTR_RUNLIST => state.runlist_intr &= !value,
            pfifo::VM_FAULT_INJECT => {
                store();
                if value & pfifo::INJECT_VALID != 0 {
                    self.inject(state, at.index, value as usize & 0x1f);
                }
            }
            pfifo::CHAN => {
                store();
                self.bind(state, index, value);
            }
            pfifo::CHAN_STATE => {
                store();
                self.allow(state, index, value & ChanState::RUNNABLE.bits() != 0);
            }
            pfifo::PBDMA_INTR => {
                let unit = &mut state.pbdmas[index];
                unit.intr &= !PbdmaIntr::from_bits_retain(value);
                self.pbdma_wake[index].notify_all();
            }
            pfifo::PBDMA_INTR_EN => {
                store();
                state.pbdmas[index].intr_en = PbdmaIntr::from_bits_retain(value);
            }
            _ => return false,
        }
        self.update_interrupt(state);
        true
    }

    fn file(&self, register: RegId) -> u32 {
        self.shared.registers.read(register.offset())
    }

    fn channel_state(&self, state: &State, at: Hit) -> u32 {
        let slot = &state.channels[at.index as usize];
        let stored = self.shared.registers.read(at.register.offset_of(at.index));
        let mut bits = ChanState::from_bits_retain(stored) & ChanState::ENGINE;
        bits.set(ChanState::RUNNABLE, slot.runnable);
        bits.set(
            ChanState::ACQUIRE_PENDING,
            matches!(slot.wait, Wait::Semaphore(_)),
        );
        bits.set(ChanState::LOADED, slot.loaded.is_some());
        bits.set(ChanState::PENDING, slot.channel.is_some() && slot.pending);
        bits.bits()
    }

    /// A new instance block for a channel, or none.
    fn bind(&self, state: &mut State, index: usize, word: u32) {
        let instance = match word & pfifo::CHAN_VALID {
            0 => None,
            _ => PhysAddr::from_channel_word(word & !(3 << 30)),
        };
        if word & pfifo::CHAN_VALID != 0 && instance.is_none() {
            self.table_error(state, pfifo::CHAN_TABLE_ERROR_TARGET);
        }
        let channel = instance.map(|instance| ChannelRef {
            chid: index as u8,
            instance,
        });
        let old = state.channels[index];
        if old.channel == channel {
            return;
        }
        if let Some(dead) = old.channel {
            let instance = dead.instance.to_channel_word();
            state.faults.waiting.retain(|fault| fault[0] != instance);
            let busy = |unit: &super::state::PbdmaSlot| unit.running == Some(index as u8);
            if state.pbdmas.iter().any(busy) {
                self.table_error(state, pfifo::CHAN_TABLE_ERROR_ACTIVE);
            }
            if let Some(unit) = old.loaded {
                state.pbdmas[unit].abort = true;
                self.ask_to_leave(state, index as u8);
            }
            if old.known {
                let all = (1 << state.engines.len()) - 1;
                state.condemned.push((dead, all));
                self.wake_scheduler();
            }
        }
        state.channels[index] = Slot {
            channel,
            binding: old.binding + 1,
            known: false,
            pending: channel.is_some(),
            leave: false,
            wait: Wait::None,
            uses: None,
            // The PBDMA drops what it has of the old one.
            loaded: old.loaded,
            ..old
        };
        self.engines_free(state);
        self.wake_for(state, index as u8);
    }

    /// Software lets a channel run, or not.
    fn allow(&self, state: &mut State, index: usize, runnable: bool) {
        let slot = &mut state.channels[index];
        let was = std::mem::replace(&mut slot.runnable, runnable);
        if was && !runnable {
            self.ask_to_leave(state, index as u8);
        } else if runnable && !was {
            match slot.wait {
                Wait::Fault(None) => slot.wait = Wait::None,
                // Nobody looked at what it waits for while it was not to run.
                Wait::Semaphore(_) => self.wake_scheduler(),
                _ => {}
            }
            self.wake_for(state, index as u8);
        }
    }

    /// From now on, PBDMAs `units` (as bits) and no others may claim engine number `number`.
    fn assign(&self, state: &mut State, number: u32, units: u32) {
        let index = state
            .engines
            .iter()
            .position(|engine| engine.id as u32 == number);
        let Some(index) = index else { return };
        state.engines[index].pbdmas = units;
        for chid in 0..state.channels.len() {
            let slot = &state.channels[chid];
            let waits = matches!(slot.wait, Wait::Engine(at) if at == index);
            if waits && slot.loaded.is_some_and(|unit| !state.may_use(unit, index)) {
                self.ask_to_leave(state, chid as u8);
            }
        }
        self.wake_all(state);
    }

    /// Takes a channel off PBDMA and engines.
    fn kick(&self, state: &mut State, value: u32) {
        let chid = value & 0x7f;
        // A kick that comes before the last is done takes its place; the earlier channel is on its
        // way off all the same.
        state.kick = Some(chid as u8);
        self.shared
            .registers
            .write(pfifo::KICK.offset(), chid | pfifo::KICK_PENDING);
        self.ask_to_leave(state, chid as u8);
        self.wake_scheduler();
    }

    /// Software has dealt with faults of these engines (by number, as bits).
    fn clear_faults(&self, state: &mut State, engines: u32) {
        for index in 0..state.engines.len() {
            let engine = &mut state.engines[index];
            if engines >> engine.id as u32 & 1 == 0 || !engine.faulted {
                continue;
            }
            engine.faulted = false;
            for slot in &mut state.channels {
                if matches!(slot.wait, Wait::Fault(Some(at)) if at == index) {
                    slot.wait = Wait::None;
                }
            }
        }
        self.wake_all(state);
    }

    /// Holds these engines (by number, as bits) and lets all others go.
    fn freeze(&self, state: &mut State, engines: u32) {
        for index in 0..state.engines.len() {
            let engine = &mut state.engines[index];
            engine.frozen = engines >> engine.id as u32 & 1 != 0;
            if let (true, Some(Owner::Pbdma(unit))) = (engine.frozen, engine.owner) {
                self.ask_to_stop(state, unit);
            }
        }
        self.wake_all(state);
    }

    /// Makes `unit` fault on behalf of whatever engine number `number` does.
    fn inject(&self, state: &mut State, number: u32, unit: usize) {
        let index = state
            .engines
            .iter()
            .position(|engine| engine.id as u32 == number);
        let mut instance = 0;
        if let Some(index) = index {
            let engine = &mut state.engines[index];
            engine.faulted = true;
            if let Some(channel) = engine.resident {
                instance = channel.instance.to_channel_word();
            }
            if let Some(Owner::Pbdma(unit)) = engine.owner {
                state.pbdmas[unit].abort = true;
                self.ask_to_stop(state, unit);
                self.pbdma_wake[unit].notify_all();
            }
        }
        state.report_raw(unit, [instance, 0, 0, INJECTED]);
    }

    fn table_error(&self, state: &mut State, error: u32) {
        self.shared
            .registers
            .write(pfifo::CHAN_TABLE_ERROR.offset(), error);
        state.latched |= Intr::CHAN_TABLE_ERROR;
    }
}

/// What the engine with this number is doing; 0 is "nothing".
fn engine_state(state: &State, number: u32) -> u32 {
    let Some(engine) = state
        .engines
        .iter()
        .find(|engine| engine.id as u32 == number)
    else {
        return 0;
    };
    let Some(channel) = engine
        .resident
        .filter(|_| engine.owner.is_some() || engine.faulted)
    else {
        return 0;
    };
    let mut bits = EngState::BUSY | EngState::ON_CHANNEL;
    bits.set(EngState::FAULTED, engine.faulted);
    if let Some(Owner::Pbdma(unit)) = engine.owner
        && state.pbdmas[unit].late
    {
        bits |= EngState::SWITCH | EngState::SWITCH_ACK | EngState::SWITCH_STUCK;
    }
    bits.bits() | u32::from(channel.chid)
}
