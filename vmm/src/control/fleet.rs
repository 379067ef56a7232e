//! All machines of a process, as an operator sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Action, Controller, Reply, Request, RunState, Status};
use crate::ending::{EndSwitch, Ending};
use crate::metrics::Metrics;

/// The place of one machine. It is empty before the machine starts, between its reset and its next
/// start, and after its end.
pub struct Seat {
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    controller: Option<Controller>,
    /// The operator ended the machine, also if it is about to start.
    ended: Option<Ending>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.name).finish()
    }
}

impl Seat {
    /// The place of the machine called `name`.
    pub fn new(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            state: Mutex::default(),
        })
    }

    /// What the machine is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A machine has started.
    pub fn occupy(&self, controller: Controller) {
        let mut state = self.state.lock();
        if let Some(ending) = &state.ended {
            controller.end.pull(ending.clone());
        }
        state.controller = Some(controller);
    }

    /// The machine is about to be taken down.
    pub fn leave(&self) {
        self.state.lock().controller = None;
    }

    /// Whether the operator ended the machine.
    pub fn ended(&self) -> Option<Ending> {
        self.state.lock().ended.clone()
    }

    fn end(&self, ending: &Ending) {
        let mut state = self.state.lock();
        if let Some(controller) = &state.controller {
            controller.end.pull(ending.clone());
        }
        state.ended.get_or_insert_with(|| ending.clone());
    }

    fn perform(&self, action: &Action) -> Reply {
        if *action == Action::Stop {
            self.end(&Ending::Stopped);
            return Reply::Done;
        }
        match (&self.state.lock().controller, action) {
            (Some(controller), action) => controller.perform(action),
            (None, Action::Status) => Reply::Status(Status::OFF),
            (None, _) => Reply::Error(format!("{} does not run", self.name)),
        }
    }
}

/// The machines of a process.
#[derive(Debug)]
pub struct Fleet {
    seats: Vec<Arc<Seat>>,
    metrics: Metrics,
    closed: Arc<EndSwitch>,
}

impl Fleet {
    /// The machines in `seats`, which all count in `metrics`.
    ///
    /// # Errors
    ///
    /// The host has no event descriptor for it.
    pub fn new(seats: Vec<Arc<Seat>>, metrics: Metrics) -> io::Result<Self> {
        Ok(Self {
            seats,
            metrics,
            closed: Arc::new(EndSwitch::new()?),
        })
    }

    /// Ends the loop that serves the operator.
    pub fn closed(&self) -> &Arc<EndSwitch> {
        &self.closed
    }

    /// Ends all machines.
    pub fn end(&self, ending: &Ending) {
        self.seats.iter().for_each(|seat| seat.end(ending));
    }

    /// Performs a request. One that names no machine is for all of them.
    pub fn perform(&self, request: &Request) -> Reply {
        let action = &request.action;
        match (&request.vm, &self.seats[..]) {
            (None, _) if *action == Action::Metrics => Reply::Text(self.metrics.prometheus()),
            (None, [only]) => only.perform(action),
            (None, all) => Reply::All(
                all.iter()
                    .map(|seat| (seat.name.clone(), seat.perform(action)))
                    .collect::<BTreeMap<_, _>>(),
            ),
            (Some(name), all) => match all.iter().find(|seat| seat.name == *name) {
                Some(seat) => seat.perform(action),
                None => {
                    let known: Vec<&str> = all.iter().map(|seat| seat.name()).collect();
                    Reply::Error(format!(
                        "there is no machine {name:?}, only {}",
                        known.join(", ")
                    ))
                }
            },
        }
    }
}

impl Status {
    /// Nothing runs.
    const OFF: Self = Self {
        state: RunState::Off,
        cpus: 0,
        memory: 0,
        uptime_ms: 0,
        gpu: None,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(vm: Option<&str>, action: Action) -> Request {
        Request {
            vm: vm.map(str::to_owned),
            action,
        }
    }

    fn fleet(names: &[&str]) -> Fleet {
        let seats = names.iter().map(|name| {
            let seat = Seat::new(*name);
            seat.occupy(Controller::for_test());
            seat
        });
        Fleet::new(seats.collect(), Metrics::default()).unwrap()
    }

    #[test]
    fn request_reaches_the_machine_it_names_or_all() {
        let fleet = fleet(&["a", "b"]);

        let paused = fleet.perform(&request(Some("b"), Action::Pause));
        assert_eq!(paused, Reply::Done);

        let Reply::All(all) = fleet.perform(&request(None, Action::Status)) else {
            panic!("not all");
        };
        let states: Vec<_> = all
            .values()
            .map(|reply| match reply {
                Reply::Status(status) => status.state,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(states, [RunState::Running, RunState::Paused]);
        let nobody = fleet.perform(&request(Some("c"), Action::Status));
        let error = "there is no machine \"c\", only a, b".to_owned();
        assert_eq!(nobody, Reply::Error(error));
    }

    #[test]
    fn machine_that_starts_after_the_operator_ended_it_ends() {
        let fleet = fleet(&["a"]);
        let seat = &fleet.seats[0];
        seat.leave();

        fleet.end(&Ending::Signal(15));
        let late = Controller::for_test();
        let end = Arc::clone(&late.end);
        seat.occupy(late);

        assert_eq!(end.pulled(), Some(Ending::Signal(15)));
    }

    #[test]
    fn empty_seat_says_that_nothing_runs() {
        let fleet = Fleet::new(vec![Seat::new("a")], Metrics::default()).unwrap();

        let status = fleet.perform(&request(None, Action::Status));
        assert_eq!(status, Reply::Status(Status::OFF));
        let pause = fleet.perform(&request(None, Action::Pause));
        assert_eq!(pause, Reply::Error("a does not run".into()));
    }
}
