//! From a virtual GPU to the machine that has it at the moment.

use std::sync::{Arc, Weak};

use gf100::Bus;
use gpu_model::Slot;
use parking_lot::Mutex;

use crate::pci::SlotInterrupts;

/// The interrupts of a virtual GPU. Machines come and go, also by a reset; a message to one that
/// is gone is lost, as its memory is.
#[derive(Default)]
pub struct Wires(Mutex<Weak<SlotInterrupts>>);

impl Wires {
    /// Leads to `slot` from now on.
    pub fn connect(&self, slot: &Arc<SlotInterrupts>) {
        *self.0.lock() = Arc::downgrade(slot);
    }

    fn slot(&self) -> Option<Arc<SlotInterrupts>> {
        self.0.lock().upgrade()
    }
}

impl Slot for Wires {
    fn msi(&self) {
        if let Some(slot) = self.slot() {
            slot.msi();
        }
    }

    fn intx(&self, level: bool) {
        if let Some(slot) = self.slot() {
            slot.intx(level);
        }
    }
}
