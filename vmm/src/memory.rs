//! Guest memory: one shared memfd, so that other processes and the card can map it.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use thiserror::Error;
use vm_memory::mmap::{FromRangesError, GuestMemoryMmap};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::layout;

/// The guest's memory, as every device sees it.
pub type GuestMemory = GuestMemoryMmap<()>;

/// Pages of the host that guest memory is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Ordinary ones, as they are touched.
    #[default]
    Small,
    /// Huge ones of the host's default size, from its pool, all at once: an IOMMU and the
    /// processor's nested tables then need a fraction of the entries.
    Huge,
}

/// Why there is no guest memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The kernel gave no file.
    #[error("Cannot create the memory file")]
    Create(#[source] io::Error),
    /// The file could not grow.
    #[error("Cannot size the memory file to {size} bytes")]
    Size {
        /// Bytes asked for.
        size: u64,
        /// Why not.
        source: io::Error,
    },
    /// The pool has too few pages.
    #[error("Cannot get {size} bytes in huge pages: are so many in /proc/sys/vm/nr_hugepages?")]
    Huge {
        /// Bytes asked for.
        size: u64,
        /// Why not.
        source: io::Error,
    },
    /// The file could not be mapped.
    #[error("Cannot map guest memory")]
    Map(#[source] FromRangesError),
}

/// One stretch of guest memory, for a memory slot or a DMA map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// Guest physical address.
    pub guest: u64,
    /// Length in bytes.
    pub len: u64,
    /// Address in this process.
    pub host: u64,
    /// The memory file.
    pub fd: RawFd,
    /// Where in the memory file.
    pub offset: u64,
}

/// Creates `size` bytes of guest memory at the addresses of [`layout::ram`].
///
/// # Errors
///
/// The host has no such memory.
pub fn create(size: u64, pages: Pages) -> Result<GuestMemory, MemoryError> {
    let flags = match pages {
        Pages::Small => 0,
        Pages::Huge => libc::MFD_HUGETLB,
    };
    let file = memfd(c"guest-memory", flags).map_err(MemoryError::Create)?;
    file.set_len(size)
        .map_err(|source| MemoryError::Size { size, source })?;
    if pages == Pages::Huge {
        // Now, when the pool's end is an error and not a signal.
        allocate(&file, size).map_err(|source| MemoryError::Huge { size, source })?;
    }
    let file = Arc::new(file);

    let mut offset = 0;
    let mut ranges = Vec::new();
    for range in layout::ram(size) {
        let len = range.end - range.start;
        let at = FileOffset::from_arc(Arc::clone(&file), offset);
        ranges.push((GuestAddress(range.start), len as usize, Some(at)));
        offset += len;
    }
    GuestMemory::from_ranges_with_files(ranges).map_err(MemoryError::Map)
}

/// The stretches that make up `memory`.
pub fn ranges(memory: &GuestMemory) -> impl Iterator<Item = MemoryRange> + '_ {
    memory.iter().map(|region| {
        let (fd, offset) = region
            .file_offset()
            .map_or((-1, 0), |at| (at.file().as_raw_fd(), at.start()));
        MemoryRange {
            guest: region.start_addr().0,
            len: region.len(),
            host: region.as_ptr() as u64,
            fd,
            offset,
        }
    })
}

/// An anonymous file in memory, with `flags` of `memfd_create` beside `MFD_CLOEXEC`.
pub fn memfd(name: &CStr, flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: `name` is a terminated string; the call has no other memory operand.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just created and nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(File::from(fd))
}

/// Gives the first `len` bytes of `file` their pages.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: the call has no memory operand.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn memory_is_shared_through_its_file() {
        let memory = create(2 << 20, Pages::Small).unwrap();
        memory.write_slice(b"guest", GuestAddress(0x1000)).unwrap();

        let range = ranges(&memory).next().unwrap();
        let region = memory.iter().next().unwrap();
        let mut seen = [0; 5];
        std::os::unix::fs::FileExt::read_exact_at(
            region.file_offset().unwrap().file(),
            &mut seen,
            range.offset + 0x1000,
        )
        .unwrap();

        assert_eq!(&seen, b"guest");
        assert_eq!((range.guest, range.len), (0, 2 << 20));
    }

    #[test]
    fn huge_pages_beyond_the_pool_are_an_error() {
        let error = create(1 << 50, Pages::Huge).unwrap_err();
        assert!(
            matches!(
                error,
                MemoryError::Create(_) | MemoryError::Size { .. } | MemoryError::Huge { .. }
            ),
            "{error}"
        );
    }
}
