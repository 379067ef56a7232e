//! A software model of the NVIDIA GF100, register by register.
//!
//! [`Card`] is the silicon in its slot: configuration space, BARs, DMA windows and interrupts.
//! Drivers cannot tell it from a Quadro 6000. It knows nothing of virtualization.
//!
//! Behind BAR0 each unit of the hardware is a module of its own that answers for its registers;
//! what no unit answers for stores and reads back.

mod backoff;
mod bar0;
mod block;
mod board;
mod bus;
mod card;
mod ce;
mod clock;
mod config;
pub mod engine;
mod fifo;
mod format;
mod gr;
mod interrupts;
pub mod memory;
mod pace;
mod pbus;
mod pci;
mod pci_mirror;
mod pfb;
mod pmc;
mod pmu;
mod ptimer;
mod register_file;
mod shared;
pub mod sm;
#[cfg(test)]
mod testing;

pub use bus::{Bus, NoInterrupts};
pub use card::{Card, Error};
pub use config::{Config, ConfigError, Falcons};
