//! PPCI: configuration space in BAR0, and the register that lets the next message go.

use std::sync::Arc;

use mmio::Hit;
use mmio::regs::ppci;

use crate::block::Block;
use crate::shared::Shared;

/// The unit.
pub struct Ppci {
    shared: Arc<Shared>,
}

impl Ppci {
    /// The PPCI of a card.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Block for Ppci {
    fn read(&self, _at: Hit) -> Option<u32> {
        None
    }

    fn write(&self, at: Hit, _value: u32) -> bool {
        if at.register.id == ppci::MSI_REARM {
            self.shared.interrupts.rearm();
        }
        false
    }

    fn reset(&self) {}
}
