//! What a register is, and how a table of them is written.

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
