//! Child processes that never outlive the harness.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::{Session, session::POLL};

/// A child in a process group of its own: a Ctrl-C at the terminal reaches only the harness, which
/// then stops its children in order. The child dies with the harness, however that ends.
pub struct Supervised {
    name: String,
    child: Child,
}

impl Supervised {
    /// Starts `command`; what it prints goes to the file `log`.
    ///
    /// # Errors
    ///
    /// When the program or the file cannot be opened.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("Cannot write {}", log.display()))?;
        let err = out.try_clone()?;
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0);
        // SAFETY: the closure makes one system call, which is async-signal-safe, and touches no
        // memory of the parent.
        unsafe {
            command.pre_exec(|| {
                Ok(rustix::process::set_parent_process_death_signal(Some(
                    Signal::KILL,
                ))?)
            });
        }
        let program = command.get_program().display().to_string();
        let child = command
            .spawn()
            .with_context(|| format!("Cannot start {program}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// The exit status, if the child has ended.
    ///
    /// # Errors
    ///
    /// When the system will not tell.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("Cannot wait for {}", self.name))
    }

    /// Calls `ready` until it is true.
    ///
    /// # Errors
    ///
    /// When the child ends before that, the time is up, or the user wants to stop.
    pub fn wait_until(
        &mut self,
        session: &Session,
        time_out: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while !ready() {
            session.check()?;
            if let Some(status) = self.poll()? {
                bail!("The {} ended early: {status}", self.name);
            }
            if start.elapsed() > time_out {
                bail!(
                    "The {} was not ready after {} s",
                    self.name,
                    time_out.as_secs()
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Asks the child to end with SIGINT and gives it `grace` for that.
    ///
    /// # Errors
    ///
    /// When it does not end in time; it is killed then.
    pub fn interrupt(&mut self, grace: Duration) -> Result<ExitStatus> {
        if self.poll()?.is_none() {
            let pid = Pid::from_child(&self.child);
            rustix::process::kill_process(pid, Signal::INT)
                .with_context(|| format!("Cannot signal the {}", self.name))?;
        }
        let start = Instant::now();
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if start.elapsed() > grace {
                self.kill();
                bail!(
                    "The {} did not end within {} s of SIGINT",
                    self.name,
                    grace.as_secs()
                );
            }
            thread::sleep(POLL);
        }
    }

    fn kill(&mut self) {
        // Both fail only when the child is gone, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a short-lived tool; its standard output.
///
/// # Errors
///
/// When it cannot be started or fails; the error has what it printed.
pub fn run_tool(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("Cannot start {program}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, text.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
