//! PTIMER: the registers of the clock, and one alarm.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mmio::Hit;
use mmio::regs::pmc::Intr;
use mmio::regs::ptimer;
use parking_lot::{Condvar, Mutex};

use crate::block::Block;
use crate::shared::Shared;

/// The unit: registers, and a thread that sleeps until the alarm.
pub struct Ptimer {
    shared: Arc<Shared>,
    alarm: Arc<Alarm>,
    thread: Option<JoinHandle<()>>,
}

struct Alarm {
    state: Mutex<AlarmState>,
    changed: Condvar,
}

#[derive(Default)]
struct AlarmState {
    /// Low word of the time to go off at, once.
    at: Option<u32>,
    pending: bool,
    enabled: bool,
    stop: bool,
}

impl Ptimer {
    /// The timer of a card.
    pub fn new(shared: Arc<Shared>) -> std::io::Result<Self> {
        let alarm = Arc::new(Alarm {
            state: Mutex::new(AlarmState::default()),
            changed: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("ptimer".into()).spawn({
            let (shared, alarm) = (shared.clone(), alarm.clone());
            move || alarm.run(&shared)
        })?;
        Ok(Self {
            shared,
            alarm,
            thread: Some(thread),
        })
    }

    fn change(&self, change: impl FnOnce(&mut AlarmState)) {
        let mut state = self.alarm.state.lock();
        change(&mut state);
        self.shared
            .interrupts
            .set(Intr::PTIMER, state.pending && state.enabled);
        self.alarm.changed.notify_one();
    }
}

impl Alarm {
    fn run(&self, shared: &Shared) {
        let mut state = self.state.lock();
        while !state.stop {
            let Some(at) = state.at else {
                self.changed.wait(&mut state);
                continue;
            };
            // The alarm compares 32 bits; half of the range behind it counts as gone by.
            let left = at.wrapping_sub(shared.clock.now() as u32) as i32;
            if left > 0 {
                let left = Duration::from_nanos(left.unsigned_abs().into());
                self.changed.wait_for(&mut state, left);
                continue;
            }
            state.at = None;
            state.pending = true;
            shared.interrupts.set(Intr::PTIMER, state.enabled);
        }
    }
}

impl Block for Ptimer {
    fn read(&self, at: Hit) -> Option<u32> {
        match at.register.id {
            ptimer::TIME_0 => Some(self.shared.clock.now() as u32),
            ptimer::TIME_1 => Some((self.shared.clock.now() >> 32) as u32),
            ptimer::INTR => Some(self.alarm.state.lock().pending.into()),
            ptimer::INTR_EN => Some(self.alarm.state.lock().enabled.into()),
            _ => None,
        }
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        let clock = &self.shared.clock;
        match at.register.id {
            ptimer::TIME_0 => clock.set(clock.now() >> 32 << 32 | u64::from(value)),
            ptimer::TIME_1 => clock.set(u64::from(value) << 32 | clock.now() & 0xffff_ffff),
            ptimer::INTR => self.change(|alarm| alarm.pending &= value & 1 == 0),
            ptimer::INTR_EN => self.change(|alarm| alarm.enabled = value & 1 != 0),
            ptimer::ALARM => {
                self.change(|alarm| alarm.at = Some(value));
                return false;
            }
            _ => return false,
        }
        true
    }

    fn reset(&self) {
        self.change(|alarm| {
            *alarm = AlarmState {
                stop: alarm.stop,
                ..AlarmState::default()
            }
        });
    }
}

impl Drop for Ptimer {
    fn drop(&mut self) {
        self.change(|alarm| alarm.stop = true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
