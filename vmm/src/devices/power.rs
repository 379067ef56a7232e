//! Power control: the sleep and reset registers of hardware-reduced ACPI (6.5, section 4.8.3.7).

use std::sync::Arc;

use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use crate::ending::{EndSwitch, Ending};

/// Sleep control register, from the start of the block.
pub const SLEEP_CONTROL: u16 = 0;
/// Sleep status register.
pub const SLEEP_STATUS: u16 = 1;
/// Reset register.
pub const RESET: u16 = 2;
/// Number of ports.
pub const SIZE: u16 = 3;

/// What the reset register takes to reset the machine.
pub const RESET_VALUE: u8 = 1;
/// `SLP_TYP` of soft-off.
pub const SOFT_OFF: u8 = 5;
/// `SLP_EN`.
const SLEEP_ENABLE: u8 = 1 << 5;
/// Position and width of `SLP_TYP`.
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 7;

/// The power control block.
#[derive(Debug)]
pub struct Power {
    end: Arc<EndSwitch>,
}

impl Power {
    /// A block that ends its machine through `end`.
    pub fn new(end: Arc<EndSwitch>) -> Self {
        Power { end }
    }
}

impl DevicePio for Power {
    fn pio_read(&self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
        // The machine never slept: no status is set, and control reads back as zero.
        data.fill(0);
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        let &[value] = data else { return };
        let sleep_type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
        if offset == SLEEP_CONTROL && value & SLEEP_ENABLE != 0 && sleep_type == SOFT_OFF {
            self.end.pull(Ending::PowerOff);
        } else if offset == RESET && value == RESET_VALUE {
            self.end.pull(Ending::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_write(offset: u16, value: u8) -> Option<Ending> {
        let end = Arc::new(EndSwitch::new().unwrap());
        Power::new(Arc::clone(&end)).pio_write(PioAddress(0x600), offset, &[value]);
        end.pulled()
    }

    #[test]
    fn soft_off_with_enable_powers_off() {
        assert_eq!(
            after_write(SLEEP_CONTROL, 5 << 2 | 1 << 5),
            Some(Ending::PowerOff)
        );
    }

    #[test]
    fn sleep_type_without_enable_does_nothing() {
        assert_eq!(after_write(SLEEP_CONTROL, 5 << 2), None);
    }

    #[test]
    fn other_sleep_state_does_nothing() {
        assert_eq!(after_write(SLEEP_CONTROL, 3 << 2 | 1 << 5), None);
    }

    #[test]
    fn reset_value_resets() {
        assert_eq!(after_write(RESET, RESET_VALUE), Some(Ending::Reset));
        assert_eq!(after_write(RESET, 0), None);
    }
}
