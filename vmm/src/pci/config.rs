//! Configuration space of an ordinary function (PCI Local Bus 3.0, chapter 6).

use bitflags::bitflags;
use mmio::{Bar, Width};

/// Registers of the header.
pub(super) mod header {
    pub const VENDOR: usize = 0x00;
    pub const DEVICE: usize = 0x02;
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    /// There is a capability list.
    pub const STATUS_CAPABILITIES: u8 = 1 << 4;
    pub const REVISION: usize = 0x08;
    pub const CLASS: usize = 0x09;
    pub const CACHE_LINE: usize = 0x0c;
    pub const LATENCY: usize = 0x0d;
    pub const BAR0: usize = 0x10;
    pub const SUBSYSTEM_VENDOR: usize = 0x2c;
    pub const SUBSYSTEM: usize = 0x2e;
    pub const CAPABILITIES: usize = 0x34;
    pub const INTERRUPT_LINE: usize = 0x3c;
    pub const INTERRUPT_PIN: usize = 0x3d;
    pub const END: usize = 0x40;
}

/// Bytes of configuration space.
const SIZE: usize = 256;
/// Low bits of a BAR that say what it is, and those bits.
const BAR_IO: u32 = 1;
const BAR_IO_FLAGS: u32 = 3;
const BAR_64: u32 = 1 << 2;
const BAR_PREFETCH: u32 = 1 << 3;
const BAR_MEMORY_FLAGS: u32 = 0xf;

bitflags! {
    /// The command register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Command: u16 {
        /// BARs in I/O space are decoded.
        const IO = 1 << 0;
        /// BARs in memory space are decoded.
        const MEMORY = 1 << 1;
        /// The device may access memory and send message interrupts.
        const BUS_MASTER = 1 << 2;
        /// The device must not assert its pin.
        const INTX_DISABLE = 1 << 10;
    }
}

impl Command {
    /// The register, in a configuration space that `read` reads.
    pub fn read(read: impl Fn(u16, Width) -> u32) -> Self {
        Command::from_bits_truncate(read(header::COMMAND as u16, Width::Word) as u16)
    }
}

/// Who a function is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass and programming interface, from the top.
    pub class: u32,
    /// Vendor of the board.
    pub subsystem_vendor: u16,
    /// The board.
    pub subsystem: u16,
}

/// What a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes the next slot too.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

impl BarKind {
    /// What the low bits of a BAR's register say.
    pub fn from_register(register: u32) -> Self {
        if register & BAR_IO != 0 {
            BarKind::Io
        } else if register & BAR_64 != 0 {
            BarKind::Memory64 {
                prefetchable: register & BAR_PREFETCH != 0,
            }
        } else {
            BarKind::Memory32
        }
    }
}

/// A BAR that a function has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarSpec {
    /// Which one.
    pub bar: Bar,
    /// What it decodes.
    pub kind: BarKind,
    /// Bytes or ports: a power of two, at least 16 for memory and 4 for ports.
    pub size: u64,
}

/// A BAR that a write to configuration space moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarChange {
    /// Which one.
    pub spec: BarSpec,
    /// Where it was decoded until now.
    pub from: Option<u64>,
    /// Where it is decoded from now on.
    pub to: Option<u64>,
}

/// Configuration space of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    bars: Vec<BarSpec>,
    decoded: Vec<Option<u64>>,
    last_capability: usize,
    free: usize,
}

impl ConfigSpace {
    /// A function without BARs, capabilities and interrupt pin.
    pub fn new(identity: &Identity) -> Self {
        let mut config = ConfigSpace {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            bars: Vec::new(),
            decoded: Vec::new(),
            last_capability: header::CAPABILITIES,
            free: header::END,
        };
        config.put(header::VENDOR, &identity.vendor.to_le_bytes());
        config.put(header::DEVICE, &identity.device.to_le_bytes());
        config.put(header::REVISION, &[identity.revision]);
        config.put(header::CLASS, &identity.class.to_le_bytes()[..3]);
        config.put(
            header::SUBSYSTEM_VENDOR,
            &identity.subsystem_vendor.to_le_bytes(),
        );
        config.put(header::SUBSYSTEM, &identity.subsystem.to_le_bytes());
        let command = Command::all().bits().to_le_bytes();
        config.writable[header::COMMAND..header::COMMAND + 2].copy_from_slice(&command);
        for register in [header::CACHE_LINE, header::LATENCY, header::INTERRUPT_LINE] {
            config.writable[register] = 0xff;
        }
        config
    }

