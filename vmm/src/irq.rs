//! Interrupts of PCI devices: messages, and the four pins.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::debug;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::layout;
use crate::vm::{MsiMessage, VmError, VmOps};

/// The interrupts of one machine.
pub struct Interrupts {
    vm: Arc<dyn VmOps>,
    messages: Mutex<Messages>,
    pins: Mutex<BTreeMap<u32, u32>>,
}

#[derive(Default)]
struct Messages {
    allocated: u32,
    routes: BTreeMap<u32, MsiMessage>,
}

impl Interrupts {
    /// No interrupts yet, on `vm`.
    pub fn new(vm: Arc<dyn VmOps>) -> Arc<Self> {
        Arc::new(Interrupts {
            vm,
            messages: Mutex::default(),
            pins: Mutex::default(),
        })
    }

    /// A new message interrupt, going nowhere.
    pub fn message(self: &Arc<Self>) -> io::Result<MessageVector> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        let gsi = {
            let mut messages = self.messages.lock();
            let gsi = layout::IO_APIC_PINS + messages.allocated;
            messages.allocated += 1;
            gsi
        };
        self.vm.add_interrupt(&event, gsi)?;
        Ok(MessageVector {
            interrupts: Arc::clone(self),
            gsi,
            event,
        })
    }

    /// An edge-triggered pin of the I/O APIC that follows an event.
    pub fn edge(&self, gsi: u32) -> io::Result<EventFd> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        self.vm.add_interrupt(&event, gsi)?;
        Ok(event)
    }

    /// One device's share of the level-triggered pin `gsi`.
    pub fn pin(self: &Arc<Self>, gsi: u32) -> PinShare {
        PinShare {
            interrupts: Arc::clone(self),
            gsi,
            asserted: Mutex::new(false),
        }
    }

    fn route(&self, gsi: u32, message: Option<MsiMessage>) -> Result<(), VmError> {
        let mut messages = self.messages.lock();
        let before = match message {
            Some(message) => messages.routes.insert(gsi, message),
            None => messages.routes.remove(&gsi),
        };
        if before == message {
            return Ok(());
        }
        let routes: Vec<_> = messages.routes.iter().map(|(&g, &m)| (g, m)).collect();
        self.vm.set_messages(&routes)
    }
}

/// A message interrupt.
pub struct MessageVector {
    interrupts: Arc<Interrupts>,
    gsi: u32,
    event: EventFd,
}

impl MessageVector {
    /// Sends the interrupt to `message` from now on, or nowhere.
    pub fn route(&self, message: Option<MsiMessage>) {
        if let Err(error) = self.interrupts.route(self.gsi, message) {
            // The guest chose the message, so this is no warning: it loses its own interrupt.
            debug!(gsi = self.gsi, %error, "interrupt not routed");
        }
    }

    /// Raises the interrupt once.
    pub fn raise(&self) {
        // Fails only when 2^64 - 2 interrupts are waiting: one is certain to arrive.
        let _ = self.event.write(1);
    }

    /// The event behind it, for those who raise it from elsewhere.
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

impl Drop for MessageVector {
    fn drop(&mut self) {
        self.route(None);
        let _ = self.interrupts.vm.remove_interrupt(&self.event, self.gsi);
    }
}

/// One device's share of a level-triggered pin: the pin is high while any share is asserted.
pub struct PinShare {
    interrupts: Arc<Interrupts>,
    gsi: u32,
    asserted: Mutex<bool>,
}

impl PinShare {
    /// Asserts or releases this share.
    pub fn set(&self, asserted: bool) {
        let mut mine = self.asserted.lock();
        if *mine == asserted {
            return;
        }
        *mine = asserted;
        let mut pins = self.interrupts.pins.lock();
        let holders = pins.entry(self.gsi).or_default();
        let before = *holders;
        *holders = if asserted { before + 1 } else { before - 1 };
        if (before == 0) != (*holders == 0) {
            // A pin below IO_APIC_PINS always exists.
            let _ = self.interrupts.vm.set_line(self.gsi, asserted);
        }
    }
}

impl Drop for PinShare {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::testing::TestVm;

    #[test]
    fn shared_pin_stays_high_until_the_last_release() {
        let vm = Arc::new(TestVm::default());
        let interrupts = Interrupts::new(vm.clone());
        let (a, b) = (interrupts.pin(17), interrupts.pin(17));

        a.set(true);
        b.set(true);
        a.set(false);
        assert!(vm.0.lock().lines[&17]);
        b.set(false);
        assert!(!vm.0.lock().lines[&17]);
    }

    #[test]
    fn dropped_vector_leaves_no_route() {
        let vm = Arc::new(TestVm::default());
        let interrupts = Interrupts::new(vm.clone());
        let vector = interrupts.message().unwrap();
        let message = MsiMessage {
            address: 0xfee0_0000,
            data: 0x41,
        };

        vector.route(Some(message));
        assert_eq!(vm.0.lock().messages[&layout::IO_APIC_PINS], message);
        drop(vector);

        assert!(vm.0.lock().messages.is_empty());
    }
}
