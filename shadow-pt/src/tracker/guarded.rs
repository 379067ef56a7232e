//! Pages whose stores trap, and pages that are compared instead: by what each of them costs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Epoch, PAGE_SHIFT, PageTimes, Round, WriteTracker};
use crate::GuestAddress;

/// Rounds in which nobody asked about a page: it is no table any more.
const FORGOTTEN: u32 = 64;

/// When a page goes from one side to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A page goes to the strict side after so many comparisons in a row that found nothing.
    pub quiet: u32,
    /// It goes to the relaxed side after so many stores between two rounds; `None`: never.
    pub stores: Option<u32>,
}

impl Patience {
    /// All pages of tables are strict, as soon as they are known to be such.
    pub const STRICT: Self = Self {
        quiet: 0,
        stores: None,
    };

    /// Each page is where it costs less.
    ///
    /// An exit costs some microseconds; so does it to read a page that is in this process, or to read
    /// some words of one behind a bus. A guest that maps a buffer fills a good part of a page.
    ///
    /// Source of the idea: gHyvi (Dong, Xue, Zheng et al., *Boosting GPU Virtualization Performance
    /// with Hybrid Shadow Page Tables*, USENIX ATC 2015).
    pub const HYBRID: Self = Self {
        quiet: 3,
        stores: Some(8),
    };
}

