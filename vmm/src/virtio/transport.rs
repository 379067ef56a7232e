//! What all virtio devices have in common: status, features and queues.

use tracing::debug;
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
use virtio_queue::{Queue, QueueOwnedT, QueueT};

use super::registers::Register;
use super::{Malformed, VirtioDevice};
use crate::memory::GuestMemory;

/// Entries that a queue can have.
pub const QUEUE_SIZE: u16 = 128;
/// "No vector".
pub const NO_VECTOR: u16 = 0xffff;

/// Device status bits (virtio 1.2, section 2.1).
const STATUS_FEATURES_OK: u8 = 8;
const STATUS_DRIVER_OK: u8 = 4;
const STATUS_NEEDS_RESET: u8 = 64;

/// Features that every device here offers.
const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// A device's queue and its interrupt vector.
#[derive(Debug)]
struct DeviceQueue {
    queue: Queue,
    vector: u16,
}

/// A device with its driver-visible state.
pub struct Transport {
    device: Box<dyn VirtioDevice>,
    queues: Vec<DeviceQueue>,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    status: u8,
    config_vector: u16,
    queue_select: u16,
}

/// What serving a queue led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Interrupt this vector: requests are done.
    pub interrupt: Option<u16>,
    /// There may be more requests: look again.
    pub again: bool,
}

impl Transport {
    /// The device after a reset.
    pub fn new(device: Box<dyn VirtioDevice>) -> Result<Self, virtio_queue::Error> {
        let queues = (0..device.queues())
            .map(|_| {
                Ok(DeviceQueue {
                    queue: Queue::new(QUEUE_SIZE)?,
                    vector: NO_VECTOR,
                })
            })
            .collect::<Result<_, virtio_queue::Error>>()?;
        Ok(Transport {
            device,
            queues,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            status: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
        })
    }

    /// The device itself.
    pub fn device(&self) -> &dyn VirtioDevice {
        &*self.device
    }

    fn offered(&self) -> u64 {
        FEATURES | self.device.features()
    }

    fn reset(&mut self) {
        for queue in &mut self.queues {
            queue.queue.reset();
            queue.vector = NO_VECTOR;
        }
        self.driver_features = 0;
        self.status = 0;
        self.config_vector = NO_VECTOR;
    }

    fn selected(&self) -> Option<&DeviceQueue> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// Reads a register of the common configuration.
    pub fn read(&self, register: Register) -> u32 {
        let queue = |get: fn(&DeviceQueue) -> u64| self.selected().map_or(0, get);
        let low = |value: u64| value as u32;
        let high = |value: u64| (value >> 32) as u32;
        match register {
            Register::DeviceFeatureSelect => self.device_feature_select,
            Register::DeviceFeature => half(self.offered(), self.device_feature_select),
            Register::DriverFeatureSelect => self.driver_feature_select,
            Register::DriverFeature => half(self.driver_features, self.driver_feature_select),
            Register::ConfigVector => u32::from(self.config_vector),
            Register::QueueCount => self.queues.len() as u32,
            Register::DeviceStatus => u32::from(self.status),
            // The configuration never changes.
            Register::ConfigGeneration => 0,
            Register::QueueSelect | Register::QueueNotifyOffset => u32::from(self.queue_select),
            Register::QueueSize => low(queue(|q| q.queue.size().into())),
            Register::QueueVector => self
                .selected()
                .map_or(u32::from(NO_VECTOR), |q| u32::from(q.vector)),
            Register::QueueEnable => low(queue(|q| q.queue.ready().into())),
            Register::QueueDescLow => low(queue(|q| q.queue.desc_table())),
            Register::QueueDescHigh => high(queue(|q| q.queue.desc_table())),
            Register::QueueDriverLow => low(queue(|q| q.queue.avail_ring())),
            Register::QueueDriverHigh => high(queue(|q| q.queue.avail_ring())),
            Register::QueueDeviceLow => low(queue(|q| q.queue.used_ring())),
            Register::QueueDeviceHigh => high(queue(|q| q.queue.used_ring())),
        }
    }

    /// Writes a register of the common configuration. `vectors` is how many vectors there are.
    pub fn write(&mut self, register: Register, value: u32, vectors: u16) {
        let vector = match value as u16 {
            vector if vector < vectors => vector,
            _ => NO_VECTOR,
        };
        match register {
            Register::DeviceFeatureSelect => self.device_feature_select = value,
            Register::DriverFeatureSelect => self.driver_feature_select = value,
            Register::DriverFeature if self.status & STATUS_FEATURES_OK == 0 => {
                self.write_driver_features(value);
            }
            Register::ConfigVector => self.config_vector = vector,
            Register::DeviceStatus => self.write_status(value as u8),
            Register::QueueSelect => self.queue_select = value as u16,
            _ => self.write_queue(register, value, vector),
        }
    }

    fn write_driver_features(&mut self, value: u32) {
        let shift = match self.driver_feature_select {
            0 => 0,
            1 => 32,
            _ => return,
        };
        self.driver_features &= !(0xffff_ffff << shift);
        self.driver_features |= u64::from(value) << shift;
    }

    fn write_status(&mut self, value: u8) {
        if value == 0 {
            self.reset();
            return;
        }
        let version_1 = self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0;
        let acceptable = version_1 && self.driver_features & !self.offered() == 0;
        // A driver sees by the missing bit that its choice was refused.
        let refused = if acceptable { 0 } else { STATUS_FEATURES_OK };
        self.status = value & !refused | self.status & STATUS_NEEDS_RESET;
    }

