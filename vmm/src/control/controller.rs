//! Performs actions on a machine.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Action, GpuStatus, Reply, RunState, Status, Switches};
use crate::ending::{EndSwitch, Ending};
use crate::metrics::Metrics;
use crate::vcpu::gate::{Gate, Kick};

/// How long processors get to come to the gate.
const HOLD_LIMIT: Duration = Duration::from_secs(2);

/// What actions act on.
pub struct Controller {
    /// Holds the processors.
    pub gate: Arc<Gate>,
    /// The processors.
    pub vcpus: Vec<Kick>,
    /// Ends the machine.
    pub end: Arc<EndSwitch>,
    /// Its counters.
    pub metrics: Metrics,
    /// Its switches.
    pub switches: Switches,
    /// Bytes of RAM.
    pub memory: u64,
    /// What it has of a shared card.
    pub gpu: Option<GpuStatus>,
    /// When it started.
    pub started: Instant,
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").finish_non_exhaustive()
    }
}

impl Controller {
    /// Performs `action`.
    pub fn perform(&self, action: &Action) -> Reply {
        match action {
            Action::Status => Reply::Status(self.status()),
            Action::Pause => {
                if self.gate.hold(&self.vcpus, HOLD_LIMIT) {
                    Reply::Done
                } else {
                    self.gate.open();
                    Reply::Error("a virtual CPU does not leave the guest".into())
                }
            }
            Action::Resume => {
                self.gate.open();
                Reply::Done
            }
            Action::Stop => {
                self.end.pull(Ending::Stopped);
                Reply::Done
            }
            Action::Counters => Reply::Counters(self.metrics.snapshot()),
            Action::Metrics => Reply::Text(self.metrics.prometheus()),
            Action::Set { switch, value } => match self.switches.set(switch, value) {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Error(error.to_string()),
            },
        }
    }

    fn status(&self) -> Status {
        Status {
            state: if self.gate.held() {
                RunState::Paused
            } else {
                RunState::Running
            },
            cpus: self.vcpus.len() as u8,
            memory: self.memory,
            gpu: self.gpu,
            uptime_ms: self.started.elapsed().as_millis() as u64,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Controller {
            gate: Arc::default(),
            vcpus: Vec::new(),
            end: Arc::new(EndSwitch::new().unwrap()),
            metrics: Metrics::default(),
            switches: Switches::default(),
            memory: 0,
            gpu: None,
            started: Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_then_resume_is_running() {
        let controller = Controller::for_test();

        assert_eq!(controller.perform(&Action::Pause), Reply::Done);
        assert_eq!(controller.status().state, RunState::Paused);
        assert_eq!(controller.perform(&Action::Resume), Reply::Done);
        assert_eq!(controller.status().state, RunState::Running);
    }

    #[test]
    fn stop_ends_the_machine() {
        let controller = Controller::for_test();

        controller.perform(&Action::Stop);

        assert_eq!(controller.end.pulled(), Some(Ending::Stopped));
    }

    #[test]
    fn counters_and_metrics_show_the_same_count() {
        let controller = Controller::for_test();
        controller.metrics.counter("exits_total", &[]).add(5);

        let Reply::Counters(counters) = controller.perform(&Action::Counters) else {
            panic!("no counters");
        };

        assert_eq!(counters["exits_total"], 5);
        let text = Reply::Text("# TYPE gpuvm_exits_total counter\ngpuvm_exits_total 5\n".into());
        assert_eq!(controller.perform(&Action::Metrics), text);
    }
}
