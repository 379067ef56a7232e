//! `sched_yield`, in which Mesa waits for its fences.
//!
//! Mesa looks at a word in memory over and over and yields in between. Here the card computes on
//! the same processors, so a thread that does so sleeps until there is news from the card. And a
//! channel that was killed never writes that word: then the program is ended, as it would wait for
//! ever.

use std::cell::Cell;
use std::time::Duration;

use libc::c_int;

use super::real::real;
use crate::node;

/// How long to sleep at most: other things may be waited for in the same way.
const NAP: Duration = Duration::from_millis(1);

thread_local! {
    static USES_THE_NODE: Cell<bool> = const { Cell::new(false) };
}

/// The card's own threads yield, too, and must not wait for themselves.
pub fn this_thread_uses_the_node() {
    USES_THE_NODE.set(true);
}

#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> c_int {
    if USES_THE_NODE.try_with(Cell::get).unwrap_or(false)
        && let Some(device) = node::used_device()
    {
        let seen = device.events.count();
        let clients = node::clients();
        if let Some(cause) = clients.iter().find_map(|client| client.cause_of_death()) {
            eprintln!("gf100-drm: the program waits for a channel that was killed: {cause}");
            std::process::abort();
        }
        if clients.iter().any(|client| client.is_busy()) {
            device.events.wait(seen, NAP);
            return 0;
        }
    }
    let real = real!(fn sched_yield() -> c_int);
    real()
}
