//! Which register of which function an access to configuration space means.

use mmio::Width;

/// Mechanism #1: the address register is enabled.
pub const ADDRESS_ENABLE: u32 = 1 << 31;

/// A place in configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    bus: u8,
    slot: u8,
    function: u8,
    /// Bytes into the function's space.
    pub offset: u16,
}

impl Target {
    /// From the address register and the byte of the data register.
    pub fn from_address(address: u32, byte: u16) -> Option<Self> {
        (address & ADDRESS_ENABLE != 0).then_some(Target {
            bus: (address >> 16) as u8,
            slot: (address >> 11 & 0x1f) as u8,
            function: (address >> 8 & 7) as u8,
            offset: (address & 0xfc) as u16 + byte,
        })
    }

    /// From an offset into the memory-mapped space of bus 0.
    pub fn from_ecam(offset: u64) -> Self {
        Target {
            bus: (offset >> 20) as u8,
            slot: (offset >> 15 & 0x1f) as u8,
            function: (offset >> 12 & 7) as u8,
            offset: (offset & 0xfff) as u16,
        }
    }

    /// The slot, if the bus and the function exist.
    pub fn device(self) -> Option<u8> {
        (self.bus == 0 && self.function == 0).then_some(self.slot)
    }
}

/// The width of an access to configuration space: at most 4 bytes, aligned.
pub fn config_width(offset: u16, len: usize) -> Option<Width> {
    let width = Width::from_len(len)?;
    (len <= 4 && usize::from(offset) % len == 0).then_some(width)
}

pub fn dword(data: &[u8]) -> u32 {
    data.iter()
        .take(4)
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mechanisms_name_the_same_register() {
        let port = Target::from_address(ADDRESS_ENABLE | 3 << 11 | 0x10, 2);
        assert_eq!(port, Some(Target::from_ecam(3 << 15 | 0x12)));
        assert_eq!(Target::from_address(3 << 11, 0), None);
    }

    #[test]
    fn other_buses_and_functions_do_not_exist() {
        assert_eq!(Target::from_ecam(3 << 15).device(), Some(3));
        assert_eq!(Target::from_ecam(1 << 20).device(), None);
        assert_eq!(Target::from_ecam(1 << 12).device(), None);
    }

    #[test]
    fn access_across_its_alignment_has_no_width() {
        assert_eq!(config_width(2, 2), Some(Width::Word));
        assert_eq!(config_width(1, 2), None);
        assert_eq!(config_width(0, 8), None);
    }
}
