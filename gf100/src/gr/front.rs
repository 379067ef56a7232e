//! What PGRAPH's registers show of its execution: interrupts, traps and who is current.
//!
//! Both sides meet here: methods raise, the driver's handler looks and acknowledges. Nothing waits
//! for the other side; the registers are the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mmio::RegId;
use mmio::regs::pgraph::{self, FecsIntr, FifoControl, Intr, Trap, tpc};
use mmio::regs::pmc;
use parking_lot::Mutex;

use super::bits::fecs_error;
use super::mme::MacroError;
use crate::engine::Method;
use crate::memory::PhysAddr;
use crate::shared::Shared;

/// Bit of `MACRO_TRAP_PC` that says that it is valid.
const MACRO_PC_VALID: u32 = 1 << 28;

/// The registers that execution writes.
pub struct Front {
    shared: Arc<Shared>,
    /// A trap waits for its acknowledgement.
    trapped: AtomicBool,
    /// A job is under way.
    busy: AtomicBool,
    /// Held while PMC's line is brought up to date: the last one who does so sees what all did.
    line: Mutex<()>,
}

impl Front {
    /// The quiet front of a card.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            trapped: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            line: Mutex::new(()),
        }
    }

    fn read(&self, register: RegId) -> u32 {
        self.shared.registers.read(register.offset())
    }

    fn write(&self, register: RegId, value: u32) {
        self.shared.registers.write(register.offset(), value);
    }

    /// Brings PMC's line up to date.
    pub fn update(&self) {
        let _line = self.line.lock();
        let level = self.read(pgraph::INTR) & self.read(pgraph::INTR_EN) != 0;
        self.shared.interrupts.set(pmc::Intr::PGRAPH, level);
    }

    /// Tells the driver something without stopping.
    pub fn notify(&self, what: Intr) {
        self.shared
            .registers
            .set(pgraph::INTR.offset(), what.bits());
        self.update();
    }

    /// Stops at `method` until the driver has acknowledged.
    fn stop(&self, method: Method, what: Intr) {
        let subchannel = u32::from(method.subchannel);
        self.write(
            pgraph::TRAPPED_ADDR,
            subchannel << 16 | u32::from(method.address),
        );
        self.write(pgraph::TRAPPED_DATA, method.data);
        self.trapped.store(true, Ordering::Release);
        self.notify(what);
    }

    /// The class has no such method.
    pub fn illegal_method(&self, method: Method) {
        self.stop(method, Intr::ILLEGAL_MTHD);
    }

    /// There is no such class.
    pub fn illegal_class(&self, method: Method) {
        self.stop(method, Intr::ILLEGAL_CLASS);
    }

    /// The argument makes no sense; `code` is one of [`super::bits::data_error`].
    pub fn data_error(&self, method: Method, code: u32) {
        self.write(pgraph::DATA_ERROR, code);
        self.stop(method, Intr::DATA_ERROR);
    }

    /// A unit failed half way; `errors` are added to its trap register.
    fn trap(&self, method: Method, unit: Trap, register: RegId, errors: u32) {
        let file = &self.shared.registers;
        file.set(register.offset(), errors);
        file.set(pgraph::TRAP.offset(), unit.bits());
        self.stop(method, Intr::TRAP);
    }

    /// The macro processor failed.
    pub fn macro_trap(&self, method: Method, error: MacroError) {
        self.write(pgraph::MACRO_TRAP_PC, u32::from(error.pc) | MACRO_PC_VALID);
        self.write(pgraph::MACRO_TRAP_OP, error.op);
        self.trap(method, Trap::MACRO, pgraph::MACRO_TRAP, error.error);
    }

    /// The copy unit failed; `error` is one of [`super::bits::m2mf_error`].
    pub fn m2mf_trap(&self, method: Method, error: u32) {
        self.trap(method, Trap::M2MF, pgraph::M2MF_TRAP, error);
    }

    /// A warp of an SM did something that cannot be. `sm` counts as drivers do: the first TPC of
    /// every GPC, then the second ones.
    pub fn mp_trap(&self, method: Method, sm: u32, error: u32) {
        let Some((gpc, tpc)) = self.place_of(sm) else {
            return;
        };
        let file = &self.shared.registers;
        let register = |register| tpc::offset(gpc, tpc, register);
        file.write(register(tpc::MP_WARP_ERROR), error);
        file.set(register(tpc::TRAP), tpc::TRAP_MP);
        let gpc_trap = pgraph::GPC_TRAP.offset() + gpc * pgraph::GPC_STRIDE;
        file.set(gpc_trap, 1 << (pgraph::GPC_TRAP_TPC_SHIFT + tpc));
        self.trap(method, Trap::GPC, pgraph::TRAP_GPCS, 1 << gpc);
    }

    /// GPC and TPC of an SM; numbers beyond the last start over.
    fn place_of(&self, sm: u32) -> Option<(u32, u32)> {
        let tpcs = &self.shared.config.tpcs;
        let all = (0..tpc::COUNT.1).flat_map(|tpc| {
            let gpcs = (0..).zip(tpcs).filter(move |&(_, &count)| tpc < count);
            gpcs.map(move |(gpc, _)| (gpc, tpc))
        });
        let total = tpcs.iter().sum::<u32>().max(1);
        all.cycle().nth((sm % total) as usize)
    }

    /// The driver stored to an error register of an SM: without errors its TPC shows no trap.
    pub fn update_mp_trap(&self, offset: u32) {
        let file = &self.shared.registers;
        let register = |register| tpc::sibling(offset, register);
        let errors = [tpc::MP_WARP_ERROR, tpc::MP_GLOBAL_ERROR].map(|at| file.read(register(at)));
        if errors == [0, 0] {
            file.clear(register(tpc::TRAP), tpc::TRAP_MP);
        }
    }

    /// A method for the firmware of FECS, of which nouveau's knows none.
    pub fn firmware_method(&self, method: Method, class: u32) {
        let scratch = |index: u32, value| {
            let offset = pgraph::FECS_SCRATCH.offset() + 4 * index;
            self.shared.registers.write(offset, value);
        };
        scratch(2, class);
        scratch(
            3,
            u32::from(method.subchannel) << 16 | u32::from(method.address),
        );
        scratch(4, method.data);
        self.firmware_error(fecs_error::BAD_FWMTHD);
    }

    /// The firmware of FECS reports an error; `code` is one of [`fecs_error`].
    pub fn firmware_error(&self, code: u32) {
        let file = &self.shared.registers;
        file.write(pgraph::FECS_SCRATCH.offset() + 4 * 5, code);
        file.set(pgraph::FECS_INTR_UP.offset(), FecsIntr::FIRMWARE.bits());
        let enabled = FecsIntr::from_bits_retain(self.read(pgraph::FECS_INTR_UP_EN));
        if enabled.contains(FecsIntr::FIRMWARE) {
            self.notify(Intr::CTXCTL_UP);
        }
    }

    /// The driver stored `FIFO_CONTROL`: with [`FifoControl::PULL`] it goes on.
    pub fn set_fifo_control(&self, value: u32) {
        self.write(pgraph::FIFO_CONTROL, value);
        if FifoControl::from_bits_retain(value).contains(FifoControl::PULL) {
            self.trapped.store(false, Ordering::Release);
        }
    }

    /// No method is to be executed now.
    pub fn stalled(&self) -> bool {
        let control = FifoControl::from_bits_retain(self.read(pgraph::FIFO_CONTROL));
        self.trapped.load(Ordering::Acquire) || !control.contains(FifoControl::PULL)
    }

    /// A job begins or ends.
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// A job is under way.
    pub fn busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Shows who is current: the instance block of a channel, or none.
    pub fn set_channel(&self, instance: Option<PhysAddr>) {
        let word = instance.map_or(0, |at| at.to_channel_word() | 1 << 31);
        self.write(pgraph::FECS_CHAN, word);
        self.write(pgraph::FECS_CHAN_NEXT, word);
    }

    /// Shows the class on a subchannel.
    pub fn set_class(&self, subchannel: usize, class: u32) {
        let offset = pgraph::SUBCHANNEL_CLASS.offset() + 4 * subchannel as u32;
        self.shared.registers.write(offset, class);
    }

    /// Back to power-on state.
    pub fn reset(&self) {
        self.trapped.store(false, Ordering::Release);
        self.busy.store(false, Ordering::Relaxed);
        self.update();
    }
}
