//! The second kind of thread: an event loop. That of a machine serves console and queues, that of
//! the process signals and the control socket.

mod console;
mod signals;

use std::sync::Arc;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use thiserror::Error;
use vmm_sys_util::epoll::EventSet;

use crate::ending::EndSwitch;
use crate::seccomp::{self, Sandbox, SeccompError, SeccompMode};

pub use console::{Console, ConsolePlace};
pub use signals::{Signals, block_signals};

/// Anything that waits for events on the loop.
pub type Subscriber = Box<dyn MutEventSubscriber + Send>;

/// The loop itself failed.
#[derive(Debug, Error)]
pub enum LoopError {
    /// Events cannot be waited for.
    #[error("Event loop failed")]
    Events(#[from] event_manager::Error),
    /// It must not run unfiltered.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

/// Serves `subscribers` until `end` is pulled, under a filter of system calls.
pub fn serve(
    subscribers: Vec<Subscriber>,
    end: &Arc<EndSwitch>,
    seccomp: SeccompMode,
) -> Result<(), LoopError> {
    let mut manager = EventManager::<Subscriber>::new()?;
    manager.add_subscriber(Box::new(WakeAtEnd(Arc::clone(end))));
    for subscriber in subscribers {
        manager.add_subscriber(subscriber);
    }
    seccomp::enter(Sandbox::Io, seccomp)?;
    while end.pulled().is_none() {
        manager.run()?;
    }
    Ok(())
}

/// Wakes the loop when the machine ends, so that it sees that.
struct WakeAtEnd(Arc<EndSwitch>);

impl MutEventSubscriber for WakeAtEnd {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(self.0.event(), EventSet::IN));
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {}
}

/// Adds `events` to the loop; whether they can be waited for at all.
pub fn watch(ops: &mut EventOps, events: Events) -> bool {
    ops.add(events)
        .inspect_err(|error| tracing::debug!(fd = events.fd(), %error, "cannot be watched"))
        .is_ok()
}
