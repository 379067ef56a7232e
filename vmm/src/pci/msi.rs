//! Message signalled interrupts, one message (PCI Local Bus 3.0, section 6.8.1), as a
//! configuration space shows them.

use mmio::Width;

use super::config::header;
use crate::vm::MsiMessage;

/// Capability ID.
const ID: u32 = 0x05;
/// Message control: enabled; 64-bit addresses.
const ENABLE: u32 = 1;
const ADDRESS_64: u32 = 1 << 7;
/// Registers from the start of the capability; the data's place depends on the address's size.
const CONTROL: u16 = 2;
const ADDRESS_LOW: u16 = 4;
const ADDRESS_HIGH: u16 = 8;
const DATA_32: u16 = 8;
const DATA_64: u16 = 12;
/// More capabilities than fit: a longer list is a ring.
const MOST_CAPABILITIES: usize = 48;

/// Offset of the capability in the configuration space that `read` reads.
pub fn find(read: impl Fn(u16, Width) -> u32) -> Option<u16> {
    let status = read(header::STATUS as u16, Width::Word);
    if status & u32::from(header::STATUS_CAPABILITIES) == 0 {
        return None;
    }
    let mut at = read(header::CAPABILITIES as u16, Width::Byte) as u16;
    for _ in 0..MOST_CAPABILITIES {
        if at == 0 {
            break;
        }
        if read(at, Width::Byte) == ID {
            return Some(at);
        }
        at = read(at + 1, Width::Byte) as u16;
    }
    None
}

/// The message that the capability at `at` sends, if it is enabled.
pub fn message(at: u16, read: impl Fn(u16, Width) -> u32) -> Option<MsiMessage> {
    let control = read(at + CONTROL, Width::Word);
    if control & ENABLE == 0 {
        return None;
    }
    let low = u64::from(read(at + ADDRESS_LOW, Width::Dword));
    let (high, data) = if control & ADDRESS_64 != 0 {
        (read(at + ADDRESS_HIGH, Width::Dword), DATA_64)
    } else {
        (0, DATA_32)
    };
    Some(MsiMessage {
        address: u64::from(high) << 32 | low,
        data: read(at + data, Width::Word),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::{ConfigSpace, Identity};

    #[test]
    fn message_is_where_the_guest_programmed_it_once_enabled() {
        let mut config = ConfigSpace::new(&Identity::default());
        config.add_capability(9, &[0; 6], &[]);
        let mut body = [0; 12];
        body[0] = ADDRESS_64 as u8;
        config.add_capability(ID as u8, &body, &[0xff; 12]);
        let at = find(|offset, width| config.read(offset, width)).unwrap();

        config.write(at + ADDRESS_LOW, Width::Dword, 0xfee0_1000);
        config.write(at + DATA_64, Width::Word, 0x4023);
        assert_eq!(
            message(at, |offset, width| config.read(offset, width)),
            None
        );
        config.write(at + CONTROL, Width::Word, ENABLE | ADDRESS_64);

        assert_eq!(
            message(at, |offset, width| config.read(offset, width)),
            Some(MsiMessage {
                address: 0xfee0_1000,
                data: 0x4023
            })
        );
    }

    #[test]
    fn capability_list_that_is_a_ring_ends() {
        let read = |offset, _| match u32::from(offset) {
            0x06 => 0x10,
            0x34 => 0x40,
            0x40 => 1,
            _ => 0x40,
        };

        assert_eq!(find(read), None);
    }
}
