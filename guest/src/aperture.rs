//! The card's BARs, mapped as the kernel exports them to root.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::NonNull;

use crate::{Error, Result};

/// One of the card's apertures.
#[derive(Debug)]
pub struct Aperture {
    base: NonNull<u8>,
    bytes: u64,
}

impl Aperture {
    /// Maps the aperture that the file at `path` in sysfs is.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::Map`] if the kernel does not let it be mapped.
    pub fn open(path: &Path) -> Result<Aperture> {
        let open_error = |source| Error::Open {
            path: path.to_path_buf(),
            source,
        };
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(open_error)?;
        let bytes = file.metadata().map_err(open_error)?.len();
        // SAFETY: A fresh shared mapping of a file range; nothing else refers to it yet.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast()) {
            Some(base) if address != libc::MAP_FAILED => Ok(Aperture { base, bytes }),
            _ => Err(Error::Map(
                "an aperture of the card",
                io::Error::last_os_error(),
            )),
        }
    }

    /// Bytes of the aperture.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn register(&self, offset: u64) -> *mut u32 {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.bytes,
            "offset {offset:#x}"
        );
        // SAFETY: The offset is within the mapping.
        unsafe { self.base.as_ptr().add(offset as usize).cast() }
    }

    /// Loads the word at `offset`, which is inside and aligned.
    pub fn read(&self, offset: u64) -> u32 {
        // SAFETY: `register` is in the mapping and aligned; a device register is read volatile.
        unsafe { self.register(offset).read_volatile() }
    }

    /// Stores a word at `offset`, which is inside and aligned.
    pub fn write(&self, offset: u64, value: u32) {
        // SAFETY: As for `read`.
        unsafe { self.register(offset).write_volatile(value) }
    }
}

impl Drop for Aperture {
    fn drop(&mut self) {
        // SAFETY: The range is the one that `mmap` returned.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes as usize) };
    }
}