/// A page of a table.
#[derive(Debug, Default)]
struct Page {
    side: Side,
    /// Stores of a strict page since the last round.
    stores: u32,
    /// Comparisons of a relaxed page, in a row, that found nothing.
    quiet: u32,
    /// Rounds since somebody asked about it.
    idle: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Side {
    /// Stores do not trap: it has to be compared.
    #[default]
    Relaxed,
    /// Stores are to trap, but it is not known that they do.
    Arming(Round),
    /// Stores trap, and have since before the end of this epoch.
    Strict(Epoch),
}

/// Pages of tables are found by what syncs ask about. On the strict side stores trap and are
/// [marked](WriteTracker::mark); on the relaxed side they do not, and a page may always have been
/// written.
#[derive(Debug)]
pub struct Guarded {
    patience: Patience,
    times: PageTimes,
    pages: Mutex<Pages>,
    /// Pages whose stores are to trap.
    traps: Bits,
    /// Strict pages, and the latest epoch since which one is: about these, nobody need look further.
    strict: Bits,
    latest: AtomicU64,
    /// Strict pages that somebody asked about since the last round.
    asked: Bits,
}

/// A bit for each page.
#[derive(Debug)]
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(pages: u64) -> Self {
        let words = pages.div_ceil(64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn len(&self) -> u64 {
        64 * self.0.len() as u64
    }

    fn get(&self, page: u64) -> bool {
        let word = self.0.get((page / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (page % 64) & 1 != 0)
    }

    fn set(&self, page: u64, value: bool) {
        let Some(word) = self.0.get((page / 64) as usize) else {
            return;
        };
        let bit = 1 << (page % 64);
        match value {
            true => word.fetch_or(bit, Ordering::AcqRel),
            false => word.fetch_and(!bit, Ordering::AcqRel),
        };
    }

    /// The words, by their place, with the 64 pages from `first` on, and their `mask` there.
    fn places(first: u64, mask: u64) -> [(u64, u64); 2] {
        let shift = first % 64;
        let above = mask.checked_shr(64 - shift as u32).unwrap_or(0);
        [(first / 64, mask << shift), (first / 64 + 1, above)]
    }

    /// Whether all of `mask` of the 64 pages from `first` on are set.
    fn all(&self, first: u64, mask: u64) -> bool {
        Self::places(first, mask).into_iter().all(|(place, mask)| {
            let word = self.0.get(place as usize);
            mask == 0 || word.is_some_and(|word| !word.load(Ordering::Acquire) & mask == 0)
        })
    }

    /// Sets them.
    fn set_all(&self, first: u64, mask: u64) {
        for (place, mask) in Self::places(first, mask) {
            if let Some(word) = self.0.get(place as usize)
                && !word.load(Ordering::Relaxed) & mask != 0
            {
                word.fetch_or(mask, Ordering::AcqRel);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Pages {
    by_number: HashMap<u64, Page>,
    round: Round,
}

impl Guarded {
    /// Video memory of `len` bytes, of which nothing is known to be a table.
    pub fn new(len: u64, patience: Patience) -> Self {
        let bits = || Bits::new(len >> PAGE_SHIFT);
        Self {
            patience,
            times: PageTimes::new(len),
            pages: Mutex::default(),
            traps: bits(),
            strict: bits(),
            latest: AtomicU64::new(0),
            asked: bits(),
        }
    }
}

impl WriteTracker for Guarded {
    fn collect(&self) -> Epoch {
        self.times.collect()
    }

    fn written(&self, at: GuestAddress, asked: u64, since: Epoch) -> u64 {
        let GuestAddress::Vram(address) = at else {
            return asked;
        };
        let first = address >> PAGE_SHIFT;
        let marked = self.times.written(at, asked, since);
        if since.0 > self.latest.load(Ordering::Acquire) && self.strict.all(first, asked) {
            self.asked.set_all(first, asked);
            return marked;
        }
        let mut pages = self.pages.lock();
        let mut written = 0;
        let mut rest = asked;
        while rest != 0 {
            let n = rest.trailing_zeros();
            rest &= rest - 1;
            let bit = 1 << n;
            let number = first.saturating_add(n.into());
            if number >= self.traps.len() {
                written |= bit;
                continue;
            }
            let page = pages.by_number.entry(number).or_default();
            page.idle = 0;
            match page.side {
                Side::Strict(begin) if since > begin => written |= marked & bit,
                _ => written |= bit,
            }
        }
        written
    }

    #[inline]
    fn mark(&self, address: u64, len: u64) {
        self.times.mark(address, len);
        if len == 0 || self.patience.stores.is_none() {
            return;
        }
        // A store of a guest that traps is in one page or two; whoever marks more is no guest.
        let last = address.saturating_add(len - 1);
        if self.traps(address) || self.traps(last) {
            let mut pages = self.pages.lock();
            let (first, last) = (address >> PAGE_SHIFT, last >> PAGE_SHIFT);
            for number in first..=last.min(first + 1) {
                if let Some(page) = pages.by_number.get_mut(&number) {
                    page.stores = page.stores.saturating_add(1);
                }
            }
        }
    }

    fn compared(&self, at: GuestAddress, changed: bool) {
        let GuestAddress::Vram(address) = at else {
            return;
        };
        let mut pages = self.pages.lock();
        if let Some(page) = pages.by_number.get_mut(&(address >> PAGE_SHIFT)) {
            page.quiet = match changed {
                true => 0,
                false => page.quiet.saturating_add(1),
            };
        }
    }

    #[inline]
    fn traps(&self, address: u64) -> bool {
        self.traps.get(address >> PAGE_SHIFT)
    }

    fn settle(&self) -> Option<Round> {
        let mut pages = self.pages.lock();
        let round = Round(pages.round.0 + 1);
        let mut changed = false;
        pages.by_number.retain(|&number, page| {
            page.idle = match self.asked.get(number) {
                true => 0,
                false => page.idle + 1,
            };
            self.asked.set(number, false);
            let stays = page.idle <= FORGOTTEN;
            let busy = self.patience.stores.is_some_and(|most| page.stores > most);
            page.stores = 0;
            let side = match page.side {
                _ if !stays => Side::Relaxed,
                Side::Relaxed if page.quiet >= self.patience.quiet => Side::Arming(round),
                Side::Arming(_) | Side::Strict(_) if busy => Side::Relaxed,
                side => side,
            };
            if side != page.side {
                changed = true;
                page.quiet = 0;
                page.side = side;
                // Nobody relies on traps that are about to go.
                self.strict.set(number, false);
                self.traps.set(number, side != Side::Relaxed);
            }
            stays
        });
        pages.round = round;
        changed.then_some(round)
    }

    fn in_force(&self, round: Round) {
        let mut pages = self.pages.lock();
        // A sync that begins from here on has a later epoch.
        let now = self.times.now();
        self.latest.fetch_max(now.0, Ordering::AcqRel);
        for (&number, page) in &mut pages.by_number {
            if matches!(page.side, Side::Arming(since) if since <= round) {
                page.side = Side::Strict(now);
                self.strict.set(number, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: GuestAddress = GuestAddress::Vram(0x4000);

    /// A round, of which all comes into force.
    fn round(tracker: &Guarded) -> bool {
        let round = tracker.settle();
        if let Some(round) = round {
            tracker.in_force(round);
        }
        round.is_some()
    }

    /// A sync that begins where the last one did, and the page with it; whether it is to be read.
    fn sync(tracker: &Guarded, last: &mut Epoch, changed: bool) -> bool {
        let now = tracker.collect();
        let read = tracker.written(AT, 1, *last) != 0;
        if read {
            tracker.compared(AT, changed);
        }
        *last = now;
        read
    }

    #[test]
    fn strict_page_is_read_until_its_stores_are_known_to_trap() {
        let tracker = Guarded::new(1 << 20, Patience::STRICT);
        let mut last = Epoch::default();
        assert!(sync(&tracker, &mut last, true));
        let decided = tracker.settle().unwrap();
        assert!(tracker.traps(0x4ffc));
        // Between decision and force stores come unseen.
        assert!(sync(&tracker, &mut last, false));
        tracker.in_force(decided);
        assert!(sync(&tracker, &mut last, false));
        assert!(!sync(&tracker, &mut last, false));
        tracker.mark(0x4008, 8);
        assert!(sync(&tracker, &mut last, true));
        assert!(!sync(&tracker, &mut last, false));
    }

    #[test]
    fn later_decision_is_not_in_force_with_an_earlier_one() {
        let tracker = Guarded::new(1 << 20, Patience::STRICT);
        let mut last = Epoch::default();
        tracker.written(GuestAddress::Vram(0x9000), 1, last);
        let earlier = tracker.settle().unwrap();
        sync(&tracker, &mut last, true);
        tracker.settle().unwrap();
        tracker.in_force(earlier);
        for _ in 0..3 {
            assert!(sync(&tracker, &mut last, false));
        }
    }

    #[test]
    fn page_is_relaxed_while_it_is_stored_to_often_and_strict_when_it_is_quiet() {
        let tracker = Guarded::new(1 << 20, Patience::HYBRID);
        let mut last = Epoch::default();
        for _ in 0..Patience::HYBRID.quiet {
            assert!(sync(&tracker, &mut last, false) && !tracker.traps(0x4000));
            round(&tracker);
        }
        assert!(tracker.traps(0x4000));
        sync(&tracker, &mut last, false);
        assert!(!sync(&tracker, &mut last, false));
        for n in 0..=Patience::HYBRID.stores.unwrap() {
            tracker.mark(0x4000 + u64::from(n) * 8, 8);
        }
        assert!(round(&tracker) && !tracker.traps(0x4000));
        assert!(sync(&tracker, &mut last, true));
        assert!(!round(&tracker));
    }

    #[test]
    fn page_that_is_no_table_any_more_does_not_trap() {
        let tracker = Guarded::new(1 << 20, Patience::STRICT);
        sync(&tracker, &mut Epoch::default(), true);
        round(&tracker);
        for _ in 0..FORGOTTEN {
            assert!(tracker.traps(0x4000));
            round(&tracker);
        }
        assert!(!tracker.traps(0x4000));
        assert!(tracker.pages.lock().by_number.is_empty());
    }

    #[test]
    fn what_is_not_video_memory_may_always_have_been_written() {
        let tracker = Guarded::new(1 << 20, Patience::STRICT);
        for at in [
            GuestAddress::Ram(0),
            GuestAddress::Vram(1 << 20),
            GuestAddress::Vram(!0xfff),
        ] {
            tracker.written(at, 0b11, Epoch(1));
            round(&tracker);
            let now = tracker.collect();
            assert_eq!(tracker.written(at, 0b11, now), 0b11);
        }
        assert!(tracker.pages.lock().by_number.is_empty());
    }
}
