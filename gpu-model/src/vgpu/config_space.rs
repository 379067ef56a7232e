//! Configuration space of a guest's device: that of the card, with decoders and capabilities of its
//! own.

use mmio::Bar;
use parking_lot::Mutex;

use super::interrupts::Signalling;
use crate::card::Card;

/// Bytes of configuration space, the extended part included.
const SIZE: usize = 0x1000;

/// Offsets and bits of configuration space.
///
/// Source: PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification 2.0,
/// section 7.8.
mod bits {
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    pub const BARS: usize = 0x10;
    pub const CAPABILITIES: usize = 0x34;
    pub const INTERRUPT_LINE: usize = 0x3c;

    pub const COMMAND_WRITABLE: u16 = 0x0547;
    pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;
    pub const STATUS_INTX: u8 = 1 << 3;

    pub const BAR_IO: u8 = 1;
    pub const BAR_64: u8 = 4;

    pub const PM: u8 = 0x01;
    pub const MSI: u8 = 0x05;
    pub const EXPRESS: u8 = 0x10;
    /// Capabilities that a list can have at most.
    pub const MOST: usize = 48;
    pub const MSI_ENABLE: u16 = 1;
}

/// Bytes and the mask of their writable bits.
#[derive(Clone)]
struct Space {
    bytes: Box<[u8; SIZE]>,
    masks: Box<[u8; SIZE]>,
    /// The message capability.
    msi: Option<usize>,
}

impl Space {
    /// A copy of the card's space, as after power-on, with BARs of these sizes.
    fn new(card: &dyn Card, bar_size: impl Fn(Bar) -> u64) -> Self {
        let mut bytes = Box::new([0; SIZE]);
        card.config_read(0, &mut bytes[..]);
        let mut space = Self {
            bytes,
            masks: Box::new([0; SIZE]),
            msi: None,
        };
        space.put(
            bits::COMMAND,
            0u16.to_le_bytes(),
            bits::COMMAND_WRITABLE.to_le_bytes(),
        );
        space.bytes[bits::STATUS] &= !bits::STATUS_INTX;
        space.put(bits::INTERRUPT_LINE, [0], [0xff]);
        for bar in [Bar::Bar0, Bar::Bar1, Bar::Bar3, Bar::Bar5] {
            space.decoder(bar, bar_size(bar));
        }
        space.capabilities();
        space
    }

    fn put<const N: usize>(&mut self, at: usize, value: [u8; N], writable: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&value);
        self.masks[at..at + N].copy_from_slice(&writable);
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn decoder(&mut self, bar: Bar, size: u64) {
        let at = bits::BARS + 4 * bar.index();
        let kind = self.bytes[at];
        let flags = kind & if kind & bits::BAR_IO != 0 { 0x3 } else { 0xf };
        let address = !(size - 1);
        self.put(
            at,
            u32::from(flags).to_le_bytes(),
            (address as u32).to_le_bytes(),
        );
        if kind & (bits::BAR_IO | bits::BAR_64) == bits::BAR_64 {
            self.put(at + 4, [0; 4], ((address >> 32) as u32).to_le_bytes());
        }
    }

    /// What of the capabilities can be written, and is as after power-on.
    fn capabilities(&mut self) {
        let mut at = usize::from(self.bytes[bits::CAPABILITIES]);
        for _ in 0..bits::MOST {
            if !(0x40..=0x100 - 0x40).contains(&at) {
                return;
            }
            match self.bytes[at] {
                bits::PM => self.put(at + 4, [0; 1], [0x3]),
                bits::MSI => {
                    self.msi = Some(at);
                    let control = self.u16(at + 2) & !bits::MSI_ENABLE;
                    self.put(
                        at + 2,
                        control.to_le_bytes(),
                        bits::MSI_ENABLE.to_le_bytes(),
                    );
                    self.put(at + 4, [0; 4], 0xffff_fffcu32.to_le_bytes());
                    self.put(at + 8, [0; 4], [0xff; 4]);
                    self.put(at + 12, [0; 2], [0xff; 2]);
                }
                bits::EXPRESS => {
                    self.masks[at + 8..at + 10].copy_from_slice(&0x7fffu16.to_le_bytes());
                    self.masks[at + 16..at + 18].copy_from_slice(&0x01fbu16.to_le_bytes());
                }
                _ => {}
            }
            at = usize::from(self.bytes[at + 1]);
        }
    }

    fn signalling(&self) -> Signalling {
        Signalling {
            msi: self
                .msi
                .is_some_and(|at| self.u16(at + 2) & bits::MSI_ENABLE != 0),
            pin: self.u16(bits::COMMAND) & bits::COMMAND_INTX_DISABLE == 0,
        }
    }
}

/// The space, and its power-on state.
pub struct ConfigSpace {
    power_on: Space,
    space: Mutex<Space>,
}

impl ConfigSpace {
    /// A space like that of `card`, with BARs of these sizes.
    pub fn new(card: &dyn Card, bar_size: impl Fn(Bar) -> u64) -> Self {
        let power_on = Space::new(card, bar_size);
        Self {
            space: Mutex::new(power_on.clone()),
            power_on,
        }
    }

    /// Loads; beyond the end of the space bytes are 0xff.
    pub fn read(&self, offset: u64, data: &mut [u8], asserted: bool) {
        let space = self.space.lock();
        for (at, byte) in (position(offset)..).zip(data) {
            *byte = space.bytes.get(at).copied().unwrap_or(0xff);
            if at == bits::STATUS && asserted {
                *byte |= bits::STATUS_INTX;
            }
        }
    }

    /// Stores; read-only bits and what is beyond the end stay. What it says of interrupts then.
    pub fn write(&self, offset: u64, data: &[u8]) -> Signalling {
        let mut space = self.space.lock();
        for (at, byte) in (position(offset)..SIZE).zip(data) {
            let mask = space.masks[at];
            space.bytes[at] = space.bytes[at] & !mask | byte & mask;
        }
        space.signalling()
    }

    /// Back to power-on state.
    pub fn reset(&self) {
        *self.space.lock() = self.power_on.clone();
    }
}

/// Where `offset` is in the space, or its end.
fn position(offset: u64) -> usize {
    offset.min(SIZE as u64) as usize
}
