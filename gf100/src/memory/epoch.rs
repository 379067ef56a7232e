//! When a TLB is out of date.

use std::sync::atomic::{AtomicU64, Ordering};

use mmio::layout::pagetable::Aperture;

use super::PhysAddr;

/// Counters that page directories hash to.
const SLOTS: usize = 64;

/// What a flush reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The translations of every address space.
    All,
    /// The translations of the address space with this page directory.
    Directory(PhysAddr),
}

impl Flush {
    /// Bit of the trigger register that starts the flush.
    const TRIGGER: u32 = 1 << 31;
    /// Bit of the trigger register that asks for all address spaces.
    const ALL_SPACES: u32 = 1 << 1;

    /// What a write of `trigger` to 0x100cbc flushes, with `space` in 0x100cb8; `None` if the
    /// trigger bit is clear.
    ///
    /// A flush of one page (bit 0 clear, address in 0x100cb4) flushes its whole address space, and
    /// one of the hub alone (bit 2) the GPCs too: more than was asked for is always allowed.
    ///
    /// Source: K61 `nvkm/subdev/mmu/vmmgf100.c gf100_vmm_invalidate`; ENV
    /// `rnndb/memory/gf100_pffb.xml` TLB_FLUSH_*.
    pub fn decode(space: u32, trigger: u32) -> Option<Self> {
        if trigger & Self::TRIGGER == 0 {
            return None;
        }
        if trigger & Self::ALL_SPACES != 0 {
            return Some(Flush::All);
        }
        // The hardware compares bit 1 of the target only: both kinds of system memory match.
        let aperture = match space & 2 {
            0 => Aperture::Vram,
            _ => Aperture::SysCoherent,
        };
        Some(Flush::Directory(PhysAddr {
            aperture,
            address: u64::from(space & 0xffff_fff0) << 8,
        }))
    }
}

#[repr(align(64))]
struct Counter(AtomicU64);

/// Counts the flushes that each page directory has seen.
///
/// Directories share counters by hash, so one may see flushes meant for another; it never misses
/// its own.
pub(super) struct Epochs([Counter; SLOTS]);

/// Which counter a directory looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot(u8);

impl Slot {
    pub(super) fn of(directory: PhysAddr) -> Self {
        let page = directory.address >> 12;
        let system = u64::from(directory.aperture != Aperture::Vram);
        // A directory has at least 16 pages: the low bits of its page number say little.
        Self(((page ^ page >> 4 ^ page >> 10 ^ system << 5) % SLOTS as u64) as u8)
    }
}

impl Epochs {
    pub(super) fn new() -> Self {
        Self([const { Counter(AtomicU64::new(1)) }; SLOTS])
    }

    /// The number of flushes so far, from 1.
    #[inline]
    pub(super) fn current(&self, slot: Slot) -> u64 {
        // SeqCst pairs with the guard: see `Gate::enter`.
        self.counter(slot).load(Ordering::SeqCst)
    }

    /// The counter itself.
    #[inline]
    pub(super) fn counter(&self, slot: Slot) -> &AtomicU64 {
        &self.0[usize::from(slot.0) % SLOTS].0
    }

    /// Makes every translation that `flush` reaches out of date.
    pub(super) fn flush(&self, flush: Flush) {
        match flush {
            Flush::All => {
                for counter in &self.0 {
                    counter.0.fetch_add(1, Ordering::SeqCst);
                }
            }
            Flush::Directory(directory) => {
                self.0[usize::from(Slot::of(directory).0)]
                    .0
                    .fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_register_write_names_its_directory() {
        assert_eq!(Flush::decode(0x0012_3450, 0x0000_0001), None);
        assert_eq!(Flush::decode(0x0012_3450, 0x8000_0003), Some(Flush::All));
        assert_eq!(
            Flush::decode(0x0012_3450, 0x8000_0005),
            Some(Flush::Directory(PhysAddr::vram(0x1234_5000)))
        );
        assert_eq!(
            Flush::decode(0x0012_3453, 0x8000_0001),
            Some(Flush::Directory(PhysAddr {
                aperture: Aperture::SysCoherent,
                address: 0x1234_5000
            }))
        );
    }

    #[test]
    fn a_directory_sees_its_own_flush_and_that_of_all() {
        let epochs = Epochs::new();
        for page in 0..1000 {
            let directory = PhysAddr::vram(page << 12);
            let slot = Slot::of(directory);
            let before = epochs.current(slot);
            epochs.flush(Flush::Directory(directory));
            epochs.flush(Flush::All);
            assert_eq!(epochs.current(slot), before + 2);
        }
    }

    #[test]
    fn both_kinds_of_system_memory_share_a_counter() {
        let at = |aperture| {
            Slot::of(PhysAddr {
                aperture,
                address: 0x55_5000,
            })
        };
        assert_eq!(at(Aperture::SysCoherent), at(Aperture::SysNonCoherent));
    }
}
