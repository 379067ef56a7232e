//! The two memories that buffers lie in: video memory, and system memory that the card reaches
//! through one DMA window. Both are files that the card has mapped into this process, so that a
//! buffer is there for the program, too.
//!
//! Host memory of buffers that are gone is kept, up to a limit, and cleared when it is used again:
//! that costs much less than to have the host find and map other pages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use gf100::memory::{Access, Memory, PhysAddr, Protection};
use mmio::layout::pagetable::Aperture;
use parking_lot::Mutex;

use super::Ranges;

/// Where system memory is on the card's bus.
const SYSTEM_BASE: u64 = 1 << 32;
/// What everything in memory is a multiple of.
pub const PAGE: u64 = 0x1000;
/// Bytes of host memory that are kept for the buffers to come.
const KEPT: u64 = 128 << 20;

/// A memory.
pub struct Heap {
    memory: Arc<Memory>,
    aperture: Aperture,
    /// System memory's file; video memory has its own.
    file: Option<File>,
    /// Bus or video memory address of the file's start.
    base: u64,
    size: u64,
    /// Where the card has mapped the file's start, for as long as there is the card.
    host: NonNull<u8>,
    free: Mutex<Free>,
}

// SAFETY: the pointer is one to the card's memory, which any thread may look at.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

/// What of a memory is free.
struct Free {
    ranges: Ranges,
    /// Start and length of the parts of it that may not be zero. No two touch the same page.
    used: BTreeMap<u64, u64>,
    /// Bytes of those.
    kept: u64,
}

impl Free {
    fn new(start: u64, end: u64) -> Mutex<Self> {
        Mutex::new(Self {
            ranges: Ranges::new(start, end),
            used: BTreeMap::new(),
            kept: 0,
        })
    }

    /// Takes those parts out that are in `start..end`, and says which they are.
    fn take_used(&mut self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let before = self.used.range(..start).next_back();
        let first = before.map_or(start, |(&at, _)| at);
        let touching: Vec<_> = self
            .used
            .range(first..end)
            .map(|(&at, &len)| (at, at + len))
            .filter(|&(_, to)| to > start)
            .collect();
        let mut taken = Vec::new();
        for (from, to) in touching {
            self.used.remove(&from);
            let inside = (from.max(start), to.min(end));
            for (from, to) in [(from, inside.0), (inside.1, to)] {
                if from < to {
                    self.used.insert(from, to - from);
                }
            }
            self.kept -= inside.1 - inside.0;
            taken.push((inside.0, inside.1 - inside.0));
        }
        taken
    }
}

impl Heap {
    /// Video memory from `start` on.
    pub fn vram(memory: Arc<Memory>, start: u64) -> Arc<Self> {
        let size = memory.vram().size();
        Arc::new(Self {
            aperture: Aperture::Vram,
            file: None,
            base: 0,
            size: size - start,
            host: memory.vram().span_from(0).as_ptr(),
            free: Free::new(start, size),
            memory,
        })
    }

