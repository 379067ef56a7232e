//! The card's PCI function: configuration space.

use std::sync::Arc;

use mmio::Bar;
use parking_lot::Mutex;

use crate::config::Config;
use crate::interrupts::Signalling;
use crate::shared::Shared;

/// Bytes of configuration space, the extended part included.
pub const CONFIG_SIZE: usize = 0x1000;

/// Bytes of BAR5, the VBIOS's I/O ports.
const BAR5_SIZE: u64 = 128;

/// Offsets and bits of configuration space.
///
/// Source: PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification 2.0,
/// section 7.8; places of the capabilities as boards of this family have them.
mod bits {
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    pub const BARS: usize = 0x10;
    pub const ROM: usize = 0x30;
    pub const INTERRUPT_LINE: usize = 0x3c;
    pub const PM: usize = 0x60;
    pub const MSI: usize = 0x68;
    pub const EXPRESS: usize = 0x78;

    pub const COMMAND_WRITABLE: u16 = 0x0547;
    pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
    pub const STATUS_INTX: u8 = 1 << 3;
    pub const STATUS_CAPABILITIES: u16 = 1 << 4;

    pub const BAR_IO: u32 = 1;
    pub const BAR_64: u32 = 4;
    pub const BAR_PREFETCHABLE: u32 = 8;

    pub const MSI_ENABLE: u16 = 1;
    pub const MSI_64: u16 = 1 << 7;
}

/// Configuration space of the card, and what it decides.
pub struct Function {
    shared: Arc<Shared>,
    space: Mutex<Space>,
    masks: Box<[u8; CONFIG_SIZE]>,
}

struct Space {
    bytes: Box<[u8; CONFIG_SIZE]>,
}

impl Space {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

/// Builds configuration space and the mask of its writable bits side by side.
struct Builder {
    bytes: Box<[u8; CONFIG_SIZE]>,
    masks: Box<[u8; CONFIG_SIZE]>,
}

impl Builder {
    fn put<const N: usize>(&mut self, at: usize, value: [u8; N], writable: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&value);
        self.masks[at..at + N].copy_from_slice(&writable);
    }

    fn u16(&mut self, at: usize, value: u16, writable: u16) {
        self.put(at, value.to_le_bytes(), writable.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32, writable: u32) {
        self.put(at, value.to_le_bytes(), writable.to_le_bytes());
    }

    fn bar(&mut self, bar: Bar, size: u64, flags: u32) {
        let at = bits::BARS + 4 * bar.index();
        let address = !(size - 1);
        self.u32(at, flags, address as u32);
        if flags & bits::BAR_64 != 0 && flags & bits::BAR_IO == 0 {
            self.u32(at + 4, 0, (address >> 32) as u32);
        }
    }

    fn quadro(config: &Config) -> Self {
        let zeros = || Box::new([0; CONFIG_SIZE]);
        let mut space = Self {
            bytes: zeros(),
            masks: zeros(),
        };
        space.u16(0x00, 0x10de, 0);
        space.u16(0x02, config.device_id, 0);
        space.u16(bits::COMMAND, 0, bits::COMMAND_WRITABLE);
        space.u16(bits::STATUS, bits::STATUS_CAPABILITIES, 0);
        // 3D controller, revision A3: no part of VGA decoding.
        space.u32(0x08, 0x0302_00a3, 0);
        space.bar(Bar::Bar0, config.bar0, 0);
        let aperture = bits::BAR_64 | bits::BAR_PREFETCHABLE;
        space.bar(Bar::Bar1, config.bar1, aperture);
        space.bar(Bar::Bar3, config.bar3, aperture);
        space.bar(Bar::Bar5, BAR5_SIZE, bits::BAR_IO);
        space.u16(0x2c, 0x10de, 0);
        space.u16(0x2e, 0x076f, 0);
        space.u32(bits::ROM, 0, 0);
        space.bytes[0x34] = bits::PM as u8;
        // Interrupt line is the firmware's scratch; the pin is INTA.
        space.u16(bits::INTERRUPT_LINE, 0x0100, 0x00ff);

        // Power management 1.2: D0 and D3hot.
        space.u16(bits::PM, 0x0001 | (bits::MSI as u16) << 8, 0);
        space.u16(bits::PM + 2, 0x0003, 0);
        space.u32(bits::PM + 4, 0, 0x3);
        // One message with a 64-bit address.
        space.u16(bits::MSI, 0x0005 | (bits::EXPRESS as u16) << 8, 0);
        space.u16(bits::MSI + 2, bits::MSI_64, bits::MSI_ENABLE);
        space.u32(bits::MSI + 4, 0, 0xffff_fffc);
        space.u32(bits::MSI + 8, 0, 0xffff_ffff);
        space.u32(bits::MSI + 12, 0, 0x0000_ffff);
        // PCI Express endpoint, version 2: 128-byte payloads, 2.5 and 5 GT/s, 16 lanes.
        space.u16(bits::EXPRESS, 0x0010, 0);
        space.u16(bits::EXPRESS + 2, 0x0002, 0);
        space.u32(bits::EXPRESS + 4, 0x0000_8020, 0);
        space.u16(bits::EXPRESS + 8, 0x2810, 0x7fff);
        space.u32(bits::EXPRESS + 12, 0x0000_0102, 0);
        space.u16(bits::EXPRESS + 16, 0, 0x01fb);
        space.u16(bits::EXPRESS + 18, 0x0102, 0);
        space.u32(bits::EXPRESS + 36, 0x0000_0010, 0);
        space.u16(bits::EXPRESS + 40, 0, 0x001f);
        space.u32(bits::EXPRESS + 44, 0x0000_0006, 0);
        space.u16(bits::EXPRESS + 48, 0x0002, 0x000f);
        space
    }
}

impl Function {
    /// The function in its power-on state.
    pub fn new(shared: Arc<Shared>) -> Self {
        let Builder { bytes, masks } = Builder::quadro(&shared.config);
        Self {
            shared,
            space: Mutex::new(Space { bytes }),
            masks,
        }
    }

