//! What a machine may have, and what it had.

use serde::{Deserialize, Serialize};

use crate::{MILLISECOND, Nanos};

/// A kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PGRAPH: compute, 2D, 3D and M2MF.
    Compute,
    /// The copy engines.
    Copy,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Compute, Self::Copy];

    /// Its place in [`Engine::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What an operator chose for a machine. It may change while the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Its part of the time, relative to the others': 1 to 10,000, 100 by default.
    pub weight: u32,
    /// The most it gets of an engine's time, in thousandths; 1000 is no limit.
    pub cap: u32,
    /// Machines of a higher priority go first whenever they have work; 0 to 255.
    pub priority: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weight: 100,
            cap: 1000,
            priority: 0,
        }
    }
}

/// Settings that make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The weight.
    #[error("Weight {0}: 1 to 10000 are possible")]
    Weight(u32),
    /// The cap.
    #[error("Cap {0}: 1 to 1000 thousandths are possible")]
    Cap(u32),
    /// The machine.
    #[error("There is no machine {0}")]
    Vm(usize),
}

impl Settings {
    /// Whether they make sense.
    ///
    /// # Errors
    ///
    /// The first one that does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(1..=10_000).contains(&self.weight) {
            return Err(SettingsError::Weight(self.weight));
        }
        if !(1..=1000).contains(&self.cap) {
            return Err(SettingsError::Cap(self.cap));
        }
        Ok(())
    }
}

/// What a machine had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time of engines, in the order of [`Engine::ALL`].
    pub busy: [Nanos; 2],
    /// Submissions that the card got.
    pub dispatched: u64,
    /// Doorbells that were merged into an earlier one that still waited.
    pub merged: u64,
    /// Time between doorbells and dispatches, added up.
    pub waited: Nanos,
    /// The longest of them.
    pub longest_wait: Nanos,
    /// The longest time from a dispatch to the end of what was dispatched.
    pub longest_run: Nanos,
    /// How often its channels were taken off their engine.
    pub preemptions: u64,
}

impl Usage {
    /// Time of all engines.
    pub fn total(&self) -> Nanos {
        self.busy.iter().sum()
    }
}

/// How much a machine with a cap may overdraw or save.
const CAP_WINDOW: Nanos = 50 * MILLISECOND;

/// Keeps a machine at its cap: filled by time, emptied by use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cap {
    level: i64,
    filled: Nanos,
}

impl Cap {
    pub(crate) fn new() -> Self {
        Self {
            level: CAP_WINDOW as i64,
            filled: 0,
        }
    }

    pub(crate) fn fill(&mut self, now: Nanos, cap: u32) {
        let elapsed = now.saturating_sub(self.filled);
        // What elapsed in a part of a microsecond stays for the next time.
        let gain = (u128::from(elapsed) * u128::from(cap) / 1000) as i64;
        if gain > 0 || elapsed > CAP_WINDOW {
            self.level = self.level.saturating_add(gain).min(CAP_WINDOW as i64);
            self.filled = now;
        }
    }

    pub(crate) fn take(&mut self, used: Nanos) {
        self.level = self.level.saturating_sub(used as i64);
    }

    /// Whether more may be dispatched to a card that has work for another `left`.
    pub(crate) fn open(&self, cap: u32, left: Nanos) -> bool {
        cap >= 1000 || self.level > left as i64
    }

    /// When it opens.
    pub(crate) fn opens(&self, cap: u32) -> Nanos {
        let missing = u128::from((1 - self.level).max(0) as u64);
        self.filled + (missing * 1000).div_ceil(u128::from(cap)) as Nanos
    }
}
