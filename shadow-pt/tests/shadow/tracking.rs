//! Whichever tracker says what the guest wrote, and however its stores come to memory: a sync leaves
//! nothing out.

use std::collections::BTreeSet;

use mmio::layout::pagetable::{Aperture, Geometry, Pde, TablePointer};
use proptest::prelude::*;
use shadow_pt::{Algorithm, Guarded, GuestAddress, PageTimes, Patience, Untracked, WriteTracker};

use crate::reference::check;
use crate::rig::{Rig, VRAM};

const DIRECTORY: u64 = 0x1_0000;
/// Pages of tables that directory entries lead to.
const TABLES: std::ops::Range<u64> = 0x40..0x4c;

/// The ways to know.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// A log of what is stored through mappings, all of which may be.
    Log,
    Trap,
    Hybrid,
    Compare,
}

impl Way {
    fn tracker(self) -> Box<dyn WriteTracker> {
        match self {
            Self::Log => Box::new(PageTimes::new(VRAM)),
            Self::Trap => Box::new(Guarded::new(VRAM, Patience::STRICT)),
            Self::Hybrid => Box::new(Guarded::new(VRAM, Patience::HYBRID)),
            Self::Compare => Box::new(Untracked),
        }
    }
}

/// A guest whose stores trap or do not, as the tracker wants.
struct Guest {
    rig: Rig,
    way: Way,
    /// Pages that stores do not reach without a trap.
    guarded: BTreeSet<u64>,
    /// What was stored through mappings, where there is a log.
    log: BTreeSet<u64>,
}

impl Guest {
    fn new(way: Way) -> Self {
        Self {
            rig: Rig {
                tracker: way.tracker(),
                ..Rig::default()
            },
            way,
            guarded: BTreeSet::new(),
            log: BTreeSet::new(),
        }
    }

    /// A store: through a mapping if there is one, unless the guest uses a window that traps anyway.
    fn store(&mut self, address: u64, entry: u64, window: bool) {
        let at = GuestAddress::Vram(address);
        let page = address >> 12;
        if window || self.guarded.contains(&page) {
            return self.rig.put(at, entry);
        }
        self.rig.put_unseen(at, entry);
        if matches!(self.way, Way::Log) {
            self.log.insert(page);
        }
    }

    /// What the device does at a flush before tables are looked at.
    fn gather(&mut self) {
        for page in std::mem::take(&mut self.log) {
            self.rig.tracker.mark(page << 12, 0x1000);
        }
    }

    /// What it does after that. `between` is what the guest does before the decision is in force.
    fn settle(&mut self, between: impl FnOnce(&mut Self)) {
        let round = self.rig.tracker.settle();
        between(self);
        if let Some(round) = round {
            let pages = 0..VRAM >> 12;
            let traps = |page: &u64| self.rig.tracker.traps(page << 12);
            self.guarded = pages.filter(traps).collect();
            self.rig.tracker.in_force(round);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Store {
    /// An entry of the directory, or of a page of tables.
    page: Option<u64>,
    slot: u64,
    value: u64,
    window: bool,
}

fn store() -> impl Strategy<Value = Store> {
    let page = prop_oneof![1 => Just(None), 6 => TABLES.prop_map(Some)];
    (page, 0u64..24, 0u64..64, any::<bool>()).prop_map(|(page, slot, value, window)| Store {
        page,
        slot,
        value,
        window,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Store(Store),
    /// Many to one page, as when a buffer is mapped.
    Burst(Store),
    /// A flush that is followed by a sync. Before the tracker's decision is in force come stores, and a
    /// sync between them, of another processor.
    Flush(Vec<Store>),
    /// A sync without a flush.
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => store().prop_map(Step::Store),
        1 => store().prop_map(Step::Burst),
        6 => proptest::collection::vec(store(), 0..3).prop_map(Step::Flush),
        1 => Just(Step::Sync),
    ]
}

fn apply(guest: &mut Guest, store: Store) {
    let Store {
        page,
        slot,
        value,
        window,
    } = store;
    let (address, entry) = match page {
        Some(page) => ((page << 12) + slot * 8, value << 4 | value & 1),
        None => {
            let table = TablePointer {
                aperture: Aperture::Vram,
                address: (TABLES.start + value % 12) << 12,
                volatile: false,
            };
            let table = (value & 1 == 0).then_some(table);
            let entry = match value & 2 {
                0 => Pde::new(None, table),
                _ => Pde::new(table, None),
            };
            // The shortest span, so that a table is a few pages long.
            (DIRECTORY + slot * 8, entry.with_span(16 << 20).0)
        }
    };
    guest.store(address, entry, window);
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::Log),
        Just(Way::Trap),
        Just(Way::Hybrid),
        Just(Way::Compare)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_way_misses_a_store(
        way in way(),
        wide in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut guest = Guest::new(way);
        if wide {
            guest.rig.geometry = Geometry::Large64K;
        }
        let mut shadow = guest.rig.shadow(GuestAddress::Vram(DIRECTORY));
        for step in steps.iter().chain([&Step::Flush(Vec::new())]) {
            match step {
                Step::Store(store) => apply(&mut guest, *store),
                Step::Burst(store) => {
                    for slot in 0..24 {
                        apply(&mut guest, Store { slot, ..*store });
                    }
                }
                Step::Flush(late) => {
                    guest.gather();
                    guest.rig.sync(&mut shadow, Algorithm::Incremental);
                    check(&mut guest.rig, &shadow);
                    guest.settle(|guest| {
                        for store in late {
                            apply(guest, *store);
                            guest.rig.sync(&mut shadow, Algorithm::Incremental);
                        }
                    });
                }
                Step::Sync => {
                    guest.rig.sync(&mut shadow, Algorithm::Incremental);
                }
            }
        }
    }
}

/// Entries that a sync reads after nothing was stored, of a table of eight pages, one of which was
/// stored to in each of many rounds; and before that, when one entry was stored.
fn scanned(way: Way) -> (u64, u64) {
    let mut guest = Guest::new(way);
    let store = |page, slot, value| Store {
        page,
        slot,
        value,
        window: false,
    };
    apply(&mut guest, store(None, 0, 0));
    let mut shadow = guest.rig.shadow(GuestAddress::Vram(DIRECTORY));
    let mut flush = |guest: &mut Guest| {
        guest.gather();
        let report = guest.rig.sync(&mut shadow, Algorithm::Incremental);
        guest.settle(|_| ());
        report.ptes_scanned
    };
    for round in 0..8 {
        for slot in 0..24 {
            apply(&mut guest, store(Some(TABLES.start), slot, 2 * round + 1));
        }
        flush(&mut guest);
    }
    apply(&mut guest, store(Some(TABLES.start + 1), 0, 1));
    let one = flush(&mut guest);
    (one, flush(&mut guest))
}

#[test]
fn a_way_reads_no_more_than_it_has_to() {
    const PAGE: u64 = 512;
    assert_eq!(scanned(Way::Log), (PAGE, 0));
    assert_eq!(scanned(Way::Trap), (PAGE, 0));
    // The page that was stored to often is relaxed.
    assert_eq!(scanned(Way::Hybrid), (2 * PAGE, PAGE));
    assert_eq!(scanned(Way::Compare), (8 * PAGE, 8 * PAGE));
}
