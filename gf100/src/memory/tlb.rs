//! A translation lookaside buffer: one client's, private to its thread.

use std::ptr::{self, NonNull};
use std::sync::{Arc, atomic::AtomicU64};

use mmio::layout::pagetable::SMALL_SHIFT;

use super::epoch::Slot;
use super::mmu::Privilege;
use super::{
    Access, BusError, Fault, FaultReason, Guard, HostSpan, Memory, PhysAddr, Shared, Space, Word,
};

/// log2 of what an entry for large pages covers: the smaller of their sizes, so that looking one
/// up does not depend on the size that is set.
const LARGE_SHIFT: u32 = 16;
/// Entries for large pages.
const LARGE: usize = 128;
/// Entries for small pages.
const SMALL: usize = 256;

/// A cached translation: from page number to host address.
#[derive(Clone, Copy)]
struct Entry {
    page: u64,
    /// Start of the page in this process, with [`WRITABLE`] in bit 0.
    host: *mut u8,
}

/// Stores are allowed. Pages are aligned, so the bit is free.
const WRITABLE: usize = 1;

impl Entry {
    const EMPTY: Self = Self {
        page: u64::MAX,
        host: ptr::null_mut(),
    };

    /// The span from `offset` into the page, which is `1 << shift` long, if the entry is for
    /// `page` and allows the access.
    ///
    /// # Safety
    ///
    /// The entry is not out of date, and `'g` is within a guard that was entered before that was
    /// found out.
    #[inline]
    unsafe fn span<'g>(&self, va: u64, shift: u32, access: Access) -> Option<HostSpan<'g>> {
        let writable = self.host.addr() & WRITABLE != 0;
        if self.page != va >> shift || (access == Access::Write && !writable) {
            return None;
        }
        let offset = (va & ((1 << shift) - 1)) as usize;
        // SAFETY: by the caller, the page is mapped; the offset is inside it.
        unsafe {
            let start = self.host.map_addr(|addr| addr & !WRITABLE).add(offset);
            Some(HostSpan::new(
                NonNull::new_unchecked(start),
                (1 << shift) - offset,
                writable,
            ))
        }
    }
}

/// The translations that a client knows, and the address space that they are of.
pub(super) struct Tlb {
    /// Memory's, one step closer.
    shared: Arc<Shared>,
    privilege: Privilege,
    instance: Option<PhysAddr>,
    space: Option<Space>,
    slot: Slot,
    /// The epoch in which the entries were made.
    stamp: u64,
    large: [Entry; LARGE],
    small: [Entry; SMALL],
}

// SAFETY: the entries' pointers are only used under a guard that proves them valid, on whichever
// thread.
unsafe impl Send for Tlb {}

impl Tlb {
    /// A TLB of no address space.
    pub(super) fn new(memory: &Memory, privilege: Privilege) -> Self {
        Self {
            shared: memory.shared.clone(),
            privilege,
            instance: None,
            space: None,
            slot: Slot::default(),
            stamp: 0,
            large: [Entry::EMPTY; LARGE],
            small: [Entry::EMPTY; SMALL],
        }
    }

    /// The instance block of the address space.
    pub(super) fn instance(&self) -> Option<PhysAddr> {
        self.instance
    }

    /// See [`Client::epoch`](super::Client::epoch).
    #[inline]
    pub(super) fn epoch(&self) -> &AtomicU64 {
        self.shared.epochs.counter(self.slot)
    }

    /// Changes to the address space of the instance block at `at`, or to none.
    pub(super) fn bind(&mut self, memory: &Memory, at: Option<PhysAddr>) -> Result<(), BusError> {
        (self.instance, self.space) = (None, None);
        self.forget();
        let Some(at) = at else { return Ok(()) };
        let space = Space::load(memory, at)?;
        self.slot = space.directory.map(Slot::of).unwrap_or_default();
        (self.instance, self.space) = (Some(at), Some(space));
        Ok(())
    }

    /// See [`Client::is_in`](super::Client::is_in).
    pub(super) fn is_in(&self, memory: &Memory, at: PhysAddr) -> bool {
        self.instance == Some(at) && self.space == Space::load(memory, at).ok()
    }

    fn forget(&mut self) {
        self.large = [Entry::EMPTY; LARGE];
        self.small = [Entry::EMPTY; SMALL];
    }

