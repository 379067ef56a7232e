//! PFIFO: takes work from channels' rings and brings it to the engines.
//!
//! * [`state`]: the channel table, the runlist and who has what, under one lock that nobody holds
//!   for long.
//! * [`registers`]: what drivers see of it. A store changes the state and wakes a thread; it never
//!   waits for one.
//! * [`pbdma`]: three threads, each of which executes one channel at a time: fetches its ring
//!   ([`context`]), decodes it ([`pusher`]), executes the methods that are PFIFO's own ([`host`])
//!   and hands the others to the engine ([`execute`]).
//! * [`scheduler`]: a thread that takes over runlists, clears kicked channels off the engines,
//!   watches semaphores and time slices.

mod context;
mod execute;
mod host;
mod pbdma;
mod pusher;
mod registers;
mod scheduler;
mod state;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use mmio::Hit;
use mmio::layout::userd;
use mmio::regs::pfifo;
use parking_lot::{Condvar, Mutex, MutexGuard};

use self::state::{PBDMAS, State, Wait};
use crate::block::Block;
use crate::engine::{Engine, Pause, Waker};
use crate::memory::FaultReport;
use crate::shared::Shared;

/// Bytes of registers of a PBDMA.
const PBDMA_STRIDE: u32 = 0x2000;

/// The unit, with its threads.
pub struct Pfifo {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads work on.
struct Inner {
    shared: Arc<Shared>,
    /// In the order of the state's engines.
    engines: Vec<Arc<dyn Engine>>,
    state: Mutex<State>,
    pbdma_wake: [Condvar; PBDMAS],
    scheduler_wake: Condvar,
    /// Counts wake-ups of the scheduler, under the lock.
    scheduler_calls: AtomicU64,
    pauses: [Pause; PBDMAS],
}

impl Pfifo {
    /// The PFIFO of a card with these engines.
    ///
    /// # Errors
    ///
    /// The host has no thread for it.
    pub fn new(shared: Arc<Shared>, engines: Vec<Arc<dyn Engine>>) -> io::Result<Arc<Self>> {
        let inner = Arc::new(Inner {
            state: Mutex::new(State::new(engines.iter().map(|engine| engine.id()))),
            shared,
            engines,
            pbdma_wake: Default::default(),
            scheduler_wake: Condvar::new(),
            scheduler_calls: AtomicU64::new(0),
            pauses: Default::default(),
        });
        for (index, engine) in inner.engines.iter().enumerate() {
            let inner = Arc::downgrade(&inner);
            engine.connect(Waker::new(move || {
                if let Some(inner) = Weak::upgrade(&inner) {
                    inner.engine_woke(index);
                }
            }));
        }
        let fifo = Arc::new(Self {
            inner: inner.clone(),
            threads: Mutex::default(),
        });
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name).spawn(run)?;
            fifo.threads.lock().push(thread);
            io::Result::Ok(())
        };
        for unit in 0..PBDMAS {
            let inner = inner.clone();
            spawn(
                format!("pbdma{unit}"),
                Box::new(move || pbdma::run(inner, unit)),
            )?;
        }
        spawn("pfifo".into(), Box::new(move || scheduler::run(&inner)))?;
        Ok(fifo)
    }

    /// The channel whose control page has byte `offset` of BAR1, if software put the pages there.
    pub fn userd_hit(&self, offset: u64) -> Option<u8> {
        let base = self.inner.shared.registers.read(pfifo::BAR1_BASE.offset());
        if base & pfifo::BAR1_BASE_ENABLE == 0 {
            return None;
        }
        let page = offset / userd::STRIDE;
        let chid = page.checked_sub(u64::from(base & 0x0fff_ffff))?;
        u8::try_from(chid)
            .ok()
            .filter(|&chid| u32::from(chid) < pfifo::CHANNELS)
    }

    /// Software has stored `len` bytes from `offset` of BAR1 on: rings the doorbells that are among
    /// them.
    pub fn aperture_stored(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let first = offset / userd::STRIDE * userd::STRIDE;
        for page in (first..end).step_by(userd::STRIDE as usize) {
            let put = page + userd::GP_PUT;
            if offset < put + 4
                && put < end
                && let Some(chid) = self.userd_hit(page)
            {
                self.doorbell(chid);
            }
        }
    }

    /// Software has stored a new put index in the control page of channel `chid`.
    pub fn doorbell(&self, chid: u8) {
        let mut state = self.inner.state.lock();
        if let Some(slot) = state.channels.get_mut(usize::from(chid))
            && !std::mem::replace(&mut slot.pending, true)
        {
            self.inner.wake_for(&mut state, chid);
        }
    }

    /// An access of a unit that PFIFO does not drive faulted: an aperture, say.
    pub fn report_fault(&self, fault: &FaultReport) {
        let mut state = self.inner.state.lock();
        state.report(fault);
        self.inner.update_interrupt(&state);
    }
}

