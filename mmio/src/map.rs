//! All registers of the card, and how an offset finds its own.

use std::fmt;
use std::ops::Range;

use crate::regs::{PRAMIN, PROM};
use crate::{RegId, Register};

/// A part of BAR0 that is memory, not registers.
#[derive(Debug)]
pub struct Window {
    /// What it shows.
    pub name: &'static str,
    /// Where it is in BAR0.
    pub range: Range<u32>,
}

impl Window {
    /// The window that byte `offset` of BAR0 is in.
    pub fn at(offset: u32) -> Option<&'static Self> {
        static WINDOWS: [Window; 2] = [
            Window {
                name: "PROM",
                range: PROM,
            },
            Window {
                name: "PRAMIN",
                range: PRAMIN,
            },
        ];
        WINDOWS.iter().find(|window| window.range.contains(&offset))
    }
}

/// A register found by offset.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// The register.
    pub register: &'static Register,
    /// Which element of an array, 0 for a single register.
    pub index: u32,
}

const PAGE_SHIFT: u32 = 12;
const PAGE_WORDS: usize = 1 << (PAGE_SHIFT - 2);
/// "No register here": both for a page and for a word.
const NONE: u16 = u16::MAX;

/// All registers of a card, found by offset in two loads.
pub struct RegisterMap {
    registers: Vec<&'static Register>,
    /// For each 4 KiB of BAR0 the page in `words`.
    pages: Vec<u16>,
    /// For each 32-bit word of a known page the register's place in `registers`.
    words: Vec<[u16; PAGE_WORDS]>,
}

impl RegisterMap {
    /// Builds the map of `blocks`.
    ///
    /// # Panics
    ///
    /// When two registers claim one word: the tables are part of the program.
    pub fn new(blocks: &[&'static [Register]]) -> Self {
        let mut map = Self {
            registers: Vec::new(),
            pages: Vec::new(),
            words: Vec::new(),
        };
        for register in blocks.iter().flat_map(|block| block.iter()) {
            let id = u16::try_from(map.registers.len()).expect("fewer than 65535 registers");
            map.registers.push(register);
            for index in 0..register.count {
                map.claim(register.offset_of(index), id);
            }
        }
        map
    }

    fn claim(&mut self, offset: u32, id: u16) {
        let page = (offset >> PAGE_SHIFT) as usize;
        if self.pages.len() <= page {
            self.pages.resize(page + 1, NONE);
        }
        if self.pages[page] == NONE {
            self.pages[page] = u16::try_from(self.words.len()).expect("fewer than 65535 pages");
            self.words.push([NONE; PAGE_WORDS]);
        }
        let word = &mut self.words[usize::from(self.pages[page])][word_in_page(offset)];
        assert!(
            *word == NONE,
            "{} and {} both claim {offset:#08x}",
            self.registers[usize::from(*word)].name,
            self.registers[usize::from(id)].name,
        );
        *word = id;
    }

    /// The GF100's map.
    pub fn gf100() -> &'static Self {
        static MAP: std::sync::LazyLock<RegisterMap> =
            std::sync::LazyLock::new(|| RegisterMap::new(crate::regs::BLOCKS));
        &MAP
    }

    /// The register whose word holds byte `offset`.
    #[inline]
    pub fn lookup(&self, offset: u32) -> Option<Hit> {
        let page = *self.pages.get((offset >> PAGE_SHIFT) as usize)?;
        let id = *self
            .words
            .get(usize::from(page))?
            .get(word_in_page(offset))?;
        let register = *self.registers.get(usize::from(id))?;
        let index = match register.count {
            1 => 0,
            _ => ((offset & !3) - register.id.0) / register.stride,
        };
        Some(Hit { register, index })
    }

    /// Every register, in the order of the tables.
    pub fn iter(&self) -> impl Iterator<Item = &'static Register> + '_ {
        self.registers.iter().copied()
    }

    /// `PFIFO.CHAN_INST[3]`, or the name of the window to memory that `offset` is in; `None` for
    /// an unlisted register.
    pub fn name(&self, offset: u32) -> Option<String> {
        match self.lookup(offset) {
            Some(Hit { register, .. }) if register.count == 1 => Some(register.name.to_owned()),
            Some(Hit { register, index }) => Some(format!("{}[{index}]", register.name)),
            None => Window::at(offset).map(|window| window.name.to_owned()),
        }
    }
}

const fn word_in_page(offset: u32) -> usize {
    (offset as usize >> 2) & (PAGE_WORDS - 1)
}

impl RegId {
    /// The offsets of its elements.
    pub fn elements(self) -> impl Iterator<Item = u32> {
        self.describe()
            .into_iter()
            .flat_map(|register| (0..register.count).map(|index| register.offset_of(index)))
    }

    /// The register's description.
    pub fn describe(self) -> Option<&'static Register> {
        RegisterMap::gf100().lookup(self.0).map(|hit| hit.register)
    }
}

impl fmt::Debug for RegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Some(register) => f.write_str(register.name),
            None => write!(f, "{:#08x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_found_at_each_of_its_elements() {
        let map = RegisterMap::gf100();
        for register in map.iter() {
            for index in [0, register.count - 1] {
                let hit = map.lookup(register.offset_of(index)).expect(register.name);
                assert_eq!(hit.register.name, register.name);
                assert_eq!(hit.index, index);
            }
        }
    }

    #[test]
    fn an_offset_inside_a_register_finds_it() {
        let map = RegisterMap::gf100();
        assert_eq!(
            map.lookup(0x143).unwrap().register.id,
            crate::regs::pmc::INTR_EN_HOST
        );
    }

    #[test]
    fn an_unlisted_offset_has_no_register_and_no_name() {
        let map = RegisterMap::gf100();
        assert!(map.lookup(0x00ff_fffc).is_none());
        assert!(map.lookup(u32::MAX).is_none());
        assert_eq!(map.name(0x00ff_fffd), None);
    }

    #[test]
    fn memory_in_bar0_is_named_by_its_window() {
        let map = RegisterMap::gf100();
        assert_eq!(map.name(PRAMIN.start + 0x1234).as_deref(), Some("PRAMIN"));
        assert_eq!(map.name(PROM.start).as_deref(), Some("PROM"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = RegisterMap::gf100().iter().map(|r| r.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
