//! Disks (virtio 1.2, section 5.2) in raw files.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;
use vm_memory::ByteValued;

use super::transport::QUEUE_SIZE;
use super::{Chain, Malformed, VirtioDevice};

/// Device type.
const BLOCK: u16 = 2;
/// Unit of addresses, whatever the block size.
const SECTOR: u64 = 512;
/// Most data in one request: more than any driver sends, and soon done.
const MOST_DATA: usize = 16 << 20;
/// Data on its way between file and guest.
const BUFFER: usize = 64 << 10;
/// Length of the text that a driver gets for the disk's name.
const ID_LENGTH: usize = 20;

/// Features.
const FEATURE_SEG_MAX: u64 = 1 << 2;
const FEATURE_READ_ONLY: u64 = 1 << 5;
const FEATURE_FLUSH: u64 = 1 << 9;

/// Request types.
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

/// What became of a request: its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    Ok = 0,
    Failed = 1,
    Unsupported = 2,
}

/// What every request starts with.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

// SAFETY: integers only, and no padding between them.
unsafe impl ByteValued for Header {}

/// The disk's configuration, as far as it is used.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Config {
    capacity: u64,
    size_max: u32,
    seg_max: u32,
}

// SAFETY: integers only, and no padding between them.
unsafe impl ByteValued for Config {}

/// A disk on the command line: `FILE` or `FILE,ro`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// The image.
    pub path: PathBuf,
    /// Writes fail.
    pub read_only: bool,
}

/// Not a disk.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a disk: write FILE or FILE,ro")]
pub struct ParseDiskError(String);

impl FromStr for DiskOptions {
    type Err = ParseDiskError;

    fn from_str(text: &str) -> Result<Self, ParseDiskError> {
        let (path, read_only) = match text.split_once(',') {
            None => (text, false),
            Some((path, "ro")) => (path, true),
            Some(_) => return Err(ParseDiskError(text.to_owned())),
        };
        if path.is_empty() {
            return Err(ParseDiskError(text.to_owned()));
        }
        Ok(DiskOptions {
            path: path.into(),
            read_only,
        })
    }
}

/// A disk.
#[derive(Debug)]
pub struct Block {
    file: File,
    read_only: bool,
    config: Config,
    id: [u8; ID_LENGTH],
    buffer: Vec<u8>,
}

impl Block {
    /// Opens the image, a file or a disk of the host; a last sector that is not whole is not used.
    /// Who writes to an image has it alone; others may share it.
    pub fn open(options: &DiskOptions) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .open(&options.path)?;
        let locked = match options.read_only {
            true => file.try_lock_shared(),
            false => file.try_lock(),
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(
                    "It is another machine's, or given twice: only ,ro can be shared",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The metadata of a disk of the host do not tell its length.
        let capacity = file.seek(SeekFrom::End(0))? / SECTOR;
        Ok(Block {
            file,
            read_only: options.read_only,
            config: Config {
                capacity,
                size_max: 0,
                // A request also has a header and a status.
                seg_max: u32::from(QUEUE_SIZE) - 2,
            },
            id: id(&options.path),
            buffer: vec![0; BUFFER],
        })
    }

    /// The byte at which `sector` starts, if `len` bytes from there are on the disk.
    fn position(&self, sector: u64, len: usize) -> Option<u64> {
        let len = len as u64;
        if len > MOST_DATA as u64 || !len.is_multiple_of(SECTOR) {
            return None;
        }
        let end = sector.checked_add(len / SECTOR)?;
        (end <= self.config.capacity).then(|| sector * SECTOR)
    }

    fn read(&mut self, sector: u64, to: &mut impl Write, len: usize) -> io::Result<Status> {
        let Some(mut position) = self.position(sector, len) else {
            return Ok(Status::Failed);
        };
        let mut left = len;
        while left > 0 {
            let part = &mut self.buffer[..left.min(BUFFER)];
            if self.file.read_exact_at(part, position).is_err() {
                return Ok(Status::Failed);
            }
            to.write_all(part)?;
            left -= part.len();
            position += part.len() as u64;
        }
        Ok(Status::Ok)
    }

    fn write(&mut self, sector: u64, from: &mut impl Read, len: usize) -> io::Result<Status> {
        let Some(mut position) = self.position(sector, len) else {
            return Ok(Status::Failed);
        };
        if self.read_only {
            return Ok(Status::Failed);
        }
        let mut left = len;
        while left > 0 {
            let part = &mut self.buffer[..left.min(BUFFER)];
            from.read_exact(part)?;
            if self.file.write_all_at(part, position).is_err() {
                return Ok(Status::Failed);
            }
            left -= part.len();
            position += part.len() as u64;
        }
        Ok(Status::Ok)
    }
}

/// A name that fits: the end of the file's.
fn id(path: &Path) -> [u8; ID_LENGTH] {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = &name[name.len().saturating_sub(ID_LENGTH)..];
    let mut id = [0; ID_LENGTH];
    id[..name.len()].copy_from_slice(name);
    id
}

impl VirtioDevice for Block {
    fn kind(&self) -> u16 {
        BLOCK
    }

    fn class(&self) -> u32 {
        // Mass storage, other.
        0x01_8000
    }

    fn features(&self) -> u64 {
        let read_only = if self.read_only { FEATURE_READ_ONLY } else { 0 };
        FEATURE_SEG_MAX | FEATURE_FLUSH | read_only
    }

    fn queues(&self) -> u16 {
        1
    }

