//! The two memories that buffers lie in: video memory, and system memory that the card reaches
//! through one DMA window. Both are files of this process, so a buffer is mapped by mapping a part
//! of a file.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use gf100::memory::{Memory, PhysAddr, Protection};
use mmio::layout::pagetable::Aperture;
use parking_lot::Mutex;

use super::Ranges;

/// Where system memory is on the card's bus.
const SYSTEM_BASE: u64 = 1 << 32;
/// What everything in memory is a multiple of.
pub const PAGE: u64 = 0x1000;

/// A memory.
pub struct Heap {
    memory: Arc<Memory>,
    aperture: Aperture,
    /// System memory's file; video memory has its own.
    file: Option<File>,
    /// Bus or video memory address of the file's start.
    base: u64,
    size: u64,
    ranges: Mutex<Ranges>,
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
            ranges: Mutex::new(Ranges::new(start, size)),
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
        Ok(Arc::new(Self {
            aperture: Aperture::SysCoherent,
            file: Some(file),
            base: SYSTEM_BASE,
            size,
            ranges: Mutex::new(Ranges::new(SYSTEM_BASE, SYSTEM_BASE + size)),
            memory,
        }))
    }

    /// Bytes of it that buffers can have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are free.
    pub fn available(&self) -> u64 {
        self.ranges.lock().available()
    }

    /// `size` bytes of zeros, rounded up to pages, at a multiple of `align`, a power of two.
    pub fn take(self: &Arc<Self>, size: u64, align: u64) -> Option<Block> {
        let size = size.checked_next_multiple_of(PAGE)?;
        let address = self.ranges.lock().take(size, align.max(PAGE))?;
        Some(Block {
            heap: self.clone(),
            address,
            size,
        })
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
        let (fd, offset) = self.file();
        // Whoever gets the memory next finds zeros, and until then it costs nothing.
        // SAFETY: a plain system call on our own file; mappings of it stay valid.
        let punched = unsafe {
            libc::fallocate(
                fd,
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                offset as libc::off_t,
                self.size as libc::off_t,
            )
        };
        if punched < 0 {
            for at in (0..self.size).step_by(8) {
                self.store_wide(at, 0);
            }
        }
        self.heap.ranges.lock().give(self.address, self.size);
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
}
