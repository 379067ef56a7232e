//! A virtual GPU as a vfio-user function.

use std::fs::File;
use std::io;
use std::sync::Arc;

use gpu_model::{Slot, VirtualGpu};
use mmio::Bar;

use super::{Function, Irqs, Protection};

impl Slot for Irqs {
    fn msi(&self) {
        gf100::Bus::msi(self);
    }

    fn intx(&self, level: bool) {
        gf100::Bus::intx(self, level);
    }
}

impl Function for Arc<VirtualGpu> {
    fn bar_size(&self, bar: Bar) -> u64 {
        VirtualGpu::bar_size(self, bar)
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        VirtualGpu::config_read(self, offset, data);
    }

    fn config_write(&self, offset: u64, data: &[u8]) {
        VirtualGpu::config_write(self, offset, data);
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        VirtualGpu::read(self, bar, offset, data);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        VirtualGpu::write(self, bar, offset, data);
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        let protection = gpu_model::Protection {
            read: protection.read,
            write: protection.write,
        };
        VirtualGpu::dma_map(self, iova, size, protection, file, offset)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        VirtualGpu::dma_unmap(self, iova, size);
    }

    fn dma_clear(&self) {
        VirtualGpu::dma_unmap(self, 0, u64::MAX);
    }

    fn reset(&self) {
        VirtualGpu::reset(self);
    }
}
