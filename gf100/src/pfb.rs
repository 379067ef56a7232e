//! PFB: the MMU's control registers.

use std::sync::Arc;

use mmio::Hit;
use mmio::layout::pagetable::Geometry;
use mmio::regs::pfb::{self, LARGE_64K};

use crate::block::Block;
use crate::memory::Flush;
use crate::shared::Shared;

/// The unit.
pub struct Pfb {
    shared: Arc<Shared>,
}

impl Pfb {
    /// The PFB of a card.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Block for Pfb {
    fn read(&self, _at: Hit) -> Option<u32> {
        None
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        let Shared {
            memory, registers, ..
        } = &*self.shared;
        match at.register.id {
            pfb::VM_FLUSH => {
                let directory = registers.read(pfb::VM_FLUSH_PDB.offset());
                if let Some(flush) = Flush::decode(directory, value) {
                    memory.flush(flush);
                }
                false
            }
            // The state of the flush queue stays as it is at reset, as a flush is done at once.
            pfb::MMU_CTRL => {
                registers.write(
                    at.register.id.offset(),
                    at.register.reset | value & LARGE_64K,
                );
                memory.set_geometry(pfb::geometry(value));
                true
            }
            _ => false,
        }
    }

    fn reset(&self) {
        self.shared.memory.set_geometry(Geometry::default());
    }
}
