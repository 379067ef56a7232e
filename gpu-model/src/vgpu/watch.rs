//! Pages of a guest's video memory whose stores the device has to see.

use std::sync::atomic::{AtomicU64, Ordering};

const PAGE_SHIFT: u32 = 12;

/// A set of pages that is looked at without a lock.
pub struct Watch(Box<[AtomicU64]>);

impl Watch {
    /// No page of `size` bytes of memory.
    pub fn new(size: u64) -> Self {
        let words = (size >> PAGE_SHIFT).div_ceil(64);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Watches the page at `address`, or no more.
    pub fn set(&self, address: u64, watched: bool) {
        let page = address >> PAGE_SHIFT;
        let Some(word) = self.0.get((page / 64) as usize) else {
            return;
        };
        let bit = 1 << (page % 64);
        match watched {
            true => word.fetch_or(bit, Ordering::AcqRel),
            false => word.fetch_and(!bit, Ordering::AcqRel),
        };
    }

    /// Whether one of the `len` bytes (at least 1) at `address` is watched.
    #[inline]
    pub fn any(&self, address: u64, len: u64) -> bool {
        let last = address.saturating_add(len - 1) >> PAGE_SHIFT;
        (address >> PAGE_SHIFT..=last).any(|page| {
            let word = self.0.get((page / 64) as usize);
            word.is_some_and(|word| word.load(Ordering::Acquire) >> (page % 64) & 1 != 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_across_a_boundary_touches_both_pages() {
        let watch = Watch::new(1 << 20);
        watch.set(0x4_1000, true);
        assert!(watch.any(0x4_0ffe, 4));
        assert!(!watch.any(0x4_0ffe, 2));
        assert!(!watch.any(1 << 30, 4));
        watch.set(0x4_1000, false);
        assert!(!watch.any(0x4_1000, 4));
    }
}
