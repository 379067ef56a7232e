//! A shadow after a sync, in cases written out by hand.

use mmio::layout::pagetable::{Aperture, Geometry, Pde, Pte, TablePointer};
use shadow_pt::{Algorithm, GuestAddress, PageTimes, Shadow, Untracked};

use crate::rig::{self, Rig, VRAM_BASE};

const ALL: [Algorithm; 3] = [Algorithm::Naive, Algorithm::Bulk, Algorithm::Incremental];

const DIRECTORY: u64 = 0x1_0000;
const TABLE: u64 = 0x4_0000;
const OTHER: u64 = 0x8_0000;

fn vram(address: u64) -> Option<TablePointer> {
    Some(TablePointer {
        aperture: Aperture::Vram,
        address,
        volatile: false,
    })
}

/// The guest writes to its video memory.
fn put(rig: &mut Rig, address: u64, entry: u64) {
    rig.put(GuestAddress::Vram(address), entry);
}

/// A guest with one table of small pages, whose entry 5 leads to page 7; in shadow.
fn machine(algorithm: Algorithm) -> (Rig, Shadow) {
    let mut rig = Rig::default();
    put(&mut rig, DIRECTORY + 8, Pde::new(None, vram(TABLE)).0);
    put(&mut rig, TABLE + 5 * 8, Pte::new(Aperture::Vram, 0x7000).0);
    let mut shadow = rig.shadow(GuestAddress::Vram(DIRECTORY));
    rig.sync(&mut shadow, algorithm);
    (rig, shadow)
}

#[test]
fn a_page_is_where_the_partition_has_it() {
    for algorithm in ALL {
        let (rig, shadow) = machine(algorithm);
        let entry = rig.card_walk(&shadow, (1 << 27) + 0x5000);
        assert_eq!(
            entry,
            Some((Pte::new(Aperture::Vram, VRAM_BASE + 0x7000), 12)),
            "{algorithm:?}"
        );
        assert_eq!(rig.card_walk(&shadow, (1 << 27) + 0x6000), None);
    }
}

#[test]
fn a_page_that_is_taken_away_is_gone_after_a_sync() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine(algorithm);
        put(&mut rig, TABLE + 5 * 8, 0);
        rig.sync(&mut shadow, algorithm);
        assert_eq!(rig.card_walk(&shadow, (1 << 27) + 0x5000), None);
    }
}

#[test]
fn a_page_that_comes_back_is_there_again() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine(algorithm);
        let entry = rig.guest(GuestAddress::Vram(TABLE + 5 * 8));
        for (now, found) in [(0, false), (entry, true), (0, false), (entry, true)] {
            put(&mut rig, TABLE + 5 * 8, now);
            rig.sync(&mut shadow, algorithm);
            let walked = rig.card_walk(&shadow, (1 << 27) + 0x5000);
            assert_eq!(walked.is_some(), found, "{algorithm:?}");
        }
    }
}

#[test]
fn entries_with_one_table_share_a_shadow() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine(algorithm);
        for index in 0..8192 {
            put(
                &mut rig,
                DIRECTORY + index * 8,
                Pde::new(None, vram(TABLE)).0,
            );
        }
        let report = rig.sync(&mut shadow, algorithm);
        assert_eq!((report.tables_allocated, report.starved), (0, 0));
        assert_eq!(shadow.tables(), 1);
        assert!(rig.card_walk(&shadow, (8191 << 27) + 0x5000).is_some());
    }
}

#[test]
fn a_table_is_retired_when_nothing_leads_to_it() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine(algorithm);
        let before = rig.pool.used();
        put(&mut rig, DIRECTORY + 8, 0);
        let (report, retired) = rig.sync_only(&mut shadow, algorithm);
        assert_eq!((report.tables_retired, rig.pool.used()), (1, before));
        rig.pool.release(retired);
        assert_eq!(rig.pool.used(), before - 0x4_0000);
    }
}

