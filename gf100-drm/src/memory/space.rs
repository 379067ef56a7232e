//! A GPU address space: its page directory and tables, in video memory.
//!
//! Each open file of the node has one, shared by the file's channels, as with nouveau.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use gf100::memory::PhysAddr;
use mmio::layout::kind;
use mmio::layout::pagetable::{
    self, Aperture, ENTRY_SIZE, LARGE_COUNT, LARGE_SHIFT, PDE_COUNT, Pde, Pte, SMALL_COUNT,
    SMALL_SHIFT, TablePointer, VA_BITS,
};
use parking_lot::Mutex;

use super::{Block, Ranges};
use crate::device::Device;
use crate::error::Error;

/// The first address that is dealt out: null pointers with an offset fault.
const FIRST: u64 = 1 << 20;

/// An address space.
pub struct AddressSpace {
    device: Arc<Device>,
    directory: Block,
    state: Mutex<State>,
}

struct State {
    ranges: Ranges,
    /// By directory entry and whether pages are large.
    tables: HashMap<(u64, bool), Block>,
}

impl AddressSpace {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// Video memory is full.
    pub fn new(device: &Arc<Device>) -> Result<Arc<Self>, Error> {
        let directory = device
            .vram
            .take(PDE_COUNT * ENTRY_SIZE, 1)
            .ok_or(Error::NoMemory)?;
        Ok(Arc::new(Self {
            device: device.clone(),
            directory,
            state: Mutex::new(State {
                ranges: Ranges::new(FIRST, 1 << VA_BITS),
                tables: HashMap::new(),
            }),
        }))
    }

    /// The page directory.
    pub fn directory(&self) -> PhysAddr {
        self.directory.at()
    }

    /// Gives a block an address, a multiple of `align`.
    ///
    /// # Errors
    ///
    /// Addresses or memory for tables have run out.
    pub fn map(self: &Arc<Self>, block: Arc<Block>, kind: u8, align: u64) -> Result<Mapped, Error> {
        let large_page = 1 << LARGE_SHIFT;
        let large =
            block.is_vram() && (block.size() | block.at().address).is_multiple_of(large_page);
        let step = if large { large_page } else { 1 << SMALL_SHIFT };
        // Compressed kinds need tags, which only video memory has.
        let kind = match !block.is_vram() && kind::is_compressed(kind) {
            true => kind::BLOCK_LINEAR,
            false => kind,
        };
        let mut state = self.state.lock();
        let va = state
            .ranges
            .take(block.size(), align.max(step))
            .ok_or(Error::NoMemory)?;
        let mapped = Mapped {
            space: self.clone(),
            va,
            large,
            block,
        };
        let at = mapped.block.at();
        for offset in (0..mapped.block.size()).step_by(step as usize) {
            let pte = Pte::new(at.aperture, at.address + offset).with_kind(kind);
            if let Err(error) = self.set(&mut state, va + offset, large, pte) {
                drop(state);
                return Err(error);
            }
        }
        self.device.flush_tlb(self.directory());
        Ok(mapped)
    }

    /// Writes the entry of a page.
    fn set(&self, state: &mut State, va: u64, large: bool, pte: Pte) -> Result<(), Error> {
        let pde = pagetable::pde_index(va);
        if let Entry::Vacant(place) = state.tables.entry((pde, large)) {
            let count = if large { LARGE_COUNT } else { SMALL_COUNT };
            let table = self.device.vram.take(count * ENTRY_SIZE, 1);
            place.insert(table.ok_or(Error::NoMemory)?);
            let pointer = |large| {
                state.tables.get(&(pde, large)).map(|table| TablePointer {
                    aperture: Aperture::Vram,
                    address: table.at().address,
                    volatile: false,
                })
            };
            let entry = Pde::new(pointer(true), pointer(false));
            self.directory.store_wide(pde * ENTRY_SIZE, entry.0);
        }
        let index = match large {
            true => pagetable::large_index(va),
            false => pagetable::small_index(va),
        };
        if let Some(table) = state.tables.get(&(pde, large)) {
            table.store_wide(index * ENTRY_SIZE, pte.0);
        }
        Ok(())
    }
}

/// A block with an address in an address space.
pub struct Mapped {
    space: Arc<AddressSpace>,
    va: u64,
    large: bool,
    block: Arc<Block>,
}

impl Mapped {
    /// Its virtual address.
    pub fn va(&self) -> u64 {
        self.va
    }

    /// The memory behind it.
    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut state = self.space.state.lock();
        let step = 1usize << if self.large { LARGE_SHIFT } else { SMALL_SHIFT };
        for offset in (0..self.block.size()).step_by(step) {
            let key = (pagetable::pde_index(self.va + offset), self.large);
            if state.tables.contains_key(&key) {
                // The table is there, so nothing is allocated.
                let _ = self
                    .space
                    .set(&mut state, self.va + offset, self.large, Pte(0));
            }
        }
        // No engine may reach the memory when it becomes somebody else's.
        self.space.device.flush_tlb(self.space.directory());
        state.ranges.give(self.va, self.block.size());
    }
}
