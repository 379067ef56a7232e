//! GEM buffers and their CPU mapping.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{Device, Error, Result, uapi};

/// Where a buffer may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The card's memory. CPU accesses go through BAR1.
    Vram,
    /// System memory that the card maps.
    Gart,
    /// Either; the kernel chooses, VRAM first.
    Any,
}

impl Domain {
    pub(crate) fn bits(self) -> u32 {
        match self {
            Domain::Vram => uapi::GEM_DOMAIN_VRAM,
            Domain::Gart => uapi::GEM_DOMAIN_GART,
            Domain::Any => uapi::GEM_DOMAIN_VRAM | uapi::GEM_DOMAIN_GART,
        }
    }
}

/// A mapping shared with the GPU. Both sides access it at any time, hence atomics only.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: The mapping is plain memory that any thread may access; accesses are atomic.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The range is the one that `mmap` returned, and no borrow of it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// A buffer at a fixed address of its client's GPU address space.
#[derive(Debug)]
pub struct Buffer {
    device: Arc<Device>,
    info: uapi::GemInfo,
    domain: Domain,
    mapping: OnceLock<Mapping>,
}

impl Buffer {
    /// Allocates `bytes` (rounded up to pages by the kernel), which may be mapped by the CPU.
    pub fn new(device: &Arc<Device>, domain: Domain, bytes: u64) -> Result<Buffer> {
        Self::with_kind(device, domain, bytes, 0, 0)
    }

    /// Allocates with a storage kind and tile mode, for block-linear surfaces.
    pub fn with_kind(
        device: &Arc<Device>,
        domain: Domain,
        bytes: u64,
        kind: u8,
        tile_mode: u32,
    ) -> Result<Buffer> {
        let mut request = uapi::GemNew {
            info: uapi::GemInfo {
                domain: domain.bits() | uapi::GEM_DOMAIN_MAPPABLE,
                size: bytes,
                tile_mode,
                tile_flags: u32::from(kind) << 8 | uapi::GEM_TILE_NONCONTIG,
                ..Default::default()
            },
            ..Default::default()
        };
        device.request(uapi::GEM_NEW, &mut request, "GEM_NEW")?;
        Ok(Buffer {
            device: device.clone(),
            info: request.info,
            domain,
            mapping: OnceLock::new(),
        })
    }

    /// Wraps a handle that the kernel made; it is closed on drop.
    pub(crate) fn from_handle(device: &Arc<Device>, handle: u32) -> Result<Buffer> {
        let mut info = uapi::GemInfo {
            handle,
            ..Default::default()
        };
        device.request(uapi::GEM_INFO, &mut info, "GEM_INFO")?;
        Ok(Buffer {
            device: device.clone(),
            info,
            domain: Domain::Gart,
            mapping: OnceLock::new(),
        })
    }

    /// GPU virtual address. It stays the same wherever the kernel moves the content.
    pub fn address(&self) -> u64 {
        self.info.offset
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.info.size
    }

    /// The domain that was asked for.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// Asks for the buffer in `domain`, which has to be among those that it was made for: the
    /// next submission with it has the kernel move it there.
    pub fn place(&mut self, domain: Domain) {
        self.domain = domain;
    }

    /// Where the buffer is, if it was made for more than one domain; else where it may be.
    pub fn location(&self) -> Result<Domain> {
        Ok(match self.info()?.domain {
            uapi::GEM_DOMAIN_VRAM => Domain::Vram,
            uapi::GEM_DOMAIN_GART => Domain::Gart,
            _ => Domain::Any,
        })
    }

    pub(crate) fn handle(&self) -> u32 {
        self.info.handle
    }

    /// What the kernel says about the buffer now.
    pub fn info(&self) -> Result<uapi::GemInfo> {
        let mut info = uapi::GemInfo {
            handle: self.info.handle,
            ..Default::default()
        };
        self.device.request(uapi::GEM_INFO, &mut info, "GEM_INFO")?;
        Ok(info)
    }

