//! The storage behind a guest's BAR0.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use mmio::{Bar, RegisterMap};

use crate::card::Card;

const PAGE_WORDS: usize = 1024;
const PAGE_BYTES: u64 = PAGE_WORDS as u64 * 4;

type Page = Box<[AtomicU32; PAGE_WORDS]>;

/// A sparse array of 32-bit registers: at most the size of BAR0, a page at a time as it is written.
pub struct RegisterFile {
    pages: Box<[OnceLock<Page>]>,
}

impl RegisterFile {
    /// Registers for a BAR0 like that of `card`, in their power-on state.
    pub fn new(card: &dyn Card) -> Self {
        let pages = card.bar_size(Bar::Bar0) / PAGE_BYTES;
        let file = Self {
            pages: (0..pages).map(|_| OnceLock::new()).collect(),
        };
        file.reset(0..u32::MAX);
        file
    }

    /// Puts the registers in `range` back to their power-on state.
    pub fn reset(&self, range: std::ops::Range<u32>) {
        let pages = (0u32..).zip(&self.pages);
        for (number, page) in pages.filter_map(|(n, page)| Some((n, page.get()?))) {
            let first = number * PAGE_BYTES as u32;
            for (at, word) in (first..).step_by(4).zip(page.iter()) {
                if range.contains(&at) {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
        let named = RegisterMap::gf100().iter().filter(|r| r.reset != 0);
        for register in named {
            for at in register.id.elements().filter(|at| range.contains(at)) {
                self.write(at, register.reset);
            }
        }
    }

    /// The value at `offset`, 0 where nothing was ever written or beyond the end.
    #[inline]
    pub fn read(&self, offset: u32) -> u32 {
        let page = self.pages.get(offset as usize / 4 / PAGE_WORDS);
        page.and_then(OnceLock::get)
            .map_or(0, |page| page[word_of(offset)].load(Ordering::Acquire))
    }

    /// Stores at `offset`; beyond the end nothing happens.
    #[inline]
    pub fn write(&self, offset: u32, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Sets `bits` at `offset`.
    pub fn set(&self, offset: u32, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_or(bits, Ordering::AcqRel);
        }
    }

    /// Clears `bits` at `offset`.
    pub fn clear(&self, offset: u32, bits: u32) {
        if let Some(word) = self.word(offset) {
            word.fetch_and(!bits, Ordering::AcqRel);
        }
    }

    fn word(&self, offset: u32) -> Option<&AtomicU32> {
        let page = self.pages.get(offset as usize / 4 / PAGE_WORDS)?;
        let page = page.get_or_init(|| Box::new([const { AtomicU32::new(0) }; PAGE_WORDS]));
        Some(&page[word_of(offset)])
    }
}

const fn word_of(offset: u32) -> usize {
    offset as usize / 4 % PAGE_WORDS
}
