//! PMC: identification, unit enables, and the registers of the interrupt tree.

use std::sync::Arc;

use mmio::Hit;
use mmio::regs::pmc::{self, Enable};

use crate::block::Block;
use crate::shared::Shared;

/// The unit: identification, enables, and the registers of the tree.
pub struct Pmc {
    shared: Arc<Shared>,
    /// What a falling bit of `ENABLE` resets.
    units: Vec<(Enable, Arc<dyn Block>)>,
}

impl Pmc {
    /// The PMC of a card with these units to reset.
    pub fn new(shared: Arc<Shared>, units: Vec<(Enable, Arc<dyn Block>)>) -> Self {
        Self { shared, units }
    }

    fn set_enable(&self, value: u32) {
        let file = &self.shared.registers;
        let fallen = file.read(pmc::ENABLE.offset()) & !value;
        file.write(pmc::ENABLE.offset(), value);
        for (bit, unit) in &self.units {
            if fallen & bit.bits() != 0 {
                unit.reset();
            }
        }
    }
}

impl Block for Pmc {
    fn read(&self, at: Hit) -> Option<u32> {
        let interrupts = &self.shared.interrupts;
        match (at.register.id, at.index) {
            (pmc::INTR_HOST, 0) => Some(interrupts.status()),
            (pmc::INTR_EN_HOST, 0) => Some(interrupts.enable().into()),
            (pmc::INTR_MASK, 0) => Some(interrupts.mask()),
            _ => None,
        }
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        let interrupts = &self.shared.interrupts;
        match (at.register.id, at.index) {
            (pmc::INTR_EN_HOST, 0) => interrupts.set_enable(value & 1 != 0),
            (pmc::INTR_MASK, 0) => interrupts.set_mask(value),
            (pmc::ENABLE, _) => self.set_enable(value),
            _ => return false,
        }
        true
    }

    fn reset(&self) {
        self.shared.interrupts.reset();
    }
}
