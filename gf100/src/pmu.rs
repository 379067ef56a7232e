//! PPMU: the power management unit, with its firmware's effect instead of its firmware.
//!
//! Starting the processor, once code was loaded, announces the two message rings, which is all that a driver waits for.
//! Messages are taken (the get pointer follows the put pointer) and need no answer on this chip:
//! drivers send some only to change clocks. Source: K61 `nvkm/subdev/pmu/gt215.c`.

use std::sync::Arc;

use mmio::regs::{falcon, ppmu};
use mmio::{FalconPorts, Hit};
use parking_lot::Mutex;

use crate::block::Block;
use crate::shared::Shared;

/// Rings of 0x80 bytes behind the firmware's own data.
const HOST_TO_PMU_RING: u32 = 0x80 << 16 | 0x500;
const PMU_TO_HOST_RING: u32 = 0x80 << 16 | 0x580;

/// The unit.
pub struct Pmu {
    shared: Arc<Shared>,
    falcon: Mutex<FalconPorts>,
}

impl Pmu {
    /// The PMU of a card.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            falcon: Mutex::default(),
        }
    }
}

impl Block for Pmu {
    fn read(&self, at: Hit) -> Option<u32> {
        self.falcon
            .lock()
            .read(at.register.id.offset() - falcon::PMU)
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        let registers = &self.shared.registers;
        match at.register.id {
            ppmu::HOST_TO_PMU_PUT => registers.write(ppmu::HOST_TO_PMU_GET.offset(), value),
            id => match id.offset() - falcon::PMU {
                falcon::offset::UC_CTRL if value & falcon::START != 0 => {
                    let entry = registers.read(falcon::PMU + falcon::offset::UC_ENTRY);
                    let falcons = self.shared.config.falcons;
                    if falcons.run(&self.falcon.lock(), entry) {
                        registers.write(ppmu::HOST_TO_PMU_RING.offset(), HOST_TO_PMU_RING);
                        registers.write(ppmu::PMU_TO_HOST_RING.offset(), PMU_TO_HOST_RING);
                    }
                }
                // DMA of code is instant.
                falcon::offset::DMACTL => return true,
                offset => return self.falcon.lock().write(offset, value),
            },
        }
        false
    }

    fn reset(&self) {
        *self.falcon.lock() = FalconPorts::default();
        for register in falcon::PMU_REGISTERS.iter().chain(ppmu::REGISTERS) {
            self.shared
                .registers
                .write(register.id.offset(), register.reset);
        }
    }
}
