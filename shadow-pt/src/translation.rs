//! What becomes of a guest's page-table entry, and where a guest may keep tables.

use std::ops::Range;

use mmio::layout::pagetable::{Aperture, ENTRY_SIZE, LARGE_SHIFT, Pte, SMALL_SHIFT};

use crate::{GuestAddress, Rejected};

/// Bits of a physical address in a page-table entry.
const ADDRESS_BITS: u32 = 40;

/// A part of a guest's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRegion {
    /// Guest-physical address of its first byte.
    pub start: u64,
    /// Its bytes.
    pub len: u64,
}

/// A VM's memory cannot be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslationError {
    /// A large page would straddle.
    #[error("Base {0:#x} is not aligned to a large page of 128 KiB")]
    Base(u64),
    /// Part of a page.
    #[error("Memory at {start:#x} of {len:#x} bytes does not consist of 4 KiB pages")]
    Pages {
        /// The first byte.
        start: u64,
        /// The bytes.
        len: u64,
    },
    /// Entries have no bits for it.
    #[error("Memory at {start:#x} of {len:#x} bytes ends behind the 40 bits of an entry")]
    TooHigh {
        /// The first byte.
        start: u64,
        /// The bytes.
        len: u64,
    },
    /// Which is meant?
    #[error("RAM at {0:#x} is not above the RAM before it")]
    Order(u64),
}

/// Where one VM's memory is for the card.
///
/// Video memory moves by the partition's base, RAM by the base of the VM's part of the bus. A page
/// that is not wholly the VM's becomes an invalid entry. Compression tags are one memory of the card's,
/// which VMs number alike, so pages are as if there were none left: what drivers do then is to take the
/// kind that is arranged alike (K61 `vmmgf100.c gf100_vmm_valid`). Everything else in an entry is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    vram_base: u64,
    vram: Range<u64>,
    iova_base: u64,
    /// In ascending order, apart from each other.
    ram: Vec<Range<u64>>,
    /// The first of them, at hand.
    first_ram: Range<u64>,
}

impl Translation {
    /// A VM with `vram_len` bytes of video memory from `vram_base` of the card's, and RAM that the
    /// card sees at its guest-physical address plus `iova_base`.
    ///
    /// # Errors
    ///
    /// A base is not a multiple of 128 KiB, memory is not of whole pages, above what an entry can
    /// hold, or not in ascending order.
    pub fn new(
        (vram_base, vram_len): (u64, u64),
        iova_base: u64,
        regions: impl IntoIterator<Item = RamRegion>,
    ) -> Result<Self, TranslationError> {
        for base in [vram_base, iova_base] {
            if !base.is_multiple_of(1 << LARGE_SHIFT) {
                return Err(TranslationError::Base(base));
            }
        }
        check_pages(0, vram_base, vram_len)?;
        let mut ram: Vec<Range<u64>> = Vec::new();
        for RamRegion { start, len } in regions {
            check_pages(iova_base, start, len)?;
            match ram.last_mut() {
                Some(last) if start < last.end => return Err(TranslationError::Order(start)),
                Some(last) if start == last.end => last.end += len,
                _ => ram.push(start..start + len),
            }
        }
        Ok(Self {
            vram_base,
            vram: 0..vram_len,
            iova_base,
            first_ram: ram.first().cloned().unwrap_or_default(),
            ram,
        })
    }

    /// Bytes of the guest's video memory.
    pub fn vram_len(&self) -> u64 {
        self.vram.end
    }

    /// How many of the `len` bytes from `at` on are the VM's, up to the first that is not.
    pub fn reachable(&self, at: GuestAddress, len: u64) -> u64 {
        let (address, end) = match at {
            GuestAddress::Vram(address) => (address, Some(self.vram.end)),
            GuestAddress::Ram(address) => (address, self.ram_end(address)),
        };
        end.map_or(0, |end| end.saturating_sub(address).min(len))
    }

    /// Where the card has `len` bytes from `at` on: the aperture's kind as in `at`.
    ///
    /// `None` if some of them are not the VM's.
    pub fn card_address(&self, at: GuestAddress, len: u64) -> Option<u64> {
        (self.reachable(at, len) == len).then(|| match at {
            GuestAddress::Vram(address) => self.vram_base + address,
            GuestAddress::Ram(address) => self.iova_base + address,
        })
    }

