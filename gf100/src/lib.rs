//! A software model of the NVIDIA GF100, register by register.

pub mod memory;
