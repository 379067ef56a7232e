//! The socket side: requests of a client become calls of a [`Function`].
//!
//! The `vfio_user` crate speaks the protocol. Its faults that a client could use against us are
//! fenced here: a message that makes it panic ends that connection and nothing else; a transfer
//! beyond the negotiated size is refused before memory is touched; no error is ever returned for
//! what the client takes as success anyway (reads give ones, failed maps are logged and stay
//! unmapped).

use std::convert::Infallible;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mmio::Bar;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};

use super::{Function, Irqs, Protection};

/// What the crate announces as the largest transfer.
const MAX_TRANSFER: usize = 1 << 20;

/// What is smaller is no memory that a driver would use: firmware, and holes for it.
const SMALLEST_RAM: u64 = 1 << 20;

/// Bytes of configuration space that the client sees.
const CONFIG_SIZE: u64 = 0x1000;

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something has that name already.
    #[error("{} exists: another server uses it, or a killed one left it; remove it if none runs", .0.display())]
    Exists(PathBuf),
    /// The socket could not be made.
    #[error("Cannot listen on {}", path.display())]
    Listen {
        /// Its name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The socket broke.
    #[error("Cannot accept clients")]
    Accept(#[source] vfio_user::Error),
}

/// A listening vfio-user device.
pub struct Server {
    inner: vfio_user::Server,
}

/// The name of a socket in the file system. It goes when the value is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Someone who removed it before us did the same.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Server {
    /// Listens on `path` for clients of a device with the BARs of `function`.
    ///
    /// # Errors
    ///
    /// When the socket exists or cannot be made.
    pub fn bind(path: &Path, function: &dyn Function) -> Result<(Self, SocketFile), Error> {
        let listener = UnixListener::bind(path).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::Exists(path.to_owned()),
            _ => Error::Listen {
                path: path.to_owned(),
                source,
            },
        })?;
        let regions = (0..VFIO_PCI_NUM_REGIONS)
            .map(|index| region(index, function))
            .collect();
        let irqs = (0..VFIO_PCI_NUM_IRQS).map(irq).collect();
        let inner = vfio_user::Server::from_owned_fd(listener.into(), true, irqs, regions);
        Ok((Self { inner }, SocketFile(path.to_owned())))
    }

    /// Serves one client after the other.
    ///
    /// # Errors
    ///
    /// When the socket itself fails; it ends in no other way.
    pub fn run(&self, function: &dyn Function, irqs: &Irqs) -> Result<Infallible, Error> {
        loop {
            let mut client = Client {
                function,
                irqs,
                told_unreachable: false,
            };
            let served = catch_unwind(AssertUnwindSafe(|| self.inner.run(&mut client)));
            irqs.disconnect();
            function.dma_clear();
            function.reset();
            match served {
                Ok(Ok(())) => tracing::info!("Client left"),
                Ok(Err(error @ vfio_user::Error::SocketAccept(_))) => {
                    return Err(Error::Accept(error));
                }
                Ok(Err(error)) => tracing::info!("Client dropped: {error}"),
                Err(_) => tracing::info!("Client dropped: it sent a malformed message"),
            }
        }
    }
}

fn region(index: u32, function: &dyn Function) -> ServerRegion {
    let size = match (Bar::from_index(index as usize), index) {
        (Some(bar), _) => function.bar_size(bar),
        (None, VFIO_PCI_CONFIG_REGION_INDEX) => CONFIG_SIZE,
        _ => 0,
    };
    let flags = if size == 0 {
        0
    } else {
        VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
    };
    ServerRegion {
        region_info: vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            flags,
            index,
            cap_offset: 0,
            size,
            offset: u64::from(index) << 40,
        },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    }
}

fn irq(index: u32) -> IrqInfo {
    let (count, flags) = match index {
        VFIO_PCI_INTX_IRQ_INDEX => (
            1,
            VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
        ),
        VFIO_PCI_MSI_IRQ_INDEX => (1, VFIO_IRQ_INFO_EVENTFD),
        _ => (0, 0),
    };
    IrqInfo {
        index,
        count,
        flags,
    }
}

/// One connection.
struct Client<'a> {
    function: &'a dyn Function,
    irqs: &'a Irqs,
    /// The operator was told that the card cannot reach all memory: once is enough, as a guest
    /// can have its memory mapped as often as it likes.
    told_unreachable: bool,
}

impl Client<'_> {
    fn unreachable(&mut self, address: u64, size: u64, why: &dyn Display) {
        if self.told_unreachable || size < SMALLEST_RAM {
            tracing::debug!("No DMA to {size:#x} bytes at {address:#x}: {why}");
        } else {
            self.told_unreachable = true;
            tracing::warn!("No DMA to {size:#x} bytes at {address:#x}: {why}");
        }
    }
}

fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "Transfer beyond the announced size",
    )
}

impl ServerBackend for Client<'_> {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if data.len() > MAX_TRANSFER {
            return Err(too_long());
        }
        match Bar::from_index(region as usize) {
            Some(bar) => self.function.read(bar, offset, data),
            None if region == VFIO_PCI_CONFIG_REGION_INDEX => {
                self.function.config_read(offset, data);
            }
            None => data.fill(0xff),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.len() > MAX_TRANSFER {
            return Err(too_long());
        }
        match Bar::from_index(region as usize) {
            Some(bar) => self.function.write(bar, offset, data),
            None if region == VFIO_PCI_CONFIG_REGION_INDEX => {
                self.function.config_write(offset, data);
            }
            None => {}
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let Some(file) = fd else {
            self.unreachable(address, size, &"its memory is not shared");
            return Ok(());
        };
        let protection = Protection {
            read: flags.contains(DmaMapFlags::READ),
            write: flags.contains(DmaMapFlags::WRITE),
        };
        if let Err(error) = self
            .function
            .dma_map(address, size, protection, file, offset)
        {
            self.unreachable(address, size, &error);
        }
        Ok(())
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.function.dma_clear();
        } else {
            self.function.dma_unmap(address, size);
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.function.reset();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        _start: u32,
        _count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        match index {
            VFIO_PCI_MSI_IRQ_INDEX if flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0 => {
                self.irqs.set_msi(fds.into_iter().next())?;
            }
            VFIO_PCI_INTX_IRQ_INDEX if flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0 => {
                self.irqs.set_pin(fds.into_iter().next())?;
            }
            VFIO_PCI_INTX_IRQ_INDEX if flags & VFIO_IRQ_SET_ACTION_MASK != 0 => {
                self.irqs.mask_pin(true);
            }
            VFIO_PCI_INTX_IRQ_INDEX if flags & VFIO_IRQ_SET_ACTION_UNMASK != 0 => {
                self.irqs.mask_pin(false);
            }
            _ => {}
        }
        Ok(())
    }
}
