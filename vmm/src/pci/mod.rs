//! PCI: one bus, its host bridge, and what a device on it must offer.

mod aperture;
mod config;
mod function;
mod host;
mod msi;
mod msix;
mod root;
mod target;

pub(crate) use aperture::pieces;
pub use config::{BarChange, BarKind, BarSpec, Command, ConfigSpace, Identity};
pub use function::{FunctionDevice, SlotInterrupts};
pub use host::{PciError, PciHost};
pub use msix::Msix;
pub use root::HostBridge;

use mmio::{Access, Bar, Width};
use vmm_sys_util::eventfd::EventFd;

use crate::layout;

/// A stretch of a BAR that does not cause exits.
#[derive(Debug)]
pub enum Window {
    /// Guest accesses go straight to memory of this process.
    Memory {
        /// Bytes from the start of the BAR, page aligned.
        offset: u64,
        /// Length in bytes, page aligned.
        len: u64,
        /// Address in this process; stays mapped while the device exists.
        host: u64,
        /// Writes exit nevertheless, with their value.
        read_only: bool,
    },
    /// Writes to one offset signal an event.
    Doorbell {
        /// Bytes from the start of the BAR.
        offset: u64,
        /// The event.
        event: EventFd,
        /// Only writes of this 16-bit value count; `None` takes any.
        value: Option<u16>,
    },
    /// Writes are collected, and reach the device in order before anything else does.
    Collected {
        /// Bytes from the start of the BAR.
        offset: u64,
        /// Length in bytes.
        len: u32,
    },
}

/// A function on the bus.
///
/// The device owns its configuration space and says what a write to it changes; the host moves
/// the BARs, so a device never touches the bus. Accesses come from several threads at once.
pub trait PciDevice: Send + Sync {
    /// The BARs that the device decodes.
    fn bars(&self) -> Vec<BarSpec>;

    /// Reads configuration space. `offset` is aligned to `width`, which is at most 4 bytes.
    fn config_read(&self, offset: u16, width: Width) -> u32;

    /// Writes configuration space; returns the BARs that it moved, removals first.
    fn config_write(&self, offset: u16, width: Width, value: u32) -> Vec<BarChange>;

    /// Reads from a BAR. The offset is aligned to the width and inside the BAR.
    fn read(&self, access: &Access) -> u64;

    /// Writes to a BAR, likewise.
    fn write(&self, access: &Access, value: u64);

    /// What of `bar` needs no exits; asked each time that the BAR is placed.
    fn windows(&self, bar: Bar) -> Vec<Window> {
        let _ = bar;
        Vec::new()
    }

    /// `bar` is decoded at guest-physical address `base` from now on, or no more.
    fn placed(&self, bar: Bar, base: Option<u64>) {
        let _ = (bar, base);
    }
}

/// The pin of the I/O APIC behind INTA (`pin` 0) to INTD of the device in `slot`.
pub fn intx_gsi(slot: u8, pin: u8) -> u32 {
    layout::PCI_INTX_GSI + (u32::from(slot) + u32::from(pin)) % layout::PCI_INTX_COUNT
}
