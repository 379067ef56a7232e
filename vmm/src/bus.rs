//! The machine's address spaces: who answers which port and which address.
//!
//! The edge is `vm-device`'s. Devices come and go while processors run (a guest moves a BAR), so
//! each change builds a new [`IoManager`] and each processor notices by a generation count:
//! an access takes no lock that another processor's access can hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use vm_device::bus::{MmioAddress, MmioRange, PioAddress, PioRange};
use vm_device::device_manager::{IoManager, MmioManager, PioManager};
use vm_device::{DeviceMmio, DevicePio};

/// A device on the port bus.
pub type PioDevice = Arc<dyn DevicePio + Send + Sync>;
/// A device on the memory bus.
pub type MmioDevice = Arc<dyn DeviceMmio + Send + Sync>;

/// A range that the bus refused: empty, or not free.
pub use vm_device::bus::Error as BusError;

/// Both address spaces of one machine.
#[derive(Default)]
pub struct AddressSpace {
    devices: Mutex<Devices>,
    generation: AtomicU64,
}

#[derive(Default)]
struct Devices {
    pio: Vec<(PioRange, PioDevice)>,
    mmio: Vec<(MmioRange, MmioDevice)>,
    map: Arc<IoManager>,
}

impl Devices {
    /// Builds the map anew; changes nothing when a range is refused.
    fn rebuild(&mut self) -> Result<(), BusError> {
        let mut map = IoManager::new();
        for (range, device) in &self.pio {
            map.register_pio(*range, Arc::clone(device))?;
        }
        for (range, device) in &self.mmio {
            map.register_mmio(*range, Arc::clone(device))?;
        }
        self.map = Arc::new(map);
        Ok(())
    }
}

impl AddressSpace {
    /// Nobody answers anything.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets `device` answer `len` ports from `base`.
    pub fn add_pio(&self, base: u16, len: u16, device: PioDevice) -> Result<(), BusError> {
        let range = PioRange::new(PioAddress(base), len)?;
        self.change(|devices| {
            devices.pio.push((range, device));
            devices.rebuild().inspect_err(|_| {
                devices.pio.pop();
            })
        })
    }

    /// Lets `device` answer `len` bytes from `base`.
    pub fn add_mmio(&self, base: u64, len: u64, device: MmioDevice) -> Result<(), BusError> {
        let range = MmioRange::new(MmioAddress(base), len)?;
        self.change(|devices| {
            devices.mmio.push((range, device));
            devices.rebuild().inspect_err(|_| {
                devices.mmio.pop();
            })
        })
    }

    /// Takes away the port range that starts at `base`.
    pub fn remove_pio(&self, base: u16) -> Result<(), BusError> {
        let base = PioAddress(base);
        self.change(|devices| {
            devices.pio.retain(|(range, _)| range.base() != base);
            devices.rebuild()
        })
    }

    /// Takes away the memory range that starts at `base`.
    pub fn remove_mmio(&self, base: u64) -> Result<(), BusError> {
        let base = MmioAddress(base);
        self.change(|devices| {
            devices.mmio.retain(|(range, _)| range.base() != base);
            devices.rebuild()
        })
    }

    /// Takes everything away. Devices know their space and the space knows them, so a machine
    /// that ends has to part them.
    pub fn clear(&self) {
        let devices = std::mem::take(&mut *self.devices.lock());
        self.generation.fetch_add(1, Ordering::Release);
        drop(devices);
    }

    fn change(
        &self,
        edit: impl FnOnce(&mut Devices) -> Result<(), BusError>,
    ) -> Result<(), BusError> {
        let mut devices = self.devices.lock();
        edit(&mut devices)?;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// One processor's sight of the address spaces.
    pub fn view(self: &Arc<Self>) -> BusView {
        let generation = self.generation.load(Ordering::Acquire);
        BusView {
            space: Arc::clone(self),
            map: Arc::clone(&self.devices.lock().map),
            generation,
        }
    }
}

/// One processor's sight of the address spaces.
pub struct BusView {
    space: Arc<AddressSpace>,
    map: Arc<IoManager>,
    generation: u64,
}

impl BusView {
    fn map(&mut self) -> &IoManager {
        let generation = self.space.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.map = Arc::clone(&self.space.devices.lock().map);
            self.generation = generation;
        }
        &self.map
    }

    /// Reads ports. Whether anybody answered; if not, `data` is all ones.
    pub fn pio_read(&mut self, port: u16, data: &mut [u8]) -> bool {
        data.fill(0xff);
        self.map().pio_read(PioAddress(port), data).is_ok()
    }

    /// Writes ports. Whether anybody listened.
    pub fn pio_write(&mut self, port: u16, data: &[u8]) -> bool {
        self.map().pio_write(PioAddress(port), data).is_ok()
    }

    /// Reads memory. Whether anybody answered; if not, `data` is all ones.
    pub fn mmio_read(&mut self, address: u64, data: &mut [u8]) -> bool {
        data.fill(0xff);
        self.map().mmio_read(MmioAddress(address), data).is_ok()
    }

    /// Writes memory. Whether anybody listened.
    pub fn mmio_write(&mut self, address: u64, data: &[u8]) -> bool {
        self.map().mmio_write(MmioAddress(address), data).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use vm_device::bus::MmioAddressOffset;

    use super::*;

    /// Answers every read with one byte.
    struct Constant(u8);

    impl DeviceMmio for Constant {
        fn mmio_read(&self, _base: MmioAddress, _offset: MmioAddressOffset, data: &mut [u8]) {
            data.fill(self.0);
        }
        fn mmio_write(&self, _base: MmioAddress, _offset: MmioAddressOffset, _data: &[u8]) {}
    }

    fn read(view: &mut BusView, address: u64) -> u8 {
        let mut data = [0];
        view.mmio_read(address, &mut data);
        data[0]
    }

    #[test]
    fn view_taken_earlier_sees_a_device_move() {
        let space = AddressSpace::new();
        let mut view = space.view();
        let device = Arc::new(Constant(7));

        space.add_mmio(0x1000, 0x1000, device.clone()).unwrap();
        assert_eq!(read(&mut view, 0x1fff), 7);
        space.remove_mmio(0x1000).unwrap();
        space.add_mmio(0x4000, 0x1000, device).unwrap();

        assert_eq!(read(&mut view, 0x1000), 0xff);
        assert_eq!(read(&mut view, 0x4000), 7);
    }

    #[test]
    fn refused_range_leaves_the_map_as_it_was() {
        let space = AddressSpace::new();
        space
            .add_mmio(0x1000, 0x1000, Arc::new(Constant(1)))
            .unwrap();

        let overlap = space.add_mmio(0x1800, 0x1000, Arc::new(Constant(2)));

        assert_eq!(overlap, Err(BusError::DeviceOverlap));
        assert_eq!(read(&mut space.view(), 0x1800), 1);
        space
            .add_mmio(0x2000, 0x1000, Arc::new(Constant(3)))
            .unwrap();
    }

    #[test]
    fn access_across_the_end_of_a_device_is_nobodys() {
        let space = AddressSpace::new();
        space
            .add_mmio(0x1000, 0x1000, Arc::new(Constant(1)))
            .unwrap();

        let mut data = [0; 8];
        assert!(!space.view().mmio_read(0x1ffc, &mut data));
        assert_eq!(data, [0xff; 8]);
    }
}
