//! Host threads that run CTAs.

use std::{
    num::NonZero,
    sync::mpsc::{self, Sender},
    thread,
};

use parking_lot::Mutex;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that run CTAs at most, the one that calls included: about as many as the largest board has
/// multiprocessors. A grid that is paused keeps the registers of one CTA for each.
const MOST: usize = 16;

/// As many threads as the host runs at once, less the one that calls. They end with the pool.
pub struct Pool {
    workers: Vec<Mutex<Sender<Job>>>,
}

impl Pool {
    /// A pool for this host. Threads that the host does not grant are done without.
    pub fn new() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(MOST);
        let workers = (1..threads)
            .filter_map(|n| {
                let (sender, jobs) = mpsc::channel::<Job>();
                thread::Builder::new()
                    .name(format!("sm{n}"))
                    .spawn(move || jobs.into_iter().for_each(|job| job()))
                    .ok()?;
                Some(Mutex::new(sender))
            })
            .collect();
        Self { workers }
    }

    /// Threads beside the caller's.
    pub fn helpers(&self) -> usize {
        self.workers.len()
    }

    /// Has `job` done on helper `n`, if there is such a helper.
    pub fn spawn(&self, n: usize, job: impl FnOnce() + Send + 'static) {
        if let Some(worker) = self.workers.get(n) {
            // A helper ends with the pool, not before.
            let _ = worker.lock().send(Box::new(job));
        }
    }
}
