//! PBUS: where the CPU's windows to memory look.

use std::sync::Arc;

use mmio::Hit;
use mmio::regs::pbus;

use crate::block::Block;
use crate::memory::{BarId, BarWindow, Pramin};
use crate::shared::Shared;

/// The unit, with the windows that it controls.
pub struct Pbus {
    /// The window of BAR0.
    pub pramin: Pramin,
    /// BAR1.
    pub bar1: BarWindow,
    /// BAR3.
    pub bar3: BarWindow,
}

impl Pbus {
    /// The PBUS of a card.
    pub fn new(shared: &Shared) -> Arc<Self> {
        let memory = &shared.memory;
        Arc::new(Self {
            pramin: Pramin::new(memory.clone()),
            bar1: BarWindow::new(memory.clone(), BarId::Bar1),
            bar3: BarWindow::new(memory.clone(), BarId::Bar3),
        })
    }
}

impl Block for Pbus {
    fn read(&self, at: Hit) -> Option<u32> {
        match at.register.id {
            pbus::BAR0_WINDOW => Some(self.pramin.window()),
            pbus::BAR1_BLOCK => Some(self.bar1.control()),
            pbus::BAR2_BLOCK => Some(self.bar3.control()),
            _ => None,
        }
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        match at.register.id {
            pbus::BAR0_WINDOW => self.pramin.set_window(value),
            pbus::BAR1_BLOCK => self.bar1.set_control(value),
            pbus::BAR2_BLOCK => self.bar3.set_control(value),
            _ => return false,
        }
        true
    }

    fn reset(&self) {
        self.pramin.set_window(0);
        self.bar1.set_control(0);
        self.bar3.set_control(0);
    }
}
