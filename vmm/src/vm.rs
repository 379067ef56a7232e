//! What the rest of the VMM asks of the hypervisor, and KVM as the one that does it.

use std::io;
use std::sync::Arc;

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_PIT_SPEAKER_DUMMY,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use thiserror::Error;
use vmm_sys_util::eventfd::EventFd;

use crate::layout;
use crate::store_rings::StoreRings;

/// Pins of the legacy interrupt controllers.
const PIC_PINS: u32 = 8;

/// A hypervisor operation that failed.
#[derive(Debug, Error)]
pub enum VmError {
    /// The hypervisor cannot be used at all.
    #[error("Cannot open /dev/kvm")]
    Open(#[source] kvm_ioctls::Error),
    /// One of its calls failed.
    #[error("Cannot {what}")]
    Call {
        /// What was to be done, as "cannot …".
        what: &'static str,
        /// Why not.
        source: kvm_ioctls::Error,
    },
    /// Interrupt routes do not fit the hypervisor's table.
    #[error("Too many interrupt routes")]
    TooManyRoutes,
    /// It has no rings of stores.
    #[error("This host's KVM has no dirty ring: leave --track ring out, or take another way")]
    NoStoreRing(#[source] io::Error),
}

/// Names the call that failed.
pub fn call<T>(what: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, VmError> {
    result.map_err(|source| VmError::Call { what, source })
}

/// Memory of this process that the guest reaches without an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// Guest physical address, page aligned.
    pub guest: u64,
    /// Length in bytes, page aligned.
    pub len: u64,
    /// Address in this process. Stays mapped until the slot is removed.
    pub host: u64,
    /// Guest writes exit instead of reaching the memory.
    pub read_only: bool,
    /// It is remembered which pages guests store to.
    pub log_stores: bool,
}

/// How stores of guests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreLog {
    /// By memory slot, a bit for each page.
    #[default]
    Slots,
    /// By processor, an entry for each page that is stored to first.
    Rings,
}

/// Writes to one address that signal an event instead of causing an exit.
#[derive(Debug)]
pub struct Doorbell {
    /// Guest physical address.
    pub guest: u64,
    /// The event.
    pub event: EventFd,
    /// Only writes of this 16-bit value count; `None` takes any value and width.
    pub value: Option<u16>,
}

/// Where a message interrupt goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsiMessage {
    /// Address that the device writes.
    pub address: u64,
    /// Data that it writes there.
    pub data: u32,
}

/// The hypervisor's side of a machine.
pub trait VmOps: Send + Sync {
    /// Puts `memory` into slot `slot`.
    fn add_memory(&self, slot: u32, memory: HostMemory) -> Result<(), VmError>;
    /// Empties slot `slot`, which held `memory`.
    fn remove_memory(&self, slot: u32, memory: HostMemory) -> Result<(), VmError>;
    /// Which pages of slot `slot`, which holds `memory` and logs stores, were stored to since this
    /// was asked: a bit each.
    fn stored_pages(&self, slot: u32, memory: HostMemory) -> Result<Vec<u64>, VmError>;
    /// The rings with what all slots that log stores were stored to, if those logs are kept there
    /// and not by slot.
    fn store_rings(&self) -> Option<&Arc<StoreRings>> {
        None
    }
    /// Installs a doorbell.
    fn add_doorbell(&self, doorbell: &Doorbell) -> Result<(), VmError>;
    /// Removes a doorbell.
    fn remove_doorbell(&self, doorbell: &Doorbell) -> Result<(), VmError>;
    /// Collects writes to `len` bytes at `guest` instead of exiting for each.
    fn collect_stores(&self, guest: u64, len: u32) -> Result<(), VmError>;
    /// Ends that.
    fn stop_collecting(&self, guest: u64, len: u32) -> Result<(), VmError>;
    /// Makes interrupt `gsi` follow `event`.
    fn add_interrupt(&self, event: &EventFd, gsi: u32) -> Result<(), VmError>;
    /// Ends that.
    fn remove_interrupt(&self, event: &EventFd, gsi: u32) -> Result<(), VmError>;
    /// Replaces all routes of message interrupts; the pins of the I/O APIC stay as they are.
    fn set_messages(&self, routes: &[(u32, MsiMessage)]) -> Result<(), VmError>;
    /// Drives a pin of the I/O APIC.
    fn set_line(&self, gsi: u32, high: bool) -> Result<(), VmError>;
}

/// A virtual machine in KVM: memory, irqchip and timer in the kernel.
#[derive(Debug)]
pub struct KvmVm {
    kvm: Kvm,
    fd: VmFd,
    rings: Option<Arc<StoreRings>>,
}