    /// Adds a BAR, nowhere as yet.
    pub fn add_bar(&mut self, spec: BarSpec) {
        assert!(
            spec.size.is_power_of_two(),
            "a BAR's size is a power of two"
        );
        let at = bar_register(spec.bar);
        let mask = !(spec.size - 1);
        let (flags, flag_bits) = match spec.kind {
            BarKind::Io => (BAR_IO, BAR_IO_FLAGS),
            BarKind::Memory32 => (0, BAR_MEMORY_FLAGS),
            BarKind::Memory64 { prefetchable } => (
                BAR_64 | if prefetchable { BAR_PREFETCH } else { 0 },
                BAR_MEMORY_FLAGS,
            ),
        };
        self.put(at, &flags.to_le_bytes());
        let low = mask as u32 & !flag_bits;
        self.writable[at..at + 4].copy_from_slice(&low.to_le_bytes());
        if matches!(spec.kind, BarKind::Memory64 { .. }) {
            let high = (mask >> 32) as u32;
            self.writable[at + 4..at + 8].copy_from_slice(&high.to_le_bytes());
        }
        self.bars.push(spec);
        self.decoded.push(None);
    }

    /// Appends a capability: `body` follows its ID and link, `writable` says which of its bits
    /// a guest may change. Returns the offset of the ID.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u16 {
        let at = self.free.next_multiple_of(4);
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        self.writable[at + 2..at + 2 + writable.len()].copy_from_slice(writable);
        self.bytes[self.last_capability] = at as u8;
        self.bytes[header::STATUS] |= header::STATUS_CAPABILITIES;
        // The first link is the header's own register, later ones follow the ID.
        self.last_capability = at + 1;
        self.free = at + 2 + body.len();
        at as u16
    }

    /// Gives the function the pin INTA.
    pub fn add_interrupt_pin(&mut self) {
        self.bytes[header::INTERRUPT_PIN] = 1;
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The BARs.
    pub fn bars(&self) -> &[BarSpec] {
        &self.bars
    }

    /// The command register.
    pub fn command(&self) -> Command {
        Command::read(|offset, width| self.read(offset, width))
    }

    /// Reads `width` bytes, at most 4; beyond the end all bits are ones.
    pub fn read(&self, offset: u16, width: Width) -> u32 {
        load(&self.bytes, offset, width)
    }

    /// Writes `width` bytes, at most 4, as far as a guest may.
    pub fn write(&mut self, offset: u16, width: Width, value: u32) -> Vec<BarChange> {
        for (index, byte) in value.to_le_bytes()[..width.bytes().min(4)]
            .iter()
            .enumerate()
        {
            let at = usize::from(offset) + index;
            if let (Some(old), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *old = *old & !mask | byte & mask;
            }
        }
        let ConfigSpace {
            bytes,
            bars,
            decoded,
            ..
        } = self;
        let command = Command::read(|offset, width| load(bytes, offset, width));
        bar_changes(bars, decoded, |spec| {
            decoded_at(spec, command, |offset, width| load(bytes, offset, width))
        })
    }
}

fn load(bytes: &[u8; SIZE], offset: u16, width: Width) -> u32 {
    let mut value = [0; 4];
    let len = width.bytes().min(4);
    for (index, byte) in value[..len].iter_mut().enumerate() {
        *byte = bytes.get(usize::from(offset) + index).map_or(0xff, |b| *b);
    }
    u32::from_le_bytes(value)
}

