//! The scheduler of one card: submissions in, decisions out.

use crate::account::{Cap, Engine, Settings, SettingsError, Usage};
use crate::config::{Config, Lanes};
use crate::lane::{Channel, Lane, Machine};
use crate::submission::{Decision, Submission};
use crate::{Nanos, SECOND};

/// The scheduler of one card.
pub struct Scheduler {
    config: Config,
    machines: Vec<Machine>,
    channels: Vec<Channel>,
    lanes: Vec<Lane>,
    arrivals: u64,
}

impl Scheduler {
    /// A scheduler for `vms` machines and the card's `channels`.
    pub fn new(config: Config, vms: usize, channels: usize) -> Self {
        let lanes = match config.lanes {
            Lanes::Joint => 1,
            Lanes::Apart => Engine::ALL.len(),
        };
        let machine = || Machine {
            settings: Settings::default(),
            usage: Usage::default(),
            cap: Cap::new(),
        };
        Self {
            machines: (0..vms).map(|_| machine()).collect(),
            channels: vec![Channel::default(); channels],
            lanes: (0..lanes)
                .map(|_| Lane::new(&config, vms, channels))
                .collect(),
            arrivals: 0,
            config,
        }
    }

    /// Its policy and parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was chosen for a machine.
    pub fn settings(&self, vm: usize) -> Option<Settings> {
        self.machines.get(vm).map(|machine| machine.settings)
    }

    /// Chooses for a machine, from now on.
    ///
    /// # Errors
    ///
    /// The settings make no sense, or there is no such machine.
    pub fn set(&mut self, vm: usize, settings: Settings) -> Result<(), SettingsError> {
        settings.check()?;
        let machine = self.machines.get_mut(vm).ok_or(SettingsError::Vm(vm))?;
        machine.settings = settings;
        Ok(())
    }

    /// What a machine had; time of work that runs counts as far as it was settled.
    pub fn usage(&self, vm: usize) -> Usage {
        let machine = self.machines.get(vm);
        machine.map_or_else(Usage::default, |machine| machine.usage)
    }

    /// Time that a channel had, in the order of [`Engine::ALL`].
    pub fn channel_usage(&self, channel: usize) -> [Nanos; 2] {
        self.channels.get(channel).map_or([0; 2], |c| c.busy)
    }

    /// Submissions of a machine that wait.
    pub fn waiting(&self, vm: usize) -> usize {
        self.lanes.iter().map(|lane| lane.waiting(vm)).sum()
    }

