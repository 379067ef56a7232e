//! PGRAPH: the classes of graphics and compute, their contexts, and the context switcher.
//!
//! * [`classes`] says which methods exist, [`bits`] what the ones that act are called.
//! * [`context`] is a channel's state, [`exec`] executes methods on it, with [`mme`] for macros;
//!   [`methods`] has what the classes' own do.
//! * [`jobs`] are what takes longer: [`compute`] for grids, [`m2mf`] for copies, [`clear`] for
//!   fills, [`twod`] for blits (all on a [`surface`], in some [`format`](crate::format)).
//! * [`report`] is what is written back.
//! * [`fecs`] stands for the context switcher's firmware, [`front`] is what registers show.
//!
//! Registers never wait for execution: what both sides share is in the register file or in
//! [`front::Front`].

mod bits;
mod classes;
mod clear;
mod compute;
mod context;
mod exec;
mod fecs;
mod front;
mod jobs;
mod m2mf;
mod methods;
mod mme;
mod report;
mod surface;
#[cfg(test)]
mod tests;
mod twod;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use mmio::regs::falcon;
use mmio::regs::pgraph::{self, tpc};
use mmio::{Hit, RegId, RegisterMap, Unit};
use parking_lot::Mutex;

use self::exec::Exec;
use self::fecs::Fecs;
use self::front::Front;
use crate::block::Block;
use crate::engine::{Calls, ChannelRef, Engine, EngineId, Method, Pause, Stop, Waker};
use crate::shared::Shared;

/// Valid bit of `FE_MTHD`.
const MTHD_GO: u32 = 1 << 31;

