//! Waiting for what is likely to happen at once.
//!
//! To put a thread to sleep and to wake it takes the host some ten microseconds, as long as a small
//! grid does. So threads that were busy a moment ago look for more a while before they sleep, and
//! let others run in between.

use std::thread;
use std::time::{Duration, Instant};

/// For how long to look.
const PATIENCE: Duration = Duration::from_micros(30);

/// Waits a moment for `done`; whether it came.
pub fn spin(mut done: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    loop {
        if done() {
            return true;
        }
        if begin.elapsed() >= PATIENCE {
            return false;
        }
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_noticed_and_what_does_not_is_given_up() {
        let mut looks = 0;
        assert!(spin(|| {
            looks += 1;
            looks == 2
        }));
        assert!(!spin(|| false));
    }
}
