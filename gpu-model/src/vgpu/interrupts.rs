//! The interrupt tree of a guest's device: a level for each unit, a mask, an enable, and a message.
//!
//! A message goes out when the line rises while the device is armed, and disarms it; the guest arms
//! it again before it looks at the causes. Source: K61 `nvkm/subdev/pci/base.c nvkm_pci_intr`; K612
//! `nvkm/core/intr.c nvkm_intr`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mmio::regs::pmc::Intr;
use parking_lot::Mutex;

/// The slot that a guest's device is plugged into.
pub trait Slot: Send + Sync {
    /// Sends the device's one message. Called from any thread: it must not block.
    fn msi(&self);

    /// Drives the pin, while the guest leaves messages off.
    fn intx(&self, level: bool);
}

/// How configuration space lets the device interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signalling {
    /// By message.
    pub msi: bool,
    /// By pin, unless by message.
    pub pin: bool,
}

struct State {
    pending: Intr,
    mask: u32,
    enable: bool,
    signalling: Signalling,
    /// A message may go out.
    armed: bool,
    /// The pin's level.
    level: bool,
}

impl State {
    const POWER_ON: Self = Self {
        pending: Intr::empty(),
        mask: u32::MAX,
        enable: false,
        signalling: Signalling {
            msi: false,
            pin: true,
        },
        armed: true,
        level: false,
    };

    fn status(&self) -> u32 {
        self.pending.bits() & self.mask
    }

    fn asserted(&self) -> bool {
        self.enable && self.status() != 0
    }
}

/// The tree.
#[repr(align(128))]
pub struct Interrupts {
    state: Mutex<State>,
    /// What the state comes to, for whoever asks without changing it.
    status: AtomicU32,
    slot: Arc<dyn Slot>,
    sent: AtomicU64,
}

impl Interrupts {
    /// A quiet tree.
    pub fn new(slot: Arc<dyn Slot>) -> Self {
        Self {
            state: Mutex::new(State::POWER_ON),
            status: AtomicU32::new(State::POWER_ON.status()),
            slot,
            sent: AtomicU64::new(0),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        self.status.store(state.status(), Ordering::Release);
        let asserted = state.asserted();
        if asserted && state.signalling.msi && state.armed {
            state.armed = false;
            self.sent.fetch_add(1, Ordering::Relaxed);
            self.slot.msi();
        }
        let level = asserted && state.signalling.pin && !state.signalling.msi;
        if state.level != level {
            state.level = level;
            self.slot.intx(level);
        }
    }

    /// Sets a unit's level.
    pub fn set(&self, unit: Intr, level: bool) {
        self.change(|state| state.pending.set(unit, level));
    }

    /// `PMC.INTR_HOST[0]`: levels that pass the mask.
    #[inline]
    pub fn status(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }

    /// Stores `PMC.INTR_EN_HOST[0]`.
    pub fn set_enable(&self, enable: bool) {
        self.change(|state| state.enable = enable);
    }

    /// `PMC.INTR_EN_HOST[0]`.
    pub fn enable(&self) -> bool {
        self.state.lock().enable
    }

    /// Stores `PMC.INTR_MASK[0]`.
    pub fn set_mask(&self, mask: u32) {
        self.change(|state| state.mask = mask);
    }

    /// `PMC.INTR_MASK[0]`.
    pub fn mask(&self) -> u32 {
        self.state.lock().mask
    }

    /// The guest is ready for another message.
    pub fn rearm(&self) {
        self.change(|state| state.armed = true);
    }

    /// The guest chose between messages and the pin.
    pub fn configure(&self, signalling: Signalling) {
        self.change(|state| state.signalling = signalling);
    }

    /// A unit asks for attention and nothing masks it.
    pub fn asserted(&self) -> bool {
        self.state.lock().asserted()
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Back to power-on state.
    pub fn reset(&self) {
        self.change(|state| {
            let level = state.level;
            *state = State::POWER_ON;
            state.level = level;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Slot for Count {
        fn msi(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn intx(&self, _level: bool) {}
    }

    #[test]
    fn a_cause_that_stays_sends_a_message_at_each_arming() {
        let slot = Arc::new(Count::default());
        let tree = Interrupts::new(slot.clone());
        tree.configure(Signalling {
            msi: true,
            pin: true,
        });
        tree.set_enable(true);
        tree.set(Intr::PFIFO, true);
        tree.set(Intr::PGRAPH, true);
        assert_eq!(slot.0.load(Ordering::Relaxed), 1);
        tree.rearm();
        assert_eq!(slot.0.load(Ordering::Relaxed), 2);
        tree.set(Intr::PFIFO | Intr::PGRAPH, false);
        tree.rearm();
        assert_eq!(tree.sent(), 2);
    }

    #[test]
    fn a_blocked_source_is_neither_shown_nor_sent() {
        let tree = Interrupts::new(Arc::new(Count::default()));
        tree.set_enable(true);
        tree.set_mask(!Intr::PFIFO.bits());
        tree.set(Intr::PFIFO, true);
        assert_eq!((tree.status(), tree.asserted()), (0, false));
    }
}
