//! Which pages a guest may have written.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::GuestAddress;

/// Pages that one question covers.
const GROUP: u64 = 64;
/// log2 of a page.
const PAGE_SHIFT: u32 = 12;

/// A point in a tracker's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Knows which 4 KiB pages of a guest's memory may have been written, so that a sync need not read
/// the others.
///
/// It may say "written" too often, never too rarely. One tracker serves all shadows of a VM.
pub trait WriteTracker {
    /// Gathers what is known and starts a new epoch: every write that comes after this call is
    /// reported to whoever asks with the epoch returned.
    fn collect(&self) -> Epoch;

    /// Of the 64 pages from `at` on, bit n for page n: it may have been written since the start of
    /// `since`. `at` is a multiple of 4 KiB.
    fn written(&self, at: GuestAddress, since: Epoch) -> u64;
}

/// Knows nothing: every page may have been written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untracked;

impl WriteTracker for Untracked {
    fn collect(&self) -> Epoch {
        Epoch(0)
    }

    fn written(&self, _at: GuestAddress, _since: Epoch) -> u64 {
        !0
    }
}

/// The epoch of the last write to each page of the guest's video memory, as told by whoever sees
/// the writes: traps, or a dirty log. RAM is not tracked.
#[derive(Debug)]
pub struct PageTimes {
    now: AtomicU64,
    pages: Box<[AtomicU64]>,
    /// The latest of each 64 pages.
    groups: Box<[AtomicU64]>,
}

impl PageTimes {
    /// Video memory of `len` bytes, none of which has been written.
    pub fn new(len: u64) -> Self {
        let pages = len >> PAGE_SHIFT;
        let times = |count: u64| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            now: AtomicU64::new(1),
            pages: times(pages),
            groups: times(pages.div_ceil(GROUP)),
        }
    }

    /// `len` bytes at `address` of the guest's video memory have been written. Called after the
    /// write, from any thread: a sync that did not see the write finds the mark the next time.
    #[inline]
    pub fn mark(&self, address: u64, len: u64) {
        if len == 0 {
            return;
        }
        let first = address >> PAGE_SHIFT;
        let last = (address.saturating_add(len - 1) >> PAGE_SHIFT).min(self.pages.len() as u64);
        let now = self.now.load(Ordering::SeqCst);
        for page in first..=last {
            if let Some(time) = self.pages.get(page as usize) {
                time.fetch_max(now, Ordering::Release);
                self.groups[(page / GROUP) as usize].fetch_max(now, Ordering::Release);
            }
        }
    }
}

impl WriteTracker for PageTimes {
    fn collect(&self) -> Epoch {
        Epoch(self.now.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn written(&self, at: GuestAddress, since: Epoch) -> u64 {
        let GuestAddress::Vram(address) = at else {
            return !0;
        };
        let load = |time: &AtomicU64| time.load(Ordering::Acquire);
        let first = address >> PAGE_SHIFT;
        let latest = [first, first.saturating_add(GROUP - 1)]
            .map(|page| self.groups.get((page / GROUP) as usize).map(load));
        if latest
            .iter()
            .all(|time| time.is_some_and(|time| time < since.0))
        {
            return 0;
        }
        let known = usize::try_from(first)
            .ok()
            .and_then(|first| self.pages.get(first..))
            .unwrap_or_default();
        let known = &known[..known.len().min(GROUP as usize)];
        // Pages behind the memory are not tracked.
        let unknown = u64::MAX.checked_shl(known.len() as u32).unwrap_or(0);
        known.iter().enumerate().fold(unknown, |mask, (n, time)| {
            mask | u64::from(load(time) >= since.0) << n
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_reported_from_its_epoch_on() {
        let times = PageTimes::new(1 << 20);
        let before = times.collect();
        times.mark(0x1_2ffc, 8);
        let after = times.collect();
        let at = GuestAddress::Vram(0x1_0000);
        assert_eq!(times.written(at, before), 0b1100);
        assert_eq!(times.written(at, after), 0);
    }

    #[test]
    fn pages_across_two_groups_are_found() {
        let times = PageTimes::new(1 << 20);
        let before = times.collect();
        times.mark(0x4_1000, 1);
        assert_eq!(times.written(GuestAddress::Vram(0x3_f000), before), 0b100);
    }

    #[test]
    fn what_is_not_tracked_may_have_been_written() {
        let times = PageTimes::new(0x4_0000);
        let now = times.collect();
        assert_eq!(times.written(GuestAddress::Ram(0), now), !0);
        assert_eq!(times.written(GuestAddress::Vram(0x3_e000), now), !0b11);
        assert_eq!(times.written(GuestAddress::Vram(!0xfff), now), !0);
    }

    #[test]
    fn a_mark_behind_the_memory_is_harmless() {
        PageTimes::new(0x4_0000).mark(0x3_f000, u64::MAX);
    }

    #[test]
    fn before_the_first_epoch_everything_may_have_been_written() {
        let times = PageTimes::new(1 << 20);
        assert_eq!(times.written(GuestAddress::Vram(0), Epoch(0)), !0);
    }
}
