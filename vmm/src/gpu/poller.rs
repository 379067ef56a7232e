//! The thread that looks for doorbells which nobody traps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gpu_model::{Optimisations, VirtualGpu};

/// How often it looks: a doorbell waits that long at most. Shorter than most exits cost where there
/// is no hardware for them, and seldom enough to leave the processor to the guests.
const LOOK: Duration = Duration::from_micros(50);
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
                while !stop.load(Ordering::Acquire) {
                    let mut wanted = false;
                    for vgpu in &vgpus {
                        if polls(vgpu.optimisations()) {
                            wanted = true;
                            vgpu.poll_doorbells();
                        }
                    }
                    thread::sleep(if wanted { LOOK } else { REST });
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
