//! One invocation of the harness: where output goes, and whether the user wants to stop.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Set by SIGINT, SIGTERM or SIGHUP.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often a waiting harness looks at what it waits for.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// One invocation of the harness.
pub struct Session {
    echo: bool,
}

impl Session {
    /// Starts the session. Signals that ask the process to end are turned into an error from
    /// whatever waits, so that every guest and card is stopped on the way out. With `echo`, what
    /// the guests print is shown while they run.
    ///
    /// # Errors
    ///
    /// When there is a session already.
    pub fn new(echo: bool) -> Result<Self> {
        ctrlc::try_set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
            .context("Cannot take over SIGINT")?;
        Ok(Self { echo })
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

    /// Shows text of a guest, when the session does that.
    pub(crate) fn echo(&self, text: &str) {
        use std::io::Write;

        if self.echo {
            let mut out = std::io::stdout().lock();
            // Nobody is left to tell when standard output is gone.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}
