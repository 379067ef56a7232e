//! Video memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use super::mapping::Mapping;
use super::span::{HostSpan, Word};

/// Granularity in which the host gives memory.
const PAGE: u64 = 0x1000;

/// The card's own memory: a sparse file of which only touched pages cost anything.
///
/// Where there is no memory, loads yield all ones and stores are dropped.
pub struct Vram {
    mapping: Mapping,
}

impl Vram {
    /// `size` bytes of zeros, a multiple of 1 MiB.
    ///
    /// # Errors
    ///
    /// A size that is zero or not a multiple of 1 MiB, or that the host refuses.
    pub fn new(size: u64) -> io::Result<Self> {
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        if len == 0 || !len.is_multiple_of(1 << 20) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            mapping: Mapping::anonymous(c"gf100-vram", len)?,
        })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// The file, for whoever maps parts of video memory elsewhere; address 0 is at its start.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.mapping.fd().expect("video memory is a file")
    }

    /// The `len` bytes from `address`; `None` unless all of them exist.
    #[inline]
    pub fn span(&self, address: u64, len: usize) -> Option<HostSpan<'_>> {
        let span = self.span_from(address);
        (span.len() >= len).then(|| span.take(len))
    }

    /// Everything from `address` on, possibly nothing.
    #[inline]
    pub fn span_from(&self, address: u64) -> HostSpan<'_> {
        let offset = usize::try_from(address).unwrap_or(usize::MAX);
        self.mapping.span_from(offset)
    }

    /// Where the `len` bytes from `address` are in this process; `None` unless all of them exist.
    pub fn host_ptr(&self, address: u64, len: usize) -> Option<NonNull<u8>> {
        Some(self.span(address, len)?.as_ptr())
    }

    /// The word at `address`, all ones if it is not wholly in memory.
    #[inline]
    pub fn load<T: Word>(&self, address: u64) -> T {
        self.span_from(address).load(0).unwrap_or(T::ONES)
    }

    /// Stores a word, nothing if it is not wholly in memory.
    #[inline]
    pub fn store<T: Word>(&self, address: u64, value: T) {
        // The store either fits or is dropped.
        let _ = self.span_from(address).store(0, value);
    }

    /// Copies out of memory; bytes past its end are ones.
    pub fn read(&self, address: u64, buf: &mut [u8]) {
        let copied = self.span_from(address).copy_to(buf);
        buf[copied..].fill(0xff);
    }

    /// Copies into memory; bytes past its end are dropped.
    pub fn write(&self, address: u64, buf: &[u8]) {
        self.span_from(address).copy_from(buf);
    }

    /// Sets `len` bytes; those past the end are dropped.
    pub fn fill(&self, address: u64, len: u64, value: u8) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.span_from(address).take(len).fill(value);
    }

    /// Clears `len` bytes and gives their whole pages back to the host.
    ///
    /// # Errors
    ///
    /// The host refuses; the bytes are then as they were or zero.
    pub fn scrub(&self, address: u64, len: u64) -> io::Result<()> {
        let end = address.saturating_add(len).min(self.size());
        if address >= end {
            return Ok(());
        }
        let first = address.next_multiple_of(PAGE);
        let last = end & !(PAGE - 1);
        if first >= last {
            self.fill(address, end - address, 0);
            return Ok(());
        }
        self.fill(address, first - address, 0);
        self.fill(last, end - last, 0);
        // SAFETY: a plain system call on our own file; mappings of it stay valid and read as zero.
        let result = unsafe {
            libc::fallocate(
                self.as_fd().as_raw_fd(),
                libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                first as libc::off_t,
                (last - first) as libc::off_t,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Bytes of host memory that it occupies.
    ///
    /// # Errors
    ///
    /// The host does not tell.
    pub fn resident(&self) -> io::Result<u64> {
        // SAFETY: all zeros is a valid `stat`.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: our own file and a place for the answer.
        if unsafe { libc::fstat(self.as_fd().as_raw_fd(), &mut stat) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat.st_blocks as u64 * 512)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_gigabytes_cost_what_is_touched() {
        let vram = Vram::new(6 << 30).unwrap();
        vram.store(0, 1u8);
        vram.store(vram.size() - 8, 2u64);
        assert_eq!(vram.load::<u64>(vram.size() - 8), 2);
        assert!(vram.resident().unwrap() <= 4 * PAGE);
    }

    #[test]
    fn where_there_is_no_memory_loads_are_ones_and_stores_are_dropped() {
        let vram = Vram::new(1 << 20).unwrap();
        vram.store(vram.size() - 2, 0u32);
        vram.store(u64::MAX, 0u32);
        assert_eq!(vram.load::<u16>(vram.size() - 2), 0);
        assert_eq!(vram.load::<u32>(vram.size() - 2), u32::MAX);
        assert_eq!(vram.load::<u64>(u64::MAX - 3), u64::MAX);
        let mut buf = [0; 4];
        vram.read(vram.size() - 2, &mut buf);
        assert_eq!(buf, [0, 0, 0xff, 0xff]);
        vram.write(vram.size() - 1, &[7; 100]);
        vram.fill(vram.size() - 1, u64::MAX, 9);
        assert_eq!(vram.load::<u8>(vram.size() - 1), 9);
    }

    #[test]
    fn scrubbing_clears_the_range_and_frees_its_pages() {
        let vram = Vram::new(4 << 20).unwrap();
        vram.fill(0, 4 << 20, 0xaa);
        vram.scrub(0x1800, 0x20_0000).unwrap();
        assert_eq!(vram.load::<u8>(0x17ff), 0xaa);
        assert_eq!(vram.load::<u8>(0x1800), 0);
        assert_eq!(vram.load::<u8>(0x20_17ff), 0);
        assert_eq!(vram.load::<u8>(0x20_1800), 0xaa);
        assert!(vram.resident().unwrap() <= (2 << 20) + PAGE);
        vram.scrub(0x10, 0x10).unwrap();
        assert_eq!(vram.load::<u64>(0x10), 0);
        vram.scrub(u64::MAX, u64::MAX).unwrap();
    }

    #[test]
    fn a_size_that_no_card_has_is_refused() {
        assert!(Vram::new(0).is_err());
        assert!(Vram::new((1 << 20) + 1).is_err());
    }
}
