//! What every unit of one card shares.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::interrupts::Interrupts;
use crate::memory::Memory;
use crate::register_file::RegisterFile;

/// The card's commons. Nothing here is locked across a unit's handler.
pub struct Shared {
    /// The board.
    pub config: Config,
    /// Storage of registers that no unit computes.
    pub registers: RegisterFile,
    /// Video memory and the way to system memory.
    pub memory: Arc<Memory>,
    /// The interrupt tree.
    pub interrupts: Interrupts,
    /// The time that PTIMER shows and that reports carry.
    pub clock: Clock,
}
