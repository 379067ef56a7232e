//! One invocation of the harness: where output goes, and whether the user wants to stop.

use std::{
    io::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Set by SIGINT, SIGTERM or SIGHUP.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often a waiting harness looks at what it waits for.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// One invocation of the harness.
pub struct Session {
    /// Guests may run side by side.
    sink: Mutex<Sink>,
}

/// Receives what the steps of guests print, piece by piece, while they run.
pub type Sink = Box<dyn Fn(&str) + Send>;

impl Session {
    /// Starts the session. Signals that ask the process to end are turned into an error from
    /// whatever waits, so that every guest and card is stopped on the way out.
    ///
    /// # Errors
    ///
    /// When there is a session already.
    pub fn new(sink: Sink) -> Result<Self> {
        // Also where SIGINT was ignored so far, as it is for commands in the background.
        ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
            .context("Cannot take over SIGINT")?;
        Ok(Self {
            sink: Mutex::new(sink),
        })
    }

    /// A session that shows nothing.
    ///
    /// # Errors
    ///
    /// As [`Session::new`].
    pub fn quiet() -> Result<Self> {
        Self::new(Box::new(|_| ()))
    }

    /// A session that shows everything on standard output.
    ///
    /// # Errors
    ///
    /// As [`Session::new`].
    pub fn echoing() -> Result<Self> {
        Self::new(Box::new(|text| {
            let mut out = std::io::stdout().lock();
            // Nobody is left to tell when standard output is gone.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }))
    }

    /// Fails once the user wants to stop.
    ///
    /// # Errors
    ///
    /// As said.
    pub fn check(&self) -> Result<()> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("Interrupted");
        }
        Ok(())
    }

    /// Passes text of a guest on.
    pub(crate) fn show(&self, text: &str) {
        if !text.is_empty() {
            let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink(text);
        }
    }
}
