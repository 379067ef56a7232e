//! Memory for machine code: reserved once, bounded, and never writable where it is executable.
//!
//! The same pages are mapped twice, once to be written and once to be executed. Nothing has to be
//! made executable later, which a sandbox would not allow.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
    sync::Arc,
};

use parking_lot::Mutex;

/// Bytes of code that a card keeps.
const SIZE: usize = 16 << 20;
/// Functions start at a multiple of this.
const ALIGN: usize = 64;

/// The memory.
pub struct Arena {
    writable: *mut u8,
    executable: *const u8,
    /// Bytes in use, by offset.
    used: Mutex<BTreeMap<usize, usize>>,
}

// SAFETY: what is used is only written before anybody else has its address.
unsafe impl Send for Arena {}
// SAFETY: as above; the map of what is used has a lock.
unsafe impl Sync for Arena {}

impl Arena {
    /// Reserves the memory; none of it is touched yet.
    ///
    /// # Errors
    ///
    /// The host does not grant it.
    pub fn new() -> io::Result<Arc<Self>> {
        // SAFETY: the name is a terminated string.
        let fd = unsafe { libc::memfd_create(c"gf100-code".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a call with integers.
        if unsafe { libc::ftruncate(file.as_raw_fd(), SIZE as i64) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let writable = map(&file, libc::PROT_READ | libc::PROT_WRITE)?;
        let executable = map(&file, libc::PROT_READ | libc::PROT_EXEC).inspect_err(|_| {
            // SAFETY: the mapping is ours and unused.
            unsafe { libc::munmap(writable, SIZE) };
        })?;
        Ok(Arc::new(Self {
            writable: writable.cast(),
            executable: executable.cast_const().cast(),
            used: Mutex::default(),
        }))
    }

    /// Puts code in; `None` if there is no room for it.
    pub fn place(self: &Arc<Self>, code: &[u8]) -> Option<Placed> {
        let len = code.len().next_multiple_of(ALIGN);
        let mut used = self.used.lock();
        let mut offset = 0;
        for (&start, &bytes) in used.iter() {
            if start - offset >= len {
                break;
            }
            offset = start + bytes;
        }
        if SIZE - offset < len {
            return None;
        }
        used.insert(offset, len);
        // SAFETY: the range is inside the mapping and was free, so nobody looks at it.
        unsafe {
            ptr::copy_nonoverlapping(code.as_ptr(), self.writable.add(offset), code.len());
        }
        Some(Placed {
            arena: self.clone(),
            offset,
        })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: both mappings are ours, and all code in them is gone.
        unsafe {
            libc::munmap(self.writable.cast(), SIZE);
            libc::munmap(self.executable.cast_mut().cast(), SIZE);
        }
    }
}

/// A mapping of all of the file.
fn map(file: &OwnedFd, protection: i32) -> io::Result<*mut c_void> {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            SIZE,
            protection,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    match at {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        at => Ok(at),
    }
}

/// Code in the arena, for as long as this lives.
pub struct Placed {
    arena: Arc<Arena>,
    offset: usize,
}

impl Placed {
    /// Where it starts.
    pub fn start(&self) -> *const u8 {
        // SAFETY: the offset is inside the mapping.
        unsafe { self.arena.executable.add(self.offset) }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.arena.used.lock().remove(&self.offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_where_it_executes_and_its_room_is_reused() {
        let arena = Arena::new().unwrap();
        let first = arena.place(&[1; 100]).unwrap();
        let second = arena.place(&[2; 64]).unwrap();
        // SAFETY: both are placed, with as many bytes.
        let bytes = unsafe { (*first.start().add(99), *second.start()) };
        assert_eq!(bytes, (1, 2));
        let at = first.start();
        drop(first);
        assert_eq!(arena.place(&[3; 128]).unwrap().start(), at);
    }

    #[test]
    fn more_code_than_there_is_room_for_is_refused() {
        let arena = Arena::new().unwrap();
        let most = arena.place(&vec![0; SIZE - ALIGN]).unwrap();
        assert!(arena.place(&[0; 65]).is_none());
        assert!(arena.place(&[0; 64]).is_some());
        drop(most);
    }

    #[test]
    fn no_page_is_both_writable_and_executable() {
        let arena = Arena::new().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let ours: Vec<&str> = maps
            .lines()
            .filter(|line| line.contains("gf100-code"))
            .collect();
        assert!(ours.iter().any(|line| line.contains(" r-xs ")));
        assert!(ours.iter().all(|line| !line.contains("wx")));
        drop(arena);
    }
}
