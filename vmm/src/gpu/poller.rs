//! The thread that looks for doorbells which nobody traps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gpu_model::{Optimisations, VirtualGpu};

/// How often it looks while no doorbell comes. Seldom enough to leave the processor to the guests.
const LOOK: Duration = Duration::from_micros(50);
/// How long it looks all the time after one came: the next one mostly follows the end of the work that
/// this one was for, and to sleep costs more than a doorbell's exit would where timers are late.
const EAGER: Duration = Duration::from_millis(1);
/// How often it looks whether it has to.
const REST: Duration = Duration::from_millis(20);

/// A running thread; it ends when this is dropped.
pub struct Poller {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Poller {
    /// Looks for the doorbells of `vgpus`, while their switches ask for it.
    ///
    /// # Errors
    ///
    /// The host has no thread for it.
    pub fn start(vgpus: Vec<Arc<VirtualGpu>>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("doorbells".into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut last: Option<Instant> = None;
                while !stop.load(Ordering::Acquire) {
                    let mut wanted = false;
                    for vgpu in &vgpus {
                        if polls(vgpu.optimisations()) {
                            wanted = true;
                            if vgpu.poll_doorbells() {
                                last = Some(Instant::now());
                            }
                        }
                    }
                    match last {
                        // Whoever else can run does.
                        Some(last) if last.elapsed() < EAGER => thread::yield_now(),
                        _ => thread::sleep(if wanted { LOOK } else { REST }),
                    }
                }
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

fn polls(switches: Optimisations) -> bool {
    switches.intersects(Optimisations::DOORBELL_POLL | Optimisations::DOORBELL_DIRECT)
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
