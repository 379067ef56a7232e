//! Interrupts to a vfio-user client: an event descriptor for the pin and one for the message.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// The interrupt pins of a function, wired to the client's event descriptors.
#[derive(Debug, Default)]
pub struct Irqs {
    msi: Mutex<Option<File>>,
    pin: Mutex<Pin>,
    sent: AtomicU64,
}

#[derive(Debug, Default)]
struct Pin {
    event: Option<File>,
    level: bool,
    masked: bool,
}

impl Pin {
    fn deliver(&mut self) {
        if self.level && !self.masked {
            // The client masks the pin when it sees the event and unmasks it after its handler.
            self.masked = true;
            signal(self.event.as_ref());
        }
    }
}

fn signal(event: Option<&File>) {
    if let Some(mut event) = event {
        // An event descriptor refuses only when its counter is full: the client has been told.
        let _ = event.write_all(&1u64.to_ne_bytes());
    }
}

/// Makes `event` one that nobody waits for: the card serves other clients, too.
fn without_waiting(event: Option<File>) -> io::Result<Option<File>> {
    if let Some(event) = &event {
        fcntl_setfl(event, fcntl_getfl(event)? | OFlags::NONBLOCK)?;
    }
    Ok(event)
}

impl Irqs {
    /// Wires the message to `event`, or cuts it.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be made one that does not block.
    pub fn set_msi(&self, event: Option<File>) -> io::Result<()> {
        *self.msi.lock() = without_waiting(event)?;
        Ok(())
    }

    /// Wires the pin to `event`, or cuts it.
    ///
    /// # Errors
    ///
    /// As [`Irqs::set_msi`].
    pub fn set_pin(&self, event: Option<File>) -> io::Result<()> {
        self.wire_pin(without_waiting(event)?);
        Ok(())
    }

    fn wire_pin(&self, event: Option<File>) {
        let mut pin = self.pin.lock();
        pin.event = event;
        pin.masked = false;
        pin.deliver();
    }

    /// The client stops or goes on listening to the pin.
    pub fn mask_pin(&self, masked: bool) {
        let mut pin = self.pin.lock();
        pin.masked = masked;
        pin.deliver();
    }

    /// Cuts both.
    pub fn disconnect(&self) {
        *self.msi.lock() = None;
        self.wire_pin(None);
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl gf100::Bus for Irqs {
    fn msi(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        signal(self.msi.lock().as_ref());
    }

    fn intx(&self, level: bool) {
        let mut pin = self.pin.lock();
        pin.level = level;
        pin.deliver();
    }
}

#[cfg(test)]
mod tests {
    use gf100::Bus;
    use vmm_sys_util::eventfd::EventFd;

    use super::*;

    fn wired(wire: impl Fn(&Irqs, Option<File>) -> io::Result<()>) -> (Irqs, EventFd) {
        let event = EventFd::new(0).unwrap();
        let irqs = Irqs::default();
        let copy = event.try_clone().unwrap();
        // SAFETY: the duplicate descriptor is open and has no other owner.
        let file = unsafe {
            std::os::fd::FromRawFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(copy))
        };
        wire(&irqs, Some(file)).unwrap();
        (irqs, event)
    }

    #[test]
    fn nobody_waits_for_a_client_that_does_not_look() {
        let (irqs, event) = wired(Irqs::set_msi);
        event.write(u64::MAX - 1).unwrap();
        irqs.msi();
        assert_eq!(event.read().unwrap(), u64::MAX - 1);
    }

    #[test]
    fn a_message_writes_the_event() {
        let (irqs, event) = wired(Irqs::set_msi);
        irqs.msi();
        irqs.msi();
        assert_eq!(event.read().unwrap(), 2);
        assert_eq!(irqs.sent(), 2);
    }

    #[test]
    fn a_level_is_told_once_until_the_client_unmasks() {
        let (irqs, event) = wired(Irqs::set_pin);
        irqs.intx(true);
        irqs.intx(true);
        assert_eq!(event.read().unwrap(), 1);
        irqs.mask_pin(false);
        assert_eq!(event.read().unwrap(), 1);
        irqs.intx(false);
        irqs.mask_pin(false);
        assert!(event.read().is_err());
    }
}
