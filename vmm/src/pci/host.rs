//! The host: configuration mechanism #1, memory-mapped configuration, and where BARs are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mmio::{VmId, Width};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tracing::debug;
use vm_allocator::{AddressAllocator, AllocPolicy};
use vm_device::bus::{MmioAddress, MmioAddressOffset, PioAddress, PioAddressOffset};
use vm_device::{DeviceMmio, DevicePio};

use super::aperture::Aperture;
use super::config::bar_register;
use super::target::{Target, config_width, dword};
use super::{BarChange, BarKind, BarSpec, PciDevice, Window};
use crate::bus::{AddressSpace, BusError};
use crate::layout;
use crate::memory_slots::MemorySlots;
use crate::vm::{Doorbell, HostMemory, VmError, VmOps};

/// Devices on the bus.
const SLOTS: u8 = 32;
/// Ports of the address register; the data register follows.
const ADDRESS_PORTS: u16 = 4;
/// What a read of nothing yields.
const NOBODY: u32 = u32::MAX;

/// Why a device could not be plugged in.
#[derive(Debug, Error)]
pub enum PciError {
    /// All slots are taken.
    #[error("No free PCI slot")]
    NoSlot,
    /// A BAR is larger than what is left of its window.
    #[error("No room for a BAR of {0:#x} bytes")]
    NoRoom(u64),
    /// The windows themselves are unusable.
    #[error("Unusable PCI window")]
    Window(#[source] vm_allocator::Error),
}

/// A placed BAR could not be placed after all.
#[derive(Debug, Error)]
enum PlaceError {
    #[error("outside of the window")]
    OutsideWindow,
    #[error("range refused")]
    Bus(#[source] BusError),
    #[error(transparent)]
    Vm(#[from] VmError),
}

/// What a placed BAR holds.
struct Placed {
    base: u64,
    memory: Vec<(u32, HostMemory)>,
    doorbells: Vec<Doorbell>,
    collected: Vec<(u64, u32)>,
}

/// The host bridge's bus.
pub struct PciHost {
    vm_id: VmId,
    vm: Arc<dyn VmOps>,
    space: Arc<AddressSpace>,
    pci64_start: u64,
    address: AtomicU32,
    devices: RwLock<BTreeMap<u8, Arc<dyn PciDevice>>>,
    placement: Mutex<Placement>,
    memory_slots: Arc<MemorySlots>,
}

struct Placement {
    windows: Windows,
    placed: BTreeMap<(u8, usize), Placed>,
}

/// Where BARs are put before the guest puts them elsewhere.
struct Windows {
    io: AddressAllocator,
    low: AddressAllocator,
    high: AddressAllocator,
}

impl PciHost {
    /// A bus for machine `vm_id` with `memory_size` bytes of RAM, which numbers its slots of `vm`
    /// by `memory_slots`.
    pub fn new(
        vm_id: VmId,
        vm: Arc<dyn VmOps>,
        space: Arc<AddressSpace>,
        memory_size: u64,
        memory_slots: Arc<MemorySlots>,
    ) -> Result<Arc<Self>, PciError> {
        let pci64_start = layout::pci64_start(memory_size);
        let window = |start, len| AddressAllocator::new(start, len).map_err(PciError::Window);
        let windows = Windows {
            io: window(
                u64::from(layout::PCI_IO_START),
                u64::from(layout::PCI_IO_LAST - layout::PCI_IO_START) + 1,
            )?,
            low: window(layout::PCI32_START, layout::PCI32_END - layout::PCI32_START)?,
            high: window(pci64_start, layout::PCI64_SIZE)?,
        };
        Ok(Arc::new(PciHost {
            vm_id,
            vm,
            space,
            pci64_start,
            address: AtomicU32::new(0),
            devices: RwLock::default(),
            placement: Mutex::new(Placement {
                windows,
                placed: BTreeMap::new(),
            }),
            memory_slots,
        }))
    }

    /// The slot that the next device gets.
    pub fn next_slot(&self) -> Result<u8, PciError> {
        let devices = self.devices.read();
        (0..SLOTS)
            .find(|slot| !devices.contains_key(slot))
            .ok_or(PciError::NoSlot)
    }

    /// Plugs `device` into [`PciHost::next_slot`] and gives its BARs addresses, as a firmware
    /// would; the guest enables them.
    pub fn plug(&self, device: Arc<dyn PciDevice>) -> Result<u8, PciError> {
        let slot = self.next_slot()?;
        for spec in device.bars() {
            let base = {
                let mut placement = self.placement.lock();
                let window = match spec.kind {
                    BarKind::Io => &mut placement.windows.io,
                    BarKind::Memory32 => &mut placement.windows.low,
                    BarKind::Memory64 { .. } => &mut placement.windows.high,
                };
                // A page each, so that no two devices share one.
                let align = match spec.kind {
                    BarKind::Io => spec.size,
                    _ => spec.size.max(0x1000),
                };
                window
                    .allocate(spec.size.max(align), align, AllocPolicy::FirstMatch)
                    .map_err(|_| PciError::NoRoom(spec.size))?
                    .start()
            };
            let register = bar_register(spec.bar) as u16;
            device.config_write(register, Width::Dword, base as u32);
            if matches!(spec.kind, BarKind::Memory64 { .. }) {
                device.config_write(register + 4, Width::Dword, (base >> 32) as u32);
            }
        }
        self.devices.write().insert(slot, device);
        Ok(slot)
    }

    /// Registers both ways to configuration space with the machine's buses.
    pub fn connect(self: &Arc<Self>) -> Result<(), BusError> {
        self.space
            .add_pio(layout::PCI_CONFIG, 2 * ADDRESS_PORTS, self.clone())?;
        self.space
            .add_mmio(layout::ECAM_START, layout::ECAM_SIZE, self.clone())
    }

    fn device(&self, slot: u8) -> Option<Arc<dyn PciDevice>> {
        self.devices.read().get(&slot).cloned()
    }

    fn config_read(&self, target: Target, width: Width) -> u32 {
        match target.device().and_then(|slot| self.device(slot)) {
            Some(device) => device.config_read(target.offset, width),
            None => NOBODY,
        }
    }

    fn config_write(&self, target: Target, width: Width, value: u32) {
        let Some(slot) = target.device() else { return };
        let Some(device) = self.device(slot) else {
            return;
        };
        // Held across the device's handler: moves must happen in the order of the writes.
        let mut placement = self.placement.lock();
        let changes = device.config_write(target.offset, width, value);
        for change in &changes {
            self.take_away(&mut placement, slot, &device, change);
        }
        for change in &changes {
            if let Some(base) = change.to
                && let Err(error) = self.place(&mut placement, slot, &device, change.spec, base)
            {
                // The guest chose the place, so this is no warning.
                debug!(slot, bar = ?change.spec.bar, base = format_args!("{base:#x}"), %error,
                    "BAR not placed");
            }
        }
    }

    /// Ends the decoding of a BAR that was placed.
    fn take_away(
        &self,
        placement: &mut Placement,
        slot: u8,
        device: &Arc<dyn PciDevice>,
        change: &BarChange,
    ) {
        let key = (slot, change.spec.bar.index());
        let Some(placed) = placement.placed.remove(&key) else {
            return;
        };
        device.placed(change.spec.bar, None);
        for (memory_slot, memory) in placed.memory {
            if self.vm.remove_memory(memory_slot, memory).is_ok() {
                self.memory_slots.give_back(memory_slot);
            }
        }
        for doorbell in &placed.doorbells {
            // It was installed, so it can be removed.
            let _ = self.vm.remove_doorbell(doorbell);
        }
        for (at, len) in placed.collected {
            // It was collected, so that can end.
            let _ = self.vm.stop_collecting(at, len);
        }
        // Removing a range cannot make two others overlap.
        let _ = match change.spec.kind {
            BarKind::Io => self.space.remove_pio(placed.base as u16),
            _ => self.space.remove_mmio(placed.base),
        };
    }

    fn place(
        &self,
        placement: &mut Placement,
        slot: u8,
        device: &Arc<dyn PciDevice>,
        spec: BarSpec,
        base: u64,
    ) -> Result<(), PlaceError> {
        let (start, end) = match spec.kind {
            BarKind::Io => (
                u64::from(layout::PCI_IO_START),
                u64::from(layout::PCI_IO_LAST) + 1,
            ),
            BarKind::Memory32 => (layout::PCI32_START, layout::PCI32_END),
            BarKind::Memory64 { .. } if base < layout::HIGH_RAM_START => {
                (layout::PCI32_START, layout::PCI32_END)
            }
            BarKind::Memory64 { .. } => (self.pci64_start, self.pci64_start + layout::PCI64_SIZE),
        };
        if base < start || base.checked_add(spec.size).is_none_or(|last| last > end) {
            return Err(PlaceError::OutsideWindow);
        }
        let aperture = Arc::new(Aperture::new(self.vm_id, Arc::clone(device), spec.bar));
        match spec.kind {
            BarKind::Io => self.space.add_pio(base as u16, spec.size as u16, aperture),
            _ => self.space.add_mmio(base, spec.size, aperture),
        }
        .map_err(PlaceError::Bus)?;

        let mut placed = Placed {
            base,
            memory: Vec::new(),
            doorbells: Vec::new(),
            collected: Vec::new(),
        };
        let opened = self.open_windows(device, spec, &mut placed);
        device.placed(spec.bar, Some(base));
        // Even after a failure: what was opened has to be closed again.
        placement.placed.insert((slot, spec.bar.index()), placed);
        Ok(opened?)
    }

    fn open_windows(
        &self,
        device: &Arc<dyn PciDevice>,
        spec: BarSpec,
        placed: &mut Placed,
    ) -> Result<(), VmError> {
        for window in device.windows(spec.bar) {
            match window {
                Window::Memory {
                    offset,
                    len,
                    host,
                    read_only,
                } => {
                    let memory = HostMemory {
                        guest: placed.base + offset,
                        len,
                        host,
                        read_only,
                        log_stores: false,
                    };
                    let memory_slot = self.memory_slots.take();
                    self.vm.add_memory(memory_slot, memory)?;
                    placed.memory.push((memory_slot, memory));
                }
                Window::Doorbell {
                    offset,
                    event,
                    value,
                } => {
                    let doorbell = Doorbell {
                        guest: placed.base + offset,
                        event,
                        value,
                    };
                    self.vm.add_doorbell(&doorbell)?;
                    placed.doorbells.push(doorbell);
                }
                Window::Collected { offset, len } => {
                    let at = placed.base + offset;
                    self.vm.collect_stores(at, len)?;
                    placed.collected.push((at, len));
                }
            }
        }
        Ok(())
    }
}

impl DevicePio for PciHost {
    fn pio_read(&self, _base: PioAddress, offset: PioAddressOffset, data: &mut [u8]) {
        let address = self.address.load(Ordering::Relaxed);
        let value = if offset < ADDRESS_PORTS {
            // Only the whole register can be read.
            if data.len() == 4 { address } else { NOBODY }
        } else {
            let byte = offset - ADDRESS_PORTS;
            match (
                Target::from_address(address, byte),
                config_width(byte, data.len()),
            ) {
                (Some(target), Some(width)) => self.config_read(target, width),
                _ => NOBODY,
            }
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    fn pio_write(&self, _base: PioAddress, offset: PioAddressOffset, data: &[u8]) {
        if offset < ADDRESS_PORTS {
            if offset == 0 && data.len() == 4 {
                self.address.store(dword(data), Ordering::Relaxed);
            }
            return;
        }
        let byte = offset - ADDRESS_PORTS;
        let address = self.address.load(Ordering::Relaxed);
        if let Some(target) = Target::from_address(address, byte)
            && let Some(width) = config_width(byte, data.len())
        {
            self.config_write(target, width, dword(data));
        }
    }
}

impl DeviceMmio for PciHost {
    fn mmio_read(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &mut [u8]) {
        let target = Target::from_ecam(offset);
        if let Some(width) = config_width(target.offset, data.len()) {
            let value = self.config_read(target, width);
            data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        }
    }

    fn mmio_write(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &[u8]) {
        let target = Target::from_ecam(offset);
        if let Some(width) = config_width(target.offset, data.len()) {
            self.config_write(target, width, dword(data));
        }
    }
}

#[cfg(test)]
mod tests {
    use mmio::{Access, Bar};

    use super::*;
    use crate::bus::BusView;
    use crate::pci::target::ADDRESS_ENABLE;
    use crate::pci::{ConfigSpace, Identity};
    use crate::vm::testing::TestVm;

    const RAM: u64 = 1 << 30;

    /// A device whose reads tell what was asked for.
    struct Echo(Mutex<ConfigSpace>, Mutex<Vec<(u64, u64, u64)>>);

    impl PciDevice for Echo {
        fn bars(&self) -> Vec<BarSpec> {
            self.0.lock().bars().to_vec()
        }
        fn config_read(&self, offset: u16, width: Width) -> u32 {
            self.0.lock().read(offset, width)
        }
        fn config_write(&self, offset: u16, width: Width, value: u32) -> Vec<BarChange> {
            self.0.lock().write(offset, width, value)
        }
        fn read(&self, access: &Access) -> u64 {
            access.offset
        }
        fn write(&self, access: &Access, value: u64) {
            let width = access.width.bytes() as u64;
            self.1.lock().push((access.offset, width, value));
        }
        fn windows(&self, bar: Bar) -> Vec<Window> {
            match bar {
                Bar::Bar1 => vec![Window::Memory {
                    offset: 0x1000,
                    len: 0x2000,
                    host: 0x7000_0000,
                    read_only: false,
                }],
                _ => Vec::new(),
            }
        }
    }

    fn machine() -> (Arc<TestVm>, Arc<Echo>, BusView) {
        let vm = Arc::new(TestVm::default());
        let space = AddressSpace::new();
        let host = PciHost::new(
            VmId(0),
            vm.clone(),
            Arc::clone(&space),
            RAM,
            MemorySlots::from(8),
        )
        .unwrap();
        let mut config = ConfigSpace::new(&Identity {
            vendor: 0x10de,
            device: 0x06d8,
            ..Default::default()
        });
        config.add_bar(BarSpec {
            bar: Bar::Bar0,
            kind: BarKind::Memory32,
            size: 16 << 20,
        });
        config.add_bar(BarSpec {
            bar: Bar::Bar1,
            kind: BarKind::Memory64 { prefetchable: true },
            size: 128 << 20,
        });
        let echo = Arc::new(Echo(Mutex::new(config), Mutex::default()));
        assert_eq!(host.plug(echo.clone()).unwrap(), 0);
        host.connect().unwrap();
        (vm, echo, space.view())
    }

    fn config_read(view: &mut BusView, offset: u32) -> u32 {
        let mut data = [0; 4];
        view.pio_write(0xcf8, &(ADDRESS_ENABLE | offset).to_le_bytes());
        view.pio_read(0xcfc, &mut data);
        u32::from_le_bytes(data)
    }

    fn config_write(view: &mut BusView, offset: u32, value: u32) {
        view.pio_write(0xcf8, &(ADDRESS_ENABLE | offset).to_le_bytes());
        view.pio_write(0xcfc, &value.to_le_bytes());
    }

    fn read32(view: &mut BusView, address: u64) -> u32 {
        let mut data = [0; 4];
        view.mmio_read(address, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn both_mechanisms_reach_the_same_register() {
        let (_, _, mut view) = machine();

        assert_eq!(config_read(&mut view, 0), 0x06d8_10de);
        assert_eq!(read32(&mut view, layout::ECAM_START), 0x06d8_10de);
        let mut byte = [0];
        view.pio_read(0xcfd, &mut byte);
        assert_eq!(byte, [0x10]);
    }

    #[test]
    fn absent_device_reads_as_all_ones() {
        let (_, _, mut view) = machine();

        assert_eq!(config_read(&mut view, 1 << 11), NOBODY);
        assert_eq!(config_read(&mut view, 1 << 8), NOBODY);
        assert_eq!(read32(&mut view, layout::ECAM_START + (5 << 15)), NOBODY);
    }

    #[test]
    fn bar_follows_the_guests_choice_with_its_memory() {
        let (vm, _, mut view) = machine();
        let first = u64::from(config_read(&mut view, 0x10));
        assert_eq!(read32(&mut view, first + 0x100), u32::MAX);

        config_write(&mut view, 4, 2);
        assert_eq!(read32(&mut view, first + 0x100), 0x100);
        let memory = vm.0.lock().memory.clone();
        assert_eq!(memory[&8].guest, layout::pci64_start(RAM) + 0x1000);

        config_write(&mut view, 0x10, 0xd000_0000);
        config_write(&mut view, 0x14, 0xc800_0000);
        config_write(&mut view, 0x18, 0);
        assert_eq!(read32(&mut view, first + 0x100), u32::MAX);
        assert_eq!(read32(&mut view, 0xd000_0100), 0x100);
        assert_eq!(vm.0.lock().memory[&8].guest, 0xc800_1000);

        config_write(&mut view, 4, 0);
        assert_eq!(read32(&mut view, 0xd000_0100), u32::MAX);
        assert!(vm.0.lock().memory.is_empty());
    }

    #[test]
    fn bar_over_ram_is_not_placed() {
        let (vm, _, mut view) = machine();
        config_write(&mut view, 0x14, 0x1000_0000);
        config_write(&mut view, 0x18, 0);

        config_write(&mut view, 4, 2);

        assert_eq!(read32(&mut view, 0x1000_0000), u32::MAX);
        assert!(vm.0.lock().memory.is_empty());
    }

    #[test]
    fn odd_access_becomes_aligned_pieces() {
        let (_, echo, mut view) = machine();
        config_write(&mut view, 4, 2);
        let base = u64::from(config_read(&mut view, 0x10));

        view.mmio_write(base + 3, &[0x11, 0x22, 0x33, 0x44, 0x55]);

        assert_eq!(*echo.1.lock(), [(3, 1, 0x11), (4, 4, 0x5544_3322)]);
    }
}
