//! Virtio devices (virtio 1.2) on the PCI bus.

mod block;
mod pci;
mod registers;
mod rng;
mod transport;

use thiserror::Error;
use virtio_queue::DescriptorChain;

use crate::memory::GuestMemory;

pub use block::{Block, DiskOptions};
pub use pci::VirtioPci;
pub use rng::Rng;

/// A request as it comes out of a queue.
pub type Chain<'a> = DescriptorChain<&'a GuestMemory>;

/// A request that breaks the rules of virtio: the device stops until it is reset.
#[derive(Debug, Error)]
#[error("Malformed request")]
pub struct Malformed;

/// What makes a virtio device out of the transport.
pub trait VirtioDevice: Send {
    /// Device type (virtio 1.2, chapter 5).
    fn kind(&self) -> u16;

    /// PCI class, subclass and programming interface.
    fn class(&self) -> u32;

    /// Features of its own, beyond those of the transport.
    fn features(&self) -> u64;

    /// Number of queues.
    fn queues(&self) -> u16;

    /// Its configuration, in the layout of its type.
    fn config(&self) -> &[u8];

    /// Serves one request of queue `queue`; returns how many bytes it wrote for the driver.
    fn serve(&mut self, queue: u16, chain: &Chain<'_>) -> Result<u32, Malformed>;
}
