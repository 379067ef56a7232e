//! How a machine ends, and the switch that makes it end.

use std::io;
use std::process::ExitCode;

use parking_lot::Mutex;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest switched itself off.
    PowerOff,
    /// The guest reset itself.
    Reset,
    /// A virtual CPU could not go on; the text says why.
    Crash(String),
    /// The operator stopped it through the control socket or the console.
    Stopped,
    /// A signal stopped it.
    Signal(i32),
}

impl Ending {
    /// The exit status that says so:
    ///
    /// | status | meaning |
    /// |---|---|
    /// | 0 | power-off |
    /// | 1 | the command failed |
    /// | 2 | wrong usage |
    /// | 3 | reset, with `--on-reset exit` |
    /// | 4 | the guest crashed |
    /// | 5 | stopped by the operator |
    /// | 128 + n | stopped by signal n |
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Ending::PowerOff => 0,
            Ending::Reset => 3,
            Ending::Crash(_) => 4,
            Ending::Stopped => 5,
            Ending::Signal(signal) => 128 + (*signal as u8 & 0x7f),
        })
    }
}

/// The switch that ends a machine. The first to pull it says how it ended.
#[derive(Debug)]
pub struct EndSwitch {
    ending: Mutex<Option<Ending>>,
    pulled: EventFd,
}

impl EndSwitch {
    /// A switch that nobody has pulled.
    pub fn new() -> io::Result<Self> {
        Ok(EndSwitch {
            ending: Mutex::new(None),
            pulled: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// Ends the machine.
    pub fn pull(&self, ending: Ending) {
        let mut slot = self.ending.lock();
        if slot.is_none() {
            *slot = Some(ending);
            // Adding one to a counter that is zero does not fail.
            let _ = self.pulled.write(1);
        }
    }

    /// How the machine ended, if it did.
    pub fn pulled(&self) -> Option<Ending> {
        self.ending.lock().clone()
    }

    /// Becomes readable when the switch is pulled, and stays so.
    pub fn event(&self) -> &EventFd {
        &self.pulled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_ending_wins() {
        let end = EndSwitch::new().unwrap();

        end.pull(Ending::Reset);
        end.pull(Ending::PowerOff);

        assert_eq!(end.pulled(), Some(Ending::Reset));
        assert_eq!(end.event().read().unwrap(), 1);
    }
}
