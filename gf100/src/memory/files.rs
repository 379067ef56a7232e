//! The files behind DMA windows: each is mapped once, however many windows lead to it.
//!
//! A client that shows a guest's RAM behind an IOMMU opens a window for each page of it, and a
//! process may have 65530 mappings.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Weak};

use super::dma_error::{DmaError, MAX_FILES};
use super::mapping::Mapping;

/// What makes two descriptors show the same memory. A file that has changed its size is another
/// one, as its mapping is. As long as it is mapped, nobody else gets its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    writable: bool,
}

/// The mapped files.
#[derive(Default)]
pub(super) struct Files(HashMap<FileId, Weak<Mapping>>);

impl Files {
    /// All of `file`, mapped.
    ///
    /// # Errors
    ///
    /// The descriptor does not allow it, the file cannot be mapped, has lost its memory, or is one
    /// too many.
    pub(super) fn mapping(
        &mut self,
        file: &File,
        writable: bool,
    ) -> Result<Arc<Mapping>, DmaError> {
        check_rights(file, writable).map_err(DmaError::Map)?;
        let metadata = file.metadata().map_err(DmaError::Map)?;
        let id = FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            writable,
        };
        if let Some(mapping) = self.0.get(&id).and_then(Weak::upgrade) {
            return match mapping.lost() {
                true => Err(DmaError::Lost),
                false => Ok(mapping),
            };
        }
        if self.0.len() >= MAX_FILES {
            self.0.retain(|_, mapping| mapping.strong_count() != 0);
            if self.0.len() >= MAX_FILES {
                return Err(DmaError::TooManyFiles);
            }
        }
        let len = usize::try_from(id.size)
            .map_err(|_| DmaError::Map(io::ErrorKind::FileTooLarge.into()))?;
        let mapping = Mapping::foreign(file, len, writable).map_err(DmaError::Map)?;
        let mapping = Arc::new(mapping);
        self.0.insert(id, Arc::downgrade(&mapping));
        Ok(mapping)
    }
}

/// Checks what the kernel checks when a file is mapped: whoever could map it by another
/// descriptor gives no rights to the one who has this.
fn check_rights(file: &File, writable: bool) -> io::Result<()> {
    let get = |what| {
        // SAFETY: the call takes no memory.
        unsafe { libc::fcntl(file.as_raw_fd(), what) }
    };
    let flags = get(libc::F_GETFL);
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    let allowed = match flags & libc::O_ACCMODE {
        libc::O_RDWR => true,
        libc::O_RDONLY => !writable,
        _ => false,
    };
    // Only some files have seals; for the others the call fails.
    let seals = get(libc::F_GET_SEALS).max(0);
    let sealed = seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) != 0;
    match allowed && flags & libc::O_PATH == 0 && !(writable && sealed) {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;
    use crate::memory::dma::tests::memory_file;

    #[test]
    fn a_file_is_mapped_once_for_each_kind_of_access() {
        let mut files = Files::default();
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(0x2000).unwrap();
        let again = File::open(named.path()).unwrap();

        let first = files.mapping(named.as_file(), true).unwrap();
        let same = files
            .mapping(&named.as_file().try_clone().unwrap(), true)
            .unwrap();
        let read_only = files.mapping(&again, false).unwrap();
        let other = files.mapping(&memory_file(0x2000), true).unwrap();

        assert!(Arc::ptr_eq(&first, &same));
        assert!(!Arc::ptr_eq(&first, &read_only));
        assert!(!Arc::ptr_eq(&first, &other));
    }

    #[test]
    fn a_file_that_grew_is_mapped_anew() {
        let mut files = Files::default();
        let file = memory_file(0x1000);
        let small = files.mapping(&file, true).unwrap();
        file.set_len(0x3000).unwrap();

        let grown = files.mapping(&file, true).unwrap();

        assert_eq!((small.len(), grown.len()), (0x1000, 0x3000));
    }

    #[test]
    fn a_descriptor_gets_no_rights_from_one_before_it() {
        let mut files = Files::default();
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(0x1000).unwrap();
        let _kept = [true, false].map(|writable| files.mapping(named.as_file(), writable).unwrap());

        let open = |read, flags| {
            let mut options = File::options();
            options.read(read).write(!read).custom_flags(flags);
            options.open(named.path()).unwrap()
        };
        let mut refused =
            |file: &File, writable| matches!(files.mapping(file, writable), Err(DmaError::Map(_)));
        assert!(refused(&open(true, 0), true));
        assert!(refused(&open(false, 0), false));
        assert!(refused(&open(true, libc::O_PATH), false));
    }

    #[test]
    fn files_beyond_the_limit_are_refused_until_others_go() {
        let mut files = Files::default();
        let mut kept: Vec<_> = (0..MAX_FILES)
            .map(|_| {
                let file = memory_file(0x1000);
                files.mapping(&file, true).unwrap()
            })
            .collect();
        let more = memory_file(0x1000);

        let error = files.mapping(&more, true).err().unwrap();
        assert!(matches!(error, DmaError::TooManyFiles), "{error}");
        kept.pop();
        assert!(files.mapping(&more, true).is_ok());
    }
}
