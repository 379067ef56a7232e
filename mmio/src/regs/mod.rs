//! The registers of BAR0, a module for each unit.

pub mod pmc;

use crate::Register;

/// Every unit's table.
pub static BLOCKS: &[&[Register]] = &[pmc::REGISTERS];
