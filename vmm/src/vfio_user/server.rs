//! The socket side: requests of a client become calls of a [`Function`].
//!
//! The `vfio_user` crate speaks the protocol. Its faults that a client could use against us are
//! fenced here: a message that makes it panic ends that connection and nothing else; a transfer
//! beyond the negotiated size is refused before memory is touched; no error is ever returned for
//! what the client takes as success anyway (reads give ones, failed maps are logged and stay
//! unmapped).

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Bytes of configuration space that the client sees.
const CONFIG_SIZE: u64 = 0x1000;

/// Why a device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something has that name already.
    #[error("{0} exists: another server uses it, or a killed one left it; remove it if none runs")]
    Exists(PathBuf),
    /// The socket could not be made.
    #[error("Cannot listen on {path}")]
    Listen {
        /// Its name.
        path: PathBuf,
        /// Why.
        #[source]
        source: vfio_user::Error,
    },
    /// The socket broke.
    #[error("Cannot accept clients")]
    Accept(#[source] vfio_user::Error),
}

/// A listening vfio-user device. The socket file goes when [`Server::run`] ends.
pub struct Server {
    inner: vfio_user::Server,
    path: PathBuf,
    stop: AtomicBool,
}

impl Server {
    /// Listens on `path` for clients of a device with the BARs of `function`.
    ///
    /// # Errors
    ///
    /// When the socket exists or cannot be made.
    pub fn bind(path: &Path, function: &dyn Function) -> Result<Self, Error> {
        if path.exists() {
            return Err(Error::Exists(path.to_owned()));
        }
        let regions = (0..VFIO_PCI_NUM_REGIONS)
            .map(|index| region(index, function))
            .collect();
        let irqs = (0..VFIO_PCI_NUM_IRQS).map(irq).collect();
        let inner =
            vfio_user::Server::new(path, true, irqs, regions).map_err(|source| Error::Listen {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self {
            inner,
            path: path.to_owned(),
            stop: AtomicBool::new(false),
        })
    }

    /// Serves one client after the other until [`Server::stop`].
    ///
    /// # Errors
    ///
    /// When the socket itself fails.
    pub fn run(&self, function: &dyn Function, irqs: &Irqs) -> Result<(), Error> {
        let served = self.serve(function, irqs);
        // Not left to the drop: a signal handler that calls `stop` shares this value for good.
        let _ = std::fs::remove_file(&self.path);
        served
    }

    fn serve(&self, function: &dyn Function, irqs: &Irqs) -> Result<(), Error> {
        while !self.stop.load(Ordering::Acquire) {
            let mut client = Client { function, irqs };
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
        Ok(())
    }

    /// Ends [`Server::run`] before it takes another client.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the accept; that nobody listens any more is as good.
        let _ = std::os::unix::net::UnixStream::connect(&self.path);
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
            tracing::warn!(
                "Guest memory at {address:#x} has no file behind it: the card cannot reach it; \
                 give the guest shared memory"
            );
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
            tracing::warn!("DMA window at {address:#x}, {size:#x} bytes, not opened: {error}");
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
                self.irqs.set_msi(fds.into_iter().next());
            }
            VFIO_PCI_INTX_IRQ_INDEX if flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0 => {
                self.irqs.set_pin(fds.into_iter().next());
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
