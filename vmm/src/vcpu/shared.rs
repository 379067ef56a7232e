//! Memory that KVM shares by the descriptor of a processor.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

const PAGE: usize = 0x1000;

/// What is mapped of a processor's descriptor, as `T`s; it belongs to no thread.
#[derive(Debug)]
pub struct Shared<T> {
    at: NonNull<T>,
    bytes: usize,
}

impl<T> Shared<T> {
    /// Maps `bytes` of `processor` from its page number `page` on.
    ///
    /// # Errors
    ///
    /// The hypervisor has nothing there.
    pub fn map(processor: &impl AsRawFd, page: u32, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                processor.as_raw_fd(),
                (PAGE * page as usize) as libc::off_t,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { at, bytes })
    }

    /// Where it is, as long as this exists.
    pub fn as_ptr(&self) -> *mut T {
        self.at.as_ptr()
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody has a reference to it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}
