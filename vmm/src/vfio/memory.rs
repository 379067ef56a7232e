//! Mappings of files and of devices' memory.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::pci::pieces;

/// Mapped bytes of a file; other processes, guests or the card may change them at any time.
pub struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread, and is accessed by volatile loads and stores only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset`.
    ///
    /// # Errors
    ///
    /// The file refuses.
    pub fn new(file: &impl AsRawFd, offset: u64, len: u64, writable: bool) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let mut protection = libc::PROT_READ;
        if writable {
            protection |= libc::PROT_WRITE;
        }
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { at, len })
    }

    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.at.addr().get() as u64
    }

    /// Its bytes.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Where the `len` bytes at `offset` are, which has to be a multiple of `len`.
    fn place(&self, offset: u64, len: usize) -> NonNull<u8> {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(len) && offset <= self.len - len);
        // SAFETY: the offset is inside the mapping.
        unsafe { self.at.add(offset) }
    }

    /// Loads bytes, in accesses that are as wide as they can be aligned.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (at, width) in pieces(offset, data.len()) {
            self.load(offset + at as u64, &mut data[at..at + width.bytes()]);
        }
    }

    /// Stores bytes, likewise.
    pub fn write(&self, offset: u64, data: &[u8]) {
        for (at, width) in pieces(offset, data.len()) {
            self.store(offset + at as u64, &data[at..at + width.bytes()]);
        }
    }

    /// Loads 1, 2, 4 or 8 aligned bytes, in one access.
    fn load(&self, offset: u64, data: &mut [u8]) {
        let at = self.place(offset, data.len());
        // SAFETY: `place` is inside the mapping and aligned; any bytes are a valid value.
        unsafe {
            match data.len() {
                1 => data[0] = at.read_volatile(),
                2 => data.copy_from_slice(&at.cast::<u16>().read_volatile().to_le_bytes()),
                4 => data.copy_from_slice(&at.cast::<u32>().read_volatile().to_le_bytes()),
                _ => data.copy_from_slice(&at.cast::<u64>().read_volatile().to_le_bytes()),
            }
        }
    }

    /// Stores 1, 2, 4 or 8 aligned bytes, in one access.
    fn store(&self, offset: u64, data: &[u8]) {
        let at = self.place(offset, data.len());
        // SAFETY: `place` is inside the mapping and aligned.
        unsafe {
            match *data {
                [a] => at.write_volatile(a),
                [a, b] => at.cast().write_volatile(u16::from_le_bytes([a, b])),
                [a, b, c, d] => at.cast().write_volatile(u32::from_le_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => {
                    let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                    at.cast().write_volatile(word);
                }
                _ => {}
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever had a reference to it is gone.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_every_width_are_read_back() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x2000).unwrap();
        let mapping = Mapping::new(&file, 0x1000, 0x1000, true).unwrap();

        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        for len in [1, 2, 4, 8] {
            let mut data = vec![0; len];
            mapping.store(0x18, &bytes[..len]);
            mapping.load(0x18, &mut data);
            assert_eq!(data, bytes[..len]);
        }

        let mut seen = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut seen, 0x1018).unwrap();
        assert_eq!(seen, bytes);
    }
}
