//! Whatever a guest writes: after a sync the card finds what the reference finds, and only pages of
//! the VM.

use mmio::layout::pagetable::{Aperture, Geometry, Pde, TablePointer};
use proptest::prelude::*;
use shadow_pt::{AddressSpace, Algorithm, GuestAddress, WalkError};

use crate::reference::{check, check_isolation};
use crate::rig::{RAM, Rig, VRAM};

/// Pages, of either memory, in which directories and tables are mostly put.
const PAGES: u64 = 24;

/// How the guest addresses a page with a table: the field's target, and the page.
#[derive(Clone, Copy, Debug)]
struct Place {
    target: u64,
    page: u64,
}

/// What the guest does between syncs.
#[derive(Clone, Debug)]
enum Step {
    /// Writes to an entry of a page: in its video memory, or in RAM.
    Entry {
        ram: bool,
        page: u64,
        slot: u64,
        value: u64,
    },
    /// Writes a directory entry.
    Directory {
        slot: u64,
        large: Option<Place>,
        small: Option<Place>,
        span: u64,
    },
    /// Fills a page with entries that count up.
    Fill { page: u64, value: u64 },
    /// Flushes.
    Sync(Algorithm),
    /// Ends the address space, and begins another one with the same directory.
    Again,
    /// Sets the other size of large pages.
    Flip,
}

/// Pages around the ends of the VM's memory and of its hole, and any.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..PAGES,
        2 => (VRAM >> 12) - 40..(VRAM >> 12) + 2,
        2 => (RAM[0].1 >> 12) - 40..(RAM[0].1 >> 12) + 2,
        1 => (RAM[1].0 >> 12) - 2..(RAM[1].0 >> 12) + 4,
        1 => ((RAM[1].0 + RAM[1].1) >> 12) - 2..((RAM[1].0 + RAM[1].1) >> 12) + 2,
        1 => 0u64..1 << 28,
    ]
}

/// A page-table entry: any target, flag and kind, mostly valid; or a directory entry.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (page(), 0u64..4, 0u64..16, 0u64..1 << 28).prop_map(
            |(page, target, flags, rest)| flags | 1 | page << 4 | target << 33 | rest << 36
        ),
        2 => (page(), page(), 0u64..16, 0u64..16)
            .prop_map(|(large, small, low, high)| low | large << 4 | high << 32 | small << 36),
        1 => Just(0u64),
        1 => any::<u64>(),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    (0u64..4, page()).prop_map(|(target, page)| Place { target, page })
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        1 => Just(Algorithm::Naive),
        2 => Just(Algorithm::Bulk),
        4 => Just(Algorithm::Incremental)
    ]
}

/// The first entries, mostly, and those around the ends of short tables.
fn slot() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..6, 1 => 0u64..512, 1 => 508u64..512]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0..PAGES, slot(), value())
            .prop_map(|(ram, page, slot, value)| Step::Entry { ram, page, slot, value }),
        6 => (slot(), proptest::option::of(place()), proptest::option::of(place()), 0u64..4)
            .prop_map(|(slot, large, small, span)| Step::Directory { slot, large, small, span }),
        1 => (0..PAGES, value()).prop_map(|(page, value)| Step::Fill { page, value }),
        3 => algorithm().prop_map(Step::Sync),
        1 => Just(Step::Again),
        1 => Just(Step::Flip),
    ]
}

fn apply(rig: &mut Rig, directory: GuestAddress, step: &Step) {
    let ram_or_vram = |ram, address| match ram {
        true => GuestAddress::Ram(address),
        false => GuestAddress::Vram(address),
    };
    match *step {
        Step::Entry {
            ram,
            page,
            slot,
            value,
        } => {
            rig.put(ram_or_vram(ram, (page << 12) + slot * 8), value);
        }
        Step::Directory {
            slot,
            large,
            small,
            span,
        } => {
            let field = |place: Option<Place>| {
                place.map_or(0, |place| place.target | (place.page & 0xfff_ffff) << 4)
            };
            let pde = field(large) | span << 2 | field(small) << 32;
            if rig.policy.reachable(directory.offset(slot * 8), 8) == 8 {
                rig.put(directory.offset(slot * 8), pde);
            }
        }
        Step::Fill { page, value } => {
            for slot in 0..512 {
                rig.put(
                    GuestAddress::Vram((page << 12) + slot * 8),
                    value.wrapping_add(slot << 4),
                );
            }
        }
        Step::Sync(_) | Step::Again | Step::Flip => (),
    }
}

