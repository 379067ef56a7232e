//! KVM's dirty rings: which pages guests stored to, in the order in which they did.
//!
//! Each processor has a ring, in memory that is shared with KVM. An entry is a page of a memory slot
//! that logs stores; once it is taken and handed back, KVM protects the page again, so that the next
//! store makes another entry. Source: `Documentation/virt/kvm/api.rst`, KVM_CAP_DIRTY_LOG_RING.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use kvm_bindings::{
    KVM_CAP_DIRTY_LOG_RING, KVM_DIRTY_LOG_PAGE_OFFSET, KVMIO, kvm_dirty_gfn, kvm_enable_cap,
};
use kvm_ioctls::VmFd;
use parking_lot::Mutex;
use vmm_sys_util::ioctl::ioctl;

use crate::vcpu::shared::Shared;

/// Protects what was handed back: `_IO(KVMIO, 0xc7)` (`linux/kvm.h`).
const KVM_RESET_DIRTY_RINGS: libc::c_ulong = (KVMIO as libc::c_ulong) << 8 | 0xc7;

/// Entries of a ring: more than the page tables of a guest have pages.
const ENTRIES: u32 = 4096;
const BYTES: usize = ENTRIES as usize * size_of::<kvm_dirty_gfn>();
/// States of an entry.
///
/// Source: `linux/kvm.h`.
const DIRTY: u32 = 1 << 0;
const RESET: u32 = 1 << 1;
/// Whether KVM leaves the log to an Intel processor, which keeps pages to itself until it exits.
const PML: &str = "/sys/module/kvm_intel/parameters/pml";

/// A page of a memory slot: the slot's number, and the page's in it.
pub type StoredPage = (u32, u64);

/// The rings of a machine.
#[derive(Debug)]
pub struct StoreRings {
    vm: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rings: Vec<Ring>,
    /// What was taken from full rings before anybody asked.
    waiting: BTreeSet<StoredPage>,
}

/// The ring of a processor.
#[derive(Debug)]
struct Ring {
    entries: Shared<kvm_dirty_gfn>,
    next: u32,
}

// SAFETY: the ring belongs to no thread; whoever has it exclusively reads it, and shares only the
// words of state with the kernel, by atomic accesses.
unsafe impl Send for Ring {}

impl StoreRings {
    /// Lets `vm`, which has no processors yet, log stores in rings.
    ///
    /// # Errors
    ///
    /// KVM cannot.
    pub fn new(vm: &VmFd) -> io::Result<Self> {
        let most = vm.check_extension_raw(KVM_CAP_DIRTY_LOG_RING.into());
        if usize::try_from(most).unwrap_or(0) < BYTES {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut cap = kvm_enable_cap {
            cap: KVM_CAP_DIRTY_LOG_RING,
            ..Default::default()
        };
        cap.args[0] = BYTES as u64;
        vm.enable_cap(&cap)?;
        // SAFETY: the descriptor is open as long as `vm` is borrowed.
        let own = unsafe { BorrowedFd::borrow_raw(vm.as_raw_fd()) }.try_clone_to_owned()?;
        Ok(Self {
            vm: own,
            state: Mutex::default(),
        })
    }

    /// Whether a ring has all stores of a processor that is in the guest.
    pub fn are_prompt() -> bool {
        !fs::read_to_string(PML).is_ok_and(|value| value.starts_with('Y'))
    }

    /// Adds the ring of `processor`.
    ///
    /// # Errors
    ///
    /// It cannot be mapped.
    pub fn add(&self, processor: &impl AsRawFd) -> io::Result<()> {
        let entries = Shared::map(processor, KVM_DIRTY_LOG_PAGE_OFFSET, BYTES)?;
        self.state.lock().rings.push(Ring { entries, next: 0 });
        Ok(())
    }

    /// Calls `found` with each page that was stored to since the last call. A store that comes later
    /// makes a new entry.
    ///
    /// # Errors
    ///
    /// KVM does not protect the pages again.
    pub fn take(&self, found: &mut dyn FnMut(StoredPage)) -> io::Result<()> {
        let mut state = self.state.lock();
        let result = self.gather(&mut state);
        std::mem::take(&mut state.waiting)
            .into_iter()
            .for_each(found);
        result
    }

    /// Makes room in the rings: a processor does not enter the guest when its own is full.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn relieve(&self) -> io::Result<()> {
        self.gather(&mut self.state.lock())
    }

    fn gather(&self, state: &mut State) -> io::Result<()> {
        let State { rings, waiting } = state;
        let mut any = false;
        for ring in rings {
            while let Some(page) = ring.pop() {
                waiting.insert(page);
                any = true;
            }
        }
        if !any {
            return Ok(());
        }
        // SAFETY: the call has no operand.
        match unsafe { ioctl(&self.vm, KVM_RESET_DIRTY_RINGS) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Ring {
    /// The next page, handed back.
    fn pop(&mut self) -> Option<StoredPage> {
        // SAFETY: the index is below the number of entries, all of which are mapped as long as this
        // exists. The kernel writes the other fields before the state, and not again until it is
        // handed back.
        unsafe {
            let entry = self.entries.as_ptr().add((self.next % ENTRIES) as usize);
            let state = AtomicU32::from_ptr(&raw mut (*entry).flags);
            if state.load(Ordering::Acquire) & (DIRTY | RESET) != DIRTY {
                return None;
            }
            let page = ((*entry).slot & 0xffff, (*entry).offset);
            state.store(RESET, Ordering::Release);
            self.next = self.next.wrapping_add(1);
            Some(page)
        }
    }
}
