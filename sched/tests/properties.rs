//! What holds whatever machines do: order, exclusiveness, nothing lost, nothing idle, nobody left
//! out for long.

use proptest::prelude::*;
use sched::sim::{Costs, Scenario, Span, Vm, Workload};
use sched::{
    Config, Decision, Engine, Lanes, MICROSECOND, MILLISECOND, Nanos, Policy, QUEUE, SECOND,
    Scheduler, Settings, Submission,
};

const VMS: usize = 4;
const CHANNELS: usize = 8;
/// What a turn may overrun by, in kernels: the last one, and two of which nothing is known yet.
const OVERRUN: u64 = 3;

/// One step of a driver that does as it likes.
#[derive(Clone, Debug)]
enum Step {
    /// A guest rings the doorbell of a channel.
    Ring { channel: usize, copy: bool },
    /// The card finishes one of the submissions that it has.
    Finish { which: usize },
    /// Time passes.
    Pass { span: Nanos },
    /// The operator changes his mind.
    Set {
        vm: usize,
        weight: u32,
        cap: u32,
        priority: u8,
    },
    /// A channel dies.
    Kill { channel: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CHANNELS, any::<bool>()).prop_map(|(channel, copy)| Step::Ring { channel, copy }),
        6 => (0..16usize).prop_map(|which| Step::Finish { which }),
        4 => (0..20 * MILLISECOND).prop_map(|span| Step::Pass { span }),
        1 => (0..VMS, 1..10_000u32, 100..=1000u32, 0..3u8)
            .prop_map(|(vm, weight, cap, priority)| Step::Set { vm, weight, cap, priority }),
        1 => (0..CHANNELS).prop_map(|channel| Step::Kill { channel }),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let policy = prop::sample::select(Policy::ALL.to_vec());
    let slice = prop::option::of(MILLISECOND / 2..10 * MILLISECOND);
    let apart = any::<bool>();
    (policy, slice, 1..4usize, apart).prop_map(|(policy, timeslice, depth, apart)| Config {
        timeslice,
        depth,
        lanes: if apart { Lanes::Apart } else { Lanes::Joint },
        ..Config::new(policy)
    })
}

/// The scheduler, and an independent record of what it was told and said.
struct Driver {
    sched: Scheduler,
    now: Nanos,
    rung: [u32; CHANNELS],
    dispatched: [u32; CHANNELS],
    /// Of what was on the card when it was killed or preempted, puts may come again.
    finished: [u32; CHANNELS],
    wake: Option<Nanos>,
    /// Time in which each machine had something on the card, for lanes with one owner.
    held: Nanos,
}

impl Driver {
    fn new(config: Config) -> Self {
        Self {
            sched: Scheduler::new(config, VMS, CHANNELS),
            now: 0,
            rung: [0; CHANNELS],
            dispatched: [0; CHANNELS],
            finished: [0; CHANNELS],
            wake: None,
            held: 0,
        }
    }

    fn perform(&mut self, step: &Step) {
        match *step {
            Step::Ring { channel, copy } => {
                self.rung[channel] += 1;
                let engine = if copy { Engine::Copy } else { Engine::Compute };
                let put = self.rung[channel];
                let submission = Submission::new(channel % VMS, channel, engine, put);
                self.sched.submit(self.now, submission);
            }
            Step::Finish { which } => {
                let on_card: Vec<_> = self.sched.on_card().collect();
                if !on_card.is_empty() {
                    let done = on_card[which % on_card.len()];
                    self.finish(done);
                }
            }
            Step::Pass { span } => self.pass(span),
            Step::Set {
                vm,
                weight,
                cap,
                priority,
            } => {
                let settings = Settings {
                    weight,
                    cap,
                    priority,
                };
                self.sched.set(vm, settings).unwrap();
            }
            Step::Kill { channel } => {
                self.sched.forget(self.now, channel);
                self.dispatched[channel] = self.rung[channel];
                self.finished[channel] = self.rung[channel];
            }
        }
    }

    fn pass(&mut self, span: Nanos) {
        if self.sched.on_card().next().is_some() {
            self.held += span;
        }
        self.now += span;
    }

    fn finish(&mut self, done: Submission) {
        self.finished[done.channel] = done.put;
        self.sched.complete(self.now, done.channel, done.put);
    }

    /// Takes decisions until the scheduler sleeps.
    fn decide(&mut self) -> Result<(), TestCaseError> {
        // It comes to an end: each machine is told at most once per lane and slice to leave.
        for _ in 0..4 * QUEUE {
            match self.sched.next(self.now) {
                Decision::Dispatch(submission) => {
                    let channel = submission.channel;
                    prop_assert!(submission.put <= self.rung[channel], "it was never rung");
                    if submission.resume {
                        prop_assert!(submission.put >= self.finished[channel]);
                    } else {
                        prop_assert!(submission.put > self.dispatched[channel], "out of order");
                    }
                    self.dispatched[channel] = self.dispatched[channel].max(submission.put);
                }
                Decision::Preempt { channel, .. } => {
                    self.sched.preempted(self.now, channel);
                }
                Decision::Sleep(until) => {
                    prop_assert!(until.is_none_or(|until| until > self.now));
                    self.wake = until;
                    return Ok(());
                }
            }
        }
        Err(TestCaseError::fail("decisions without an end"))
    }

    /// One machine at a time has a lane, with no more than it may.
    fn check(&self) -> Result<(), TestCaseError> {
        let config = self.sched.config();
        if config.policy != Policy::Direct {
            let lanes = match config.lanes {
                Lanes::Joint => 1,
                Lanes::Apart => 2,
            };
            let mut owners: Vec<_> = self.sched.on_card().map(|s| s.vm).collect();
            prop_assert!(owners.len() <= lanes * config.depth);
            owners.dedup();
            prop_assert!(owners.len() <= lanes, "{owners:?} share");
        }
        for vm in 0..VMS {
            prop_assert!(self.sched.waiting(vm) <= QUEUE + CHANNELS);
        }
        Ok(())
    }

