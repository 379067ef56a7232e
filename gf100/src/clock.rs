//! The time of the card: 64 bits of nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The time of the card.
pub struct Clock {
    origin: Instant,
    /// Added to what has passed since `origin`, modulo 2^64.
    offset: AtomicU64,
}

impl Clock {
    /// The counter's resolution: its low five bits are always 0.
    const STEP: u64 = 32;

    /// A clock at 0.
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            offset: AtomicU64::new(0),
        }
    }

    /// Nanoseconds, in steps of 32.
    #[inline]
    pub fn now(&self) -> u64 {
        self.elapsed()
            .wrapping_add(self.offset.load(Ordering::Relaxed))
            & !(Self::STEP - 1)
    }

    /// Sets the clock.
    pub fn set(&self, time: u64) {
        self.offset
            .store(time.wrapping_sub(self.elapsed()), Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