    /// See [`Client::page`](super::Client::page).
    #[inline]
    pub(super) fn page<'g>(
        &mut self,
        memory: &Memory,
        guard: &'g Guard<'_>,
        va: u64,
        access: Access,
    ) -> Result<HostSpan<'g>, Fault> {
        assert!(guard.is_of(&self.shared.gate), "guard of another card");
        if self.shared.epochs.current(self.slot) == self.stamp {
            let large = &self.large[(va >> LARGE_SHIFT) as usize % LARGE];
            // SAFETY: the epoch that the entries were made in is the current one, seen under the
            // guard; a window that is closed later waits for the guard.
            if let Some(span) = unsafe { large.span(va, LARGE_SHIFT, access) } {
                return Ok(span);
            }
            let small = &self.small[(va >> SMALL_SHIFT) as usize % SMALL];
            // SAFETY: as above.
            if let Some(span) = unsafe { small.span(va, SMALL_SHIFT, access) } {
                return Ok(span);
            }
        }
        self.miss(memory, guard, va, access)
    }

    #[cold]
    fn miss<'g>(
        &mut self,
        memory: &Memory,
        guard: &'g Guard<'_>,
        va: u64,
        access: Access,
    ) -> Result<HostSpan<'g>, Fault> {
        let fault = |reason| Fault { reason, va, access };
        // Read before the tables are: a flush that comes in between makes the new entry old.
        let epoch = self.shared.epochs.current(self.slot);
        if epoch != self.stamp {
            self.forget();
            self.stamp = epoch;
        }
        let space = self.space.ok_or(fault(FaultReason::NoChannel))?;
        let page = space.walk(memory, guard, va, access, self.privilege)?;
        let host = |va: u64| -> Option<HostSpan<'g>> {
            let span = memory.span(guard, page.at(va), access).ok()?;
            let writable = span.writable() && !page.read_only;
            // SAFETY: the same memory with no more rights. It lives as long as the guard, which
            // borrows the memory that it is a guard of.
            Some(unsafe { HostSpan::new(span.as_ptr(), span.len(), writable) })
        };
        // Remember as much as is contiguous and below the limit, up to what an entry covers.
        for shift in [page.shift.min(LARGE_SHIFT), SMALL_SHIFT] {
            let bytes = 1u64 << shift;
            let start = va & !(bytes - 1);
            let Some(span) = host(start)
                .filter(|span| span.len() as u64 >= bytes && start + (bytes - 1) <= space.limit)
            else {
                continue;
            };
            let flag = usize::from(span.writable()) * WRITABLE;
            let entry = Entry {
                page: va >> shift,
                host: span.as_ptr().as_ptr().map_addr(|addr| addr | flag),
            };
            match shift {
                SMALL_SHIFT => self.small[(va >> shift) as usize % SMALL] = entry,
                _ => self.large[(va >> shift) as usize % LARGE] = entry,
            }
            return Ok(span.take(bytes as usize).skip((va - start) as usize));
        }
        let page_end = va | ((1 << page.shift) - 1);
        host(va)
            .map(|span| span.take((page_end.min(space.limit) - va) as usize + 1))
            .ok_or(fault(FaultReason::RegionViolation))
    }

    /// See [`Client::for_each_segment`](super::Client::for_each_segment).
    pub(super) fn for_each_segment(
        &mut self,
        memory: &Memory,
        guard: &Guard<'_>,
        va: u64,
        len: usize,
        access: Access,
        mut each: impl FnMut(usize, HostSpan<'_>),
    ) -> Result<(), Fault> {
        let mut done = 0;
        while done < len {
            let span = self
                .page(memory, guard, va.wrapping_add(done as u64), access)?
                .take(len - done);
            each(done, span);
            done += span.len();
        }
        Ok(())
    }

    /// Loads a word that is in more than one page.
    #[cold]
    pub(super) fn load_across<T: Word>(
        &mut self,
        memory: &Memory,
        guard: &Guard<'_>,
        va: u64,
    ) -> Result<T, Fault> {
        let mut bytes = [0; 8];
        self.for_each_segment(
            memory,
            guard,
            va,
            size_of::<T>(),
            Access::Read,
            |at, span| {
                span.copy_to(&mut bytes[at..]);
            },
        )?;
        Ok(T::from_bytes(bytes))
    }

    /// Stores a word that is in more than one page.
    #[cold]
    pub(super) fn store_across<T: Word>(
        &mut self,
        memory: &Memory,
        guard: &Guard<'_>,
        va: u64,
        value: T,
    ) -> Result<(), Fault> {
        let bytes = &value.to_bytes()[..size_of::<T>()];
        self.for_each_segment(memory, guard, va, bytes.len(), Access::Write, |at, span| {
            span.copy_from(&bytes[at..]);
        })
    }
}
