//! A function whose accesses others watch.

use std::fs::File;
use std::io;
use std::sync::Arc;

use mmio::trace::Observer;
use mmio::{Access, Bar, Direction, VmId, Width};

use super::{Function, Protection};

/// Passes everything on to a function and shows each BAR access to the observers.
pub struct Observed<F> {
    function: F,
    observers: Vec<Arc<dyn Observer>>,
    /// Only those of registers.
    registers: bool,
}

impl<F: Function> Observed<F> {
    /// Watches `function`.
    pub fn new(function: F, observers: Vec<Arc<dyn Observer>>) -> Self {
        Self {
            function,
            observers,
            registers: false,
        }
    }

    /// Watches the registers of `function` (BAR0), and lets accesses of memory pass unseen.
    pub fn registers_of(function: F, observers: Vec<Arc<dyn Observer>>) -> Self {
        Self {
            registers: true,
            ..Self::new(function, observers)
        }
    }

    fn shows(&self, bar: Bar) -> bool {
        !self.observers.is_empty() && (bar == Bar::Bar0 || !self.registers)
    }

    /// Shows an access in the pieces that a CPU makes of it.
    fn show(&self, bar: Bar, offset: u64, data: &[u8], direction: Direction) {
        if !self.shows(bar) {
            return;
        }
        for (index, piece) in data.chunks(Width::Qword.bytes()).enumerate() {
            let mut value = [0; 8];
            value[..piece.len()].copy_from_slice(piece);
            let access = Access {
                vm: VmId(0),
                vcpu: 0,
                bar,
                offset: offset + (index * Width::Qword.bytes()) as u64,
                width: Width::from_len(piece.len()).unwrap_or(Width::Qword),
                direction,
            };
            for observer in &self.observers {
                observer.observe(&access, u64::from_le_bytes(value));
            }
        }
    }
}

impl<F: Function> Function for Observed<F> {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.function.bar_size(bar)
    }

    fn bar_memory(&self, bar: Bar) -> Option<u64> {
        match self.shows(bar) {
            true => None,
            false => self.function.bar_memory(bar),
        }
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.function.config_read(offset, data);
    }

    fn config_write(&self, offset: u64, data: &[u8]) {
        self.function.config_write(offset, data);
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        self.function.read(bar, offset, data);
        self.show(bar, offset, data, Direction::Read);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        self.function.write(bar, offset, data);
        self.show(bar, offset, data, Direction::Write);
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        self.function.dma_map(iova, size, protection, file, offset)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        self.function.dma_unmap(iova, size);
    }

    fn dma_clear(&self) {
        self.function.dma_clear();
    }

    fn reset(&self) {
        self.function.reset();
    }
}