    /// Waits until the GPU has finished with the buffer (at most 30 s, the kernel's limit).
    ///
    /// # Errors
    /// `EBUSY` when the limit has passed.
    pub fn wait_idle(&self) -> Result<()> {
        self.cpu_prep(uapi::GEM_CPU_PREP_WRITE)
    }

    /// Whether submitted work still uses the buffer.
    pub fn is_busy(&self) -> Result<bool> {
        match self.cpu_prep(uapi::GEM_CPU_PREP_WRITE | uapi::GEM_CPU_PREP_NOWAIT) {
            Ok(()) => Ok(false),
            Err(error) if error.errno() == Some(libc::EBUSY) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn cpu_prep(&self, flags: u32) -> Result<()> {
        let mut request = uapi::GemCpuPrep {
            handle: self.info.handle,
            flags,
        };
        self.device
            .request(uapi::GEM_CPU_PREP, &mut request, "GEM_CPU_PREP")?;
        let mut done = uapi::GemCpuFini {
            handle: self.info.handle,
        };
        self.device
            .request(uapi::GEM_CPU_FINI, &mut done, "GEM_CPU_FINI")
    }

    fn mapping(&self) -> Result<&Mapping> {
        if let Some(mapping) = self.mapping.get() {
            return Ok(mapping);
        }
        let bytes = self.info.size as usize;
        // SAFETY: A fresh shared mapping of a file range; nothing else refers to it yet.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                self.device.fd(),
                self.info.map_handle as libc::off_t,
            )
        };
        let base = match NonNull::new(address.cast::<u8>()) {
            Some(base) if address != libc::MAP_FAILED => base,
            _ => return Err(Error::Map("a buffer", io::Error::last_os_error())),
        };
        // Should another thread have been faster, this one's mapping is dropped again.
        let mapping = Mapping { base, bytes };
        Ok(self.mapping.get_or_init(|| mapping))
    }

    /// The buffer as 32-bit words. In VRAM each access is a bus transaction.
    pub fn words(&self) -> Result<&[AtomicU32]> {
        let mapping = self.mapping()?;
        // SAFETY: The mapping is page-aligned and lives as long as `self`; other accesses to it,
        // the GPU's included, are not tracked by Rust, which is what atomics are for.
        Ok(unsafe { std::slice::from_raw_parts(mapping.base.as_ptr().cast(), mapping.bytes / 4) })
    }

    /// The buffer as 64-bit words, for bulk accesses to GART.
    pub fn quads(&self) -> Result<&[AtomicU64]> {
        let mapping = self.mapping()?;
        // SAFETY: As in `words`.
        Ok(unsafe { std::slice::from_raw_parts(mapping.base.as_ptr().cast(), mapping.bytes / 8) })
    }

    /// Reads the word at byte offset `offset`.
    ///
    /// # Panics
    /// If `offset` lies outside the buffer.
    pub fn read(&self, offset: u64) -> Result<u32> {
        Ok(self.words()?[(offset / 4) as usize].load(Ordering::Acquire))
    }

    /// Writes the word at byte offset `offset`.
    ///
    /// # Panics
    /// If `offset` lies outside the buffer.
    pub fn write(&self, offset: u64, value: u32) -> Result<()> {
        self.words()?[(offset / 4) as usize].store(value, Ordering::Release);
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.mapping.take();
        // Lets the kernel see fences that have passed. A close that is the first to look at one
        // takes it off its channel's list and leaves it pointing to the channel (K61
        // nouveau_fence.c nouveau_fence_no_signaling); if the channel goes before another buffer
        // that has the same fence, the kernel has the next user of that buffer wait for a fence
        // of freed memory, for ever.
        let _ = self.is_busy();
        let mut request = uapi::GemClose {
            handle: self.info.handle,
            pad: 0,
        };
        // A handle that cannot be closed goes with its file; there is nobody to tell.
        let _ = self
            .device
            .request(uapi::DRM_IOCTL_GEM_CLOSE, &mut request, "GEM_CLOSE");
    }
}
