//! Virtual CPUs: one thread each.

pub mod collected;
pub mod cpuid;
pub mod exit;
pub mod gate;
mod remains;
pub mod shared;
pub mod state;
mod team;

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use kvm_bindings::KVM_EXIT_DIRTY_RING_FULL;
use kvm_ioctls::{VcpuExit, VcpuFd};
use tracing::error;

use crate::bus::BusView;
use crate::ending::{EndSwitch, Ending};
use crate::seccomp::{self, Sandbox, SeccompMode};
use crate::store_rings::StoreRings;
use collected::CollectedWrites;
use exit::{ExitCounters, Next, handle_exit};
use gate::Gate;

pub use team::Team;

thread_local! {
    static CURRENT: Cell<u8> = const { Cell::new(0) };
}

/// The index of the virtual CPU that this thread runs; 0 on threads that run none.
pub fn current() -> u8 {
    CURRENT.get()
}

/// A virtual CPU that is ready to run.
pub struct Vcpu {
    /// Its index.
    pub index: u8,
    /// KVM's side of it.
    pub fd: VcpuFd,
    /// What it sees.
    pub bus: BusView,
    /// Counts its exits.
    pub counters: ExitCounters,
    /// What it wrote without an exit.
    pub collected: Arc<CollectedWrites>,
    /// Where stores are logged, if not by memory slot.
    pub rings: Option<Arc<StoreRings>>,
    /// Holds it.
    pub gate: Arc<Gate>,
    /// Ends the machine.
    pub end: Arc<EndSwitch>,
}

impl Vcpu {
    /// Starts its thread, under a filter of system calls.
    pub fn spawn(self, seccomp: SeccompMode) -> io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name(format!("vcpu{}", self.index))
            .spawn(move || {
                let leave = Leave(Arc::clone(&self.gate), Arc::clone(&self.end));
                CURRENT.set(self.index);
                match seccomp::enter(Sandbox::Vcpu, seccomp) {
                    Ok(()) => self.run(),
                    Err(error) => leave.1.pull(Ending::Crash(error.to_string())),
                }
            })
    }

    fn run(mut self) {
        while self.gate.pass() {
            let next = match self.fd.run() {
                Ok(exit) => {
                    self.collected.pass_on(&mut self.bus);
                    let full = matches!(exit, VcpuExit::Unsupported(KVM_EXIT_DIRTY_RING_FULL));
                    match handle_exit(exit, &mut self.bus, &self.counters) {
                        Next::Resume if full => relieve(self.rings.as_deref()),
                        next => next,
                    }
                }
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Next::Resume,
                Err(error) => Next::Crash(format!("KVM_RUN failed: {error}")),
            };
            if let Next::Crash(reason) = next {
                let reason = remains::internal_error(self.fd.get_kvm_run()).unwrap_or(reason);
                let registers = remains::registers(&self.fd);
                error!(vcpu = self.index, reason, registers, "crashed");
                self.end.pull(Ending::Crash(reason));
                return;
            }
        }
    }
}

/// Makes room in the rings that log stores.
fn relieve(rings: Option<&StoreRings>) -> Next {
    match rings.map(StoreRings::relieve) {
        Some(Err(error)) => Next::Crash(format!("no room for more stores: {error}")),
        _ => Next::Resume,
    }
}

/// Tells the gate that this thread left, even by a panic.
struct Leave(Arc<Gate>, Arc<EndSwitch>);

impl Drop for Leave {
    fn drop(&mut self) {
        if thread::panicking() {
            self.1.pull(Ending::Crash("the VMM panicked".into()));
        }
        self.0.leave();
    }
}