    /// How many of the `count` entries of a table at `at` the guest can have written.
    pub(crate) fn entries(&self, at: GuestAddress, count: u64) -> u64 {
        self.reachable(at, count * ENTRY_SIZE) / ENTRY_SIZE
    }

    /// The page of 2^`shift` bytes to which a guest's entry leads; `None` for one that is invalid
    /// or leads out of the VM's memory.
    pub fn page(&self, pte: Pte, shift: u32) -> Option<GuestAddress> {
        let address = pte.address() >> shift << shift;
        let at = GuestAddress::new(pte.aperture()?, address);
        (pte.valid() && self.reachable(at, 1 << shift) == 1 << shift).then_some(at)
    }

    /// The shadow of `entry`, a guest's entry for a page of 2^`shift` bytes: 0 if it is invalid, or
    /// rejected, which is counted.
    #[inline]
    pub fn shadow(&self, entry: u64, shift: u32, rejected: &mut Rejected) -> u64 {
        let pte = Pte(entry);
        if !pte.valid() {
            return 0;
        }
        // Of a large page's address the card ignores the bits below the page.
        let address = pte.address() >> shift << shift;
        let (range, base) = match pte.aperture() {
            Some(Aperture::Vram) => (&self.vram, self.vram_base),
            Some(Aperture::SysCoherent | Aperture::SysNonCoherent) => {
                (&self.first_ram, self.iova_base)
            }
            None => (&(0..0), 0),
        };
        if range.start <= address && address + (1 << shift) <= range.end {
            return pte.with_address(base + address).uncompressed().0;
        }
        self.elsewhere(pte, address, 1 << shift, rejected)
    }

    /// The shadow of an entry for a page that is not in video memory or the first part of RAM.
    #[cold]
    fn elsewhere(&self, pte: Pte, address: u64, len: u64, rejected: &mut Rejected) -> u64 {
        match pte.aperture() {
            Some(Aperture::Vram) => rejected.vram_pages += 1,
            Some(Aperture::SysCoherent | Aperture::SysNonCoherent) => {
                if let Some(address) = self.card_address(GuestAddress::Ram(address), len) {
                    return pte.with_address(address).uncompressed().0;
                }
                rejected.ram_pages += 1;
            }
            None => rejected.reserved_targets += 1,
        }
        0
    }

    /// The end of the RAM in which `address` is.
    fn ram_end(&self, address: u64) -> Option<u64> {
        self.ram
            .iter()
            .find(|region| region.contains(&address))
            .map(|region| region.end)
    }
}