/// Where directories are: anywhere in reach, at the very end, or out of it.
fn directory() -> impl Strategy<Value = (u64, u64)> {
    let pages = prop_oneof![
        6 => 0..PAGES,
        1 => Just((VRAM >> 12) - 2),
        1 => Just((RAM[0].1 >> 12) - 2),
        1 => 0u64..1 << 28,
    ];
    (prop_oneof![4 => Just(0u64), 1 => Just(2)], pages)
        .prop_map(|(target, page)| (target, page << 12))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_shadow_is_the_reference_translated(
        wide in any::<bool>(),
        directory in directory(),
        steps in proptest::collection::vec(step(), 1..60),
        last in algorithm(),
    ) {
        let mut rig = Rig::default();
        if wide {
            rig.geometry = Geometry::Large64K;
        }
        let at = match directory.0 {
            0 => GuestAddress::Vram(directory.1),
            _ => GuestAddress::Ram(directory.1),
        };
        let mut shadow = rig.shadow(at);
        for step in steps.iter().chain([&Step::Sync(last)]) {
            apply(&mut rig, at, step);
            match *step {
                Step::Sync(algorithm) => {
                    rig.sync(&mut shadow, algorithm);
                    match shadow.is_starved() {
                        false => check(&mut rig, &shadow),
                        true => check_isolation(&rig, &shadow),
                    }
                }
                Step::Again => {
                    let retired = shadow.close(&mut rig.pool);
                    rig.pool.release(retired);
                    shadow = rig.shadow(at);
                }
                Step::Flip => {
                    rig.geometry = match rig.geometry {
                        Geometry::Large128K => Geometry::Large64K,
                        Geometry::Large64K => Geometry::Large128K,
                    };
                }
                _ => {}
            }
        }
        let retired = shadow.close(&mut rig.pool);
        rig.pool.release(retired);
        prop_assert_eq!(rig.pool.used(), 0);
    }

    #[test]
    fn runs_lead_where_walks_lead(
        wide in any::<bool>(),
        ram in any::<bool>(),
        pages in proptest::collection::vec((0u64..40, 0u64..6, any::<bool>(), any::<bool>()), 0..60),
        (start, len) in (0u64..48 << 12, 0u64..48 << 12),
    ) {
        let mut rig = Rig::default();
        let (aperture, at): (_, fn(u64) -> GuestAddress) = match ram {
            true => (Aperture::SysCoherent, GuestAddress::Ram),
            false => (Aperture::Vram, GuestAddress::Vram),
        };
        let table = |page: u64| Some(TablePointer {
            aperture,
            address: page << 12,
            volatile: false,
        });
        rig.put(at(0x1_0000), Pde::new(table(0x80), table(0x100)).0);
        for (index, page, large, read_only) in pages {
            let flags = if read_only { 5 } else { 1 };
            let (entry, page) = match large {
                true => (0x8_0000 + index % 4 * 8, page << 5),
                false => (0x10_0000 + index * 8, page + index),
            };
            rig.put(at(entry), flags | page << 4);
        }
        let space = AddressSpace {
            directory: at(0x1_0000),
            limit: (1 << 40) - 1,
            geometry: if wide { Geometry::Large64K } else { Geometry::Large128K },
        };
        let mut runs = Vec::new();
        space.runs(&mut rig.memories, &rig.policy, start, len, |run| runs.push(run));
        prop_assert!(runs.windows(2).all(|pair| pair[0].va + pair[0].len <= pair[1].va));
        let mut va = start;
        while va < start + len {
            let walked = space.walk(&mut rig.memories, &rig.policy, va);
            let run = runs.iter().find(|run| (run.va..run.va + run.len).contains(&va));
            prop_assert_eq!(
                run.map(|run| (run.at.offset(va - run.va), run.read_only)),
                walked.ok().map(|mapping| (mapping.at(va), mapping.pte.read_only()))
            );
            va = (va | 0xfff) + 1;
        }
    }
}

#[test]
fn an_address_above_the_limit_leads_nowhere() {
    let mut rig = Rig::default();
    let space = AddressSpace::new(0x1_0000, 0xfff, Geometry::default()).unwrap();
    for va in [0x1000, 1 << 40, u64::MAX] {
        let walked = space.walk(&mut rig.memories, &rig.policy, va);
        assert_eq!(walked, Err(WalkError::Limit));
    }
}

#[test]
fn the_reserved_target_is_no_directory() {
    assert_eq!(AddressSpace::new(1, !0, Geometry::default()), None);
}