    /// Loads `data.len()` bytes at `offset`; beyond the end of the space they are 0xff.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let space = self.space.lock();
        let start = position(offset);
        for (at, byte) in (start..).zip(data) {
            *byte = space.bytes.get(at).copied().unwrap_or(0xff);
            if at == bits::STATUS && self.shared.interrupts.asserted() {
                *byte |= bits::STATUS_INTX;
            }
        }
    }

    /// Stores `data` at `offset`; read-only bits and what is beyond the end stay.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let mut space = self.space.lock();
        for (at, byte) in (position(offset)..CONFIG_SIZE).zip(data) {
            let mask = self.masks[at];
            space.bytes[at] = space.bytes[at] & !mask | byte & mask;
        }
        let msi = space.u16(bits::MSI + 2) & bits::MSI_ENABLE != 0;
        let pin = space.u16(bits::COMMAND) & bits::COMMAND_INTX_DISABLE == 0;
        drop(space);
        self.shared.interrupts.configure(Signalling { msi, pin });
    }

    /// The bytes of a BAR.
    pub fn bar_size(&self, bar: Bar) -> u64 {
        let config = &self.shared.config;
        match bar {
            Bar::Bar0 => config.bar0,
            Bar::Bar1 => config.bar1,
            Bar::Bar3 => config.bar3,
            Bar::Bar5 => BAR5_SIZE,
        }
    }

    /// Back to power-on state.
    pub fn reset(&self) {
        self.space.lock().bytes = Builder::quadro(&self.shared.config).bytes;
        self.shared.interrupts.configure(Signalling::default());
    }
}

/// Where `offset` is in the space, or its end.
fn position(offset: u64) -> usize {
    offset.min(CONFIG_SIZE as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn read<const N: usize>(function: &Function, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        function.read(offset, &mut data);
        data
    }

    fn function() -> Function {
        Function::new(testing::shared())
    }

    #[test]
    fn a_bar_written_with_ones_reads_back_its_size() {
        let function = function();
        function.write(0x14, &[0xff; 8]);
        let size = !(u64::from_le_bytes(read(&function, 0x14)) & !0xf) + 1;
        assert_eq!(size, function.bar_size(Bar::Bar1));
        assert_eq!(read::<1>(&function, 0x14)[0] & 0xf, 0xc);
    }

    #[test]
    fn the_capability_list_holds_power_management_msi_and_express() {
        let function = function();
        let mut found = Vec::new();
        let mut at = u64::from(read::<1>(&function, 0x34)[0]);
        while at != 0 {
            let [id, next] = read(&function, at);
            found.push(id);
            at = next.into();
        }
        assert_eq!(found, [0x01, 0x05, 0x10]);
    }

    #[test]
    fn identification_cannot_be_written() {
        let function = function();
        function.write(0, &[0; 4]);
        assert_eq!(read(&function, 0), [0xde, 0x10, 0xd8, 0x06]);
    }

    #[test]
    fn accesses_beyond_the_end_are_harmless() {
        let function = function();
        function.write(0xfff, &[1, 2, 3]);
        function.write(u64::MAX, &[1]);
        assert_eq!(read(&function, 0xffe), [0, 0, 0xff, 0xff]);
    }
}
