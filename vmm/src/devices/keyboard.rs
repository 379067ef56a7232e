//! The keyboard controller, of which only the reset line is connected.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};
use vm_superio::{I8042Device, Trigger};

use crate::ending::{EndSwitch, Ending};

/// The controller's reset line.
#[derive(Debug)]
struct ResetLine(Arc<EndSwitch>);

impl Trigger for ResetLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.pull(Ending::Reset);
        Ok(())
    }
}

/// The keyboard controller.
pub struct Keyboard(Mutex<I8042Device<ResetLine>>);

impl Keyboard {
    /// A controller that resets its machine through `end`.
    pub fn new(end: Arc<EndSwitch>) -> Self {
        Keyboard(Mutex::new(I8042Device::new(ResetLine(end))))
    }
}

impl DevicePio for Keyboard {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        if let [byte] = data {
            *byte = self.0.lock().read(offset as u8);
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        if let &[byte] = data {
            // The reset line cannot fail.
            let _ = self.0.lock().write(offset as u8, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_command_resets() {
        let end = Arc::new(EndSwitch::new().unwrap());

        Keyboard::new(Arc::clone(&end)).pio_write(PioAddress(0x60), 4, &[0xfe]);

        assert_eq!(end.pulled(), Some(Ending::Reset));
    }
}
