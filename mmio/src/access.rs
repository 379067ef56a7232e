//! One access to the card, as every room sees it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A virtual machine, counted from 0. The bare card has one client, VM 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct VmId(pub u16);

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm{}", self.0)
    }
}

/// A base address register of the card. The 64-bit BARs take two slots each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bar {
    /// The registers.
    Bar0,
    /// The video memory aperture, through the card's page tables. USERD lives here.
    Bar1,
    /// The instance memory aperture, through page tables of its own ("BAR2" in nouveau).
    Bar3,
    /// The I/O port pair through which a VBIOS reaches BAR0.
    Bar5,
}

impl Bar {
    /// The slot in configuration space, which is also the VFIO region index.
    pub const fn index(self) -> usize {
        match self {
            Bar::Bar0 => 0,
            Bar::Bar1 => 1,
            Bar::Bar3 => 3,
            Bar::Bar5 => 5,
        }
    }

    /// The BAR whose first slot is `index`.
    pub const fn from_index(index: usize) -> Option<Self> {
        match index {
            0 => Some(Bar::Bar0),
            1 => Some(Bar::Bar1),
            3 => Some(Bar::Bar3),
            5 => Some(Bar::Bar5),
            _ => None,
        }
    }
}

/// Bytes moved by one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits: what registers are made of.
    Dword = 4,
    /// 64 bits.
    Qword = 8,
}

impl Width {
    /// The width of `len` bytes, if an access can have it.
    pub const fn from_len(len: usize) -> Option<Self> {
        match len {
            1 => Some(Width::Byte),
            2 => Some(Width::Word),
            4 => Some(Width::Dword),
            8 => Some(Width::Qword),
            _ => None,
        }
    }

    /// The number of bytes.
    pub const fn bytes(self) -> usize {
        self as usize
    }
}

/// Which way the data goes, seen from the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The CPU loads.
    Read,
    /// The CPU stores.
    Write,
}

/// Who accessed what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The machine that made it.
    pub vm: VmId,
    /// Its virtual CPU, 0 where the bus does not say.
    pub vcpu: u8,
    /// The aperture.
    pub bar: Bar,
    /// Bytes from the start of the BAR.
    pub offset: u64,
    /// Bytes moved.
    pub width: Width,
    /// Load or store.
    pub direction: Direction,
}