#[test]
fn what_is_empty_is_not_written_to_memory_that_is() {
    let mut rig = Rig::cleared();
    put(&mut rig, DIRECTORY + 8, Pde::new(None, vram(TABLE)).0);
    let page = |n: u64| Pte::new(Aperture::Vram, n << 12).0;
    put(&mut rig, TABLE + 5 * 8, page(7));
    let at = GuestAddress::Vram(DIRECTORY);
    let mut shadow = rig.shadow(at);
    let first = rig.sync(&mut shadow, Algorithm::Incremental);
    assert_eq!((first.ptes_written, first.pdes_written), (1, 1));

    // The next one with that memory writes what the last one left.
    let retired = shadow.close(&mut rig.pool);
    rig.pool.release(retired);
    put(&mut rig, TABLE + 5 * 8, 0);
    put(&mut rig, TABLE + 600 * 8, page(8));
    let mut shadow = rig.shadow(at);
    let second = rig.sync(&mut shadow, Algorithm::Incremental);

    assert_eq!((second.ptes_written, second.pdes_written), (2, 1));
    assert_eq!((first.ptes_emptied, second.ptes_emptied), (0, 1));
    let entry = |n: u64| rig.card_walk(&shadow, (1 << 27) + (n << 12));
    assert_eq!((entry(5), entry(7)), (None, None));
    let moved = Pte::new(Aperture::Vram, VRAM_BASE + 0x8000);
    assert_eq!(entry(600), Some((moved, 12)));
}

#[test]
fn a_closed_address_space_gives_everything_back() {
    let (mut rig, shadow) = machine(Algorithm::Bulk);
    let retired = shadow.close(&mut rig.pool);
    rig.pool.release(retired);
    assert_eq!(rig.pool.used(), 0);
}

#[test]
fn a_guest_beyond_its_quota_starves_alone_and_recovers() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine(algorithm);
        // Tables of their own, a page apart from each other.
        for index in 2..200 {
            let table = vram(OTHER + (index << 12));
            put(&mut rig, DIRECTORY + index * 8, Pde::new(None, table).0);
        }
        let report = rig.sync(&mut shadow, algorithm);
        assert!(report.starved > 0 && rig.pool.used() <= rig.pool.len());
        // A sync that has no reason to try again does not forget what is missing.
        rig.sync(&mut shadow, Algorithm::Incremental);
        assert!(shadow.is_starved(), "{algorithm:?}");
        assert!(rig.card_walk(&shadow, (1 << 27) + 0x5000).is_some());
        // All but the last go; it had no table so far.
        for index in 1..199 {
            put(&mut rig, DIRECTORY + index * 8, 0);
        }
        put(
            &mut rig,
            OTHER + (199 << 12),
            Pte::new(Aperture::Vram, 0x3000).0,
        );
        rig.sync(&mut shadow, algorithm);
        let report = rig.sync(&mut shadow, algorithm);
        assert!(report.starved == 0 && !shadow.is_starved(), "{algorithm:?}");
        assert!(rig.card_walk(&shadow, 199 << 27).is_some(), "{algorithm:?}");
    }
}

#[test]
fn nothing_changed_and_nothing_written_costs_nothing() {
    let (mut rig, mut shadow) = machine(Algorithm::Incremental);
    rig.sync(&mut shadow, Algorithm::Incremental);
    let report = rig.sync(&mut shadow, Algorithm::Incremental);
    assert_eq!((report.words_read, report.words_written), (0, 0));
}

#[test]
fn one_changed_page_entry_costs_one_page_read_and_one_entry_written() {
    let (mut rig, mut shadow) = machine(Algorithm::Incremental);
    put(&mut rig, TABLE + 6 * 8, Pte::new(Aperture::Vram, 0x8000).0);
    let report = rig.sync(&mut shadow, Algorithm::Incremental);
    assert_eq!((report.ptes_scanned, report.ptes_written), (512, 1));
    assert_eq!((report.words_read, report.words_written), (1024, 2));
}

#[test]
fn the_naive_sync_reads_and_writes_everything_word_by_word() {
    let (mut rig, mut shadow) = machine(Algorithm::Naive);
    let report = rig.sync(&mut shadow, Algorithm::Naive);
    assert_eq!((report.pdes_scanned, report.ptes_scanned), (8192, 32768));
    assert_eq!(report.words_read, 2 * (8192 + 32768));
    assert_eq!(report.words_written, report.words_read);
}

#[test]
fn rejected_pages_are_counted() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine(algorithm);
        put(&mut rig, TABLE, Pte::new(Aperture::Vram, 1 << 38).0);
        put(
            &mut rig,
            TABLE + 8,
            Pte::new(Aperture::SysCoherent, 1 << 38).0,
        );
        put(&mut rig, DIRECTORY, Pde::new(vram(1 << 38), None).0);
        let rejected = rig.sync(&mut shadow, algorithm).rejected;
        assert_eq!(
            (rejected.vram_pages, rejected.ram_pages, rejected.tables),
            (1, 1, 1)
        );
        assert_eq!(rig.card_walk(&shadow, 1 << 27), None);
    }
}

#[test]
fn a_pool_too_small_for_a_directory_is_an_error() {
    let mut rig = Rig::with_pool(0xf000);
    let at = GuestAddress::Vram(DIRECTORY);
    assert!(Shadow::new(at, &mut rig.vm()).is_err());
}

