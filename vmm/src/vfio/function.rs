//! A card on the bus as the guest's own.

use std::fs::File;
use std::io;

use mmio::Bar;
use vmm_sys_util::eventfd::EventFd;

use super::Device;
use crate::vfio_user::{Function, Protection};

/// A card on the bus that one guest has. Its message goes to the guest without this process, and
/// so do accesses of its BARs.
pub struct VfioFunction {
    device: Device,
}

impl VfioFunction {
    /// Wires the card's message to `message`.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn new(device: Device, message: &EventFd) -> io::Result<Self> {
        device.enable_message(message)?;
        Ok(Self { device })
    }
}

impl Function for VfioFunction {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.device.bar_size(bar)
    }

    fn bar_memory(&self, bar: Bar) -> Option<u64> {
        self.device.bar_memory(bar)
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.device.config_read(offset, data);
    }

    fn config_write(&self, offset: u64, data: &[u8]) {
        self.device.config_write(offset, data);
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        self.device.read(bar, offset, data);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        self.device.write(bar, offset, data);
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        self.device
            .dma_map(iova, size, protection.write, &file, offset)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        self.device.dma_unmap(iova, size);
    }

    fn dma_clear(&self) {
        self.device.dma_unmap(0, u64::MAX);
    }

    fn reset(&self) {
        self.device.reset();
    }
}
