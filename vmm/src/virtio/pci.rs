//! Virtio on PCI (virtio 1.2, section 4.1), without the legacy interface.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use event_manager::{EventOps, Events, MutEventSubscriber};
use mmio::{Access, Bar, Width};
use parking_lot::Mutex;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::VirtioDevice;
use super::registers::{self, Register};
use super::transport::{NO_VECTOR, Served, Transport};
use crate::io::watch;
use crate::irq::{Interrupts, PinShare};
use crate::memory::GuestMemory;
use crate::metrics::Counter;
use crate::pci::{
    BarChange, BarKind, BarSpec, Command, ConfigSpace, Identity, Msix, PciDevice, Window, intx_gsi,
};

/// Vendor, and the number that device types are added to.
const VENDOR: u16 = 0x1af4;
const DEVICE_BASE: u16 = 0x1040;
/// Revision of devices without the legacy interface.
const REVISION: u8 = 1;

/// The one BAR.
const BAR: BarSpec = BarSpec {
    bar: Bar::Bar0,
    kind: BarKind::Memory32,
    size: 0x8000,
};
/// What lies where in it; a page each.
const COMMON: u64 = 0x0000;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const MSIX_TABLE: u64 = 0x4000;
const MSIX_PENDING: u64 = 0x5000;
const PAGE: u64 = 0x1000;

/// Distance between two queues' doorbells.
const NOTIFY_MULTIPLIER: u32 = 4;
/// Interrupt status: a queue; the configuration, or the device's status.
const ISR_QUEUE: u8 = 1;

/// Vendor capability: ID, and what each describes.
const CAPABILITY: u8 = 0x09;
const CAPABILITY_COMMON: u8 = 1;
const CAPABILITY_NOTIFY: u8 = 2;
const CAPABILITY_ISR: u8 = 3;
const CAPABILITY_DEVICE: u8 = 4;

/// A virtio device on the bus.
pub struct VirtioPci {
    config: Mutex<ConfigSpace>,
    transport: Mutex<Transport>,
    msix: Msix,
    vectors: u16,
    pin: PinShare,
    isr: AtomicU8,
    doorbells: Vec<EventFd>,
    memory: GuestMemory,
    requests: Counter,
}

impl VirtioPci {
    /// Puts `device` on the bus, to be plugged into `slot`. `requests` counts served doorbells.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        slot: u8,
        interrupts: &Arc<Interrupts>,
        memory: GuestMemory,
        requests: Counter,
    ) -> io::Result<Arc<Self>> {
        let id = DEVICE_BASE + device.kind();
        let mut config = ConfigSpace::new(&Identity {
            vendor: VENDOR,
            device: id,
            revision: REVISION,
            class: device.class(),
            subsystem_vendor: VENDOR,
            subsystem: id,
        });
        config.add_bar(BAR);
        config.add_interrupt_pin();
        add_capabilities(&mut config);
        let queues = device.queues();
        // One for each queue, and one for the configuration.
        let vectors = queues + 1;
        let messages = (0..vectors)
            .map(|_| interrupts.message())
            .collect::<io::Result<_>>()?;
        let msix = Msix::add_to(
            &mut config,
            messages,
            BAR.bar,
            MSIX_TABLE as u32,
            MSIX_PENDING as u32,
        );
        Ok(Arc::new(VirtioPci {
            config: Mutex::new(config),
            transport: Mutex::new(Transport::new(device).map_err(io::Error::other)?),
            msix,
            vectors,
            pin: interrupts.pin(intx_gsi(slot, 0)),
            isr: AtomicU8::new(0),
            doorbells: (0..queues)
                .map(|_| EventFd::new(EFD_NONBLOCK))
                .collect::<io::Result<_>>()?,
            memory,
            requests,
        }))
    }

    /// The event handler that serves the queues.
    pub fn handler(self: &Arc<Self>) -> QueueHandler {
        QueueHandler(Arc::clone(self))
    }

    fn serve(&self, index: u16) {
        self.requests.increment();
        let Served { interrupt, again } = self.transport.lock().serve(index, &self.memory);
        if let Some(vector) = interrupt {
            self.interrupt(vector);
        }
        if again {
            // Others on the loop come first. The counter is far from full.
            let _ = self.doorbells[usize::from(index)].write(1);
        }
    }

    fn interrupt(&self, vector: u16) {
        if self.msix.enabled() {
            if vector != NO_VECTOR {
                self.msix.raise(vector);
            }
            return;
        }
        self.isr.fetch_or(ISR_QUEUE, Ordering::AcqRel);
        self.settle_pin();
    }

    /// Drives the pin as the interrupt status and the command register have it.
    fn settle_pin(&self) {
        let disabled = self.config.lock().command().contains(Command::INTX_DISABLE);
        let wanted = self.isr.load(Ordering::Acquire) != 0;
        self.pin.set(wanted && !disabled && !self.msix.enabled());
    }

    fn read_device_config(&self, offset: u64, width: Width) -> u64 {
        let transport = self.transport.lock();
        let config = transport.device().config();
        let mut value = [0; 8];
        for (index, byte) in value[..width.bytes()].iter_mut().enumerate() {
            *byte = config.get(offset as usize + index).map_or(0, |b| *b);
        }
        u64::from_le_bytes(value)
    }
}