/// A guest with large pages of 64 KiB, whose second directory entry has tables of both sizes, with
/// one page each: at 3 of large ones and at 5 of small ones; in shadow.
fn machine_64k(algorithm: Algorithm) -> (Rig, Shadow) {
    let mut rig = Rig {
        geometry: Geometry::Large64K,
        ..Rig::default()
    };
    let tables = Pde::new(vram(OTHER), vram(TABLE));
    put(&mut rig, DIRECTORY + 8, tables.0);
    let large = Pte::new(Aperture::Vram, 0x5_0000).with_kind(0xdb);
    put(&mut rig, OTHER + 3 * 8, large.0 | 0x123 << 44);
    put(&mut rig, TABLE + 5 * 8, Pte::new(Aperture::Vram, 0x7000).0);
    let mut shadow = rig.shadow(GuestAddress::Vram(DIRECTORY));
    rig.sync(&mut shadow, algorithm);
    (rig, shadow)
}

#[test]
fn a_large_page_of_64_kib_is_sixteen_small_ones_of_the_card() {
    for algorithm in ALL {
        let (rig, shadow) = machine_64k(algorithm);
        for n in 0..16 {
            let page = Pte::new(Aperture::Vram, VRAM_BASE + 0x5_0000 + (n << 12));
            let found = rig.card_walk(&shadow, (1 << 26) + 0x3_0000 + (n << 12));
            // Its kind is one without compression, which small pages do not have.
            assert_eq!(found, Some((page.with_kind(0xfe), 12)), "{algorithm:?}");
        }
        for va in [0x2_f000, 0x4_0000, 0x6000] {
            assert_eq!(rig.card_walk(&shadow, (1 << 26) + va), None);
        }
        let small = Pte::new(Aperture::Vram, VRAM_BASE + 0x7000);
        let found = rig.card_walk(&shadow, (1 << 26) + 0x5000);
        assert_eq!(found, Some((small, 12)));
        assert_eq!(shadow.tables(), 1);
    }
}

#[test]
fn one_changed_large_page_of_64_kib_costs_one_page_read_and_sixteen_entries_written() {
    let (mut rig, mut shadow) = machine_64k(Algorithm::Incremental);
    put(&mut rig, OTHER + 9 * 8, Pte::new(Aperture::Vram, 0).0);
    let report = rig.sync(&mut shadow, Algorithm::Incremental);
    assert_eq!((report.ptes_scanned, report.ptes_written), (512, 16));
    let report = rig.sync(&mut shadow, Algorithm::Incremental);
    assert_eq!((report.words_read, report.words_written), (0, 0));
}

#[test]
fn a_large_page_of_64_kib_is_rejected_once() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine_64k(algorithm);
        let page = Pte::new(Aperture::Vram, 1 << 38);
        put(&mut rig, OTHER + 3 * 8, page.0);
        let rejected = rig.sync(&mut shadow, algorithm).rejected;
        assert_eq!(rejected.total(), 1, "{algorithm:?}");
        // What changes beside it is not its affair.
        put(&mut rig, TABLE + 0x31 * 8, page.0);
        let rejected = rig.sync(&mut shadow, Algorithm::Incremental).rejected;
        assert_eq!(rejected.vram_pages, 1, "{algorithm:?}");
    }
}

#[test]
fn a_directory_entry_of_64_mib_comes_and_goes_beside_its_neighbour() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine_64k(algorithm);
        let both = rig.pool.used();
        let page = |rig: &Rig, shadow: &Shadow, va| rig.card_walk(shadow, va).is_some();
        put(&mut rig, DIRECTORY, Pde::new(None, vram(TABLE)).0);
        rig.sync(&mut shadow, algorithm);
        assert!(page(&rig, &shadow, 0x5000) && page(&rig, &shadow, (1 << 26) + 0x5000));
        assert_eq!((shadow.tables(), rig.pool.used()), (1, both));
        // Alone, the first one has a table of half the length.
        put(&mut rig, DIRECTORY + 8, 0);
        rig.sync(&mut shadow, algorithm);
        assert!(page(&rig, &shadow, 0x5000) && !page(&rig, &shadow, (1 << 26) + 0x5000));
        assert_eq!(rig.pool.used(), both - 0x2_0000);
    }
}

