//! Writes that KVM collected instead of exiting for each.
//!
//! There is one ring for all processors of a machine. Whoever has an exit to serve first passes on
//! what is in the ring, so that a device sees the writes of a processor in their order.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use kvm_bindings::{KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio, kvm_coalesced_mmio_ring};
use parking_lot::Mutex;

use crate::bus::BusView;
use crate::metrics::Counter;
use crate::vcpu::shared::Shared;

/// The ring is one page.
const PAGE: usize = 0x1000;
/// Entries of the ring, of which one stays free.
const ENTRIES: u32 =
    ((PAGE - size_of::<kvm_coalesced_mmio_ring>()) / size_of::<kvm_coalesced_mmio>()) as u32;

/// The ring of a machine.
pub struct CollectedWrites {
    ring: Shared<kvm_coalesced_mmio_ring>,
    /// Held by the processor that passes writes on.
    turn: Mutex<()>,
    counter: Counter,
}

// SAFETY: the ring belongs to no thread: entries are read by the holder of `turn` only, and the two
// indices are atomic.
unsafe impl Send for CollectedWrites {}
// SAFETY: as above.
unsafe impl Sync for CollectedWrites {}

impl CollectedWrites {
    /// The ring of the machine that `processor` belongs to; `counter` counts what comes through it.
    ///
    /// # Errors
    ///
    /// The hypervisor has none.
    pub fn new(processor: &impl AsRawFd, counter: Counter) -> io::Result<Self> {
        Ok(Self {
            ring: Shared::map(processor, KVM_COALESCED_MMIO_PAGE_OFFSET, PAGE)?,
            turn: Mutex::new(()),
            counter,
        })
    }

    /// The index of the next entry to read, and that behind the last one.
    fn indices(&self) -> (&AtomicU32, &AtomicU32) {
        let ring = self.ring.as_ptr();
        // SAFETY: the ring is mapped as long as this exists; both words are aligned, and the kernel
        // and this process access them as words only.
        unsafe {
            (
                AtomicU32::from_ptr(&raw mut (*ring).first),
                AtomicU32::from_ptr(&raw mut (*ring).last),
            )
        }
    }

    /// Passes on what was collected.
    #[inline]
    pub fn pass_on(&self, bus: &mut BusView) {
        let (first, last) = self.indices();
        if first.load(Ordering::Relaxed) != last.load(Ordering::Acquire) {
            self.drain(bus);
        }
    }

    fn drain(&self, bus: &mut BusView) {
        let _turn = self.turn.lock();
        let (first, last) = self.indices();
        let mut at = first.load(Ordering::Relaxed);
        while at != last.load(Ordering::Acquire) {
            // SAFETY: the kernel keeps both indices below the number of entries, which follow the
            // header in the page; it has completed this one and does not touch it until `first` has
            // passed it.
            let entry = unsafe {
                let entries =
                    (&raw const (*self.ring.as_ptr()).coalesced_mmio).cast::<kvm_coalesced_mmio>();
                entries.add((at % ENTRIES) as usize).read()
            };
            let len = (entry.len as usize).min(entry.data.len());
            bus.mmio_write(entry.phys_addr, &entry.data[..len]);
            self.counter.increment();
            at = (at + 1) % ENTRIES;
            first.store(at, Ordering::Release);
        }
    }
}
