//! Accesses to BARs, on their way from the buses to the devices.

use std::sync::Arc;

use mmio::{Access, Bar, Direction, VmId, Width};
use vm_device::bus::{MmioAddress, MmioAddressOffset, PioAddress, PioAddressOffset};
use vm_device::{DeviceMmio, DevicePio};

use super::PciDevice;
use crate::vcpu;

/// A placed BAR: turns bus accesses into the device's.
pub struct Aperture {
    vm: VmId,
    device: Arc<dyn PciDevice>,
    bar: Bar,
}

impl Aperture {
    /// `bar` of the `device` of machine `vm`.
    pub fn new(vm: VmId, device: Arc<dyn PciDevice>, bar: Bar) -> Self {
        Self { vm, device, bar }
    }

    fn access(&self, offset: u64, width: Width, direction: Direction) -> Access {
        Access {
            vm: self.vm,
            vcpu: vcpu::current(),
            bar: self.bar,
            offset,
            width,
            direction,
        }
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, width) in pieces(offset, data.len()) {
            let value = self
                .device
                .read(&self.access(offset + at as u64, width, Direction::Read));
            let len = width.bytes();
            data[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        for (at, width) in pieces(offset, data.len()) {
            let len = width.bytes();
            let mut value = [0; 8];
            value[..len].copy_from_slice(&data[at..at + len]);
            let access = self.access(offset + at as u64, width, Direction::Write);
            self.device.write(&access, u64::from_le_bytes(value));
        }
    }
}

/// Splits `len` bytes at `offset` into accesses that are aligned to their width.
pub fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, Width)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = len - at;
        let position = offset + at as u64;
        let width = [Width::Qword, Width::Dword, Width::Word, Width::Byte]
            .into_iter()
            .find(|width| width.bytes() <= left && position.is_multiple_of(width.bytes() as u64))?;
        let piece = (at, width);
        at += width.bytes();
        Some(piece)
    })
}

impl DevicePio for Aperture {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        self.read(u64::from(offset), data);
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        self.write(u64::from(offset), data);
    }
}

impl DeviceMmio for Aperture {
    fn mmio_read(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &mut [u8]) {
        self.read(offset, data);
    }

    fn mmio_write(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &[u8]) {
        self.write(offset, data);
    }
}
