//! The video memory for one VM's shadow tables.

use std::collections::BTreeSet;

/// log2 of the smallest block.
const MIN_SHIFT: u32 = 12;
/// Block sizes: 4 KiB to 256 KiB, a full table of small pages.
const ORDERS: usize = 7;

/// Entries of a page, of which bit n is that of entry n.
const WORDS: usize = 8;
pub(crate) type Filled = [u64; WORDS];

/// The VM's memory for shadow tables is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The VM's memory for shadow page tables is used up")]
pub struct PoolExhausted;

/// A block of a pool, of a power of two of pages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) address: u64,
    order: usize,
}

/// Blocks that the card may still walk: [`TablePool::release`] them after the next TLB flush.
///
/// Dropped, they stay out of use for as long as the pool exists.
#[derive(Debug, Default)]
#[must_use = "the pool has to get the blocks back after a TLB flush"]
pub struct Retired(pub(crate) Vec<Block>);

impl Retired {
    /// Nothing to release.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what another sync retired.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// The video memory in which one VM's shadow tables live: its size is the VM's quota.
///
/// A buddy allocator, as all tables are powers of two. It remembers which entries of free blocks may
/// hold something: most of a table is empty, and what is empty already need not be written.
#[derive(Debug)]
pub struct TablePool {
    base: u64,
    len: u64,
    /// By page, the entries that may hold something; of a block in use, those that did when it was
    /// taken.
    filled: Box<[Filled]>,
    used: u64,
    /// By order, the free blocks by their number.
    free: [BTreeSet<u64>; ORDERS],
    releases: u64,
}

impl TablePool {
    /// A pool of the `len` bytes from `base` of the card's video memory, of which whole 4 KiB pages
    /// are used; `base` is a multiple of 4 KiB. Nobody knows what is in them.
    ///
    /// # Panics
    ///
    /// `base` is not.
    pub fn new(base: u64, len: u64) -> Self {
        assert!(
            base.is_multiple_of(1 << MIN_SHIFT),
            "the base is not page aligned"
        );
        let pages = len >> MIN_SHIFT;
        let mut free: [BTreeSet<u64>; ORDERS] = Default::default();
        let mut page = 0;
        for order in (0..ORDERS).rev() {
            while page + (1 << order) <= pages {
                free[order].insert(page >> order);
                page += 1 << order;
            }
        }
        Self {
            base,
            len: pages << MIN_SHIFT,
            filled: vec![[!0; WORDS]; pages as usize].into(),
            used: 0,
            free,
            releases: 0,
        }
    }

    /// Likewise, of memory that holds zeros.
    ///
    /// # Panics
    ///
    /// As [`TablePool::new`].
    pub fn cleared(base: u64, len: u64) -> Self {
        let mut pool = Self::new(base, len);
        pool.filled.fill([0; WORDS]);
        pool
    }

    /// The entries that may hold something, of the page at `address`, of a block that was just taken.
    pub(crate) fn filled(&self, address: u64) -> Filled {
        let page = address.wrapping_sub(self.base) >> MIN_SHIFT;
        let filled = self.filled.get(page as usize);
        filled.copied().unwrap_or([!0; WORDS])
    }

    /// Whether the first entries of the page at `address` may hold something, before its block is
    /// released.
    pub(crate) fn set_filled(&mut self, address: u64, entries: impl Iterator<Item = bool>) {
        let page = address.wrapping_sub(self.base) >> MIN_SHIFT;
        let Some(filled) = self.filled.get_mut(page as usize) else {
            return;
        };
        for (n, holds) in entries.enumerate().take(64 * WORDS) {
            let bit = 1 << (n % 64);
            match holds {
                true => filled[n / 64] |= bit,
                false => filled[n / 64] &= !bit,
            }
        }
    }

    /// The pool's bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The pool has no memory at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that shadow tables have, the retired ones included.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes back blocks, of this pool, to which no entry leads and that no TLB knows.
    pub fn release(&mut self, retired: Retired) {
        self.releases += u64::from(!retired.is_empty());
        for block in retired.0 {
            self.put(block);
        }
    }

    /// Grows whenever blocks come back.
    pub(crate) fn releases(&self) -> u64 {
        self.releases
    }

    /// A block of at least `bytes`.
    pub(crate) fn allocate(&mut self, bytes: u64) -> Result<Block, PoolExhausted> {
        let wanted = (bytes.next_power_of_two() >> MIN_SHIFT)
            .max(1)
            .trailing_zeros() as usize;
        let found = (wanted..ORDERS)
            .find(|&order| !self.free[order].is_empty())
            .ok_or(PoolExhausted)?;
        let mut number = self.free[found].pop_first().ok_or(PoolExhausted)?;
        for order in (wanted..found).rev() {
            number *= 2;
            self.free[order].insert(number + 1);
        }
        self.used += 1 << (MIN_SHIFT as usize + wanted);
        Ok(Block {
            address: self.base + (number << (MIN_SHIFT as usize + wanted)),
            order: wanted,
        })
    }

    /// A block comes back, and joins its buddies.
    fn put(&mut self, block: Block) {
        let mut order = block.order;
        self.used -= 1 << (MIN_SHIFT as usize + order);
        let mut number = (block.address - self.base) >> (MIN_SHIFT as usize + order);
        while order + 1 < ORDERS && self.free[order].remove(&(number ^ 1)) {
            number /= 2;
            order += 1;
        }
        self.free[order].insert(number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: u64 = 0x40_3000;

    #[test]
    fn a_pool_without_memory_has_no_blocks() {
        assert_eq!(
            TablePool::new(BASE, 0xfff).allocate(0x1000),
            Err(PoolExhausted)
        );
    }

    #[test]
    fn a_block_larger_than_any_table_is_refused() {
        assert_eq!(
            TablePool::new(0, 1 << 30).allocate(0x8_0000),
            Err(PoolExhausted)
        );
    }

    #[test]
    fn blocks_that_come_back_join() {
        let mut pool = TablePool::new(BASE, 0x4_0000);
        let blocks: Vec<_> = (0..64).map(|_| pool.allocate(0x1000).unwrap()).collect();
        assert_eq!(pool.allocate(0x1000), Err(PoolExhausted));
        pool.release(Retired(blocks));
        assert_eq!(pool.used(), 0);
        assert_eq!(pool.allocate(0x4_0000).unwrap().address, BASE);
    }

    proptest! {
        #[test]
        fn live_blocks_lie_apart_in_the_pool(
            pages in 0u64..200,
            steps in proptest::collection::vec((0u32..7, any::<bool>(), any::<usize>()), 0..200),
        ) {
            let mut pool = TablePool::new(BASE, pages << 12);
            let mut live: Vec<(Block, u64)> = Vec::new();
            for (order, take, choice) in steps {
                if take {
                    let bytes = 0x1000 << order;
                    if let Ok(block) = pool.allocate(bytes) {
                        live.push((block, bytes));
                    }
                } else if !live.is_empty() {
                    let (block, _) = live.swap_remove(choice % live.len());
                    pool.release(Retired(vec![block]));
                }
                let mut ranges: Vec<_> = live.iter().map(|(b, bytes)| (b.address, b.address + bytes)).collect();
                ranges.sort_unstable();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
                if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
                    prop_assert!(first.0 >= BASE && last.1 <= BASE + (pages << 12));
                }
                prop_assert_eq!(pool.used(), live.iter().map(|(_, bytes)| bytes).sum::<u64>());
            }
        }
    }
}
