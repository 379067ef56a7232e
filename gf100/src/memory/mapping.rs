//! Memory of the host that the card reaches.

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use super::lost::{self, Watch};
use super::span::HostSpan;

/// Host memory that stays mapped as long as this value lives.
pub(super) struct Mapping {
    ptr: NonNull<u8>,
    len: usize,
    writable: bool,
    backing: Backing,
}

enum Backing {
    /// Mapped by us from a file of our own.
    File { file: File, _pages: Pages },
    /// Mapped by us from a file that somebody else may shrink. The watch ends before the mapping.
    Foreign { watch: Watch, _pages: Pages },
    /// Mapped by somebody else, who keeps it while this lives.
    Owner { _owner: Box<dyn Any + Send + Sync> },
}

// SAFETY: the memory is only reached through `HostSpan`, whose accesses are made for sharing.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes of new memory, zero, of which only touched pages exist.
    pub(super) fn anonymous(name: &std::ffi::CStr, len: usize) -> io::Result<Self> {
        // SAFETY: a valid C string.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just created and owned by nobody else.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(len as u64)?;
        let pages = Pages::map(&file, len, true)?;
        Ok(Self {
            ptr: pages.ptr,
            len,
            writable: true,
            backing: Backing::File {
                file,
                _pages: pages,
            },
        })
    }

    /// The `len` bytes of somebody's `file`. Should it shrink, they are [`Mapping::lost`].
    pub(super) fn foreign(file: &File, len: usize, writable: bool) -> io::Result<Self> {
        let pages = Pages::map(file, len, writable)?;
        Ok(Self {
            ptr: pages.ptr,
            len,
            writable,
            backing: Backing::Foreign {
                watch: lost::watch(pages.ptr, len)?,
                _pages: pages,
            },
        })
    }

    /// `len` bytes at `ptr`.
    ///
    /// # Safety
    ///
    /// They stay mapped readable, and writable if `writable`, while `owner` lives, and nobody holds
    /// Rust references to them other than to atomics.
    pub(super) unsafe fn existing(
        ptr: NonNull<u8>,
        len: usize,
        writable: bool,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            ptr,
            len,
            writable,
            backing: Backing::Owner { _owner: owner },
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The file under it, if we mapped it.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::File { file, .. } => Some(file.as_fd()),
            Backing::Foreign { .. } | Backing::Owner { .. } => None,
        }
    }

    /// The memory went away: what is there now are zeros that nobody shares.
    #[inline]
    pub(super) fn lost(&self) -> bool {
        match &self.backing {
            Backing::Foreign { watch, .. } => watch.lost(),
            Backing::File { .. } | Backing::Owner { .. } => false,
        }
    }

    /// The bytes from `offset` to the end.
    #[inline]
    pub(super) fn span_from(&self, offset: usize) -> HostSpan<'_> {
        // SAFETY: the mapping lives as long as `self`.
        unsafe { HostSpan::new(self.ptr, self.len, self.writable) }.skip(offset)
    }
}

/// A mapping of a file from its start.
struct Pages {
    ptr: NonNull<u8>,
    len: usize,
}

impl Pages {
    fn map(file: &File, len: usize, writable: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let ptr = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                0,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A dump of the process would write all of it, also what was never touched.
        // SAFETY: our own mapping, whose contents this does not change; failing is no harm.
        unsafe { libc::madvise(ptr, len, libc::MADV_DONTDUMP) };
        let ptr = NonNull::new(ptr.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { ptr, len })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping; spans of it borrow the `Mapping` that has it.
        unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.len) };
    }
}