/// The unit.
pub struct Pgraph {
    shared: Arc<Shared>,
    front: Arc<Front>,
    fecs: Arc<Fecs>,
    exec: Mutex<Exec>,
    /// The unit was reset: execution starts afresh.
    stale: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Pgraph {
    /// The PGRAPH of a card.
    pub fn new(shared: Arc<Shared>) -> Self {
        let front = Arc::new(Front::new(shared.clone()));
        let fecs = Arc::new(Fecs::new(shared.clone(), front.clone()));
        Self {
            exec: Mutex::new(Exec::new(shared.clone(), front.clone(), fecs.clone())),
            shared,
            front,
            fecs,
            stale: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// The execution side, which only PFIFO's thread takes.
    fn exec(&self) -> parking_lot::MutexGuard<'_, Exec> {
        let mut exec = self.exec.lock();
        if self.stale.load(Ordering::Relaxed) && self.stale.swap(false, Ordering::AcqRel) {
            exec.reset();
        }
        exec
    }

    /// Tells PFIFO that methods may be taken again.
    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// A store to the trap register of a unit: errors can be cleared, the enable bit kept.
    fn set_unit_trap(&self, register: RegId, value: u32) {
        let file = &self.shared.registers;
        let errors = match value & pgraph::TRAP_RESET {
            0 => file.read(register.offset()) & !pgraph::TRAP_ENABLE,
            _ => 0,
        };
        file.write(register.offset(), errors | value & pgraph::TRAP_ENABLE);
    }

    /// A method that the driver executes through registers.
    fn host_method(&self, value: u32) {
        if value & MTHD_GO != 0 {
            let data = self.shared.registers.read(pgraph::FE_MTHD_DATA.offset());
            let address = (value >> 14 & 0x3ffc) as u16;
            self.fecs.host_method(value & 0xffff, address, data);
        }
    }
}

impl Block for Pgraph {
    fn read(&self, at: Hit) -> Option<u32> {
        let config = &self.shared.config;
        match at.register.id {
            pgraph::STATUS | pgraph::FE_STATUS => Some(self.front.busy().into()),
            pgraph::FECS_UNITS => Some(config.tpcs.len() as u32 | config.partitions << 16),
            pgraph::GPC_TPCS => Some(config.tpcs.get(at.index as usize).copied().unwrap_or(0)),
            RegId(offset) if is_falcon(offset) => self.fecs.read(offset),
            _ => None,
        }
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        let file = &self.shared.registers;
        let scratch = pgraph::FECS_SCRATCH.offset() + 4 * at.index;
        let offset = at.register.offset_of(at.index);
        match at.register.id {
            pgraph::INTR => {
                file.clear(pgraph::INTR.offset(), value);
                self.front.update();
            }
            pgraph::INTR_EN => {
                file.write(pgraph::INTR_EN.offset(), value);
                self.front.update();
            }
            pgraph::FIFO_CONTROL => {
                self.front.set_fifo_control(value);
                self.wake();
            }
            pgraph::DISPATCH_TRAP
            | pgraph::MACRO_TRAP
            | pgraph::M2MF_TRAP
            | pgraph::SHADER_TRAP
            | pgraph::CCACHE_TRAP => self.set_unit_trap(at.register.id, value),
            pgraph::FE_PWR_MODE => {
                let value = value & !pgraph::PWR_MODE_PENDING;
                file.write(pgraph::FE_PWR_MODE.offset(), value);
            }
            pgraph::FE_MTHD => self.host_method(value),
            pgraph::FECS_WRCMD_CMD => self.fecs.command(value),
            pgraph::FECS_SCRATCH_SET => {
                file.set(scratch, value);
            }
            pgraph::FECS_SCRATCH_CLR => {
                file.clear(scratch, value);
            }
            pgraph::FECS_INTR_UP_ACK => {
                file.clear(pgraph::FECS_INTR_UP.offset(), value);
            }
            RegId(first) if is_falcon(first) => {
                let ran = self.fecs.runs();
                let done = self.fecs.write(first, value);
                if self.fecs.runs() != ran {
                    self.wake();
                }
                return done;
            }
            RegId(first) if first == tpc::sibling(first, tpc::MP_WARP_ERROR) => {
                file.write(offset, value);
                self.front.update_mp_trap(offset);
            }
            RegId(first) if first == tpc::sibling(first, tpc::MP_GLOBAL_ERROR) => {
                file.clear(offset, value);
                self.front.update_mp_trap(offset);
            }
            _ => return false,
        }
        true
    }

    fn reset(&self) {
        let file = &self.shared.registers;
        let own = RegisterMap::gf100()
            .iter()
            .filter(|register| register.unit == Unit::Pgraph);
        for register in own {
            for index in 0..register.count {
                file.write(register.offset_of(index), register.reset);
            }
        }
        self.stale.store(true, Ordering::Release);
        self.fecs.reset();
        self.front.reset();
        self.wake();
    }
}

/// A register of FECS or GPCCS that every falcon has.
fn is_falcon(offset: u32) -> bool {
    let registers = falcon::offset::DMEM_DATA + 4;
    [falcon::FECS, falcon::GPCCS]
        .iter()
        .any(|&base| (base..base + registers).contains(&offset))
}

impl Engine for Pgraph {
    fn id(&self) -> EngineId {
        EngineId::Graphics
    }

    fn connect(&self, waker: Waker) {
        // A second PFIFO would be a fault of the card's; the first stays.
        let _ = self.waker.set(waker);
    }

    fn switch_to(&self, channel: ChannelRef) -> Result<(), Stop> {
        self.exec().switch_to(channel)
    }

    fn evict(&self, channel: ChannelRef) -> Result<(), Stop> {
        self.exec().evict(channel)
    }

    fn discard(&self, channel: ChannelRef) {
        self.exec().discard(channel);
    }

    fn method(&self, method: Method, pause: &Pause) -> Result<(), Stop> {
        self.exec().method(method, pause)
    }

    fn methods(&self, calls: Calls<'_>, pause: &Pause) -> (usize, Result<(), Stop>) {
        self.exec().methods(calls, pause)
    }

    fn resume(&self, pause: &Pause) -> Result<(), Stop> {
        self.exec().resume(pause)
    }

    fn stalled(&self) -> bool {
        self.front.stalled() || !self.fecs.runs()
    }
}