/// Appends the capabilities that say where everything lies in the BAR.
fn add_capabilities(config: &mut ConfigSpace) {
    let mut add = |kind: u8, offset: u64, len: u64, tail: &[u8]| {
        // After ID and link: length, type, BAR, ID, padding, offset, length.
        let size = 16 + tail.len() as u8;
        let mut body = vec![size, kind, BAR.bar.index() as u8, 0, 0, 0];
        body.extend_from_slice(&(offset as u32).to_le_bytes());
        body.extend_from_slice(&(len as u32).to_le_bytes());
        body.extend_from_slice(tail);
        config.add_capability(CAPABILITY, &body, &[]);
    };
    add(CAPABILITY_COMMON, COMMON, registers::SIZE, &[]);
    add(
        CAPABILITY_NOTIFY,
        NOTIFY,
        PAGE,
        &NOTIFY_MULTIPLIER.to_le_bytes(),
    );
    add(CAPABILITY_ISR, ISR, 1, &[]);
    add(CAPABILITY_DEVICE, DEVICE, PAGE, &[]);
}

impl PciDevice for VirtioPci {
    fn bars(&self) -> Vec<BarSpec> {
        self.config.lock().bars().to_vec()
    }

    fn config_read(&self, offset: u16, width: Width) -> u32 {
        self.config.lock().read(offset, width)
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Vec<BarChange> {
        let changes = {
            let mut config = self.config.lock();
            let changes = config.write(offset, width, value);
            self.msix.update(&config);
            changes
        };
        self.settle_pin();
        changes
    }

    fn read(&self, access: &Access) -> u64 {
        let offset = access.offset % PAGE;
        match access.offset - offset {
            COMMON => Register::find(offset, access.width)
                .map_or(0, |register| self.transport.lock().read(register).into()),
            ISR => {
                let status = self.isr.swap(0, Ordering::AcqRel);
                self.settle_pin();
                u64::from(status)
            }
            DEVICE => self.read_device_config(offset, access.width),
            MSIX_TABLE => self.msix.read_table(offset, access.width),
            MSIX_PENDING => self.msix.read_pending(offset, access.width),
            _ => 0,
        }
    }

    fn write(&self, access: &Access, value: u64) {
        let offset = access.offset % PAGE;
        match access.offset - offset {
            COMMON => {
                if let Some(register) = Register::find(offset, access.width) {
                    let mut transport = self.transport.lock();
                    transport.write(register, value as u32, self.vectors);
                    if register == Register::DeviceStatus && value as u8 == 0 {
                        self.isr.store(0, Ordering::Release);
                        self.settle_pin();
                    }
                }
            }
            // Doorbells exit only where the hypervisor did not take them.
            NOTIFY => {
                let index = offset / u64::from(NOTIFY_MULTIPLIER);
                if let Some(doorbell) = self.doorbells.get(index as usize) {
                    let _ = doorbell.write(1);
                }
            }
            MSIX_TABLE => self.msix.write_table(offset, access.width, value),
            _ => {}
        }
    }

    fn windows(&self, _bar: Bar) -> Vec<Window> {
        let offsets = (NOTIFY..).step_by(NOTIFY_MULTIPLIER as usize);
        offsets
            .zip(&self.doorbells)
            .filter_map(|(offset, doorbell)| {
                // Without a descriptor to spare, the doorbell exits instead.
                let event = doorbell.try_clone().ok()?;
                Some(Window::Doorbell {
                    offset,
                    event,
                    value: None,
                })
            })
            .collect()
    }
}

/// Serves the queues of one device on the event loop.
pub struct QueueHandler(Arc<VirtioPci>);

impl MutEventSubscriber for QueueHandler {
    fn init(&mut self, ops: &mut EventOps) {
        for (index, doorbell) in (0..).zip(&self.0.doorbells) {
            watch(ops, Events::with_data(doorbell, index, EventSet::IN));
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        let index = events.data();
        if let Some(doorbell) = self.0.doorbells.get(index as usize) {
            // Reading only clears the event.
            let _ = doorbell.read();
            self.0.serve(index as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use mmio::{Direction, VmId};

    use super::super::Rng;
    use super::*;
    use crate::vm::testing::TestVm;

    fn device() -> (Arc<TestVm>, Arc<VirtioPci>) {
        let vm = Arc::new(TestVm::default());
        let interrupts = Interrupts::new(vm.clone());
        let memory = crate::memory::create(2 << 20, crate::memory::Pages::Small).unwrap();
        let rng = Box::new(Rng::default());
        let device = VirtioPci::new(rng, 3, &interrupts, memory, Counter::default()).unwrap();
        (vm, device)
    }

    fn access(offset: u64, width: Width) -> Access {
        Access {
            vm: VmId(0),
            vcpu: 0,
            bar: Bar::Bar0,
            offset,
            width,
            direction: Direction::Read,
        }
    }

    #[test]
    fn interrupt_without_messages_holds_the_pin_until_status_is_read() {
        let (vm, device) = device();
        let gsi = intx_gsi(3, 0);

        device.interrupt(NO_VECTOR);
        assert!(vm.0.lock().lines[&gsi]);
        let status = device.read(&access(ISR, Width::Byte));

        assert_eq!(status, u64::from(ISR_QUEUE));
        assert!(!vm.0.lock().lines[&gsi]);
    }

    #[test]
    fn interrupt_disable_bit_releases_the_pin() {
        let (vm, device) = device();
        device.interrupt(NO_VECTOR);

        device.config_write(4, Width::Word, Command::INTX_DISABLE.bits().into());

        assert!(!vm.0.lock().lines[&intx_gsi(3, 0)]);
    }

    #[test]
    fn doorbell_write_that_exits_signals_the_queue() {
        let (_, device) = device();

        device.write(&access(NOTIFY, Width::Word), 0);
        device.write(&access(NOTIFY + 0x40, Width::Word), 0);

        assert_eq!(device.doorbells[0].read().unwrap(), 1);
    }

    #[test]
    fn nothing_in_the_bar_panics() {
        let (_, device) = device();

        for offset in (0..BAR.size).step_by(2) {
            for width in [Width::Byte, Width::Word, Width::Dword, Width::Qword] {
                let access = access(offset, width);
                device.write(&access, u64::MAX);
                device.read(&access);
            }
        }
        device.serve(0);
    }
}
