//! What a hostile machine does to the device that it has a share of.
//!
//! Each [`Case`] is an attack by registers, memory and channels alone, without a driver, so that
//! the same attacks run in a real guest, through the BARs that its kernel exports, and against the
//! device model in one process. A case fails when the device gives the machine something that is
//! not its own, or does not work for it any more; what happens to others is for others to see.

mod attacks;
mod rig;

pub use attacks::CASES;
pub use rig::{CHANNEL, Device, RESULT, Rig, VA_RESULT, VA_TARGET, Verdict};

/// An attack.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// Makes it; the device has to stand it.
    pub run: fn(&mut Rig<'_>) -> Verdict,
}
