//! Builds the VBIOS image of the card from a described table.
//!
//! No image is kept anywhere: [`vbios::Vbios`] says what the tables hold, and
//! [`vbios::Vbios::build`] lays them out. What nouveau wants of an image is written down beside
//! each table with its source; the tags (K61, ENV) are those of the `mmio` crate.

pub mod vbios;
