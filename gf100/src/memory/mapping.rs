//! Memory of the host that the card reaches.

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use super::span::HostSpan;

/// Host memory that stays mapped as long as this value lives.
pub(super) struct Mapping {
    ptr: NonNull<u8>,
    len: usize,
    writable: bool,
    backing: Backing,
}

enum Backing {
    /// Mapped by us from a file.
    File(File),
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
        Self::file(file, 0, len, true)
    }

    /// `len` bytes of `file` from `offset`.
    pub(super) fn file(file: File, offset: u64, len: usize, writable: bool) -> io::Result<Self> {
        let end = offset.checked_add(len as u64);
        // Beyond its end a file maps, but kills whoever touches it.
        if len == 0 || end.is_none_or(|end| file.metadata().is_ok_and(|meta| end > meta.len())) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let ptr = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                offset,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            ptr: NonNull::new(ptr.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            len,
            writable,
            backing: Backing::File(file),
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
            Backing::File(file) => Some(file.as_fd()),
            Backing::Owner { .. } => None,
        }
    }

    /// The bytes from `offset` to the end.
    #[inline]
    pub(super) fn span_from(&self, offset: usize) -> HostSpan<'_> {
        // SAFETY: the mapping lives as long as `self`.
        unsafe { HostSpan::new(self.ptr, self.len, self.writable) }.skip(offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Backing::File(_) = self.backing {
            // SAFETY: our own mapping; spans of it borrow `self`.
            unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.len) };
        }
    }
}