    /// `size` bytes of system memory.
    ///
    /// # Errors
    ///
    /// The host has no room, or the card takes no window.
    pub fn system(memory: Arc<Memory>, size: u64) -> io::Result<Arc<Self>> {
        // SAFETY: a valid C string.
        let fd = unsafe { libc::memfd_create(c"gf100-gart".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created and owned by nobody else.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(size)?;
        memory
            .dma()
            .map(
                SYSTEM_BASE,
                size,
                Protection::READ_WRITE,
                file.try_clone()?,
                0,
            )
            .map_err(io::Error::other)?;
        let host = {
            let guard = memory.enter();
            let span = memory.span(&guard, PhysAddr::system(SYSTEM_BASE), Access::Write);
            span.map_err(io::Error::other)?.as_ptr()
        };
        Ok(Arc::new(Self {
            aperture: Aperture::SysCoherent,
            file: Some(file),
            base: SYSTEM_BASE,
            size,
            host,
            free: Free::new(SYSTEM_BASE, SYSTEM_BASE + size),
            memory,
        }))
    }

    /// Bytes of it that buffers can have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are free.
    pub fn available(&self) -> u64 {
        self.free.lock().ranges.available()
    }

    /// `size` bytes of zeros, rounded up to pages, at a multiple of `align`, a power of two.
    pub fn take(self: &Arc<Self>, size: u64, align: u64) -> Option<Block> {
        let size = size.checked_next_multiple_of(PAGE)?;
        let mut free = self.free.lock();
        let address = free.ranges.take(size, align.max(PAGE))?;
        let used = free.take_used(address, address + size);
        drop(free);
        for (start, len) in used {
            self.clear(start, len);
        }
        Some(Block {
            heap: self.clone(),
            address,
            size,
        })
    }

    /// Takes back what a block had.
    fn give(&self, address: u64, size: u64) {
        let kept = {
            let mut free = self.free.lock();
            let kept = free.kept + size <= KEPT;
            if kept {
                free.kept += size;
                free.used.insert(address, size);
            }
            kept
        };
        if !kept {
            self.empty(address, size);
        }
        self.free.lock().ranges.give(address, size);
    }

    fn clear(&self, address: u64, size: u64) {
        let at = PhysAddr {
            aperture: self.aperture,
            address,
        };
        let guard = self.memory.enter();
        // All of it is memory of the card, in one piece.
        if let Ok(span) = self.memory.span(&guard, at, Access::Write) {
            span.take(size as usize).fill(0);
        }
    }

    /// Clears memory and gives it back to the host.
    fn empty(&self, address: u64, size: u64) {
        // SAFETY: a plain system call on our own file; mappings of it stay valid.
        let punched = unsafe {
            libc::fallocate(
                self.fd(),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                (address - self.base) as libc::off_t,
                size as libc::off_t,
            )
        };
        if punched < 0 {
            self.clear(address, size);
        }
    }

    /// Whether an address of this process is in it.
    pub fn shows(&self, address: *const u8) -> bool {
        let bytes = match self.aperture {
            Aperture::Vram => self.memory.vram().size(),
            _ => self.size,
        };
        let offset = address.addr().wrapping_sub(self.host.as_ptr().addr());
        (offset as u64) < bytes
    }

    fn fd(&self) -> RawFd {
        match &self.file {
            Some(file) => file.as_raw_fd(),
            None => self.memory.vram().as_fd().as_raw_fd(),
        }
    }
}

/// A contiguous part of a memory, zero at first.
pub struct Block {
    heap: Arc<Heap>,
    address: u64,
    size: u64,
}

impl Block {
    /// Where the card finds it.
    pub fn at(&self) -> PhysAddr {
        PhysAddr {
            aperture: self.heap.aperture,
            address: self.address,
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is in video memory.
    pub fn is_vram(&self) -> bool {
        self.heap.aperture == Aperture::Vram
    }

    /// The file that it is a part of, and where in it.
    pub fn file(&self) -> (RawFd, u64) {
        (self.heap.fd(), self.address - self.heap.base)
    }

    /// Where it is in this process, for as long as there is the card.
    pub fn host(&self) -> NonNull<u8> {
        let (_, offset) = self.file();
        // SAFETY: the block is in the file, all of which is mapped.
        unsafe { self.heap.host.add(offset as usize) }
    }

    /// Loads the word at `offset`, all ones if there is none.
    pub fn load(&self, offset: u64) -> u32 {
        self.heap
            .memory
            .load(self.at().offset(offset))
            .unwrap_or(u32::MAX)
    }

    /// Stores a word at `offset`.
    pub fn store(&self, offset: u64, value: u32) {
        debug_assert!(offset + 4 <= self.size);
        // The block is memory of the card, so the store cannot miss.
        let _ = self.heap.memory.store(self.at().offset(offset), value);
    }

    /// Stores a double word at `offset`.
    pub fn store_wide(&self, offset: u64, value: u64) {
        debug_assert!(offset + 8 <= self.size);
        // As above.
        let _ = self.heap.memory.store(self.at().offset(offset), value);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.heap.give(self.address, self.size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_taken_again_is_zero() {
        let memory = Memory::new(1 << 20).unwrap();
        let heaps = [
            Heap::vram(memory.clone(), 0x1_0000),
            Heap::system(memory, 1 << 20).unwrap(),
        ];
        for heap in heaps {
            let block = heap.take(5, 1).unwrap();
            let at = block.at();
            block.store(0xffc, 7);
            assert_eq!((block.size(), block.load(0xffc)), (PAGE, 7));
            drop(block);
            let block = heap.take(PAGE, PAGE).unwrap();
            assert_eq!((block.at(), block.load(0xffc)), (at, 0));
            assert!(heap.take(1 << 20, PAGE).is_none());
        }
    }

    #[test]
    fn memory_of_blocks_that_overlap_old_ones_is_zero() {
        let memory = Memory::new(8 << 20).unwrap();
        let heap = Heap::vram(memory, 1 << 20);
        let mut random = 1u32;
        for round in 0..200 {
            let blocks: Vec<_> = (0..5)
                .filter_map(|_| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    heap.take(u64::from(random >> 12), 1)
                })
                .collect();
            for block in &blocks {
                for offset in (0..block.size()).step_by(PAGE as usize) {
                    assert_eq!(block.load(offset + 4), 0, "round {round}");
                    block.store(offset + 4, 1);
                }
            }
        }
        assert_eq!(heap.available(), heap.size());
    }

    #[test]
    fn a_block_is_in_this_process_where_it_says() {
        let memory = Memory::new(1 << 20).unwrap();
        let outside = 0u8;
        for heap in [
            Heap::vram(memory.clone(), 0x1_0000),
            Heap::system(memory, 1 << 20).unwrap(),
        ] {
            let block = heap.take(PAGE, PAGE).unwrap();
            block.store(8, 0x1234_5678);
            let host = block.host().as_ptr();
            // SAFETY: the block is there.
            let word = unsafe { host.add(8).cast::<u32>().read() };
            assert_eq!(word, 0x1234_5678);
            assert!(heap.shows(host) && !heap.shows(&outside));
        }
    }
}