fn check_pages(base: u64, start: u64, len: u64) -> Result<(), TranslationError> {
    if !(start | len).is_multiple_of(1 << SMALL_SHIFT) {
        return Err(TranslationError::Pages { start, len });
    }
    match base.checked_add(start).and_then(|at| at.checked_add(len)) {
        Some(end) if end <= 1 << ADDRESS_BITS => Ok(()),
        _ => Err(TranslationError::TooHigh { start, len }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Video memory of 1 MiB at 16 MiB; RAM of 1 MiB at 0 and of 1 MiB at 3 MiB, on the bus at 1 GiB.
    fn translation() -> Translation {
        let ram = [0, 3 * MIB].map(|start| RamRegion { start, len: MIB });
        Translation::new((16 * MIB, MIB), 1 << 30, ram).unwrap()
    }

    fn shadow(pte: Pte, shift: u32) -> (Pte, Rejected) {
        let mut rejected = Rejected::default();
        let shadow = Pte(translation().shadow(pte.0, shift, &mut rejected));
        (shadow, rejected)
    }

    #[test]
    fn a_page_of_video_memory_moves_into_the_partition() {
        let pte = Pte::new(Aperture::Vram, MIB - 0x1000).with_kind(0xfe);
        let (shadow, rejected) = shadow(pte, 12);
        assert_eq!(shadow, pte.with_address(17 * MIB - 0x1000));
        assert_eq!(rejected, Rejected::default());
    }

    #[test]
    fn a_compressed_page_becomes_a_plain_one_without_a_tag() {
        let plain = Pte::new(Aperture::Vram, 0).with_kind(0xfe);
        let compressed = Pte(plain.with_kind(0xdb).0 | 5 << 44);
        let (shadow, _) = shadow(compressed, 17);
        assert_eq!(shadow, plain.with_address(16 * MIB));
    }

    #[test]
    fn a_page_behind_the_partition_is_rejected() {
        let (shadow, rejected) = shadow(Pte::new(Aperture::Vram, MIB), 12);
        assert_eq!(shadow, Pte(0));
        assert_eq!(rejected.vram_pages, 1);
    }

    #[test]
    fn a_page_of_ram_moves_to_the_bus() {
        let pte = Pte::new(Aperture::SysNonCoherent, 3 * MIB + 0x5000).with_read_only();
        let (shadow, _) = shadow(pte, 12);
        assert_eq!(shadow, pte.with_address((1 << 30) + 3 * MIB + 0x5000));
    }

    #[test]
    fn a_page_in_a_hole_of_ram_is_rejected() {
        let (shadow, rejected) = shadow(Pte::new(Aperture::SysCoherent, MIB), 12);
        assert_eq!((shadow, rejected.ram_pages), (Pte(0), 1));
    }

    #[test]
    fn a_large_page_is_measured_from_its_own_start() {
        // The card ignores the low bits; the page that they are in is the VM's last.
        let (shadow, _) = shadow(Pte::new(Aperture::Vram, MIB - 0x1000), 17);
        assert_eq!(shadow.address(), 17 * MIB - (1 << 17));
    }

    #[test]
    fn a_large_page_partly_in_a_hole_is_rejected() {
        let ram = RamRegion {
            start: 0,
            len: 0x2_1000,
        };
        let translation = Translation::new((0, 0), 0, [ram]).unwrap();
        let mut rejected = Rejected::default();
        let entry = Pte::new(Aperture::SysCoherent, 0x2_0000).0;
        assert_eq!(translation.shadow(entry, 17, &mut rejected), 0);
        assert_eq!(translation.shadow(entry, 12, &mut rejected), entry);
        assert_eq!(rejected.ram_pages, 1);
    }

    #[test]
    fn the_reserved_target_is_rejected() {
        let (shadow, rejected) = shadow(Pte(1 | 1 << 33), 12);
        assert_eq!((shadow, rejected.reserved_targets), (Pte(0), 1));
    }

    #[test]
    fn an_invalid_entry_has_an_empty_shadow() {
        let (shadow, rejected) = shadow(Pte(Pte::new(Aperture::Vram, 1 << 39).0 & !1), 12);
        assert_eq!((shadow, rejected), (Pte(0), Rejected::default()));
    }

    #[test]
    fn adjacent_ram_counts_as_one() {
        let ram = [0, MIB].map(|start| RamRegion { start, len: MIB });
        let translation = Translation::new((0, 0), 0, ram).unwrap();
        assert_eq!(
            translation.reachable(GuestAddress::Ram(0x1000), 4 * MIB),
            2 * MIB - 0x1000
        );
    }

    #[test]
    fn memory_that_entries_cannot_hold_is_refused() {
        let ram = |start, len| [RamRegion { start, len }];
        for (vram, iova, ram) in [
            ((0x1_0000, MIB), 0, ram(0, MIB)),
            ((0, MIB), 0x1000, ram(0, MIB)),
            ((0, 0x800), 0, ram(0, MIB)),
            ((0, MIB), 0, ram(0x800, MIB)),
            ((1 << 39, (1 << 39) + 0x1000), 0, ram(0, MIB)),
            ((0, MIB), 1 << 39, ram(1 << 39, 0x1000)),
            ((0, MIB), 0, ram(!0xfff, 0x1000)),
        ] {
            assert!(Translation::new(vram, iova, ram).is_err());
        }
        let overlapping = [0, 0x1000].map(|start| RamRegion { start, len: MIB });
        assert_eq!(
            Translation::new((0, MIB), 0, overlapping),
            Err(TranslationError::Order(0x1000))
        );
    }
}
