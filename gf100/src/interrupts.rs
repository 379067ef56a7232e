//! The interrupt tree, and the message or the pin that it drives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mmio::regs::pmc::Intr;
use parking_lot::Mutex;

use crate::bus::Bus;

/// The interrupt tree: a level for each unit, a mask, an enable, and one message.
///
/// A message goes out when the line rises while the card is armed, and disarms it; software arms
/// it again through the configuration-space mirror before it looks at the causes, so that a cause
/// which stays or comes back sends another. Line 1 (`INTR_HOST[1]`) carries the non-stalling
/// interrupts of units that report there; on this card PFIFO reports them on line 0, so it stays
/// quiet. Source: K61 `nvkm/subdev/pci/base.c nvkm_pci_intr`; K612 `nvkm/core/intr.c nvkm_intr`.
pub struct Interrupts {
    /// Levels of the units.
    pending: AtomicU32,
    mask: AtomicU32,
    enable: AtomicBool,
    delivery: Mutex<Delivery>,
    bus: Arc<dyn Bus>,
}

/// How configuration space lets the card interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signalling {
    /// By message.
    pub msi: bool,
    /// By pin, unless by message.
    pub pin: bool,
}

impl Default for Signalling {
    fn default() -> Self {
        Self {
            msi: false,
            pin: true,
        }
    }
}

struct Delivery {
    signalling: Signalling,
    /// A message may go out.
    armed: bool,
    /// The pin's level.
    level: bool,
}

impl Delivery {
    fn new() -> Self {
        Self {
            signalling: Signalling::default(),
            armed: true,
            level: false,
        }
    }
}

impl Interrupts {
    /// A quiet tree.
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self {
            pending: AtomicU32::new(0),
            mask: AtomicU32::new(u32::MAX),
            enable: AtomicBool::new(false),
            delivery: Mutex::new(Delivery::new()),
            bus,
        }
    }

    /// A unit's level goes up.
    pub fn raise(&self, unit: Intr) {
        let before = self.pending.fetch_or(unit.bits(), Ordering::AcqRel);
        if before & unit.bits() != unit.bits() {
            self.deliver();
        }
    }

    /// A unit's level goes down.
    pub fn lower(&self, unit: Intr) {
        let before = self.pending.fetch_and(!unit.bits(), Ordering::AcqRel);
        if before & unit.bits() != 0 {
            self.deliver();
        }
    }

    /// Sets a unit's level.
    pub fn set(&self, unit: Intr, level: bool) {
        if level {
            self.raise(unit);
        } else {
            self.lower(unit);
        }
    }

    /// `PMC.INTR_HOST[0]`: levels that pass the mask.
    pub fn status(&self) -> u32 {
        self.pending.load(Ordering::Acquire) & self.mask.load(Ordering::Acquire)
    }

    /// Stores `PMC.INTR_EN_HOST[0]`.
    pub fn set_enable(&self, enable: bool) {
        self.enable.store(enable, Ordering::Release);
        self.deliver();
    }

    /// `PMC.INTR_EN_HOST[0]`.
    pub fn enable(&self) -> bool {
        self.enable.load(Ordering::Acquire)
    }

    /// Stores `PMC.INTR_MASK[0]`.
    pub fn set_mask(&self, mask: u32) {
        self.mask.store(mask, Ordering::Release);
        self.deliver();
    }

    /// `PMC.INTR_MASK[0]`.
    pub fn mask(&self) -> u32 {
        self.mask.load(Ordering::Acquire)
    }

    /// Software is ready for another message.
    pub fn rearm(&self) {
        self.delivery.lock().armed = true;
        self.deliver();
    }

    /// Software chose between messages and the pin.
    pub fn configure(&self, signalling: Signalling) {
        self.delivery.lock().signalling = signalling;
        self.deliver();
    }

    /// A unit asks for attention and nothing masks it.
    pub fn asserted(&self) -> bool {
        self.enable() && self.status() != 0
    }

    /// Back to power-on state.
    pub fn reset(&self) {
        self.pending.store(0, Ordering::Release);
        self.mask.store(u32::MAX, Ordering::Release);
        self.enable.store(false, Ordering::Release);
        *self.delivery.lock() = Delivery::new();
        self.bus.intx(false);
    }

    /// Brings message or pin up to date. The levels are read under the lock, so the last of two
    /// racing callers sees both changes.
    fn deliver(&self) {
        let mut delivery = self.delivery.lock();
        let asserted = self.asserted();
        if asserted && delivery.signalling.msi && delivery.armed {
            delivery.armed = false;
            self.bus.msi();
        }
        let level = asserted && delivery.signalling.pin && !delivery.signalling.msi;
        if delivery.level != level {
            delivery.level = level;
            self.bus.intx(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count {
        messages: AtomicUsize,
        pin: AtomicBool,
    }

    impl Bus for Count {
        fn msi(&self) {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }
        fn intx(&self, level: bool) {
            self.pin.store(level, Ordering::Relaxed);
        }
    }

    fn tree() -> (Arc<Count>, Interrupts) {
        let bus = Arc::new(Count::default());
        let tree = Interrupts::new(bus.clone());
        tree.configure(Signalling {
            msi: true,
            pin: true,
        });
        (bus, tree)
    }

    #[test]
    fn a_level_sends_one_message_until_rearmed() {
        let (bus, tree) = tree();
        tree.set_enable(true);
        tree.raise(Intr::PFIFO);
        tree.raise(Intr::PGRAPH);
        assert_eq!(bus.messages.load(Ordering::Relaxed), 1);
        tree.rearm();
        assert_eq!(bus.messages.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_handler_of_6_1_gets_a_second_message_for_a_cause_that_stays() {
        let (bus, tree) = tree();
        tree.set_enable(true);
        tree.raise(Intr::PFIFO);
        tree.set_enable(false);
        tree.rearm();
        assert_eq!(bus.messages.load(Ordering::Relaxed), 1);
        tree.set_enable(true);
        assert_eq!(bus.messages.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_blocked_source_is_neither_shown_nor_sent() {
        let (bus, tree) = tree();
        tree.set_enable(true);
        tree.set_mask(!Intr::PFIFO.bits());
        tree.raise(Intr::PFIFO);
        assert_eq!(tree.status(), 0);
        assert_eq!(bus.messages.load(Ordering::Relaxed), 0);
        tree.set_mask(u32::MAX);
        assert_eq!(bus.messages.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn without_msi_the_pin_follows_the_level() {
        let (bus, tree) = tree();
        tree.configure(Signalling::default());
        tree.set_enable(true);
        tree.raise(Intr::PTIMER);
        assert!(bus.pin.load(Ordering::Relaxed));
        tree.lower(Intr::PTIMER);
        assert!(!bus.pin.load(Ordering::Relaxed));
    }
}
