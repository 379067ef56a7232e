//! The function that stands for the host bridge itself.

use mmio::{Access, Width};
use parking_lot::Mutex;

use super::{BarChange, BarSpec, ConfigSpace, Identity, PciDevice};

/// A bridge from the processors to the bus. It has no registers of its own.
pub struct HostBridge(Mutex<ConfigSpace>);

impl HostBridge {
    /// The bridge.
    pub fn new() -> Self {
        HostBridge(Mutex::new(ConfigSpace::new(&Identity {
            // Red Hat's number for a PCI Express host bridge without a hardware model.
            vendor: 0x1b36,
            device: 0x0008,
            class: 0x06_0000,
            ..Default::default()
        })))
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        HostBridge::new()
    }
}

impl PciDevice for HostBridge {
    fn bars(&self) -> Vec<BarSpec> {
        Vec::new()
    }

    fn config_read(&self, offset: u16, width: Width) -> u32 {
        self.0.lock().read(offset, width)
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Vec<BarChange> {
        self.0.lock().write(offset, width, value)
    }

    fn read(&self, _access: &Access) -> u64 {
        u64::MAX
    }

    fn write(&self, _access: &Access, _value: u64) {}
}