impl KvmVm {
    /// A machine without memory and processors, which logs stores by slot, or in rings.
    pub fn new(log: StoreLog) -> Result<Self, VmError> {
        let kvm = Kvm::new().map_err(VmError::Open)?;
        let fd = loop {
            match kvm.create_vm() {
                // The kernel gives up here when a signal arrives.
                Err(error) if error.errno() == libc::EINTR => {}
                result => break call("create a virtual machine", result)?,
            }
        };
        call(
            "place the identity map",
            fd.set_identity_map_address(layout::KVM_IDENTITY_MAP),
        )?;
        call(
            "place the task state segment",
            fd.set_tss_address(layout::KVM_TSS as usize),
        )?;
        call("create the interrupt controllers", fd.create_irq_chip())?;
        let timer = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        call("create the timer", fd.create_pit2(timer))?;
        let rings = match log {
            StoreLog::Slots => None,
            StoreLog::Rings => Some(StoreRings::new(&fd).map_err(VmError::NoStoreRing)?),
        };
        Ok(KvmVm {
            kvm,
            fd,
            rings: rings.map(Arc::new),
        })
    }

    /// The system-wide handle.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// Creates virtual CPU `index`.
    pub fn create_vcpu(&self, index: u8) -> Result<VcpuFd, VmError> {
        let vcpu = call(
            "create a virtual CPU",
            self.fd.create_vcpu(u64::from(index)),
        )?;
        if let Some(rings) = &self.rings {
            rings.add(&vcpu).map_err(VmError::NoStoreRing)?;
        }
        Ok(vcpu)
    }

    fn set_region(&self, slot: u32, memory: HostMemory, len: u64) -> Result<(), VmError> {
        let mut flags = 0;
        if memory.read_only {
            flags |= KVM_MEM_READONLY;
        }
        // An empty slot has no log.
        if memory.log_stores && len != 0 {
            flags |= KVM_MEM_LOG_DIRTY_PAGES;
        }
        let region = kvm_userspace_memory_region {
            slot,
            flags,
            guest_phys_addr: memory.guest,
            memory_size: len,
            userspace_addr: memory.host,
        };
        // SAFETY: the owner of `HostMemory` keeps it mapped until the slot is removed.
        call("set a memory slot", unsafe {
            self.fd.set_user_memory_region(region)
        })
    }
}

impl VmOps for KvmVm {
    fn add_memory(&self, slot: u32, memory: HostMemory) -> Result<(), VmError> {
        self.set_region(slot, memory, memory.len)
    }

    fn remove_memory(&self, slot: u32, memory: HostMemory) -> Result<(), VmError> {
        self.set_region(slot, memory, 0)
    }

    fn stored_pages(&self, slot: u32, memory: HostMemory) -> Result<Vec<u64>, VmError> {
        let len = memory.len as usize;
        call("read a log of stores", self.fd.get_dirty_log(slot, len))
    }

    fn store_rings(&self) -> Option<&Arc<StoreRings>> {
        self.rings.as_ref()
    }

    fn add_doorbell(&self, doorbell: &Doorbell) -> Result<(), VmError> {
        let at = IoEventAddress::Mmio(doorbell.guest);
        call(
            "install a doorbell",
            match doorbell.value {
                Some(value) => self.fd.register_ioevent(&doorbell.event, &at, value),
                None => self.fd.register_ioevent(&doorbell.event, &at, NoDatamatch),
            },
        )
    }

    fn remove_doorbell(&self, doorbell: &Doorbell) -> Result<(), VmError> {
        let at = IoEventAddress::Mmio(doorbell.guest);
        call(
            "remove a doorbell",
            match doorbell.value {
                Some(value) => self.fd.unregister_ioevent(&doorbell.event, &at, value),
                None => self
                    .fd
                    .unregister_ioevent(&doorbell.event, &at, NoDatamatch),
            },
        )
    }

    fn collect_stores(&self, guest: u64, len: u32) -> Result<(), VmError> {
        let at = IoEventAddress::Mmio(guest);
        call("collect writes", self.fd.register_coalesced_mmio(at, len))
    }

    fn stop_collecting(&self, guest: u64, len: u32) -> Result<(), VmError> {
        let at = IoEventAddress::Mmio(guest);
        call(
            "stop collecting writes",
            self.fd.unregister_coalesced_mmio(at, len),
        )
    }

    fn add_interrupt(&self, event: &EventFd, gsi: u32) -> Result<(), VmError> {
        call("connect an interrupt", self.fd.register_irqfd(event, gsi))
    }

