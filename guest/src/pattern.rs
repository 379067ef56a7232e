//! Test content: every 8 bytes of a stream are different, and no two streams agree.

use std::sync::atomic::{AtomicU64, Ordering};

/// An endless byte stream, known at every offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

/// The first byte that is not as expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Byte {offset:#x} is {found:#04x}, expected {expected:#04x}")]
pub struct Mismatch {
    /// Offset within the checked memory.
    pub offset: u64,
    /// What is there.
    pub found: u8,
    /// What should be there.
    pub expected: u8,
}

impl Pattern {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Pattern {
        Pattern { seed }
    }

    /// Bytes `8 * index ..` as a little-endian number: an odd multiple of the index, which
    /// differs for each, mixed with the seed.
    pub fn quad(&self, index: u64) -> u64 {
        let mixed = (index ^ self.seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29 ^ self.seed
    }

    /// The byte at `offset`.
    pub fn byte(&self, offset: u64) -> u8 {
        (self.quad(offset / 8) >> (offset % 8 * 8)) as u8
    }

    /// The 32-bit word at `offset`, a multiple of 4.
    pub fn word(&self, offset: u64) -> u32 {
        (self.quad(offset / 8) >> (offset % 8 * 8)) as u32
    }

    /// Fills memory from the beginning of the stream.
    pub fn fill(&self, memory: &[AtomicU64]) {
        for (index, quad) in memory.iter().enumerate() {
            quad.store(self.quad(index as u64), Ordering::Relaxed);
        }
    }

    /// Checks that the `bytes` at `at` in memory are those of the stream at `from`.
    ///
    /// # Panics
    /// If the range lies outside memory.
    pub fn check(
        &self,
        memory: &[AtomicU64],
        at: u64,
        from: u64,
        bytes: u64,
    ) -> Result<(), Mismatch> {
        let mut done = 0;
        let whole = at.is_multiple_of(8) && from.is_multiple_of(8);
        while done < bytes {
            if whole && bytes - done >= 8 {
                let found = memory[((at + done) / 8) as usize].load(Ordering::Relaxed);
                if found == self.quad((from + done) / 8) {
                    done += 8;
                    continue;
                }
            }
            let found = byte(memory, at + done);
            let expected = self.byte(from + done);
            if found != expected {
                return Err(Mismatch {
                    offset: at + done,
                    found,
                    expected,
                });
            }
            done += 1;
        }
        Ok(())
    }
}

/// The byte at `offset` of memory.
pub fn byte(memory: &[AtomicU64], offset: u64) -> u8 {
    (memory[(offset / 8) as usize].load(Ordering::Relaxed) >> (offset % 8 * 8)) as u8
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn memory(quads: usize) -> Vec<AtomicU64> {
        (0..quads).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn quads_of_one_stream_are_all_different() {
        let pattern = Pattern::new(7);
        let distinct: HashSet<u64> = (0..100_000).map(|index| pattern.quad(index)).collect();
        assert_eq!(distinct.len(), 100_000);
    }

    #[test]
    fn streams_of_two_seeds_have_no_quad_in_common() {
        let ours: HashSet<u64> = (0..10_000)
            .map(|index| Pattern::new(1).quad(index))
            .collect();
        assert!((0..10_000).all(|index| !ours.contains(&Pattern::new(2).quad(index))));
    }

    #[test]
    fn one_changed_byte_is_found_where_it_is() {
        let pattern = Pattern::new(3);
        let memory = memory(16);
        pattern.fill(&memory);
        memory[5].fetch_xor(0xff << 16, Ordering::Relaxed);
        let mismatch = pattern.check(&memory, 0, 0, 128).unwrap_err();
        assert_eq!(mismatch.offset, 42);
        assert_eq!(mismatch.found, !mismatch.expected);
    }

    proptest! {
        #[test]
        fn content_is_found_at_any_shift(at in 0u64..64, from in 0u64..64, bytes in 0u64..64) {
            let pattern = Pattern::new(9);
            let memory = memory(16);
            for offset in 0..bytes {
                let shifted = u64::from(pattern.byte(from + offset)) << ((at + offset) % 8 * 8);
                memory[((at + offset) / 8) as usize].fetch_or(shifted, Ordering::Relaxed);
            }
            prop_assert_eq!(pattern.check(&memory, at, from, bytes), Ok(()));
        }

        #[test]
        fn word_is_made_of_its_bytes(word in 0u64..1000) {
            let pattern = Pattern::new(11);
            let bytes = [0, 1, 2, 3].map(|byte| pattern.byte(word * 4 + byte));
            prop_assert_eq!(pattern.word(word * 4), u32::from_le_bytes(bytes));
        }
    }
}
