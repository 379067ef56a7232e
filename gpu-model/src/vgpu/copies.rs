//! Copies of pages of a guest's tables, so that only those are read that the guest has stored to.
//!
//! What a BAR leads to is looked for at each TLB flush, in all of its tables; a load of a card's
//! memory takes a microsecond.

use std::collections::HashMap;

use mmio::layout::pagetable::ENTRY_SIZE;
use shadow_pt::{Epoch, GuestAddress, GuestTables, WriteTracker};

use super::apertures::PAGE;

/// Entries of a page.
const ENTRIES: usize = (PAGE / ENTRY_SIZE) as usize;
/// Most pages: the tables of both BARs take a quarter.
const MOST_PAGES: usize = 512;

/// Pages of video memory by address, and when they were read.
#[derive(Default)]
pub struct Copies(HashMap<u64, (Epoch, Box<[u64; ENTRIES]>)>);

impl Copies {
    /// Forgets all: the memory was changed by others than the guest.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// `tables` as they are now, those in video memory from copies where `tracker` says that they
    /// are good.
    pub fn of<'a, T>(&'a mut self, tables: T, tracker: &'a dyn WriteTracker) -> Copied<'a, T> {
        Copied {
            tables,
            now: tracker.collect(),
            tracker,
            copies: self,
        }
    }
}

/// Tables of which there are copies.
pub struct Copied<'a, T> {
    tables: T,
    copies: &'a mut Copies,
    tracker: &'a dyn WriteTracker,
    now: Epoch,
}

impl<T: GuestTables> Copied<'_, T> {
    fn page(&mut self, address: u64) -> &[u64; ENTRIES] {
        let at = GuestAddress::Vram(address);
        let copies = &mut self.copies.0;
        let copy = copies.get(&address);
        if copy.is_none_or(|(since, _)| self.tracker.written(at, 1, *since) != 0) {
            let mut page = Box::new([0; ENTRIES]);
            self.tables.read_block(at, &mut *page);
            self.tracker
                .compared(at, copy.is_none_or(|(_, copy)| *copy != page));
            if copies.len() >= MOST_PAGES && copy.is_none() {
                copies.clear();
            }
            copies.insert(address, (self.now, page));
        }
        &copies[&address].1
    }
}

impl<T: GuestTables> GuestTables for Copied<'_, T> {
    fn read_word(&mut self, at: GuestAddress) -> u32 {
        self.tables.read_word(at)
    }

    fn read_block(&mut self, at: GuestAddress, mut out: &mut [u64]) {
        let GuestAddress::Vram(mut address) = at else {
            return self.tables.read_block(at, out);
        };
        while !out.is_empty() {
            let first = (address % PAGE / ENTRY_SIZE) as usize;
            let (part, rest) = out.split_at_mut(out.len().min(ENTRIES - first));
            let page = self.page(address / PAGE * PAGE);
            part.copy_from_slice(&page[first..first + part.len()]);
            address += part.len() as u64 * ENTRY_SIZE;
            out = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use shadow_pt::PageTimes;

    use super::*;

    /// Entries that say where they are, plus a constant; counts what is read.
    struct Counted {
        plus: u64,
        reads: usize,
    }

    impl GuestTables for &mut Counted {
        fn read_word(&mut self, _at: GuestAddress) -> u32 {
            0
        }

        fn read_block(&mut self, at: GuestAddress, out: &mut [u64]) {
            self.reads += out.len();
            let GuestAddress::Vram(address) = at else {
                return out.fill(0);
            };
            for (at, entry) in (address..).step_by(8).zip(out) {
                *entry = at + self.plus;
            }
        }
    }

    #[test]
    fn only_pages_that_were_stored_to_are_read_again() {
        let times = PageTimes::new(1 << 20);
        let mut memory = Counted { plus: 0, reads: 0 };
        let mut copies = Copies::default();
        let mut out = [0; 1000];
        let at = GuestAddress::Vram(0x1f00);
        copies.of(&mut memory, &times).read_block(at, &mut out);
        let entries: Vec<u64> = (0x1f00..).step_by(8).take(out.len()).collect();
        assert_eq!((&out[..], memory.reads), (&entries[..], 3 * ENTRIES));

        memory.plus = 1;
        times.mark(0x2008, 4);
        copies.of(&mut memory, &times).read_block(at, &mut out);
        assert_eq!(memory.reads, 4 * ENTRIES);
        assert_eq!([out[0x1f], out[0x20], out[0x21f], out[0x220]], {
            [0x1ff8, 0x2001, 0x2ff9, 0x3000]
        });

        copies.clear();
        copies.of(&mut memory, &times).read_block(at, &mut out);
        assert_eq!(out[0], 0x1f01);
    }

    #[test]
    fn ram_is_read_every_time() {
        let times = PageTimes::new(1 << 20);
        let mut memory = Counted { plus: 0, reads: 0 };
        let mut copies = Copies::default();
        for _ in 0..2 {
            let ram = GuestAddress::Ram(0x1000);
            copies.of(&mut memory, &times).read_block(ram, &mut [0; 4]);
        }
        assert_eq!(memory.reads, 8);
    }

    #[test]
    fn copies_are_bounded() {
        let times = PageTimes::new(16 << 20);
        let mut memory = Counted { plus: 0, reads: 0 };
        let mut copies = Copies::default();
        for page in 0..2 * MOST_PAGES as u64 {
            let at = GuestAddress::Vram(page * PAGE);
            copies.of(&mut memory, &times).read_block(at, &mut [0]);
            assert!(copies.0.len() <= MOST_PAGES);
        }
    }
}
