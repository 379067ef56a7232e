//! The software card as a process of its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{Session, Supervised};

/// How long a card may take to offer its socket, and to end after SIGINT.
const GRACE: Duration = Duration::from_secs(10);

/// How to start a card.
#[derive(Clone, Debug)]
pub struct CardOptions {
    /// The `gpuvm` program.
    pub gpuvm: PathBuf,
    /// Video memory in MiB.
    pub vram_mib: u32,
    /// Further arguments of `gpuvm gpu`.
    pub arguments: Vec<String>,
}

/// A running `gpuvm gpu`.
pub struct Card {
    process: Supervised,
    // Socket paths are limited to about a hundred bytes, so it does not live with the artefacts.
    directory: TempDir,
}

impl Card {
    /// Starts a card and waits for its socket. Its log goes to `card.log` in `artefacts`.
    ///
    /// # Errors
    ///
    /// When it ends or takes too long.
    pub fn start(session: &Session, options: &CardOptions, artefacts: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("gpuvm-").tempdir()?;
        let socket = directory.path().join("card");
        let mut command = Command::new(&options.gpuvm);
        command
            .args([
                "gpu",
                "--vram",
                &format!("{}M", options.vram_mib),
                "--socket",
            ])
            .arg(&socket)
            .args(&options.arguments);
        let mut process = Supervised::spawn("card", &mut command, &artefacts.join("card.log"))?;
        process.wait_until(session, GRACE, || socket.exists())?;
        Ok(Self { process, directory })
    }

    /// Where the card serves vfio-user.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("card")
    }

    /// Ends the card and checks that it ends well.
    ///
    /// # Errors
    ///
    /// When it had ended already, ends with an error or leaves its socket behind.
    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.process.poll()? {
            anyhow::bail!("The card ended while its guest ran: {status}");
        }
        let status = self.process.interrupt(GRACE)?;
        ensure!(status.success(), "The card ended with {status}");
        ensure!(!self.socket().exists(), "The card left its socket behind");
        Ok(())
    }
}
