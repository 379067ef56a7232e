//! All virtual CPUs of a machine.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::warn;

use super::Vcpu;
use super::gate::{Gate, Kick};
use crate::seccomp::SeccompMode;

/// How long processors get to leave the guest when the machine ends.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// Running processors. When it is dropped they have left the guest for good.
#[derive(Debug)]
pub struct Team {
    gate: Arc<Gate>,
    threads: Vec<JoinHandle<()>>,
}

impl Team {
    /// Starts `vcpus`, all of them behind `gate`, under seccomp filters.
    pub fn start(vcpus: Vec<Vcpu>, gate: Arc<Gate>, seccomp: SeccompMode) -> io::Result<Self> {
        let mut team = Team {
            gate,
            threads: Vec::new(),
        };
        for vcpu in vcpus {
            team.threads.push(vcpu.spawn(seccomp)?);
        }
        Ok(team)
    }

    /// Ways to make them leave the guest, valid as long as the team is.
    pub fn kicks(&self) -> Vec<Kick> {
        self.threads.iter().map(Kick::new).collect()
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        if !self.gate.dismiss(&self.kicks(), LEAVE_LIMIT) {
            warn!("a virtual CPU does not leave");
        }
        for thread in self.threads.drain(..) {
            // A panic was reported where it happened, and as the machine's ending.
            let _ = thread.join();
        }
    }
}