    fn remove_interrupt(&self, event: &EventFd, gsi: u32) -> Result<(), VmError> {
        call(
            "disconnect an interrupt",
            self.fd.unregister_irqfd(event, gsi),
        )
    }

    fn set_messages(&self, routes: &[(u32, MsiMessage)]) -> Result<(), VmError> {
        let mut entries = pin_routes();
        entries.extend(
            routes
                .iter()
                .map(|&(gsi, message)| message_route(gsi, message)),
        );
        let table = KvmIrqRouting::from_entries(&entries).map_err(|_| VmError::TooManyRoutes)?;
        call("set the interrupt routes", self.fd.set_gsi_routing(&table))
    }

    fn set_line(&self, gsi: u32, high: bool) -> Result<(), VmError> {
        call("drive an interrupt line", self.fd.set_irq_line(gsi, high))
    }
}

/// The routes that KVM starts with: each pin of the I/O APIC, the first sixteen also to the PICs.
fn pin_routes() -> Vec<kvm_irq_routing_entry> {
    let pin = |gsi, irqchip, pin| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    };
    let mut routes = Vec::new();
    for gsi in 0..layout::IO_APIC_PINS {
        routes.push(pin(gsi, KVM_IRQCHIP_IOAPIC, gsi));
        if gsi < PIC_PINS {
            routes.push(pin(gsi, KVM_IRQCHIP_PIC_MASTER, gsi));
        } else if gsi < 2 * PIC_PINS {
            routes.push(pin(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_PINS));
        }
    }
    routes
}

fn message_route(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            msi: kvm_irq_routing_msi {
                address_lo: message.address as u32,
                address_hi: (message.address >> 32) as u32,
                data: message.data,
                ..Default::default()
            },
        },
        ..Default::default()
    }
}

/// Turns a failed hypervisor call into an I/O error, for callers that only have those.
impl From<VmError> for io::Error {
    fn from(error: VmError) -> Self {
        io::Error::other(error)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A hypervisor that only remembers what it was asked.

    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;

    /// What a [`TestVm`] was asked to hold.
    #[derive(Debug, Default)]
    pub struct Held {
        pub memory: BTreeMap<u32, HostMemory>,
        pub stored: BTreeMap<u32, Vec<u64>>,
        pub doorbells: Vec<u64>,
        pub collected: Vec<(u64, u32)>,
        pub messages: BTreeMap<u32, MsiMessage>,
        pub lines: BTreeMap<u32, bool>,
    }

    /// See the module.
    #[derive(Debug, Default)]
    pub struct TestVm(pub Mutex<Held>);

    impl VmOps for TestVm {
        fn add_memory(&self, slot: u32, memory: HostMemory) -> Result<(), VmError> {
            assert!(self.0.lock().memory.insert(slot, memory).is_none());
            Ok(())
        }
        fn remove_memory(&self, slot: u32, memory: HostMemory) -> Result<(), VmError> {
            assert_eq!(self.0.lock().memory.remove(&slot), Some(memory));
            Ok(())
        }
        fn stored_pages(&self, slot: u32, _memory: HostMemory) -> Result<Vec<u64>, VmError> {
            Ok(self.0.lock().stored.remove(&slot).unwrap_or_default())
        }
        fn add_doorbell(&self, doorbell: &Doorbell) -> Result<(), VmError> {
            self.0.lock().doorbells.push(doorbell.guest);
            Ok(())
        }
        fn remove_doorbell(&self, doorbell: &Doorbell) -> Result<(), VmError> {
            self.0.lock().doorbells.retain(|&at| at != doorbell.guest);
            Ok(())
        }
        fn collect_stores(&self, guest: u64, len: u32) -> Result<(), VmError> {
            self.0.lock().collected.push((guest, len));
            Ok(())
        }
        fn stop_collecting(&self, guest: u64, len: u32) -> Result<(), VmError> {
            self.0.lock().collected.retain(|run| *run != (guest, len));
            Ok(())
        }
        fn add_interrupt(&self, _event: &EventFd, _gsi: u32) -> Result<(), VmError> {
            Ok(())
        }
        fn remove_interrupt(&self, _event: &EventFd, _gsi: u32) -> Result<(), VmError> {
            Ok(())
        }
        fn set_messages(&self, routes: &[(u32, MsiMessage)]) -> Result<(), VmError> {
            self.0.lock().messages = routes.iter().copied().collect();
            Ok(())
        }
        fn set_line(&self, gsi: u32, high: bool) -> Result<(), VmError> {
            self.0.lock().lines.insert(gsi, high);
            Ok(())
        }
    }
}
