//! `sched_yield`, in which Mesa waits for its fences.
//!
//! Mesa looks at a word in memory over and over and yields in between. Here the card computes on
//! the same processors, so a thread that does so sleeps until there is news from the card. And a
//! channel that was killed never writes that word: then the program is ended, as it would wait for
//! ever.

use std::cell::Cell;
use std::time::{Duration, Instant};

use libc::c_int;

use super::real::real;
use crate::device::Device;
use crate::node;

/// How long to sleep at most: other things may be waited for in the same way.
const NAP: Duration = Duration::from_millis(1);
/// How long to look for news before: to sleep and to be woken takes as long as a small grid.
const ALERT: Duration = Duration::from_micros(30);

thread_local! {
    /// The thread uses the node, and is in the program now and not in this library: the card's
    /// threads and the locks here yield, too, and must not wait for themselves.
    static IN_PROGRAM: Cell<bool> = const { Cell::new(false) };
    /// Since when the thread looks for news.
    static LOOKING: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The news that there were before the thread listened for more.
    static LISTENED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The thread came only now to wait for news.
fn is_alert() -> bool {
    let since = LOOKING.get().unwrap_or_else(Instant::now);
    LOOKING.set(Some(since));
    since.elapsed() < ALERT
}

/// Does something for a program that uses the node. What it waits for afterwards is another thing.
pub fn for_program<T>(work: impl FnOnce() -> T) -> T {
    LOOKING.set(None);
    in_library(work)
}

fn in_library<T>(work: impl FnOnce() -> T) -> T {
    IN_PROGRAM.set(false);
    let result = work();
    IN_PROGRAM.set(true);
    result
}

/// Sleeps until there is news, if the card is at work; whether it did.
fn nap(device: &Device) -> bool {
    let clients = node::clients();
    if let Some(cause) = clients.iter().find_map(|client| client.cause_of_death()) {
        eprintln!("gf100-drm: the program waits for a channel that was killed: {cause}");
        std::process::abort();
    }
    if is_alert() || !clients.iter().any(|client| client.is_busy()) {
        LISTENED.set(None);
        return false;
    }
    match LISTENED.take() {
        // What passed before the thread listened, the program sees when it looks once more.
        None => {
            LISTENED.set(Some(device.events.count()));
            device.listen();
            false
        }
        Some(seen) => {
            device.events.wait(seen, NAP);
            LOOKING.set(None);
            true
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> c_int {
    if IN_PROGRAM.try_with(Cell::get).unwrap_or(false)
        && let Some(device) = node::used_device()
        && in_library(|| nap(device))
    {
        return 0;
    }
    let real = real!(fn sched_yield() -> c_int);
    real()
}
