//! What a card must find, from the guest's memory as plain words.
//!
//! The reference knows only the format: word numbers, shifts and masks as they are in nouveau and
//! envytools.

use std::collections::HashSet;

use mmio::layout::kind::uncompressed;
use mmio::layout::pagetable::{Geometry, Pde, Pte};
use shadow_pt::{AddressSpace, GuestAddress, Shadow};

use crate::rig::{IOVA_BASE, POOL, POOL_BASE, RAM, Rig, VRAM, VRAM_BASE};

/// The reference: a guest's memory and its walk.
struct Reference<'a> {
    rig: &'a Rig,
    large_bits: u32,
}

/// Whether `len` bytes at `address` are the VM's, by the target of an entry.
fn owned(target: u64, address: u64, len: u64) -> bool {
    let end = address + len;
    match target {
        0 => end <= VRAM,
        2 | 3 => RAM
            .iter()
            .any(|&(start, len)| start <= address && end <= start + len),
        _ => false,
    }
}

impl Reference<'_> {
    /// Entry `index` of a table, if all of the table up to it is the VM's.
    fn load(&self, target: u64, table: u64, index: u64) -> Option<u64> {
        owned(target, table, index * 8 + 8).then(|| {
            let address = table + index * 8;
            self.rig.guest(match target {
                0 => GuestAddress::Vram(address),
                _ => GuestAddress::Ram(address),
            })
        })
    }

    /// Where the guest's `va` leads: the entry with the card's address of the page, and log2 of its
    /// bytes.
    fn translate(&self, directory: (u64, u64), va: u64) -> Option<(u64, u32)> {
        let covered = self.large_bits + 10;
        let pde = self.load(directory.0, directory.1, va >> covered)?;
        let inside = va % (1 << covered);
        if inside >= (128 << 20) >> (pde >> 2 & 3) {
            return None;
        }
        let small = (pde >> 32 & 3, (pde >> 36 & 0xfff_ffff) << 12, 12);
        let large = (pde & 3, (pde >> 4 & 0xfff_ffff) << 12, self.large_bits);
        [large, small]
            .into_iter()
            .find_map(|(target, table, bits)| {
                // Tables count their targets from 1, pages from 0 without 1.
                let target = [None, Some(0), Some(2), Some(3)][target as usize]?;
                let pte = self.load(target, table, inside >> bits)?;
                let target = pte >> 33 & 3;
                let page = (pte >> 4 & 0xfff_ffff) << 12 >> bits << bits;
                if pte & 1 == 0 || !owned(target, page, 1 << bits) {
                    return None;
                }
                let moved = page + if target == 0 { VRAM_BASE } else { IOVA_BASE };
                Some((pte & !0xffff_fff0 | moved >> 12 << 4, bits))
            })
    }

    /// The entry that the card should find, and log2 of its page's bytes: with the plain one of its
    /// kind and without a tag, and, as the card has no large pages of 64 KiB, for the part of such a page.
    fn on_card(&self, (pte, bits): (u64, u32), va: u64) -> (u64, u32) {
        let kind = (pte >> 36) as u8;
        let plain = uncompressed(kind);
        let attributes = match plain == kind {
            true => pte,
            false => pte & 0xf_ffff_ffff | u64::from(plain) << 36 | pte >> 61 << 61,
        };
        match bits {
            16 => (attributes + (va >> 12 & 15) * 16, 12),
            _ => (attributes, bits),
        }
    }
}

