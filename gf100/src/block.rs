//! The form of a unit behind BAR0.

use mmio::Hit;

/// A unit that answers for registers.
///
/// Calls come from several threads at once and never wait for an engine's work. The register file
/// ([`Shared::registers`](crate::shared::Shared)) holds what a unit does not keep itself.
pub trait Block: Send + Sync {
    /// A load of 32 bits. `None`: the register holds what is in the register file.
    fn read(&self, at: Hit) -> Option<u32>;

    /// A store of 32 bits. `false`: the register file is to store it.
    fn write(&self, at: Hit, value: u32) -> bool;

    /// The unit's enable bit fell, or the card was reset. Register storage is reset by the caller.
    fn reset(&self);
}
