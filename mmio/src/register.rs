//! What a register is, and how an offset finds its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A register (or register array) of BAR0, named by the offset of its first element.
///
/// Constants of this type are what [`crate::regs`] exports; they can be used as patterns, so a
/// unit's handler is one `match`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegId(pub u32);

impl RegId {
    /// The offset in BAR0.
    pub const fn offset(self) -> u32 {
        self.0
    }

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

/// The hardware unit that answers for a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are the hardware's.
pub enum Unit {
    Pmc,
    Pbus,
    Pfifo,
    Ptimer,
    Pfb,
    Pltc,
    Pclk,
    Ptherm,
    Pgpio,
    Pfuse,
    Ppriv,
    Ppci,
    Ppmu,
    Pce,
    Pdisp,
    Pgraph,
    Prom,
    Pramin,
}

impl Unit {
    /// The number of units.
    pub const COUNT: usize = Unit::Pramin as usize + 1;
}

/// How software may use a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Stores do nothing.
    Ro,
    /// Loads give 0 or the last value; the store is what counts.
    Wo,
    /// Loads give what was stored, or a state that the unit keeps.
    Rw,
    /// A store clears the bits that it sets.
    W1c,
}

/// One register, or an array of equal ones.
#[derive(Debug)]
pub struct Register {
    /// Its name for the rest of the program.
    pub id: RegId,
    /// `UNIT.NAME`.
    pub name: &'static str,
    /// Who answers for it.
    pub unit: Unit,
    /// Bytes from one element to the next.
    pub stride: u32,
    /// Elements.
    pub count: u32,
    /// How software may use it.
    pub kind: Kind,
    /// Value after power-on, of every element.
    pub reset: u32,
    /// What it is, one sentence.
    pub summary: &'static str,
    /// The file that defines it.
    pub source: &'static str,
    /// Writes the set fields of a value, for traces.
    pub fields: Option<fn(u32) -> String>,
}

impl Register {
    /// The offset of element `index`.
    pub const fn offset_of(&self, index: u32) -> u32 {
        self.id.0 + self.stride * index
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

    /// `PFIFO.CHAN_INST[3]`, or the bare offset of an unlisted register.
    pub fn name(&self, offset: u32) -> String {
        match self.lookup(offset) {
            Some(Hit { register, .. }) if register.count == 1 => register.name.to_owned(),
            Some(Hit { register, index }) => format!("{}[{index}]", register.name),
            None => format!("{:#08x}", offset & !3),
        }
    }
}

const fn word_in_page(offset: u32) -> usize {
    (offset as usize >> 2) & (PAGE_WORDS - 1)
}

/// Declares the registers of one unit: a constant each, and the table `REGISTERS`.
///
/// `NAME[count; stride] = offset, kind, reset = value, fields = BitflagsType, "source";`, where the
/// array, the reset value and the fields may be left out.
macro_rules! registers {
    ($unit:ident, $prefix:literal;
     $($(#[doc = $doc:literal])+
       $name:ident $([$count:literal; $stride:literal])? = $offset:literal, $kind:ident
       $(, reset = $reset:expr)?
       $(, fields = $fields:ty)?
       , $source:literal;)+) => {
        $($(#[doc = $doc])+
          pub const $name: $crate::RegId = $crate::RegId($offset);)+

        /// The unit's registers.
        pub static REGISTERS: &[$crate::Register] = &[
            $($crate::Register {
                id: $name,
                name: concat!($prefix, ".", stringify!($name)),
                unit: $crate::Unit::$unit,
                stride: $crate::register::registers!(@or 4 $(, $stride)?),
                count: $crate::register::registers!(@or 1 $(, $count)?),
                kind: $crate::Kind::$kind,
                reset: $crate::register::registers!(@or 0 $(, $reset)?),
                summary: concat!($($doc),+),
                source: $source,
                fields: $crate::register::registers!(@fields $($fields)?),
            },)+
        ];
    };
    (@or $default:expr) => { $default };
    (@or $default:expr, $value:expr) => { $value };
    (@fields) => { None };
    (@fields $fields:ty) => {
        Some(|value| {
            let mut text = String::new();
            let flags = <$fields>::from_bits_retain(value);
            // Writing to a String cannot fail.
            let _ = bitflags::parser::to_writer(&flags, &mut text);
            text
        })
    };
}
pub(crate) use registers;

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
    fn an_unlisted_offset_has_no_register_and_is_named_by_itself() {
        let map = RegisterMap::gf100();
        assert!(map.lookup(0x00ff_fffc).is_none());
        assert!(map.lookup(u32::MAX).is_none());
        assert_eq!(map.name(0x00ff_fffd), "0xfffffc");
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