    fn config(&self) -> &[u8] {
        self.config.as_slice()
    }

    fn serve(&mut self, _queue: u16, chain: &Chain<'_>) -> Result<u32, Malformed> {
        let mut reader = chain
            .clone()
            .reader(chain.memory())
            .map_err(|_| Malformed)?;
        let mut writer = chain
            .clone()
            .writer(chain.memory())
            .map_err(|_| Malformed)?;
        let header: Header = reader.read_obj().map_err(|_| Malformed)?;
        let room = writer.available_bytes().checked_sub(1).ok_or(Malformed)?;
        let mut status_byte = writer.split_at(room).map_err(|_| Malformed)?;

        let status = match header.kind {
            READ => self.read(header.sector, &mut writer, room),
            WRITE => {
                let len = reader.available_bytes();
                self.write(header.sector, &mut reader, len)
            }
            FLUSH => Ok(match self.file.sync_data() {
                Ok(()) => Status::Ok,
                Err(_) => Status::Failed,
            }),
            GET_ID if room >= ID_LENGTH => writer.write_all(&self.id).map(|()| Status::Ok),
            _ => Ok(Status::Unsupported),
        }
        .map_err(|_| Malformed)?;
        status_byte.write_obj(status as u8).map_err(|_| Malformed)?;
        Ok(writer.bytes_written() as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_WRITE;
    use virtio_queue::desc::RawDescriptor;
    use virtio_queue::desc::split::Descriptor;
    use virtio_queue::mock::MockSplitQueue;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::GuestMemory;

    const HEADER: u64 = 0x10_0000;
    const DATA: u64 = 0x11_0000;
    const STATUS: u64 = 0x12_0000;

    fn disk(read_only: bool) -> (tempfile::NamedTempFile, Block) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0xab; 4 * 512]).unwrap();
        let options = DiskOptions {
            path: file.path().into(),
            read_only,
        };
        let block = Block::open(&options).unwrap();
        (file, block)
    }

    /// Sends one request with 512 bytes of data; returns its status.
    fn request(block: &mut Block, memory: &GuestMemory, kind: u32, sector: u64) -> u8 {
        let header = Header {
            kind,
            reserved: 0,
            sector,
        };
        memory.write_obj(header, GuestAddress(HEADER)).unwrap();
        let writes = |kind| {
            if kind == WRITE {
                0
            } else {
                VRING_DESC_F_WRITE as u16
            }
        };
        let descriptors = [
            Descriptor::new(HEADER, 16, 0, 0),
            Descriptor::new(DATA, 512, writes(kind), 0),
            Descriptor::new(STATUS, 1, VRING_DESC_F_WRITE as u16, 0),
        ]
        .map(RawDescriptor::from);
        let queue = MockSplitQueue::new(memory, 16);
        let chain = queue.build_desc_chain(&descriptors).unwrap();
        block.serve(0, &chain).unwrap();
        memory.read_obj(GuestAddress(STATUS)).unwrap()
    }

    fn memory() -> GuestMemory {
        crate::memory::create(2 << 20, crate::memory::Pages::Small).unwrap()
    }

    #[test]
    fn written_sector_reads_back() {
        let (_file, mut block) = disk(false);
        let memory = memory();
        memory
            .write_slice(&[0x5a; 512], GuestAddress(DATA))
            .unwrap();

        assert_eq!(request(&mut block, &memory, WRITE, 2), Status::Ok as u8);
        memory.write_slice(&[0; 512], GuestAddress(DATA)).unwrap();
        assert_eq!(request(&mut block, &memory, READ, 2), Status::Ok as u8);

        assert_eq!(
            memory.read_obj::<u8>(GuestAddress(DATA + 511)).unwrap(),
            0x5a
        );
    }

    #[test]
    fn write_to_a_read_only_disk_fails_and_changes_nothing() {
        let (_file, mut block) = disk(true);
        let memory = memory();

        assert_eq!(request(&mut block, &memory, WRITE, 0), Status::Failed as u8);
        assert_eq!(request(&mut block, &memory, READ, 0), Status::Ok as u8);

        assert_eq!(memory.read_obj::<u8>(GuestAddress(DATA)).unwrap(), 0xab);
    }

    #[test]
    fn sector_beyond_the_end_fails() {
        let (_file, mut block) = disk(false);

        for sector in [4, u64::MAX, u64::MAX / 512] {
            assert_eq!(
                request(&mut block, &memory(), READ, sector),
                Status::Failed as u8
            );
        }
    }

    #[test]
    fn image_that_is_written_to_has_one_user() {
        let (file, block) = disk(false);
        let open = |read_only| {
            let path = file.path().into();
            Block::open(&DiskOptions { path, read_only })
        };

        assert!(open(false).is_err() && open(true).is_err());
        drop(block);
        let first = open(true).unwrap();
        assert!(open(true).is_ok() && open(false).is_err());
        drop(first);
    }

    #[test]
    fn unknown_request_is_unsupported() {
        let (_file, mut block) = disk(false);

        assert_eq!(
            request(&mut block, &memory(), 77, 0),
            Status::Unsupported as u8
        );
    }

    #[test]
    fn disk_on_the_command_line() {
        let parse = str::parse::<DiskOptions>;

        assert!(!parse("disk.img").unwrap().read_only);
        assert!(parse("disk.img,ro").unwrap().read_only);
        assert!(parse("disk.img,rw").is_err());
        assert!(parse(",ro").is_err());
    }
}
