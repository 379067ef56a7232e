//! Two machines with unlike work under a scheduler, judged by the card time that it accounted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gpu_model::{Dispatcher, Host, Optimisations, Scheduled};
use mmio::VmId;
use mmio::regs::pfifo;
use sched::{Config, Lanes, MILLISECOND, Nanos, Policy, Settings};

use crate::guest::{Guest, machines_with};

/// Submissions of each machine, all of them rung before the first is over.
const SUBMISSIONS: u32 = 240;
/// Lines of a copy of the first machine, which takes some milliseconds; the second's are twice as
/// long. All of them take much longer than ringing their doorbells.
const LINES: u32 = 256;
/// How long a channel may keep others waiting: longer than any test.
const HANG: Duration = Duration::from_secs(120);
const VMS: [VmId; 2] = [VmId(0), VmId(1)];

struct Contest {
    // Before the host, whose threads end with it.
    _host: Host,
    guests: Vec<Guest>,
    scheduler: Arc<Scheduled>,
}

impl Contest {
    fn new(config: Config, weights: [u32; 2]) -> Self {
        // Until an engine was seen to work for a channel, its work counts as compute.
        let config = Config {
            lanes: Lanes::Joint,
            ..config
        };
        let scheduler = Scheduled::new(config, 2, HANG).unwrap();
        for (vm, weight) in VMS.into_iter().zip(weights) {
            let settings = Settings {
                weight,
                ..Settings::default()
            };
            scheduler.set(vm, settings).unwrap();
        }
        let dispatcher: Arc<dyn Dispatcher> = scheduler.clone();
        let (host, guests) = machines_with(Optimisations::ALL, dispatcher);
        for (guest, lines) in guests.iter().zip([LINES, 2 * LINES]) {
            guest.start();
            guest.prepare_copies(lines);
        }
        Self {
            _host: host,
            guests,
            scheduler,
        }
    }

    fn ring_all(&mut self) {
        for _ in 0..SUBMISSIONS {
            self.guests.iter_mut().for_each(Guest::copy);
        }
    }

    /// The card time of both machines while both have work that waits.
    fn contest(&mut self) -> [Nanos; 2] {
        self.ring_all();
        let used = || VMS.map(|vm| self.scheduler.usage(vm).total());
        let before = used();
        let begin = Instant::now();
        loop {
            let waiting = VMS.map(|vm| self.scheduler.waiting(vm));
            if waiting.contains(&0) {
                let after = used();
                return [0, 1].map(|n| after[n] - before[n]);
            }
            assert!(
                begin.elapsed() < HANG,
                "{waiting:?} still wait after {begin:?}"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// All work comes to its end.
    fn finish(&self) {
        for (guest, vm) in self.guests.iter().zip(VMS) {
            let begin = Instant::now();
            while guest.fetched() != SUBMISSIONS || self.scheduler.waiting(vm) > 0 {
                assert!(begin.elapsed() < HANG, "the last copy does not come");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// What machines got for their weights differs by what turns can differ, at the beginning and at the
/// end of the contest: a quantum, and the submissions that cannot be cut short.
fn assert_shares_follow_weights(weights: [u32; 2]) {
    let config = Config::new(Policy::Drr);
    let mut contest = Contest::new(config, weights);
    let used = contest.contest();
    let for_weight = |time: Nanos, n: usize| time as f64 * 100.0 / f64::from(weights[n]);
    let overrun = |n: usize| {
        let longest = contest.scheduler.usage(VMS[n]).longest_run;
        for_weight((config.depth as u64 + 1) * longest, n)
    };
    let apart = (for_weight(used[0], 0) - for_weight(used[1], 1)).abs();
    let bound = 2.0 * (config.quantum as f64 + overrun(0) + overrun(1));
    assert!(apart <= bound, "{used:?}: {apart} beyond {bound}");
}

#[test]
fn drr_gives_unlike_copies_equal_time() {
    assert_shares_follow_weights([100, 100]);
}

#[test]
fn drr_gives_time_by_weight() {
    assert_shares_follow_weights([300, 100]);
}

#[test]
fn fifo_counts_submissions_whatever_their_length() {
    let mut contest = Contest::new(Config::new(Policy::Fifo), [100, 100]);
    contest.contest();
    let [short, long] = VMS.map(|vm| contest.scheduler.usage(vm).dispatched);
    assert!(short.abs_diff(long) <= 2, "{short} and {long}");
}

#[test]
fn a_channel_that_never_runs_does_not_keep_the_lane() {
    let mut contest = Contest::new(Config::new(Policy::Fifo), [100, 100]);
    contest.guests[0].set(pfifo::CHAN_STATE, 0);
    for _ in 0..5 {
        contest.guests.iter_mut().for_each(Guest::copy);
    }
    let other = &contest.guests[1];
    other.until("the other's work", || other.fetched() == 5);
    assert_eq!(contest.guests[0].fetched(), 0);
}

#[test]
fn a_channel_that_was_taken_off_goes_on_where_it_was() {
    let config = Config {
        timeslice: Some(MILLISECOND),
        quantum: MILLISECOND,
        ..Config::new(Policy::Drr)
    };
    let mut contest = Contest::new(config, [100, 100]);
    contest.contest();
    contest.finish();
    let preemptions = VMS.map(|vm| contest.scheduler.usage(vm).preemptions);
    assert!(preemptions.iter().sum::<u64>() > 0);
}

#[test]
fn work_of_a_machine_that_leaves_is_forgotten() {
    let mut contest = Contest::new(Config::new(Policy::Fifo), [100, 100]);
    for _ in 0..5 {
        contest.guests.iter_mut().for_each(Guest::copy);
    }
    contest.guests[0].gpu.reset();
    assert_eq!(contest.scheduler.waiting(VMS[0]), 0);
    let other = &contest.guests[1];
    other.until("the other's work", || other.fetched() == 5);
}