    /// Submissions that the card has, the oldest first in each lane.
    pub fn on_card(&self) -> impl Iterator<Item = Submission> + '_ {
        self.lanes.iter().flat_map(Lane::on_card)
    }

    /// When something of what the card has will be over, as far as can be told from what the same
    /// machines gave it before; when it began where that cannot be told. `None`: it has nothing.
    pub fn due(&self) -> Option<Nanos> {
        self.lanes.iter().filter_map(Lane::due).min()
    }

    /// A guest stored GP_PUT. What no machine or channel of this scheduler's made is dropped.
    /// `false`: it was merged into the last one of the channel that waits.
    pub fn submit(&mut self, now: Nanos, submission: Submission) -> bool {
        let (vm, channel) = (submission.vm, submission.channel);
        if vm >= self.machines.len() || channel >= self.channels.len() {
            return true;
        }
        self.tick(now);
        let state = &mut self.channels[channel];
        // A channel's submissions stay in order, so they stay on a lane.
        if state.outstanding == 0 {
            state.lane = submission.engine.index().min(self.lanes.len() - 1);
        }
        self.arrivals += 1;
        let queued = self.lanes[state.lane].push(now, self.arrivals, submission);
        if queued {
            state.outstanding += 1;
        } else {
            self.machines[vm].usage.merged += 1;
        }
        queued
    }

    /// The card is done with the submissions of `channel` up to the one with `put`.
    pub fn complete(&mut self, now: Nanos, channel: usize, put: u32) {
        self.tick(now);
        if let Some(state) = self.channels.get_mut(channel) {
            let done = self.lanes[state.lane].complete(now, channel, put, &mut self.machines);
            state.outstanding = state.outstanding.saturating_sub(done);
        }
    }

    /// `channel` has left its engine, as [`Decision::Preempt`] asked, with work left.
    pub fn preempted(&mut self, now: Nanos, channel: usize) {
        self.tick(now);
        if let Some(state) = self.channels.get_mut(channel) {
            self.arrivals += 1;
            let merged = self.lanes[state.lane].put_back(now, self.arrivals, channel);
            state.outstanding = state.outstanding.saturating_sub(merged);
        }
    }

    /// `channel` is dead: nothing of it waits or runs any more.
    pub fn forget(&mut self, now: Nanos, channel: usize) {
        self.tick(now);
        if let Some(state) = self.channels.get_mut(channel) {
            self.lanes[state.lane].forget(now, channel);
            state.outstanding = 0;
        }
    }

    /// It is `now`: what runs is accounted for until here.
    pub fn tick(&mut self, now: Nanos) {
        for lane in &mut self.lanes {
            lane.settle(now, &mut self.machines, &mut self.channels);
        }
    }

    /// What to do next. To be called until it says [`Decision::Sleep`], after every event.
    pub fn next(&mut self, now: Nanos) -> Decision {
        self.tick(now);
        let mut wake: Option<Nanos> = None;
        for lane in &mut self.lanes {
            match lane.next(now, &mut self.machines) {
                Decision::Sleep(until) => {
                    wake = match (wake, until) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                decision => return decision,
            }
        }
        // Periods end while work runs; a second is soon enough for whoever sleeps through them.
        Decision::Sleep(wake.map(|at| at.min(now + SECOND)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Policy;
    use crate::submission::QUEUE;
    use crate::{MICROSECOND, MILLISECOND};

    fn scheduler(policy: Policy, vms: usize) -> Scheduler {
        Scheduler::new(Config::new(policy), vms, 16)
    }

    fn ring(scheduler: &mut Scheduler, now: Nanos, vm: usize, put: u32) {
        scheduler.submit(now, Submission::new(vm, vm, Engine::Compute, put));
    }

    #[track_caller]
    fn dispatched(scheduler: &mut Scheduler, now: Nanos) -> (usize, u32) {
        match scheduler.next(now) {
            Decision::Dispatch(submission) => (submission.vm, submission.put),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fifo_keeps_the_order_of_arrival() {
        let mut sched = scheduler(Policy::Fifo, 2);
        for (vm, put) in [(1, 1), (0, 1), (1, 2)] {
            ring(&mut sched, 0, vm, put);
        }
        for (now, expected) in [(0, (1, 1)), (10, (0, 1)), (20, (1, 2))] {
            assert_eq!(dispatched(&mut sched, now), expected);
            assert_eq!(sched.next(now), Decision::Sleep(None));
            sched.complete(now + 10, expected.0, expected.1);
        }
        assert_eq!(sched.usage(1).busy, [20, 0]);
        assert_eq!(sched.usage(0).busy, [10, 0]);
    }

    #[test]
    fn direct_holds_nothing_back() {
        let mut sched = scheduler(Policy::Direct, 2);
        for (vm, put) in [(0, 1), (1, 1), (0, 2)] {
            ring(&mut sched, 0, vm, put);
        }
        let all: Vec<_> = (0..3).map(|_| dispatched(&mut sched, 0)).collect();
        assert_eq!(all, [(0, 1), (1, 1), (0, 2)]);
        sched.complete(100, 0, 2);
        assert_eq!(sched.usage(0).busy[0], 50);
    }

    #[test]
    fn credit_demotes_a_machine_in_debt() {
        let mut sched = scheduler(Policy::Credit, 2);
        // The first period gives nothing out: whoever ran is in debt.
        ring(&mut sched, 0, 0, 1);
        assert_eq!(dispatched(&mut sched, 0), (0, 1));
        ring(&mut sched, 0, 0, 2);
        ring(&mut sched, 0, 1, 1);
        sched.complete(MILLISECOND, 0, 1);
        assert_eq!(dispatched(&mut sched, MILLISECOND), (1, 1));
    }

    #[test]
    fn band_waits_for_the_machine_that_is_behind() {
        let mut sched = Scheduler::new(Config::gdev(Policy::Band), 2, 16);
        // The second period is the first one for which the last one's bandwidth is known.
        let begin = 30 * MILLISECOND;
        sched.next(begin);
        // Machine 1 uses 20 ms, then machine 0 uses 1 ms and comes back a little later.
        ring(&mut sched, begin, 1, 1);
        dispatched(&mut sched, begin);
        ring(&mut sched, begin, 0, 1);
        ring(&mut sched, begin, 1, 2);
        let long = begin + 20 * MILLISECOND;
        sched.complete(long, 1, 1);
        assert_eq!(dispatched(&mut sched, long), (0, 1));
        let free = long + MILLISECOND;
        sched.complete(free, 0, 1);
        let until = free + 500 * MICROSECOND;
        assert_eq!(sched.next(free), Decision::Sleep(Some(until)));
        let back = free + 100 * MICROSECOND;
        ring(&mut sched, back, 0, 2);
        assert_eq!(dispatched(&mut sched, back), (0, 2));
        // Who does not come back is not waited for twice.
        sched.complete(free + MILLISECOND, 0, 2);
        let Decision::Sleep(Some(until)) = sched.next(free + MILLISECOND) else {
            panic!("it did not wait");
        };
        assert_eq!(dispatched(&mut sched, until), (1, 2));
    }

    #[test]
    fn an_overrun_is_paid_back() {
        let mut sched = scheduler(Policy::Drr, 2);
        let mut now = 0;
        let mut order = Vec::new();
        let mut puts = [1, 1];
        for vm in [0, 0, 1, 1] {
            ring(&mut sched, now, vm, puts[vm]);
            puts[vm] += 1;
        }
        for _ in 0..40 {
            let (vm, put) = dispatched(&mut sched, now);
            order.push(vm);
            now += [25, 1][vm] * MILLISECOND;
            sched.complete(now, vm, put);
            ring(&mut sched, now, vm, puts[vm]);
            puts[vm] += 1;
        }
        let shares = [0, 1].map(|vm| sched.usage(vm).total() / MILLISECOND);
        assert!(
            shares[0].abs_diff(shares[1]) <= 25,
            "{shares:?} by {order:?}"
        );
    }

    #[test]
    fn turn_ends_with_the_submission_that_uses_it_up() {
        let mut sched = scheduler(Policy::Drr, 2);
        let (mut now, mut most) = (0, [0; 2]);
        for put in 1..=100 {
            ring(&mut sched, now, 0, put);
            ring(&mut sched, now, 1, put);
        }
        for turn in 0..40 {
            let (vm, put) = dispatched(&mut sched, now);
            let mut together = vec![put];
            while let Decision::Dispatch(submission) = sched.next(now) {
                together.push(submission.put);
            }
            // How long they take is known once the first ones are over.
            if turn > 4 {
                most[vm] = most[vm].max(together.len());
            }
            for put in together {
                now += [20, 4][vm] * MILLISECOND;
                sched.complete(now, vm, put);
            }
        }
        // Of 10 ms, 20 ms are too much, and 8 ms leave time for a third of 4 ms.
        assert_eq!(most, [1, 3]);
    }

    #[test]
    fn fence_is_not_parted_from_its_work() {
        let mut sched = scheduler(Policy::Drr, 2);
        let (mut now, mut turns) = (0, Vec::new());
        for put in 1..=80 {
            ring(&mut sched, now, 0, put);
            ring(&mut sched, now, 1, put);
        }
        while turns.len() < 16 {
            let (vm, put) = dispatched(&mut sched, now);
            let mut together = vec![put];
            while let Decision::Dispatch(submission) = sched.next(now) {
                together.push(submission.put);
            }
            for put in &together {
                // Every other submission is a fence, and takes no time.
                now += u64::from(put % 2) * 4 * MILLISECOND;
                if put % 2 == 0 {
                    sched.complete(now, vm, put - 1);
                    sched.complete(now, vm, *put);
                }
            }
            turns.push(together.len());
        }
        assert!(turns.iter().all(|turn| turn % 2 == 0), "{turns:?}");
        // As soon as lengths are known, two or three pieces of 4 ms, each with its fence: 10 ms.
        assert_eq!(turns[8..].iter().sum::<usize>(), 40, "{turns:?}");
    }

    #[test]
    fn work_is_due_when_it_was_over_before() {
        let mut sched = scheduler(Policy::Drr, 1);
        assert_eq!(sched.due(), None);
        ring(&mut sched, 0, 0, 1);
        dispatched(&mut sched, 0);
        assert_eq!(sched.due(), Some(0));
        sched.complete(8 * MILLISECOND, 0, 1);
        ring(&mut sched, 10 * MILLISECOND, 0, 2);
        dispatched(&mut sched, 10 * MILLISECOND);
        // What follows a submission need not be like it; what follows that is.
        assert_eq!(sched.due(), Some(10 * MILLISECOND));
        sched.complete(10 * MILLISECOND, 0, 2);
        ring(&mut sched, 11 * MILLISECOND, 0, 3);
        dispatched(&mut sched, 11 * MILLISECOND);
        assert_eq!(sched.due(), Some(19 * MILLISECOND));
    }

    #[test]
    fn time_without_competition_makes_no_debt() {
        let mut sched = scheduler(Policy::Drr, 2);
        let (mut now, mut puts) = (0, [1, 1]);
        ring(&mut sched, now, 0, 1);
        ring(&mut sched, now, 0, 2);
        puts[0] = 3;
        let mut on_card = std::collections::VecDeque::new();
        let mut used = [0; 2];
        // The first always has two on the card, so its turn has no end.
        while now < 2 * SECOND {
            if now == SECOND {
                ring(&mut sched, now, 1, 1);
                ring(&mut sched, now, 1, 2);
                puts[1] = 3;
                used = [0, 1].map(|vm| sched.usage(vm).total());
            }
            while let Decision::Dispatch(submission) = sched.next(now) {
                on_card.push_back(submission);
            }
            now += MILLISECOND;
            let Some(done) = on_card.pop_front() else {
                continue;
            };
            sched.complete(now, done.channel, done.put);
            ring(&mut sched, now, done.vm, puts[done.vm]);
            puts[done.vm] += 1;
        }
        let later = [0, 1].map(|vm| (sched.usage(vm).total() - used[vm]) / MILLISECOND);
        assert!(later[0].abs_diff(later[1]) <= 22, "{later:?} ms");
    }

    #[test]
    fn a_time_slice_takes_a_long_kernel_off() {
        let config = Config {
            timeslice: Some(2 * MILLISECOND),
            ..Config::new(Policy::Drr)
        };
        let mut sched = Scheduler::new(config, 2, 16);
        ring(&mut sched, 0, 0, 1);
        dispatched(&mut sched, 0);
        ring(&mut sched, MILLISECOND, 1, 1);
        let mut now = MILLISECOND;
        let channel = loop {
            match sched.next(now) {
                Decision::Sleep(Some(until)) => now = until,
                Decision::Preempt { vm: 0, channel } => break channel,
                other => panic!("{other:?}"),
            }
        };
        assert!(now <= 13 * MILLISECOND);
        assert_eq!(sched.next(now), Decision::Sleep(None));
        sched.preempted(now, channel);
        assert_eq!(dispatched(&mut sched, now), (1, 1));
        now += MILLISECOND;
        sched.complete(now, 1, 1);
        let again = loop {
            match sched.next(now) {
                Decision::Sleep(Some(until)) => now = until,
                Decision::Dispatch(again) => break again,
                other => panic!("{other:?}"),
            }
        };
        assert!(again.resume && again.put == 1 && again.vm == 0);
        assert_eq!(sched.usage(0).preemptions, 1);
    }

    #[test]
    fn a_cap_holds_without_competition() {
        let mut sched = scheduler(Policy::Drr, 1);
        let settings = Settings {
            cap: 250,
            ..Settings::default()
        };
        sched.set(0, settings).unwrap();
        let (mut now, mut put) = (0, 1);
        ring(&mut sched, now, 0, put);
        while now < SECOND {
            match sched.next(now) {
                Decision::Dispatch(submission) => {
                    now += MILLISECOND;
                    sched.complete(now, 0, submission.put);
                    put += 1;
                    ring(&mut sched, now, 0, put);
                }
                Decision::Sleep(Some(until)) => now = until,
                other => panic!("{other:?}"),
            }
        }
        let used = sched.usage(0).total() / MILLISECOND;
        assert!((250..=302).contains(&used), "{used} ms");
    }

    #[test]
    fn what_the_card_has_counts_for_a_cap() {
        let mut sched = scheduler(Policy::Drr, 1);
        let settings = Settings {
            cap: 250,
            ..Settings::default()
        };
        sched.set(0, settings).unwrap();
        (1..=40).for_each(|put| ring(&mut sched, 0, 0, put));
        let (mut now, mut longest) = (0, 0);
        while now < SECOND && sched.waiting(0) > 0 {
            let mut together = Vec::new();
            let wake = loop {
                match sched.next(now) {
                    Decision::Dispatch(submission) => together.push(submission.put),
                    Decision::Sleep(wake) => break wake,
                    other => panic!("{other:?}"),
                }
            };
            // Once lengths are known, and the savings of a new machine are used up.
            if now > SECOND / 2 {
                longest = longest.max(together.len());
            }
            for put in &together {
                now += 10 * MILLISECOND;
                sched.complete(now, 0, *put);
            }
            if together.is_empty() {
                now = wake.expect("a closed cap opens again");
            }
        }
        assert_eq!(longest, 1);
    }

    #[test]
    fn the_urgent_go_first() {
        let mut sched = scheduler(Policy::Drr, 2);
        let urgent = Settings {
            priority: 1,
            ..Settings::default()
        };
        sched.set(1, urgent).unwrap();
        ring(&mut sched, 0, 0, 1);
        ring(&mut sched, 0, 1, 1);
        assert_eq!(dispatched(&mut sched, 0), (1, 1));
    }

    #[test]
    fn compute_and_copies_of_two_machines_overlap() {
        let mut sched = scheduler(Policy::Drr, 2);
        sched.submit(0, Submission::new(0, 0, Engine::Compute, 1));
        sched.submit(0, Submission::new(1, 1, Engine::Copy, 1));
        dispatched(&mut sched, 0);
        dispatched(&mut sched, 0);
        sched.complete(30, 0, 1);
        sched.complete(50, 1, 1);
        assert_eq!(sched.usage(0).busy, [30, 0]);
        assert_eq!(sched.usage(1).busy, [0, 50]);
    }

    #[test]
    fn doorbells_beyond_the_queue_are_merged() {
        let mut sched = scheduler(Policy::Fifo, 1);
        for put in 1..=2 * QUEUE as u32 {
            ring(&mut sched, 0, 0, put);
        }
        assert_eq!(sched.waiting(0), QUEUE);
        assert_eq!(sched.usage(0).merged, QUEUE as u64);
        let mut last = 0;
        while let Decision::Dispatch(submission) = sched.next(0) {
            last = submission.put;
            sched.complete(0, 0, last);
        }
        assert_eq!(last, 2 * QUEUE as u32);
    }

    #[test]
    fn a_dead_channel_frees_the_lane() {
        let mut sched = scheduler(Policy::Fifo, 2);
        ring(&mut sched, 0, 0, 1);
        ring(&mut sched, 0, 1, 1);
        dispatched(&mut sched, 0);
        sched.forget(10, 0);
        assert_eq!(dispatched(&mut sched, 10), (1, 1));
    }

    #[test]
    fn settings_are_checked() {
        let mut sched = scheduler(Policy::Fifo, 1);
        let weightless = Settings {
            weight: 0,
            ..Settings::default()
        };
        assert_eq!(sched.set(0, weightless), Err(SettingsError::Weight(0)));
        let beyond = sched.set(1, Settings::default());
        assert_eq!(beyond, Err(SettingsError::Vm(1)));
    }
}
