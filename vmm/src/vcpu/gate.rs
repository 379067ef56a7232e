//! The gate at which virtual CPUs are held.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// How often a processor is asked to leave the guest. One request may come between its last look
/// at the gate and its entry, and is lost; the next is not.
const KICK_INTERVAL: Duration = Duration::from_millis(1);

/// What processors may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Signal {
    /// Go on.
    Go = 0,
    /// Wait at the gate.
    Wait = 1,
    /// Leave for good.
    Leave = 2,
}

/// The gate of one machine.
#[derive(Debug, Default)]
pub struct Gate {
    signal: AtomicU8,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Processors that wait at the gate.
    waiting: usize,
    /// Processors that left.
    left: usize,
}

impl Gate {
    fn signal(&self) -> Signal {
        match self.signal.load(Ordering::Acquire) {
            0 => Signal::Go,
            1 => Signal::Wait,
            _ => Signal::Leave,
        }
    }

    /// A processor passes: at once, after waiting, or (`false`) never again.
    pub fn pass(&self) -> bool {
        if self.signal() == Signal::Go {
            return true;
        }
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.notify_all();
        while self.signal() == Signal::Wait {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
        self.signal() == Signal::Go
    }

    /// Whether processors are to wait.
    pub fn held(&self) -> bool {
        self.signal() == Signal::Wait
    }

    /// A processor reports that it left.
    pub fn leave(&self) {
        self.state.lock().left += 1;
        self.changed.notify_all();
    }

    /// Lets waiting processors go on.
    pub fn open(&self) {
        let _state = self.state.lock();
        // A machine that is ending stays so.
        let _ = self.signal.compare_exchange(
            Signal::Wait as u8,
            Signal::Go as u8,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        self.changed.notify_all();
    }

    /// Brings all of `vcpus` to the gate. Whether they came within `limit`.
    pub fn hold(&self, vcpus: &[Kick], limit: Duration) -> bool {
        let _ = self.signal.compare_exchange(
            Signal::Go as u8,
            Signal::Wait as u8,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        self.gather(vcpus, limit, |state| state.waiting + state.left)
    }

    /// Makes all of `vcpus` leave. Whether they did within `limit`.
    pub fn dismiss(&self, vcpus: &[Kick], limit: Duration) -> bool {
        {
            let _state = self.state.lock();
            self.signal.store(Signal::Leave as u8, Ordering::Release);
            self.changed.notify_all();
        }
        self.gather(vcpus, limit, |state| state.left)
    }

    fn gather(&self, vcpus: &[Kick], limit: Duration, count: impl Fn(&State) -> usize) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock();
        while count(&state) < vcpus.len() {
            if Instant::now() >= deadline {
                return false;
            }
            for vcpu in vcpus {
                vcpu.kick();
            }
            self.changed.wait_for(&mut state, KICK_INTERVAL);
        }
        true
    }
}

/// A way to make a thread's system call return.
#[derive(Clone, Copy, Debug)]
pub struct Kick(libc::pthread_t);

impl Kick {
    /// For the thread behind `thread`, which is joined after the last kick.
    pub fn new<T>(thread: &JoinHandle<T>) -> Self {
        Kick(thread.as_pthread_t())
    }

    fn kick(self) {
        // SAFETY: the thread has not been joined, so its identifier is valid.
        unsafe { libc::pthread_kill(self.0, SIGRTMIN()) };
    }
}

/// Makes the kick interrupt system calls and do nothing else.
pub fn install_kick_handler() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(SIGRTMIN(), nothing)
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn runner(gate: &Arc<Gate>, laps: &Arc<AtomicU64>) -> JoinHandle<()> {
        let (gate, laps) = (Arc::clone(gate), Arc::clone(laps));
        thread::spawn(move || {
            while gate.pass() {
                laps.fetch_add(1, Ordering::Relaxed);
                // As a guest would: in a system call that only a kick ends.
                // SAFETY: pause has no operands.
                unsafe { libc::pause() };
            }
            gate.leave();
        })
    }

    #[test]
    fn held_threads_stand_still_until_opened_and_leave_when_dismissed() {
        install_kick_handler().unwrap();
        let gate = Arc::new(Gate::default());
        let laps = Arc::new(AtomicU64::new(0));
        let threads = [runner(&gate, &laps), runner(&gate, &laps)];
        let kicks = threads.each_ref().map(Kick::new);

        assert!(gate.hold(&kicks, LIMIT));
        let held = laps.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(5));
        assert_eq!(laps.load(Ordering::Relaxed), held);
        gate.open();
        while laps.load(Ordering::Relaxed) == held {
            thread::yield_now();
        }
        assert!(gate.dismiss(&kicks, LIMIT));

        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn dismissal_frees_threads_that_wait() {
        install_kick_handler().unwrap();
        let gate = Arc::new(Gate::default());
        let threads = [runner(&gate, &Arc::default())];
        let kicks = threads.each_ref().map(Kick::new);

        assert!(gate.hold(&kicks, LIMIT));
        assert!(gate.dismiss(&kicks, LIMIT));

        for thread in threads {
            thread.join().unwrap();
        }
    }
}