#[test]
fn tables_are_read_as_the_guest_set_last() {
    for algorithm in ALL {
        let (mut rig, mut shadow) = machine_64k(algorithm);
        let (directory, used) = (shadow.directory(), rig.pool.used());
        let walk = |rig: &Rig, shadow: &Shadow, va| rig.card_walk(shadow, va).map(|(_, bits)| bits);
        rig.geometry = Geometry::Large128K;
        rig.sync(&mut shadow, algorithm);
        assert_eq!(walk(&rig, &shadow, (1 << 26) + 0x5000), None);
        assert_eq!(walk(&rig, &shadow, (1 << 27) + 0x5000), Some(12));
        assert_eq!(walk(&rig, &shadow, (1 << 27) + 0x6_0000), Some(17));

        // What the guest takes away meanwhile is gone as well.
        put(&mut rig, DIRECTORY + 8, 0);
        rig.geometry = Geometry::Large64K;
        rig.sync(&mut shadow, algorithm);
        assert_eq!((shadow.tables(), rig.card(directory + 8)), (0, 0));
        put(
            &mut rig,
            DIRECTORY + 8,
            Pde::new(vram(OTHER), vram(TABLE)).0,
        );
        rig.sync(&mut shadow, algorithm);
        assert_eq!(walk(&rig, &shadow, (1 << 26) + 0x3_1000), Some(12));
        assert_eq!((shadow.directory(), rig.pool.used()), (directory, used));
    }
}

/// All that the card could have seen of one entry during the last sync.
fn seen_at(rig: &Rig, address: u64) -> Vec<u64> {
    let torn = rig.memories.torn.iter();
    torn.filter(|(at, _)| *at == address)
        .map(|(_, entry)| *entry)
        .collect()
}

#[test]
fn an_address_is_never_seen_with_the_target_of_another() {
    let (mut rig, mut shadow) = machine(Algorithm::Naive);
    let pages = [
        Pte::new(Aperture::SysCoherent, 0x7000),
        Pte::new(Aperture::Vram, 0x9000),
        Pte(0),
        Pte::new(Aperture::SysNonCoherent, 0x8000),
        Pte(0),
        Pte::new(Aperture::Vram, 0x3000),
    ];
    let table = Pde(rig.card(shadow.directory() + 8)).small().unwrap();
    let at = table.address + 5 * 8;
    for page in pages {
        let old = rig.card(at);
        put(&mut rig, TABLE + 5 * 8, page.0);
        rig.sync(&mut shadow, Algorithm::Naive);
        let new = rig.card(at);
        let seen = seen_at(&rig, at);
        assert!(
            seen.iter()
                .all(|&entry| entry == old || entry == new || !Pte(entry).valid()),
            "{seen:x?}"
        );
    }
}

#[test]
fn a_short_table_is_never_seen_with_a_longer_span() {
    let (mut rig, mut shadow) = machine(Algorithm::Naive);
    let at = shadow.directory() + 8;
    for span in [0, 3, 1, 2, 0] {
        let old = Pde(rig.card(at));
        put(
            &mut rig,
            DIRECTORY + 8,
            Pde::new(None, vram(TABLE)).0 | span << 2,
        );
        rig.sync(&mut shadow, Algorithm::Naive);
        let new = Pde(rig.card(at));
        assert_eq!(new.span(), 128 << 20 >> span);
        let whole = |pde: Pde| (pde.small(), pde.span());
        let seen = seen_at(&rig, at);
        assert!(
            seen.iter().map(|&entry| Pde(entry)).all(|pde| {
                pde.small().is_none() || whole(pde) == whole(old) || whole(pde) == whole(new)
            }),
            "{seen:x?}"
        );
    }
}

#[test]
fn algorithms_that_take_turns_know_what_the_others_did() {
    for first in ALL {
        for second in ALL {
            let (mut rig, mut shadow) = machine(Algorithm::Incremental);
            put(&mut rig, TABLE + 6 * 8, Pte::new(Aperture::Vram, 0x8000).0);
            rig.sync(&mut shadow, first);
            put(&mut rig, TABLE + 6 * 8, Pte::new(Aperture::Vram, 0x9000).0);
            rig.sync(&mut shadow, second);
            let (entry, _) = rig.card_walk(&shadow, (1 << 27) + 0x6000).unwrap();
            assert_eq!(entry.address(), VRAM_BASE + 0x9000, "{first:?} {second:?}");
        }
    }
}

#[test]
fn a_write_that_no_tracker_saw_is_found_by_reading_all() {
    let (mut rig, mut shadow) = machine(Algorithm::Incremental);
    put(&mut rig, TABLE + 6 * 8, Pte::new(Aperture::Vram, 0x8000).0);
    rig.tracker = Box::new(PageTimes::new(rig::VRAM));
    let blind = Untracked;
    let mut vm = rig.vm();
    vm.tracker = &blind;
    let (report, _) = shadow.sync(Algorithm::Incremental, &mut vm);
    assert_eq!((report.ptes_scanned, report.ptes_written), (32768, 1));
}
