//! The storage behind BAR0: what a register holds when nothing else answers for it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use mmio::RegisterMap;

const PAGE_WORDS: usize = 1024;

type Page = Box<[AtomicU32; PAGE_WORDS]>;

/// A sparse array of 32-bit registers. A page is allocated when it is first written, so the whole
/// costs at most the size of BAR0.
pub struct RegisterFile {
    pages: Box<[OnceLock<Page>]>,
}

impl RegisterFile {
    /// Registers for `size` bytes of BAR0, in their power-on state.
    pub fn new(size: u64) -> Self {
        let pages = usize::try_from(size).unwrap_or(usize::MAX) / (PAGE_WORDS * 4);
        let file = Self {
            pages: (0..pages).map(|_| OnceLock::new()).collect(),
        };
        file.reset();
        file
    }

    /// Puts every register back to its power-on state.
    pub fn reset(&self) {
        for word in self
            .pages
            .iter()
            .filter_map(OnceLock::get)
            .flat_map(|page| page.iter())
        {
            word.store(0, Ordering::Relaxed);
        }
        for register in RegisterMap::gf100()
            .iter()
            .filter(|register| register.reset != 0)
        {
            for index in 0..register.count {
                self.write(register.offset_of(index), register.reset);
            }
        }
    }

    /// The value at `offset`, 0 where nothing was ever written or beyond the end.
    #[inline]
    pub fn read(&self, offset: u32) -> u32 {
        match self.pages.get(page_of(offset)).and_then(OnceLock::get) {
            Some(page) => page[word_of(offset)].load(Ordering::Relaxed),
            None => 0,
        }
    }

    /// Stores at `offset`; beyond the end nothing happens.
    #[inline]
    pub fn write(&self, offset: u32, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Sets `bits` at `offset` and returns what was there before.
    pub fn set(&self, offset: u32, bits: u32) -> u32 {
        self.word(offset)
            .map_or(0, |word| word.fetch_or(bits, Ordering::AcqRel))
    }

    /// Clears `bits` at `offset` and returns what was there before.
    pub fn clear(&self, offset: u32, bits: u32) -> u32 {
        self.word(offset)
            .map_or(0, |word| word.fetch_and(!bits, Ordering::AcqRel))
    }

    fn word(&self, offset: u32) -> Option<&AtomicU32> {
        let page = self.pages.get(page_of(offset))?;
        Some(
            &page.get_or_init(|| Box::new([const { AtomicU32::new(0) }; PAGE_WORDS]))
                [word_of(offset)],
        )
    }
}

const fn page_of(offset: u32) -> usize {
    offset as usize / (PAGE_WORDS * 4)
}

const fn word_of(offset: u32) -> usize {
    offset as usize / 4 % PAGE_WORDS
}

#[cfg(test)]
mod tests {
    use mmio::regs::pmc;

    use super::*;

    #[test]
    fn named_registers_start_at_their_reset_value() {
        let file = RegisterFile::new(32 << 20);
        assert_eq!(file.read(pmc::BOOT_0.offset()), 0x0c00_00a3);
        assert_eq!(file.read(0x00ab_cdec), 0);
    }

    #[test]
    fn reset_forgets_what_was_written() {
        let file = RegisterFile::new(32 << 20);
        file.write(0x00ab_cdec, 7);
        file.reset();
        assert_eq!(file.read(0x00ab_cdec), 0);
    }

    #[test]
    fn beyond_the_end_reads_zero_and_drops_writes() {
        let file = RegisterFile::new(1 << 20);
        file.write(0x0010_0000, 7);
        assert_eq!(file.clear(0xffff_fffc, 7), 0);
        assert_eq!(file.read(0x0010_0000), 0);
    }
}