    fn write_queue(&mut self, register: Register, value: u32, vector: u16) {
        let Some(selected) = self.queues.get_mut(usize::from(self.queue_select)) else {
            return;
        };
        let queue = &mut selected.queue;
        match register {
            Register::QueueVector => selected.vector = vector,
            // The spec has it that an enabled queue stays as it is until the device is reset.
            _ if queue.ready() => {}
            Register::QueueSize => queue.set_size(value as u16),
            Register::QueueEnable => queue.set_ready(value == 1),
            Register::QueueDescLow => queue.set_desc_table_address(Some(value), None),
            Register::QueueDescHigh => queue.set_desc_table_address(None, Some(value)),
            Register::QueueDriverLow => queue.set_avail_ring_address(Some(value), None),
            Register::QueueDriverHigh => queue.set_avail_ring_address(None, Some(value)),
            Register::QueueDeviceLow => queue.set_used_ring_address(Some(value), None),
            Register::QueueDeviceHigh => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    /// Serves the requests of queue `index`, at most one ring's worth.
    pub fn serve(&mut self, index: u16, memory: &GuestMemory) -> Served {
        let nothing = Served {
            interrupt: None,
            again: false,
        };
        let running = self.status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET) == STATUS_DRIVER_OK;
        let Some(entry) = self.queues.get_mut(usize::from(index)) else {
            return nothing;
        };
        if !running || !entry.queue.is_valid(memory) {
            return nothing;
        }
        let result = serve_queue(&mut *self.device, index, &mut entry.queue, memory);
        match result {
            Ok(0) => nothing,
            Ok(count) => Served {
                interrupt: Some(entry.vector),
                again: count == entry.queue.size(),
            },
            Err(Malformed) => {
                debug!(queue = index, "malformed request");
                self.status |= STATUS_NEEDS_RESET;
                Served {
                    interrupt: Some(self.config_vector),
                    again: false,
                }
            }
        }
    }
}

/// Serves at most one ring's worth of requests; returns how many.
fn serve_queue(
    device: &mut dyn VirtioDevice,
    index: u16,
    queue: &mut Queue,
    memory: &GuestMemory,
) -> Result<u16, Malformed> {
    let mut count = 0;
    while count < queue.size() {
        let chain = queue.iter(memory).map_err(|_| Malformed)?.next();
        let Some(chain) = chain else { break };
        let written = device.serve(index, &chain)?;
        queue
            .add_used(memory, chain.head_index(), written)
            .map_err(|_| Malformed)?;
        count += 1;
    }
    Ok(count)
}

/// Bits 0 to 31 or 32 to 63 of `value`; nothing beyond.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rng;
    use super::*;

    fn transport() -> Transport {
        Transport::new(Box::new(Rng::default())).unwrap()
    }

    fn accept(transport: &mut Transport, select: u32, features: u32) {
        transport.write(Register::DriverFeatureSelect, select, 2);
        transport.write(Register::DriverFeature, features, 2);
    }

    #[test]
    fn driver_without_version_1_is_refused() {
        let mut transport = transport();

        transport.write(Register::DeviceStatus, 3 | u32::from(STATUS_FEATURES_OK), 2);

        assert_eq!(transport.read(Register::DeviceStatus), 3);
    }

    #[test]
    fn feature_that_was_not_offered_is_refused() {
        let mut transport = transport();
        accept(&mut transport, 1, 1);
        accept(&mut transport, 0, 1 << 20);

        transport.write(Register::DeviceStatus, 3 | u32::from(STATUS_FEATURES_OK), 2);

        assert_eq!(transport.read(Register::DeviceStatus), 3);
    }

    #[test]
    fn offered_features_are_accepted() {
        let mut transport = transport();
        accept(&mut transport, 1, 1);

        transport.write(Register::DeviceStatus, 3 | u32::from(STATUS_FEATURES_OK), 2);

        assert_eq!(transport.read(Register::DeviceStatus), 11);
    }

    #[test]
    fn reset_disables_the_queues() {
        let mut transport = transport();
        transport.write(Register::QueueEnable, 1, 2);
        assert_eq!(transport.read(Register::QueueEnable), 1);

        transport.write(Register::DeviceStatus, 0, 2);

        assert_eq!(transport.read(Register::QueueEnable), 0);
    }

    #[test]
    fn queue_that_does_not_exist_has_no_size() {
        let mut transport = transport();
        transport.write(Register::QueueSelect, 9, 2);
        transport.write(Register::QueueSize, 4, 2);

        assert_eq!(transport.read(Register::QueueSize), 0);
    }

    #[test]
    fn queue_outside_memory_is_not_served() {
        let mut transport = transport();
        accept(&mut transport, 1, 1);
        for register in [
            Register::QueueDescHigh,
            Register::QueueDriverHigh,
            Register::QueueDeviceHigh,
        ] {
            transport.write(register, 0x7fff_ffff, 2);
        }
        transport.write(Register::QueueEnable, 1, 2);
        transport.write(Register::DeviceStatus, 15, 2);

        let served = transport.serve(
            0,
            &crate::memory::create(2 << 20, crate::memory::Pages::Small).unwrap(),
        );

        assert_eq!((served.interrupt, served.again), (None, false));
    }
}
