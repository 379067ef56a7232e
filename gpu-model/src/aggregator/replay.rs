//! Stores of a driver's, done again.

use mmio::RegId;
use mmio::bring_up::{Holds, Place, Store, Wait, rule};
use mmio::layout::pagetable::LARGE_SHIFT;
use mmio::regs::pgraph;

use super::{Aggregator, BringUpError, LOOK, first_context};
use crate::card::Registers;

impl Aggregator {
    /// Does `stores` in their order, `apart` from where they were recorded: with memory of the
    /// hypervisor's where the driver had its own, and waiting for what it waited for.
    pub(super) fn replay(&self, stores: &[Store], apart: u32) -> Result<(), BringUpError> {
        let card = self.card();
        for &Store { register, value } in stores {
            // A record has none that no rule names.
            let Some(rule) = rule(register) else { continue };
            let value = match rule.holds {
                Holds::Value => value,
                Holds::Address { place, shift, mask } => {
                    value & !mask | (self.place(place) >> shift) as u32 & mask
                }
            };
            let ready = rule.wait != Wait::Idle || self.await_idle();
            card.store(register + apart, value);
            let done = match rule.wait {
                Wait::No | Wait::Idle => true,
                Wait::Command => {
                    let to_idle = value & 0xffff == pgraph::ICMD_GO_IDLE;
                    (!to_idle || self.await_idle())
                        && self.wait(|| card.get(pgraph::STATUS) & pgraph::STATUS_ICMD == 0)
                }
                Wait::Power => {
                    self.wait(|| card.get(pgraph::FE_PWR_MODE) & pgraph::PWR_MODE_PENDING == 0)
                }
                Wait::Delay => {
                    std::thread::sleep(LOOK);
                    true
                }
            };
            if !ready || !done {
                let register = RegId(register);
                return Err(BringUpError::Busy { register, value });
            }
        }
        Ok(())
    }

    fn await_idle(&self) -> bool {
        let card = self.card();
        self.wait(|| card.get(pgraph::FE_STATUS) & pgraph::FE_BUSY == 0)
    }

    fn place(&self, place: Place) -> u64 {
        match place {
            Place::Stray => self.layout().stray(),
            Place::Void => self.layout().stray() + (1 << LARGE_SHIFT),
            Place::Buffers => first_context::BUFFERS,
        }
    }
}
