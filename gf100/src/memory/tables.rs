//! Page tables as a driver writes them, for tests and benchmarks of whatever translates.

use std::sync::Arc;

use mmio::layout::instance;
use mmio::layout::pagetable::{
    Aperture, ENTRY_SIZE, Geometry, LARGE_COUNT, Pde, Pte, SMALL_SHIFT, TablePointer,
};

use super::{Flush, Memory, PhysAddr};

/// An address space whose instance block, directory and tables are built in video memory.
///
/// Nothing is flushed unless [`Tables::flush`] says so.
pub struct Tables {
    memory: Arc<Memory>,
    instance: u64,
    directory: u64,
    /// Where the next table goes.
    next: u64,
}

impl Tables {
    /// An empty address space of 40 bits, in video memory from `base` on, which is 4 KiB aligned.
    pub fn new(memory: Arc<Memory>, base: u64) -> Self {
        let directory = base + instance::SIZE;
        let vram = memory.vram();
        vram.store(base + instance::PAGE_DIR_BASE, directory);
        vram.store(base + instance::ADDR_LIMIT, (1u64 << 40) - 1);
        let bytes = memory.geometry().pde_count() * ENTRY_SIZE;
        vram.fill(directory, bytes, 0);
        Self {
            instance: base,
            directory,
            next: directory + bytes,
            memory,
        }
    }

    /// The instance block.
    pub fn instance(&self) -> PhysAddr {
        PhysAddr::vram(self.instance)
    }

    /// The page directory.
    pub fn directory(&self) -> PhysAddr {
        PhysAddr::vram(self.directory)
    }

    /// The first byte of video memory behind everything built so far.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// The highest virtual address.
    pub fn set_limit(&self, limit: u64) {
        self.memory
            .vram()
            .store(self.instance + instance::ADDR_LIMIT, limit);
    }

    /// Makes `len` bytes from `va` lead to `to`, in large pages or small.
    pub fn map(&mut self, va: u64, to: PhysAddr, len: u64, large: bool) {
        self.map_with(va, to, len, large, |pte| pte);
    }

    /// As [`Tables::map`], with entries changed by `edit`.
    pub fn map_with(
        &mut self,
        va: u64,
        to: PhysAddr,
        len: u64,
        large: bool,
        edit: impl Fn(Pte) -> Pte,
    ) {
        let step = 1 << self.shift(large);
        for offset in (0..len).step_by(step) {
            let pte = Pte::new(to.aperture, to.address + offset);
            self.set(va + offset, large, edit(pte));
        }
    }

    /// Makes `len` bytes from `va` lead nowhere.
    pub fn unmap(&mut self, va: u64, len: u64, large: bool) {
        for offset in (0..len).step_by(1 << self.shift(large)) {
            self.set(va + offset, large, Pte(0));
        }
    }

    /// Writes the entry for the page with `va`.
    pub fn set(&mut self, va: u64, large: bool, pte: Pte) {
        let geometry = self.geometry();
        let at = self.directory + geometry.pde_index(va) * ENTRY_SIZE;
        let mut pde = Pde(self.memory.vram().load(at));
        let present = if large { pde.large() } else { pde.small() };
        let table = present.unwrap_or_else(|| {
            let count = match large {
                true => LARGE_COUNT,
                false => geometry.small_count(),
            };
            let table = TablePointer {
                aperture: Aperture::Vram,
                address: self.next,
                volatile: false,
            };
            self.next += (count * ENTRY_SIZE).next_multiple_of(0x1000);
            self.memory
                .vram()
                .fill(table.address, count * ENTRY_SIZE, 0);
            pde = match large {
                true => Pde::new(Some(table), pde.small()),
                false => Pde::new(pde.large(), Some(table)),
            };
            self.memory.vram().store(at, pde.0);
            table
        });
        let index = match large {
            true => geometry.large_index(va),
            false => geometry.small_index(va),
        };
        self.memory
            .vram()
            .store(table.address + index * ENTRY_SIZE, pte.0);
    }

    /// Flushes this address space, as the driver does after a change.
    pub fn flush(&self) {
        self.memory.flush(Flush::Directory(self.directory()));
    }

    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn shift(&self, large: bool) -> u32 {
        match large {
            true => self.geometry().large_shift(),
            false => SMALL_SHIFT,
        }
    }
}
