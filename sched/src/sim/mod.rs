//! A card and its machines on a virtual clock: what a policy would do, without a card.
//!
//! The scheduler is the one that drives a card. The card executes one submission at a time on each
//! engine, round robin between the channels that have some, and takes a moment to change between
//! them. The machines follow a [`Workload`]. Equal scenarios lead to equal outcomes, bit by bit.

mod card;
mod outcome;
mod random;
mod workload;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use self::card::Card;
use self::outcome::Tally;
pub use self::outcome::{Outcome, VmOutcome, WINDOW, jain};
use self::random::Random;
use self::workload::Client;
pub use self::workload::{Mix, Span, UnknownMix, Workload};
use crate::account::{Engine, Settings};
use crate::config::Config;
use crate::scheduler::Scheduler;
use crate::submission::{Decision, Submission};
use crate::{MICROSECOND, Nanos, SECOND};

/// What the card and its driver cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// From one channel to another on an engine.
    pub switch: Nanos,
    /// From the end of a submission until the scheduler knows.
    pub notice: Nanos,
    /// Taking a channel off its engine.
    pub preempt: Nanos,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            switch: 10 * MICROSECOND,
            notice: 20 * MICROSECOND,
            preempt: 100 * MICROSECOND,
        }
    }
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vm {
    /// What its operator chose.
    pub settings: Settings,
    /// What it does.
    pub workload: Workload,
}

/// What to simulate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The policy.
    pub config: Config,
    /// The machines.
    pub vms: Vec<Vm>,
    /// The card.
    pub costs: Costs,
    /// How long.
    pub duration: Nanos,
    /// What chance depends on.
    pub seed: u64,
}

impl Scenario {
    /// `vms` machines with equal settings that do what `mix` says, for ten seconds.
    pub fn new(config: Config, mix: Mix, vms: usize) -> Self {
        let vm = |n| Vm {
            settings: Settings::default(),
            workload: mix.workload(n),
        };
        Self {
            config,
            vms: (0..vms).map(vm).collect(),
            costs: Costs::default(),
            duration: 10 * SECOND,
            seed: 1,
        }
    }

    /// Simulates.
    pub fn run(&self) -> Outcome {
        Simulation::new(self).run()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A machine makes its next submission.
    Arrival { vm: usize },
    /// What runs on an engine is over, unless it was taken off since.
    Done { engine: usize, run: u64 },
    /// The scheduler learns that a submission is over.
    Notice { channel: usize, put: u32 },
    /// A channel has left its engine.
    Left { channel: usize },
    /// The scheduler asked for a look.
    Wake,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    scheduler: Scheduler,
    card: Card,
    clients: Vec<Client>,
    tally: Tally,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    sequence: u64,
    next_wake: Nanos,
}

/// A machine has a channel for each kind of engine.
fn channel_of(vm: usize, engine: Engine) -> usize {
    vm * Engine::ALL.len() + engine.index()
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let vms = scenario.vms.len();
        let channels = vms * Engine::ALL.len();
        let mut scheduler = Scheduler::new(scenario.config, vms, channels);
        let mut random = Random::new(scenario.seed);
        let mut clients = Vec::new();
        for (n, vm) in scenario.vms.iter().enumerate() {
            // Settings come from the operator, who was told if they make no sense.
            let _ = scheduler.set(n, vm.settings);
            clients.push(Client::new(vm.workload, random.split()));
        }
        Self {
            scheduler,
            card: Card::new(channels, scenario.costs.switch),
            clients,
            tally: Tally::new(vms, scenario.duration),
            events: BinaryHeap::new(),
            sequence: 0,
            next_wake: Nanos::MAX,
            scenario,
        }
    }

    fn at(&mut self, time: Nanos, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn run(mut self) -> Outcome {
        for vm in 0..self.clients.len() {
            let begin = self.clients[vm].begin();
            self.at(begin, Event::Arrival { vm });
        }
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > self.scenario.duration {
                break;
            }
            self.handle(now, event);
            self.decide(now);
        }
        let end = self.scenario.duration;
        for run in self.card.running() {
            self.tally.ran(run.vm, run.since, end);
        }
        self.scheduler.tick(end);
        let weights: Vec<u32> = self
            .scenario
            .vms
            .iter()
            .map(|v| v.settings.weight)
            .collect();
        let usage = |vm| self.scheduler.usage(vm);
        self.tally
            .outcome(self.scenario.config.policy, &weights, usage)
    }

    fn handle(&mut self, now: Nanos, event: Event) {
        match event {
            Event::Arrival { vm } => {
                let Some(job) = self.clients[vm].submit(now) else {
                    return;
                };
                let channel = channel_of(vm, job.engine);
                self.tally.arrived(now, vm);
                self.card.describe(channel, job.put, job.length, now);
                let submission = Submission::new(vm, channel, job.engine, job.put);
                self.scheduler.submit(now, submission);
                if let Some(next) = self.clients[vm].next_arrival(now) {
                    self.at(next, Event::Arrival { vm });
                }
            }
            Event::Done { engine, run } => {
                let Some(done) = self.card.finish(engine, run) else {
                    return;
                };
                self.tally.ran(done.vm, done.since, now);
                self.tally.finished(now, done.vm, done.submitted);
                let notice = Event::Notice {
                    channel: done.channel,
                    put: done.put,
                };
                self.at(now + self.scenario.costs.notice, notice);
                if let Some(next) = self.clients[done.vm].finished(now) {
                    self.at(next, Event::Arrival { vm: done.vm });
                }
                self.start(now, engine);
            }
            Event::Notice { channel, put } => self.scheduler.complete(now, channel, put),
            Event::Left { channel } => self.scheduler.preempted(now, channel),
            Event::Wake => self.next_wake = Nanos::MAX,
        }
    }

    fn start(&mut self, now: Nanos, engine: usize) {
        if let Some((run, end)) = self.card.start(now, engine) {
            self.at(end, Event::Done { engine, run });
        }
    }

    fn decide(&mut self, now: Nanos) {
        loop {
            match self.scheduler.next(now) {
                Decision::Dispatch(submission) => {
                    self.card.submit(submission.channel, submission.put);
                    self.start(now, submission.channel % Engine::ALL.len());
                }
                Decision::Preempt { channel, .. } => {
                    let engine = channel % Engine::ALL.len();
                    if let Some(run) = self.card.take_off(now, channel) {
                        self.tally.ran(run.vm, run.since, now);
                    }
                    let left = now + self.scenario.costs.preempt;
                    self.at(left, Event::Left { channel });
                    self.start(left, engine);
                }
                Decision::Sleep(until) => {
                    let until = until.unwrap_or(Nanos::MAX);
                    // One look is enough where several were asked for.
                    if until < self.next_wake {
                        self.next_wake = until;
                        self.at(until, Event::Wake);
                    }
                    return;
                }
            }
        }
    }
}
