//! What a firmware would leave in memory: the kernel, its parameters and the ACPI tables.

pub mod acpi;
mod bzimage;
mod linux;
mod pvh;
mod reset;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use linux_loader::cmdline::{self, Cmdline};
use linux_loader::configurator;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{self, BzImage, Elf, KernelLoader, KernelLoaderResult};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::layout;
use crate::memory::GuestMemory;

pub use bzimage::kernel_version;

/// Where the magic of a bzImage's setup header is.
///
/// Source: Linux `Documentation/arch/x86/boot.rst`.
const SETUP_MAGIC_AT: u64 = 0x202;

/// Why a guest cannot be started.
#[derive(Debug, Error)]
pub enum BootError {
    /// A file could not be read.
    #[error("Cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel is in no format that is known here.
    #[error("{} is neither a bzImage nor an ELF file", .0.display())]
    Format(PathBuf),
    /// The kernel does not fit, or its file is damaged.
    #[error("Cannot load the kernel")]
    Kernel(#[source] loader::Error),
    /// The kernel's file ends before the kernel does.
    #[error("{} is cut short: it has {have} of {need} bytes", path.display())]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// Its bytes.
        have: u64,
        /// The bytes that its header tells of.
        need: u64,
    },
    /// What the kernel unpacks is in no format that a kernel knows.
    #[error("{} is damaged: no kernel is packed in it", .0.display())]
    Damaged(PathBuf),
    /// The kernel needs more memory than there is.
    #[error("To unpack itself the kernel needs {need} bytes of memory, and the guest has {have}")]
    KernelTooLarge {
        /// What it needs.
        need: u64,
        /// What there is, below 4 GiB.
        have: u64,
    },
    /// The kernel lacks the entry point that an ELF file needs.
    #[error("The kernel has no PVH entry point (CONFIG_PVH)")]
    NoPvhEntry,
    /// The kernel has no 64-bit entry point.
    #[error("The kernel has no 64-bit entry point")]
    NoLongMode,
    /// The initial RAM disk and the kernel are larger than the memory.
    #[error("An initial RAM disk of {0} bytes does not fit below the 4 GiB boundary")]
    InitrdTooLarge(u64),
    /// The command line is too long or not printable.
    #[error("Invalid kernel command line")]
    CommandLine(#[source] cmdline::Error),
    /// The parameters could not be written.
    #[error("Cannot write the boot parameters")]
    Parameters(#[source] configurator::Error),
    /// The tables could not be written.
    #[error("Cannot write to guest memory")]
    Memory(#[source] vm_memory::GuestMemoryError),
}

/// How the first virtual CPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The 64-bit entry point of Linux, the zero page in RSI.
    Linux64(u64),
    /// The 32-bit entry point of PVH, the start information in EBX.
    Pvh(u64),
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSource {
    /// A bzImage, or an ELF file with a PVH note.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub cmdline: String,
}

/// Where the initial RAM disk lies.
#[derive(Clone, Copy, Debug)]
struct Initrd {
    address: u64,
    size: u64,
}

/// Loads the kernel and its parameters; the ACPI tables must lie at [`layout::ACPI_TABLES`].
pub fn load(source: &BootSource, memory: &GuestMemory) -> Result<Entry, BootError> {
    reset::write(memory).map_err(BootError::Memory)?;
    let mut kernel = open(&source.kernel)?;
    let (image, kernel_end) = load_kernel(&mut kernel, &source.kernel, memory)?;

    let mut cmdline = Cmdline::new(layout::CMDLINE_SIZE).map_err(BootError::CommandLine)?;
    cmdline
        .insert_str(&source.cmdline)
        .map_err(BootError::CommandLine)?;
    loader::load_cmdline(memory, GuestAddress(layout::CMDLINE), &cmdline)
        .map_err(BootError::Kernel)?;

    let ceiling = match image.setup_header {
        Some(header) if header.initrd_addr_max != 0 => u64::from(header.initrd_addr_max) + 1,
        _ => layout::LOW_RAM_END,
    };
    let initrd = match &source.initrd {
        Some(path) => Some(load_initrd(path, memory, kernel_end, ceiling)?),
        None => None,
    };

    match image.setup_header {
        Some(header) => linux::prepare(memory, header, image.kernel_load, initrd),
        None => match image.pvh_boot_cap {
            PvhBootCapability::PvhEntryPresent(entry) => pvh::prepare(memory, entry, initrd),
            _ => Err(BootError::NoPvhEntry),
        },
    }
}

fn open(path: &Path) -> Result<File, BootError> {
    File::open(path).map_err(|source| BootError::Read {
        path: path.into(),
        source,
    })
}

/// Loads the kernel; also the end of the memory that it needs for itself.
fn load_kernel(
    file: &mut File,
    path: &Path,
    memory: &GuestMemory,
) -> Result<(KernelLoaderResult, u64), BootError> {
    let mut head = Vec::new();
    file.by_ref()
        .take(SETUP_MAGIC_AT + 4)
        .read_to_end(&mut head)
        .and_then(|_| file.rewind())
        .map_err(|source| BootError::Read {
            path: path.into(),
            source,
        })?;
    let floor = Some(GuestAddress(layout::HIGH_MEMORY));
    if head.starts_with(b"\x7fELF") {
        let image = Elf::load(memory, None, file, floor).map_err(BootError::Kernel)?;
        let end = image.kernel_end;
        Ok((image, end))
    } else if head.get(SETUP_MAGIC_AT as usize..) == Some(b"HdrS") {
        let unpacked = bzimage::check(path, file, low_end(memory))?;
        let image = BzImage::load(memory, None, file, floor).map_err(BootError::Kernel)?;
        let end = image.kernel_end.max(unpacked);
        Ok((image, end))
    } else {
        Err(BootError::Format(path.into()))
    }
}

/// End of the memory below 4 GiB.
fn low_end(memory: &GuestMemory) -> u64 {
    (memory.last_addr().0 + 1).min(layout::LOW_RAM_END)
}

/// Puts the initial RAM disk as high as the kernel and the memory allow.
fn load_initrd(
    path: &Path,
    memory: &GuestMemory,
    kernel_end: u64,
    ceiling: u64,
) -> Result<Initrd, BootError> {
    let failed = |source| BootError::Read {
        path: path.into(),
        source,
    };
    let mut file = open(path)?;
    let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.rewind().map_err(failed)?;

    let address = low_end(memory)
        .min(ceiling)
        .checked_sub(size)
        .map(|address| address & !0xfff)
        .filter(|&address| address >= kernel_end)
        .ok_or(BootError::InitrdTooLarge(size))?;
    memory
        .read_exact_volatile_from(GuestAddress(address), &mut file, size as usize)
        .map_err(BootError::Memory)?;
    Ok(Initrd { address, size })
}

/// Kinds of memory in the map that both boot protocols hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum MemoryKind {
    Ram = 1,
    Reserved = 2,
}

/// The memory map: start, length, kind.
fn memory_map(memory: &GuestMemory) -> Vec<(u64, u64, MemoryKind)> {
    let mut map = vec![
        (0, layout::LEGACY_HOLE, MemoryKind::Ram),
        (
            layout::LEGACY_HOLE,
            layout::HIGH_MEMORY - layout::LEGACY_HOLE,
            MemoryKind::Reserved,
        ),
    ];
    for region in crate::memory::ranges(memory) {
        let start = region.guest.max(layout::HIGH_MEMORY);
        map.push((start, region.guest + region.len - start, MemoryKind::Ram));
    }
    map.push((layout::ECAM_START, layout::ECAM_SIZE, MemoryKind::Reserved));
    map
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn file_that_is_no_kernel_is_refused() {
        let memory = crate::memory::create(16 << 20, crate::memory::Pages::Small).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0x55; 4096]).unwrap();
        let source = BootSource {
            kernel: file.path().into(),
            initrd: None,
            cmdline: String::new(),
        };

        assert!(matches!(load(&source, &memory), Err(BootError::Format(_))));
    }

    #[test]
    fn initrd_goes_to_the_top_of_low_memory_page_aligned() {
        let memory = crate::memory::create(16 << 20, crate::memory::Pages::Small).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 5000]).unwrap();

        let initrd = load_initrd(file.path(), &memory, 2 << 20, u64::MAX).unwrap();

        assert_eq!(initrd.address, (16 << 20) - 0x2000);
        let mut last = [0];
        memory
            .read_slice(&mut last, GuestAddress(initrd.address + 4999))
            .unwrap();
        assert_eq!(last, [7]);
    }

    #[test]
    fn initrd_that_would_overwrite_the_kernel_is_refused() {
        let memory = crate::memory::create(16 << 20, crate::memory::Pages::Small).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 5000]).unwrap();

        let result = load_initrd(file.path(), &memory, (16 << 20) - 0x1000, u64::MAX);

        assert!(matches!(result, Err(BootError::InitrdTooLarge(5000))));
    }
}
