//! The render node of a nouveau card.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result, uapi};

/// Where devtmpfs puts DRM nodes.
const DRI: &str = "/dev/dri";

/// A parameter that `GETPARAM` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Param {
    /// PCI vendor id.
    PciVendor = uapi::GETPARAM_PCI_VENDOR,
    /// PCI device id.
    PciDevice = uapi::GETPARAM_PCI_DEVICE,
    /// 0 AGP, 1 PCI, 2 PCIe, 3 SoC.
    BusType = uapi::GETPARAM_BUS_TYPE,
    /// VRAM that clients may use, bytes.
    VramSize = uapi::GETPARAM_FB_SIZE,
    /// System memory that the card may map, bytes.
    GartSize = uapi::GETPARAM_AGP_SIZE,
    /// Chipset as in the card's boot register, such as 0xc0.
    Chipset = uapi::GETPARAM_CHIPSET_ID,
    /// GPCs in bits 7:0, TPCs in 31:8, ROPs from bit 32; 0 before the first PGRAPH object.
    GraphUnits = uapi::GETPARAM_GRAPH_UNITS,
    /// The card's clock, nanoseconds.
    PtimerTime = uapi::GETPARAM_PTIMER_TIME,
    /// 1: buffers may be asked for by usage.
    HasBoUsage = uapi::GETPARAM_HAS_BO_USAGE,
    /// Size of the VRAM aperture, bytes; not in Linux 6.1.
    VramBarSize = uapi::GETPARAM_VRAM_BAR_SIZE,
    /// VRAM in use, bytes; not in Linux 6.1.
    VramUsed = uapi::GETPARAM_VRAM_USED,
}

/// An open render node. Each has a GPU address space of its own.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    version: (i32, i32, i32),
}

impl Device {
    /// Opens the first render node that nouveau drives.
    pub fn open_any() -> Result<Arc<Device>> {
        for minor in 128..192 {
            let path = Path::new(DRI).join(format!("renderD{minor}"));
            if path.exists()
                && let Some(device) = Self::open_if_nouveau(&path)?
            {
                return Ok(device);
            }
        }
        Err(Error::NoDevice(DRI.into()))
    }

    /// Opens the render node at `path`.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if another driver owns it.
    pub fn open(path: &Path) -> Result<Arc<Device>> {
        Self::open_if_nouveau(path)?.ok_or_else(|| Error::NoDevice(path.into()))
    }

    fn open_if_nouveau(path: &Path) -> Result<Option<Arc<Device>>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| Error::Open {
                path: path.into(),
                source,
            })?;
        let mut name = [0u8; 16];
        let mut version = uapi::DrmVersion {
            version_major: 0,
            version_minor: 0,
            version_patchlevel: 0,
            name_len: name.len(),
            name: name.as_mut_ptr(),
            date_len: 0,
            date: std::ptr::null_mut(),
            desc_len: 0,
            desc: std::ptr::null_mut(),
        };
        // SAFETY: `name` is writable for `name_len` bytes and outlives the call; the other two
        // buffers are declared empty.
        unsafe {
            ioctl(
                file.as_raw_fd(),
                uapi::DRM_IOCTL_VERSION,
                &mut version,
                "VERSION",
            )?;
        };
        if !name.starts_with(b"nouveau\0") {
            return Ok(None);
        }
        Ok(Some(Arc::new(Device {
            file,
            path: path.into(),
            version: (
                version.version_major,
                version.version_minor,
                version.version_patchlevel,
            ),
        })))
    }

    /// Opens the same node once more: another client with another address space.
    pub fn reopen(&self) -> Result<Arc<Device>> {
        Self::open(&self.path)
    }

    /// Version of the driver's interface: major, minor, patch level.
    pub fn version(&self) -> (i32, i32, i32) {
        self.version
    }

    /// Value of a parameter.
    ///
    /// # Errors
    /// `EINVAL` for a parameter that the kernel does not know.
    pub fn param(&self, param: Param) -> Result<u64> {
        self.raw_param(param as u64)
    }

    /// Value of a parameter given by number, which need not exist.
    pub fn raw_param(&self, param: u64) -> Result<u64> {
        let mut request = uapi::GetParam { param, value: 0 };
        self.request(uapi::GETPARAM, &mut request, "GETPARAM")?;
        Ok(request.value)
    }

    /// The PCI function's directory in sysfs.
    ///
    /// # Errors
    /// [`Error::Open`] if the node is gone or sysfs is not mounted.
    pub fn sysfs(&self) -> Result<PathBuf> {
        let open_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Open { path, source }
        };
        let rdev = self.file.metadata().map_err(open_error(&self.path))?.rdev();
        let link = PathBuf::from(format!(
            "/sys/dev/char/{}:{}/device",
            libc::major(rdev),
            libc::minor(rdev)
        ));
        link.canonicalize().map_err(open_error(&link))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Issues an ioctl whose argument holds no pointers, or none that the kernel follows.
    pub(crate) fn request<T>(&self, code: u64, argument: &mut T, what: &'static str) -> Result<()> {
        // SAFETY: `argument` is of the size that `code` encodes, because both come from `uapi`,
        // and it holds no pointers.
        unsafe { ioctl(self.fd(), code, argument, what) }
    }
}

/// Issues an ioctl and repeats it when a signal or the driver asks for it.
///
/// # Safety
/// `argument` is the type that `code` expects, and what it points to is valid as the request
/// demands.
pub(crate) unsafe fn ioctl<T>(
    fd: RawFd,
    code: u64,
    argument: &mut T,
    what: &'static str,
) -> Result<()> {
    loop {
        // SAFETY: The caller vouches for the argument; the descriptor is open.
        let status = unsafe { libc::ioctl(fd, code as libc::Ioctl, std::ptr::from_mut(argument)) };
        if status >= 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN) => {}
            _ => return Err(Error::Ioctl { what, source }),
        }
    }
}
