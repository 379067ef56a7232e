//! The bare software card as a vfio-user function.

use std::fs::File;
use std::io;
use std::sync::Arc;

use gf100::Card;
use mmio::Bar;

use super::{Function, Protection};

impl Function for Arc<Card> {
    fn bar_size(&self, bar: Bar) -> u64 {
        Card::bar_size(self, bar)
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        Card::config_read(self, offset, data);
    }

    fn config_write(&self, offset: u64, data: &[u8]) {
        Card::config_write(self, offset, data);
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        Card::read(self, bar, offset, data);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        Card::write(self, bar, offset, data);
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        let protection = gf100::memory::Protection {
            read: protection.read,
            write: protection.write,
        };
        self.dma()
            .map(iova, size, protection, file, offset)
            .map_err(io::Error::other)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        self.dma().unmap(iova, size);
    }

    fn dma_clear(&self) {
        self.dma().clear();
    }

    fn reset(&self) {
        Card::reset(self);
    }
}
