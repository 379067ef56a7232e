//! Message signalled interrupts, one message (PCI Local Bus 3.0, section 6.8.1).

use mmio::Width;
use parking_lot::Mutex;

use super::ConfigSpace;
use crate::irq::MessageVector;
use crate::vm::MsiMessage;

/// Capability ID.
const ID: u8 = 0x05;
/// Message control: enabled; 64-bit addresses.
const ENABLE: u32 = 1;
const ADDRESS_64: u16 = 1 << 7;
/// Registers from the start of the capability.
const CONTROL: u16 = 2;
const ADDRESS_LOW: u16 = 4;
const ADDRESS_HIGH: u16 = 8;
const DATA: u16 = 12;

/// The capability and the interrupt behind it.
pub struct Msi {
    at: u16,
    vector: MessageVector,
    enabled: Mutex<bool>,
}

impl Msi {
    /// Adds the capability to `config`.
    pub fn add_to(config: &mut ConfigSpace, vector: MessageVector) -> Self {
        let mut body = [0; 12];
        body[..2].copy_from_slice(&ADDRESS_64.to_le_bytes());
        let mut writable = [0; 12];
        writable[0] = ENABLE as u8;
        writable[2..6].copy_from_slice(&0xffff_fffc_u32.to_le_bytes());
        writable[6..12].fill(0xff);
        Msi {
            at: config.add_capability(ID, &body, &writable),
            vector,
            enabled: Mutex::new(false),
        }
    }

    /// Takes over what `config` says; to be called after each write to it.
    pub fn update(&self, config: &ConfigSpace) {
        let register = |offset, width| config.read(self.at + offset, width);
        let mut enabled = self.enabled.lock();
        *enabled = register(CONTROL, Width::Word) & ENABLE != 0;
        self.vector.route(enabled.then(|| MsiMessage {
            address: u64::from(register(ADDRESS_HIGH, Width::Dword)) << 32
                | u64::from(register(ADDRESS_LOW, Width::Dword)),
            data: register(DATA, Width::Word),
        }));
    }

    /// Whether the guest uses messages instead of the pin.
    pub fn enabled(&self) -> bool {
        *self.enabled.lock()
    }

    /// The interrupt.
    pub fn vector(&self) -> &MessageVector {
        &self.vector
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::irq::Interrupts;
    use crate::layout::IO_APIC_PINS;
    use crate::pci::Identity;
    use crate::vm::testing::TestVm;

    #[test]
    fn message_goes_where_the_guest_programmed_it_once_enabled() {
        let vm = Arc::new(TestVm::default());
        let mut config = ConfigSpace::new(&Identity::default());
        let msi = Msi::add_to(&mut config, Interrupts::new(vm.clone()).message().unwrap());

        config.write(msi.at + ADDRESS_LOW, Width::Dword, 0xfee0_1003);
        config.write(msi.at + DATA, Width::Word, 0x4023);
        msi.update(&config);
        assert!(vm.0.lock().messages.is_empty());
        config.write(msi.at + CONTROL, Width::Word, 1);
        msi.update(&config);

        assert_eq!(
            vm.0.lock().messages[&IO_APIC_PINS],
            MsiMessage {
                address: 0xfee0_1000,
                data: 0x4023
            }
        );
    }
}