impl Drop for Pfifo {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        state.stop = true;
        for unit in &mut state.pbdmas {
            unit.abort = true;
        }
        self.inner.pauses.iter().for_each(Pause::ask);
        self.inner.wake_all(&mut state);
        drop(state);
        for thread in self.threads.get_mut().drain(..) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Block for Pfifo {
    fn read(&self, at: Hit) -> Option<u32> {
        self.inner.read(at)
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        self.inner.write(at, value)
    }

    fn reset(&self) {
        let mut state = self.inner.state.lock();
        state.reset();
        let file = &self.inner.shared.registers;
        for register in pfifo::REGISTERS {
            for index in 0..register.count {
                file.write(register.offset_of(index), register.reset);
            }
        }
        self.inner.pauses.iter().for_each(Pause::ask);
        self.inner.wake_all(&mut state);
        self.inner.update_interrupt(&state);
    }
}

impl Inner {
    /// Brings the line to PMC up to date.
    fn update_interrupt(&self, state: &State) {
        let enabled = self.shared.registers.read(pfifo::INTR_EN.offset());
        let level = state.intr().bits() & enabled != 0;
        self.shared
            .interrupts
            .set(mmio::regs::pmc::Intr::PFIFO, level);
    }

    /// Finds a PBDMA for channel `chid` if it can run.
    fn wake_for(&self, state: &mut State, chid: u8) {
        if !state.can_run(chid) {
            return;
        }
        let unit = match state.channels[usize::from(chid)].loaded {
            Some(unit) => Some(unit),
            None => state.idle_pbdma(chid),
        };
        match unit {
            Some(unit) => {
                state.pbdmas[unit].idle = false;
                self.pbdma_wake[unit].notify_all();
            }
            // Somebody's time slice will have an end.
            None => self.wake_scheduler(),
        }
    }

    /// Lets every thread look again.
    fn wake_all(&self, state: &mut State) {
        for (unit, wake) in state.pbdmas.iter_mut().zip(&self.pbdma_wake) {
            unit.idle = false;
            wake.notify_all();
        }
        self.wake_scheduler();
    }

    /// Lets the scheduler look. The lock is held.
    fn wake_scheduler(&self) {
        self.scheduler_calls.fetch_add(1, Ordering::Relaxed);
        self.scheduler_wake.notify_all();
    }

    /// How often it was called. The lock is held.
    fn scheduler_calls(&self) -> u64 {
        self.scheduler_calls.load(Ordering::Relaxed)
    }

    /// Takes channel `chid` off its PBDMA as soon as that can be.
    fn ask_to_leave(&self, state: &mut State, chid: u8) {
        let slot = &mut state.channels[usize::from(chid)];
        if let Some(unit) = slot.loaded {
            slot.leave = true;
            self.ask_to_stop(state, unit);
            state.pbdmas[unit].idle = false;
            self.pbdma_wake[unit].notify_all();
        }
        self.engines_free(state);
    }

    /// Asks what PBDMA `unit` executes to stop for now.
    fn ask_to_stop(&self, state: &mut State, unit: usize) {
        let slot = &mut state.pbdmas[unit];
        if slot.running.is_some() && slot.asked.is_none() {
            slot.asked = Some(Instant::now());
            self.pauses[unit].ask();
            self.wake_scheduler();
        }
    }

    /// Engine `index` is free or may be claimed again.
    fn engine_free(&self, state: &mut State, index: usize) {
        state.prune(index);
        if state.engines[index].wanted {
            self.wake_scheduler();
        }
        if let Some(chid) = state.first_waiter(index) {
            self.wake_for(state, chid);
        }
    }

    /// A channel may have given up its place at an engine.
    fn engines_free(&self, state: &mut State) {
        for index in 0..state.engines.len() {
            self.engine_free(state, index);
        }
    }

    /// Engine `index` says that what it waited for has happened.
    fn engine_woke(&self, index: usize) {
        let mut state = self.state.lock();
        state.engines[index].wakes += 1;
        self.wake_all(&mut state);
    }

    /// Card and memory changed in a way that may satisfy an acquire.
    fn semaphore_released(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let mut any = false;
        for slot in &mut state.channels {
            if let Wait::Semaphore(acquire) = &mut slot.wait {
                (acquire.due, acquire.interval) = (now, state::Acquire::FIRST);
                any = true;
            }
        }
        if any {
            self.wake_scheduler();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
