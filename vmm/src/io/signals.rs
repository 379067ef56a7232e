//! Signals that end all machines.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::signal::{block_signal, create_sigset};

use super::watch;
use crate::control::Fleet;
use crate::ending::Ending;

const SIGNALS: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Keeps the signals from this thread and from those that it starts, so that only [`Signals`]
/// sees them.
pub fn block_signals() -> io::Result<()> {
    for signal in SIGNALS {
        match block_signal(signal) {
            Ok(()) | Err(vmm_sys_util::signal::Error::SignalAlreadyBlocked(_)) => {}
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    Ok(())
}

/// Ends all machines when a signal arrives.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    fleet: Arc<Fleet>,
}

impl Signals {
    /// Waits for the signals that [`block_signals`] held back.
    pub fn new(fleet: Arc<Fleet>) -> io::Result<Self> {
        let set = create_sigset(&SIGNALS).map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: `set` is an initialised signal set.
        let fd = unsafe { libc::signalfd(-1, &raw const set, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just created and nothing else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Signals { fd, fleet })
    }

    fn take(&self) -> Option<i32> {
        // SAFETY: a signal record of zeros is a valid value to be overwritten.
        let mut record: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&record);
        // SAFETY: `record` has room for `size` bytes.
        let got = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut record).cast(), size) };
        (got == size.cast_signed()).then_some(record.ssi_signo.cast_signed())
    }
}

impl MutEventSubscriber for Signals {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(&self.fd, EventSet::IN));
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        if let Some(signal) = self.take() {
            self.fleet.end(&Ending::Signal(signal));
        }
    }
}
