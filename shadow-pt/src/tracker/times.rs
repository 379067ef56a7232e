//! Times of writes, as told by whoever sees them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Epoch, GROUP, PAGE_SHIFT, WriteTracker};
use crate::GuestAddress;

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

    /// The epoch that has not ended.
    pub(super) fn now(&self) -> Epoch {
        Epoch(self.now.load(Ordering::SeqCst))
    }
}

impl WriteTracker for PageTimes {
    #[inline]
    fn mark(&self, address: u64, len: u64) {
        if len == 0 {
            return;
        }
        let first = address >> PAGE_SHIFT;
        let last = (address.saturating_add(len - 1) >> PAGE_SHIFT).min(self.pages.len() as u64);
        let mut now = self.now.load(Ordering::SeqCst);
        loop {
            for page in first..=last {
                if let Some(time) = self.pages.get(page as usize) {
                    time.fetch_max(now, Ordering::SeqCst);
                    self.groups[(page / GROUP) as usize].fetch_max(now, Ordering::SeqCst);
                }
            }
            // A sync that has begun meanwhile may have asked too early, and asks next time only for
            // what has been written since it began.
            let then = std::mem::replace(&mut now, self.now.load(Ordering::SeqCst));
            if then == now {
                break;
            }
        }
    }

    fn collect(&self) -> Epoch {
        Epoch(self.now.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn written(&self, at: GuestAddress, asked: u64, since: Epoch) -> u64 {
        let GuestAddress::Vram(address) = at else {
            return asked;
        };
        let load = |time: &AtomicU64| time.load(Ordering::SeqCst);
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
        let written = known.iter().enumerate().fold(unknown, |mask, (n, time)| {
            mask | u64::from(load(time) >= since.0) << n
        });
        written & asked
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_write_is_reported_from_its_epoch_on() {
        let times = PageTimes::new(1 << 20);
        let before = times.collect();
        times.mark(0x1_2ffc, 8);
        let after = times.collect();
        let at = GuestAddress::Vram(0x1_0000);
        assert_eq!(times.written(at, !0, before), 0b1100);
        assert_eq!(times.written(at, !0, after), 0);
    }

    #[test]
    fn pages_across_two_groups_are_found() {
        let times = PageTimes::new(1 << 20);
        let before = times.collect();
        times.mark(0x4_1000, 1);
        assert_eq!(
            times.written(GuestAddress::Vram(0x3_f000), !0, before),
            0b100
        );
    }

    #[test]
    fn what_is_not_tracked_may_have_been_written() {
        let times = PageTimes::new(0x4_0000);
        let now = times.collect();
        assert_eq!(times.written(GuestAddress::Ram(0), !0, now), !0);
        assert_eq!(times.written(GuestAddress::Vram(0x3_e000), !0, now), !0b11);
        assert_eq!(times.written(GuestAddress::Vram(!0xfff), !0, now), !0);
    }

    #[test]
    fn only_pages_that_were_asked_for_are_reported() {
        let times = PageTimes::new(1 << 20);
        let before = times.collect();
        times.mark(0x1000, 0x2000);
        assert_eq!(times.written(GuestAddress::Vram(0), 0b101, before), 0b100);
        assert_eq!(times.written(GuestAddress::Ram(0), 0b101, before), 0b101);
    }

    #[test]
    fn a_mark_behind_the_memory_is_harmless() {
        PageTimes::new(0x4_0000).mark(0x3_f000, u64::MAX);
    }

    #[test]
    fn before_the_first_epoch_everything_may_have_been_written() {
        let times = PageTimes::new(1 << 20);
        assert_eq!(times.written(GuestAddress::Vram(0), !0, Epoch(0)), !0);
    }

    #[test]
    fn writes_beside_syncs_are_all_found() {
        const WRITES: u64 = 20_000;
        let times = PageTimes::new(1 << 20);
        let page = AtomicU64::new(0);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for value in 1..=WRITES {
                    page.store(value, Ordering::Release);
                    times.mark(0x3000, 8);
                }
            });
            let (mut seen, mut last) = (0, Epoch::default());
            loop {
                let over = writer.is_finished();
                let now = times.collect();
                if times.written(GuestAddress::Vram(0x3000), 1, last) != 0 {
                    seen = page.load(Ordering::Acquire);
                }
                last = now;
                if over {
                    assert_eq!(seen, WRITES);
                    break;
                }
            }
        });
    }
}
