//! Byte scripts: what a fuzzer, or a seed file, does to a part of the card.
//!
//! Each file is one script language with a function `run(&[u8])`. `fuzz/fuzz_targets` feeds them
//! from a fuzzer; `tests/fuzz.rs` from `fuzz/seeds`.

pub mod bar_accesses;
pub mod code_words;
pub mod config_accesses;
pub mod page_tables;
pub mod rings;

/// The bytes of a script, taken from the front. `None` ends the script.
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        Some(u8::from_le_bytes(self.take()?))
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take()?))
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take()?))
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take()?))
    }
}