    /// Lets everything end that can; whether all was dispatched.
    fn drain(&mut self) -> Result<bool, TestCaseError> {
        for _ in 0..20_000 {
            self.decide()?;
            let first = self.sched.on_card().next();
            match (first, self.wake) {
                (Some(done), _) => {
                    self.pass(MILLISECOND);
                    self.finish(done);
                }
                (None, Some(until)) => self.now = until,
                (None, None) => return Ok(self.dispatched == self.rung),
            }
        }
        Ok(false)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn submissions_stay_in_order_have_one_owner_and_all_come_through(
        config in config(),
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let mut driver = Driver::new(config);
        for step in &steps {
            driver.perform(step);
            driver.decide()?;
            driver.check()?;
        }
        prop_assert!(driver.drain()?, "{:?} of {:?}", driver.dispatched, driver.rung);
    }

    #[test]
    fn time_on_the_card_is_accounted_once(
        policy in prop::sample::select(Policy::ALL.to_vec()),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let config = Config { lanes: Lanes::Joint, ..Config::new(policy) };
        let mut driver = Driver::new(config);
        for step in &steps {
            driver.perform(step);
            driver.decide()?;
        }
        driver.sched.tick(driver.now);
        let accounted: Nanos = (0..VMS).map(|vm| driver.sched.usage(vm).total()).sum();
        // Parts of a time that several share are rounded down.
        let slack = (steps.len() * CHANNELS) as u64;
        prop_assert!(accounted <= driver.held && driver.held <= accounted + slack);
        let channels: Nanos = (0..CHANNELS)
            .flat_map(|channel| driver.sched.channel_usage(channel))
            .sum();
        prop_assert_eq!(channels, accounted);
    }

    #[test]
    fn no_lane_stands_idle_while_somebody_has_work(
        policy in prop::sample::select(vec![
            Policy::Direct, Policy::Fifo, Policy::Credit, Policy::Band, Policy::Drr,
        ]),
        steps in prop::collection::vec(
            step().prop_filter("caps leave lanes idle", |step| !matches!(step, Step::Set { .. })),
            1..200,
        ),
    ) {
        let config = Config::new(policy);
        let mut driver = Driver::new(config);
        for step in &steps {
            driver.perform(step);
            driver.decide()?;
            let waits = (0..VMS).any(|vm| driver.sched.waiting(vm) > 0);
            if !waits || driver.sched.on_card().next().is_some() {
                continue;
            }
            // Only to wait for who is behind, and not for long.
            let until = driver.wake.filter(|_| matches!(policy, Policy::Band | Policy::Drr));
            prop_assert!(until.is_some_and(|until| until <= driver.now + config.patience));
        }
    }
}

/// Machines that always have work, of different weights and with different kernels.
fn backlogged() -> impl Strategy<Value = Vec<Vm>> {
    let kernel = 100 * MICROSECOND..20 * MILLISECOND;
    let vm = (25..400u32, kernel).prop_map(|(weight, length)| Vm {
        settings: Settings {
            weight,
            ..Settings::default()
        },
        workload: Workload::kernels(Span::exactly(length), Span::exactly(MICROSECOND), 4),
    });
    prop::collection::vec(vm, 2..=8)
}

fn longest(vms: &[Vm]) -> Nanos {
    vms.iter().map(|vm| vm.workload.kernel.most).max().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Shreedhar, Varghese 1995, lemma 2, with overrun in the place of underrun: what two machines
    /// were charged for their weights differs by quanta and what each of them can overrun.
    #[test]
    fn drr_keeps_shares_by_weight_within_its_bound(vms in backlogged()) {
        let config = Config::new(Policy::Drr);
        let scenario = Scenario {
            config,
            vms: vms.clone(),
            costs: Costs::default(),
            duration: 5 * SECOND,
            seed: 7,
        };
        let outcome = scenario.run();
        let per_weight: Vec<f64> = outcome
            .vms
            .iter()
            .zip(&vms)
            .map(|(got, vm)| {
                got.usage.total() as f64 * 100.0 / f64::from(vm.settings.weight)
            })
            .collect();
        let overrun = |vm: &Vm| {
            let longest = OVERRUN * vm.workload.kernel.most;
            longest as f64 * 100.0 / f64::from(vm.settings.weight)
        };
        for (a, one) in per_weight.iter().zip(&vms) {
            for (b, other) in per_weight.iter().zip(&vms) {
                let bound = 2.0 * config.quantum as f64 + overrun(one) + overrun(other);
                prop_assert!((a - b).abs() <= bound, "{} and {} beyond {}", a, b, bound);
            }
        }
    }

    #[test]
    fn nobody_waits_longer_than_the_others_turns(vms in backlogged()) {
        for policy in [Policy::Fifo, Policy::Drr] {
            let config = Config::new(policy);
            let scenario = Scenario {
                config,
                vms: vms.clone(),
                costs: Costs::default(),
                duration: 3 * SECOND,
                seed: 3,
            };
            let outcome = scenario.run();
            let longest = longest(&vms);
            let turn = 4 * config.quantum + OVERRUN * longest;
            // Rounds until a machine's debt is paid; queues are four submissions deep.
            let rounds = 4 * (2 + 4 * OVERRUN * longest / config.quantum);
            let bound = rounds * vms.len() as u64 * turn;
            for vm in &outcome.vms {
                prop_assert!(vm.finished > 0);
                prop_assert!(vm.usage.longest_wait <= bound);
            }
        }
    }
}
