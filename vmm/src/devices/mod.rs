//! The few devices of the machine that are on no PCI bus.

pub mod keyboard;
pub mod marker;
pub mod power;
pub mod serial;
