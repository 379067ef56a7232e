//! A PCI function of ours as a vfio-user device: QEMU and Cloud Hypervisor plug it into a guest.
//!
//! One client at a time; when it goes, however it goes, the function is reset, its DMA windows
//! are closed and the next client may come.

mod card;
mod irq;
mod observed;
mod server;
mod vgpu;

use std::fs::File;
use std::io;

use mmio::Bar;

pub use irq::Irqs;
pub use observed::Observed;
pub use server::{Error, Server, SocketFile};

/// What a DMA window lets the device do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Loads.
    pub read: bool,
    /// Stores.
    pub write: bool,
}

/// A PCI function that a vfio-user client drives.
///
/// Accesses come with any length and alignment. What cannot be loaded reads as ones; what cannot
/// be stored is dropped: hardware has no other way to refuse either.
pub trait Function: Send + Sync {
    /// Bytes of a BAR.
    fn bar_size(&self, bar: Bar) -> u64;

    /// Where a BAR is in this process, if all of it can be accessed there as well.
    fn bar_memory(&self, bar: Bar) -> Option<u64> {
        let _ = bar;
        None
    }

    /// Loads from configuration space.
    fn config_read(&self, offset: u64, data: &mut [u8]);

    /// Stores to configuration space.
    fn config_write(&self, offset: u64, data: &[u8]);

    /// Loads from a BAR.
    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]);

    /// Stores to a BAR.
    fn write(&self, bar: Bar, offset: u64, data: &[u8]);

    /// Opens a DMA window at `iova` on `size` bytes of `file` from `offset`.
    ///
    /// # Errors
    ///
    /// When the window overlaps another or cannot be mapped.
    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()>;

    /// Closes the windows inside `size` bytes at `iova`.
    fn dma_unmap(&self, iova: u64, size: u64);

    /// Closes all windows.
    fn dma_clear(&self);

    /// A function-level reset.
    fn reset(&self);
}
