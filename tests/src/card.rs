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
    /// Share it: as many virtual GPUs, with so much memory each. 0: the bare card.
    pub vgpus: u16,
    /// Further arguments of `gpuvm gpu` or `gpuvm serve`.
    pub arguments: Vec<String>,
}

/// A running `gpuvm gpu` or `gpuvm serve`.
pub struct Card {
    process: Supervised,
    vgpus: u16,
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
        let mut command = Command::new(&options.gpuvm);
        let vram = format!("{}M", options.vram_mib);
        match options.vgpus {
            0 => command
                .args(["gpu", "--vram", &vram, "--socket"])
                .arg(socket_in(directory.path(), 0, 0)),
            vgpus => command
                .args(["serve", "--vgpus", &vgpus.to_string(), "--vram", &vram])
                .arg("--socket-dir")
                .arg(directory.path())
                .arg("--control")
                .arg(control_in(directory.path())),
        };
        command.args(&options.arguments);
        let process = Supervised::spawn("card", &mut command, &artefacts.join("card.log"))?;
        let mut card = Self {
            process,
            vgpus: options.vgpus,
            directory,
        };
        let sockets = card.sockets();
        card.process
            .wait_until(session, GRACE, || sockets.iter().all(|s| s.exists()))?;
        Ok(card)
    }

    /// Where the card, or virtual GPU `number` of it, serves vfio-user.
    pub fn socket(&self, number: u16) -> PathBuf {
        socket_in(self.directory.path(), self.vgpus, number)
    }

    /// Where a shared card listens for actions; a bare one does not.
    pub fn control(&self) -> Option<PathBuf> {
        (self.vgpus > 0).then(|| control_in(self.directory.path()))
    }

    fn sockets(&self) -> Vec<PathBuf> {
        let served = (0..self.vgpus.max(1)).map(|n| self.socket(n));
        served.chain(self.control()).collect()
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
        let left = self.sockets().iter().any(|socket| socket.exists());
        ensure!(!left, "The card left its socket behind");
        Ok(())
    }
}

fn control_in(directory: &Path) -> PathBuf {
    directory.join("control")
}

fn socket_in(directory: &Path, vgpus: u16, number: u16) -> PathBuf {
    match vgpus {
        0 => directory.join("card"),
        _ => directory.join(format!("vgpu{number}")),
    }
}
