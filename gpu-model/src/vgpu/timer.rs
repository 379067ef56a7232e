//! The alarm of a guest's PTIMER. The time itself is the card's.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mmio::regs::{pmc, ptimer};
use parking_lot::{Condvar, Mutex};

use super::interrupts::Interrupts;
use crate::aggregator::Aggregator;
use crate::card::Registers;

#[derive(Default)]
struct State {
    /// Low word of the time to go off at, once.
    at: Option<u32>,
    pending: bool,
    enabled: bool,
    stop: bool,
}

struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
    host: Arc<Aggregator>,
    interrupts: Arc<Interrupts>,
}

impl Alarm {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stop {
            let Some(at) = state.at else {
                self.changed.wait(&mut state);
                continue;
            };
            // The alarm compares 32 bits; half of the range behind it counts as gone by.
            let left = at.wrapping_sub(self.host.card().get(ptimer::TIME_0)) as i32;
            if left > 0 {
                let left = Duration::from_nanos(left.unsigned_abs().into());
                self.changed.wait_for(&mut state, left);
                continue;
            }
            state.at = None;
            state.pending = true;
            self.interrupts.set(pmc::Intr::PTIMER, state.enabled);
        }
    }
}

/// The alarm, with the thread that sleeps until it.
pub struct Timer {
    alarm: Arc<Alarm>,
    thread: Option<JoinHandle<()>>,
}

impl Timer {
    /// An alarm that is not set.
    ///
    /// # Errors
    ///
    /// The host has no thread for it.
    pub fn new(host: Arc<Aggregator>, interrupts: Arc<Interrupts>) -> io::Result<Self> {
        let alarm = Arc::new(Alarm {
            state: Mutex::default(),
            changed: Condvar::new(),
            host,
            interrupts,
        });
        let thread = std::thread::Builder::new()
            .name("vgpu-alarm".into())
            .spawn({
                let alarm = alarm.clone();
                move || alarm.run()
            })?;
        Ok(Self {
            alarm,
            thread: Some(thread),
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.alarm.state.lock();
        change(&mut state);
        let level = state.pending && state.enabled;
        self.alarm.interrupts.set(pmc::Intr::PTIMER, level);
        self.alarm.changed.notify_one();
    }

    /// `PTIMER.INTR`.
    pub fn pending(&self) -> bool {
        self.alarm.state.lock().pending
    }

    /// Acknowledges the alarm.
    pub fn acknowledge(&self) {
        self.change(|state| state.pending = false);
    }

    /// `PTIMER.INTR_EN`.
    pub fn enabled(&self) -> bool {
        self.alarm.state.lock().enabled
    }

    /// Lets the alarm interrupt, or not.
    pub fn enable(&self, enabled: bool) {
        self.change(|state| state.enabled = enabled);
    }

    /// Sets the alarm to the next time with this low word.
    pub fn set(&self, at: u32) {
        self.change(|state| state.at = Some(at));
    }

    /// Back to power-on state.
    pub fn reset(&self) {
        self.change(|state| {
            *state = State {
                stop: state.stop,
                ..State::default()
            };
        });
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.change(|state| state.stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