/// Virtual addresses worth a look: of each directory entry that leads anywhere, in the guest or in
/// shadow, the first pages, those around the ends of pages of tables, and of short tables.
fn addresses(rig: &Rig, shadow: &Shadow, directory: (u64, u64)) -> Vec<u64> {
    let geometry = rig.geometry;
    let reference = reference(rig);
    let mut found = Vec::new();
    for index in 0..geometry.pde_count() {
        let guest = reference.load(directory.0, directory.1, index).unwrap_or(0);
        let base = index << geometry.pde_shift();
        if guest == 0 && rig.card(shadow.directory() + (base >> 27) * 8) == 0 {
            continue;
        }
        let covered = 1u64 << geometry.pde_shift();
        let small = (0..8).chain(508..516).map(|n| n << 12);
        let large = (0..8).chain(508..516).map(|n| n << geometry.large_shift());
        let ends = [covered, covered / 2, covered / 4, covered / 8]
            .into_iter()
            .flat_map(|end| [end - 0x2_0000, end - 0x1000, end % covered]);
        found.extend(small.chain(large).chain(ends).map(|offset| base + offset));
    }
    found
}

fn reference(rig: &Rig) -> Reference<'_> {
    Reference {
        rig,
        large_bits: match rig.geometry {
            Geometry::Large128K => 17,
            Geometry::Large64K => 16,
        },
    }
}

/// No entry of any table that the card can reach leads out of the VM's memory, and tables are where
/// they may be, and as long.
pub fn check_isolation(rig: &Rig, shadow: &Shadow) {
    let geometry = Geometry::Large128K;
    let mut tables = HashSet::new();
    for index in 0..geometry.pde_count() {
        let pde = Pde(rig.card(shadow.directory() + index * 8));
        let span = pde.span().min(1 << geometry.pde_shift());
        for (table, shift) in [(pde.large(), geometry.large_shift()), (pde.small(), 12)] {
            if let Some(table) = table {
                assert_eq!(table.aperture.target(), 0);
                tables.insert((table.address, span >> shift, shift));
            }
        }
    }
    assert_eq!(tables.len(), shadow.tables());
    let mut ranges: Vec<_> = tables
        .iter()
        .map(|&(address, count, _)| (address, address + count * 8))
        .chain([(
            shadow.directory(),
            shadow.directory() + geometry.pde_count() * 8,
        )])
        .collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(ranges[0].0 >= POOL_BASE && ranges[ranges.len() - 1].1 <= POOL_BASE + POOL);
    for (address, count, shift) in tables {
        for index in 0..count {
            let entry = rig.card(address + index * 8);
            if entry & 1 == 0 {
                assert_eq!(entry, 0);
                continue;
            }
            let pte = Pte(entry);
            let target = entry >> 33 & 3;
            let base = if target == 0 { VRAM_BASE } else { IOVA_BASE };
            let page = pte.address() >> shift << shift;
            assert!(page >= base && owned(target, page - base, 1 << shift));
        }
    }
}

/// The card, and a CPU's walk, find what the reference finds.
pub fn check(rig: &mut Rig, shadow: &Shadow) {
    let directory = match shadow.guest() {
        GuestAddress::Vram(address) => (0, address),
        GuestAddress::Ram(address) => (2, address),
    };
    check_isolation(rig, shadow);
    let space = AddressSpace {
        directory: shadow.guest(),
        limit: (1 << 40) - 1,
        geometry: rig.geometry,
    };
    for va in addresses(rig, shadow, directory) {
        let reference = reference(rig);
        let expected = reference.translate(directory, va);
        let found = rig.card_walk(shadow, va).map(|(pte, bits)| (pte.0, bits));
        let on_card = expected.map(|expected| reference.on_card(expected, va));
        assert_eq!(found, on_card, "{va:#x}");
        // The walk for a CPU's accesses leads to the same byte.
        let walked = space.walk(&mut rig.memories, &rig.policy, va);
        let at = walked.map(|mapping| (mapping.at(va), mapping.shift));
        match expected {
            Some((entry, bits)) => {
                let offset = (Pte(entry).address() >> bits << bits) + va % (1 << bits);
                let at_expected = match entry >> 33 & 3 {
                    0 => GuestAddress::Vram(offset - VRAM_BASE),
                    _ => GuestAddress::Ram(offset - IOVA_BASE),
                };
                assert_eq!(at, Ok((at_expected, bits)));
            }
            None => assert!(at.is_err()),
        }
    }
}
