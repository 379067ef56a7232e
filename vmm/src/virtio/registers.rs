//! The common configuration registers of virtio on PCI (virtio 1.2, section 4.1.4.3).

use mmio::Width;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    QueueCount,
    DeviceStatus,
    ConfigGeneration,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOffset,
    QueueDescLow,
    QueueDescHigh,
    QueueDriverLow,
    QueueDriverHigh,
    QueueDeviceLow,
    QueueDeviceHigh,
}

/// Offset, width and name of each. The 64-bit ones are accessed as two halves.
const REGISTERS: [(u64, Width, Register); 19] = [
    (0x00, Width::Dword, Register::DeviceFeatureSelect),
    (0x04, Width::Dword, Register::DeviceFeature),
    (0x08, Width::Dword, Register::DriverFeatureSelect),
    (0x0c, Width::Dword, Register::DriverFeature),
    (0x10, Width::Word, Register::ConfigVector),
    (0x12, Width::Word, Register::QueueCount),
    (0x14, Width::Byte, Register::DeviceStatus),
    (0x15, Width::Byte, Register::ConfigGeneration),
    (0x16, Width::Word, Register::QueueSelect),
    (0x18, Width::Word, Register::QueueSize),
    (0x1a, Width::Word, Register::QueueVector),
    (0x1c, Width::Word, Register::QueueEnable),
    (0x1e, Width::Word, Register::QueueNotifyOffset),
    (0x20, Width::Dword, Register::QueueDescLow),
    (0x24, Width::Dword, Register::QueueDescHigh),
    (0x28, Width::Dword, Register::QueueDriverLow),
    (0x2c, Width::Dword, Register::QueueDriverHigh),
    (0x30, Width::Dword, Register::QueueDeviceLow),
    (0x34, Width::Dword, Register::QueueDeviceHigh),
];

/// Size of the block.
pub const SIZE: u64 = 0x38;

impl Register {
    /// The register at `offset`, accessed with its own width.
    pub fn find(offset: u64, width: Width) -> Option<Self> {
        REGISTERS
            .iter()
            .find(|(at, size, _)| *at == offset && *size == width)
            .map(|(_, _, register)| *register)
    }
}
