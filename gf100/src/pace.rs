//! Slow motion: engines that take as long as a Quadro 6000's would, times a factor.
//!
//! What engines do is done as fast as the host can; then their thread sleeps until it would be over
//! on hardware that is slower by the factor. So the card, not the host's processors, is what its
//! users wait for.

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Bytes per nanosecond that the board's memory moves, in or out.
///
/// Source: NVIDIA's data sheet of the Quadro 6000, 144 GB/s.
const MEMORY: f64 = 144.0;
/// Instructions of a warp that an SM executes per nanosecond: one in each cycle of its 1147 MHz.
///
/// Source: the same; NVIDIA, *Fermi Compute Architecture Whitepaper*, two schedulers that issue to
/// 16 lanes each.
const SM: f64 = 1.147;
/// An engine that is ahead by less goes on: sleeping costs the host more.
const GRAIN: Duration = Duration::from_millis(1);
/// What an engine may be late and still catch up: the host has a processor for its thread when it
/// pleases, and is no part of the card.
const LATE: Duration = Duration::from_millis(100);

/// The time that an engine takes.
pub struct Pace(Option<Motion>);

struct Motion {
    /// Nanoseconds of a byte that is read or written, and of a warp's instruction.
    byte: f64,
    instruction: f64,
    state: Mutex<State>,
}

struct State {
    /// When all that was done would be over.
    due: Instant,
    /// When the last job was.
    left: Instant,
}

impl State {
    fn begin(&mut self, now: Instant) {
        let idle = now.saturating_duration_since(self.left);
        self.due = (self.due + idle).max(now.checked_sub(LATE).unwrap_or(now));
    }

    /// How far it is ahead of `now`.
    fn ahead(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }
}

impl Pace {
    /// The host's own.
    pub const HOST: Self = Self(None);

    /// The pace of an engine that takes `factor` times as long as a Quadro 6000's, on a board with so
    /// many SMs; the host's own for 0.
    pub fn new(factor: u32, sms: u32) -> Self {
        let (due, left) = (Instant::now(), Instant::now());
        Self((factor > 0).then(|| Motion {
            byte: f64::from(factor) / MEMORY,
            instruction: f64::from(factor) / (SM * f64::from(sms)),
            state: Mutex::new(State { due, left }),
        }))
    }

    /// A job begins or goes on: the time since the last one passed without work.
    pub fn begin(&self) {
        if let Some(motion) = &self.0 {
            motion.state.lock().begin(Instant::now());
        }
    }

    /// So many bytes were read or written.
    pub fn moved(&self, bytes: u64) {
        self.spend(|motion| bytes as f64 * motion.byte);
    }

    /// Warps executed so many instructions.
    pub fn executed(&self, instructions: u64) {
        self.spend(|motion| instructions as f64 * motion.instruction);
    }

    fn spend(&self, nanos: impl Fn(&Motion) -> f64) {
        let Some(motion) = &self.0 else { return };
        let cost = Duration::from_nanos(nanos(motion) as u64);
        let ahead = {
            let mut state = motion.state.lock();
            state.due += cost;
            state.ahead(Instant::now())
        };
        if ahead >= GRAIN {
            thread::sleep(ahead);
        }
    }

    /// The job ends, or is paused: not before its time.
    pub fn end(&self) {
        if let Some(motion) = &self.0 {
            let ahead = motion.state.lock().ahead(Instant::now());
            if !ahead.is_zero() {
                thread::sleep(ahead);
            }
            motion.state.lock().left = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pace(factor: u32) -> Pace {
        Pace::new(factor, 14)
    }

    #[test]
    fn a_job_takes_at_least_its_time() {
        // 144 bytes take a nanosecond; 14 SMs execute 16.058 instructions in one.
        for work in [
            |pace: &Pace| pace.moved(28_800_000),
            |pace: &Pace| pace.executed(3_211_600),
        ] {
            let pace = pace(1000);
            let begin = Instant::now();
            pace.begin();
            work(&pace);
            pace.end();
            // What passed before it began may count, as far as a thread may be late.
            assert!(begin.elapsed() + LATE >= 200 * MS);
        }
    }

    #[test]
    fn time_without_work_is_not_saved() {
        let start = Instant::now();
        let mut state = State {
            due: start,
            left: start,
        };
        state.begin(start + 100 * MS);
        state.due += 5 * MS;
        assert_eq!(state.ahead(start + 100 * MS), 5 * MS);
    }

    #[test]
    fn what_one_job_was_late_the_next_is_early() {
        let start = Instant::now();
        let mut state = State {
            due: start + 5 * MS,
            left: start + 7 * MS,
        };
        state.begin(start + 8 * MS);
        state.due += 10 * MS;
        // It is over 10 ms after the first should have been, but for the millisecond without work.
        assert_eq!(state.ahead(start + 8 * MS), 8 * MS);

        state.left = start + 500 * MS;
        state.begin(start + 500 * MS);
        assert_eq!(state.due, start + 500 * MS - LATE);
    }

    #[test]
    fn without_slow_motion_nothing_takes_time() {
        let pace = pace(0);
        pace.moved(u64::MAX);
        pace.executed(u64::MAX);
        pace.end();
    }
}