/// Where a BAR is decoded, in a configuration space that `read` reads.
pub(super) fn decoded_at(
    spec: &BarSpec,
    command: Command,
    read: impl Fn(u16, Width) -> u32,
) -> Option<u64> {
    let at = bar_register(spec.bar) as u16;
    let low = read(at, Width::Dword);
    let memory = u64::from(low & !BAR_MEMORY_FLAGS);
    let (enable, base) = match spec.kind {
        BarKind::Io => (Command::IO, u64::from(low & !BAR_IO_FLAGS)),
        BarKind::Memory32 => (Command::MEMORY, memory),
        BarKind::Memory64 { .. } => (
            Command::MEMORY,
            u64::from(read(at + 4, Width::Dword)) << 32 | memory,
        ),
    };
    command.contains(enable).then_some(base)
}

/// Brings `decoded`, one entry for each of `bars`, up to what `wanted` says, and tells what
/// changed.
pub(super) fn bar_changes(
    bars: &[BarSpec],
    decoded: &mut [Option<u64>],
    wanted: impl Fn(&BarSpec) -> Option<u64>,
) -> Vec<BarChange> {
    let mut changes = Vec::new();
    for (spec, decoded) in bars.iter().zip(decoded) {
        let to = wanted(spec);
        let from = std::mem::replace(decoded, to);
        if from != to {
            changes.push(BarChange {
                spec: *spec,
                from,
                to,
            });
        }
    }
    changes
}

/// Offset of a BAR's register.
pub(super) fn bar_register(bar: Bar) -> usize {
    header::BAR0 + 4 * bar.index()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERS: BarSpec = BarSpec {
        bar: Bar::Bar0,
        kind: BarKind::Memory32,
        size: 16 << 20,
    };
    const APERTURE: BarSpec = BarSpec {
        bar: Bar::Bar1,
        kind: BarKind::Memory64 { prefetchable: true },
        size: 8 << 30,
    };

    fn config() -> ConfigSpace {
        let mut config = ConfigSpace::new(&Identity {
            vendor: 0x10de,
            device: 0x06d8,
            class: 0x03_0000,
            ..Default::default()
        });
        config.add_bar(REGISTERS);
        config.add_bar(APERTURE);
        config
    }

    #[test]
    fn all_ones_written_to_a_bar_read_back_as_its_size() {
        let mut config = config();
        for at in [0x10, 0x14, 0x18] {
            config.write(at, Width::Dword, u32::MAX);
        }

        assert_eq!(config.read(0x10, Width::Dword), 0xff00_0000);
        assert_eq!(config.read(0x14, Width::Dword), BAR_64 | BAR_PREFETCH);
        assert_eq!(config.read(0x18, Width::Dword), 0xffff_fffe);
    }

    #[test]
    fn bar_appears_with_the_memory_bit_and_goes_with_it() {
        let mut config = config();

        assert_eq!(config.write(0x10, Width::Dword, 0xd000_0000), []);
        let shown = config.write(0x04, Width::Word, 2);
        let hidden = config.write(0x04, Width::Word, 0);

        assert_eq!(
            shown[0],
            BarChange {
                spec: REGISTERS,
                from: None,
                to: Some(0xd000_0000)
            }
        );
        assert_eq!(hidden[0].to, None);
        assert_eq!(hidden.len(), 2);
    }

    #[test]
    fn high_half_of_a_64_bit_bar_moves_it() {
        let mut config = config();
        config.write(0x04, Width::Word, 2);

        let moved = config.write(0x18, Width::Dword, 0x40);

        assert_eq!(
            moved,
            [BarChange {
                spec: APERTURE,
                from: Some(0),
                to: Some(0x40_0000_0000)
            }]
        );
    }

    #[test]
    fn identity_cannot_be_written() {
        let mut config = config();

        config.write(0x00, Width::Dword, 0);

        assert_eq!(config.read(0x00, Width::Dword), 0x06d8_10de);
        assert_eq!(config.read(0x0b, Width::Byte), 0x03);
    }

    #[test]
    fn capabilities_form_a_list() {
        let mut config = config();
        let first = config.add_capability(5, &[0; 12], &[]);
        let second = config.add_capability(9, &[0; 3], &[]);

        assert_eq!(config.read(0x34, Width::Byte), u32::from(first));
        assert_eq!(config.read(first + 1, Width::Byte), u32::from(second));
        assert_eq!(config.read(second, Width::Word), 9);
        assert_eq!(config.read(0x06, Width::Byte), 0x10);
    }
}
