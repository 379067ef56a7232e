//! A dispatcher that asks a scheduler whose turn it is.
//!
//! Doorbells wait here until the policy dispatches them. Whoever rings one takes the decisions that
//! follow from it, on its own thread, so an idle card gets work without a detour; a thread looks at
//! the card while it works, to see what is over, and takes the decisions that follow from that.
//!
//! A submission is over when its channel has taken an entry beyond it, or has taken its last entry
//! and says that it has no work. A channel that has work but does not go on keeps its lane for
//! [`STALL`] and loses it then: what it waits for may be the work of another channel that is held
//! back, and a guest can have channels that never run. When it goes on it is taken off, and waits for
//! another turn. One that goes on but comes to no end is killed when others have waited for it for too
//! long.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mmio::VmId;
use mmio::regs::pfifo;
use parking_lot::{Condvar, Mutex, MutexGuard};
use sched::{Config, Decision, Engine, Nanos, Scheduler, Settings, SettingsError, Usage};

use crate::submission::{Activity, Dispatcher, Gate, Submission};

/// How often the card is looked at while it works: so often where something is due, else when it will
/// be, but not seldomer. Looking all the time takes a processor from the guests.
const POLLS: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(1)];
/// How long a channel may keep its lane without going on.
const STALL: Duration = Duration::from_millis(10);
/// How long the thread sleeps when nothing happens.
const IDLE: Duration = Duration::from_secs(1);
const CHANNELS: usize = pfifo::CHANNELS as usize;

/// Lets machines have the card in turn.
pub struct Scheduled {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    gate: OnceLock<Weak<dyn Gate>>,
    state: Mutex<State>,
    /// There is something to look at, or the end has come.
    changed: Condvar,
    begin: Instant,
}

struct State {
    /// How long a channel may keep others waiting.
    hang: Nanos,
    vms: usize,
    scheduler: Scheduler,
    channels: Vec<Channel>,
    /// The scheduler wants to be asked then.
    wake: Option<Nanos>,
    /// Channels that are to leave their engine.
    evictions: Vec<usize>,
    stop: bool,
}

/// What is known of a channel of the card.
#[derive(Clone, Default)]
struct Channel {
    /// Submissions that wait or run, the oldest first.
    submissions: VecDeque<Submission>,
    /// It was taken off its engine, and may not run.
    held: bool,
    /// What it lost its lane with, as it did not go on.
    parked: Option<Submission>,
    /// Since when it has not gone on, while the card has work of it.
    stalled_since: Option<Nanos>,
    /// When the card got, or was done with, something of it last.
    progressed: Nanos,
}

impl Scheduled {
    /// A dispatcher for `vms` machines, in which a channel may keep others waiting for `hang`.
    ///
    /// # Errors
    ///
    /// The host has no thread for it.
    pub fn new(config: Config, vms: u16, hang: Duration) -> std::io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            gate: OnceLock::new(),
            state: Mutex::new(State {
                hang: hang.as_nanos() as Nanos,
                vms: vms.into(),
                scheduler: Scheduler::new(config, vms.into(), CHANNELS),
                channels: vec![Channel::default(); CHANNELS],
                wake: None,
                evictions: Vec::new(),
                stop: false,
            }),
            changed: Condvar::new(),
            begin: Instant::now(),
        });
        let thread = std::thread::Builder::new()
            .name("dispatcher".into())
            .spawn({
                let shared = shared.clone();
                move || shared.watch()
            })?;
        Ok(Arc::new(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// What was chosen for a machine.
    pub fn settings(&self, vm: VmId) -> Option<Settings> {
        self.shared.state.lock().scheduler.settings(vm.0.into())
    }

    /// Chooses for a machine, from now on.
    ///
    /// # Errors
    ///
    /// The settings make no sense, or there is no such machine.
    pub fn set(&self, vm: VmId, settings: Settings) -> Result<(), SettingsError> {
        let mut state = self.shared.state.lock();
        state.scheduler.set(vm.0.into(), settings)?;
        self.shared.changed.notify_one();
        Ok(())
    }

    /// What a machine had of the card so far.
    pub fn usage(&self, vm: VmId) -> Usage {
        let mut state = self.shared.state.lock();
        state.scheduler.tick(self.shared.now());
        state.scheduler.usage(vm.0.into())
    }

    /// Submissions of a machine that wait.
    pub fn waiting(&self, vm: VmId) -> usize {
        self.shared.state.lock().scheduler.waiting(vm.0.into())
    }

    /// The policy and its parameters.
    pub fn config(&self) -> Config {
        *self.shared.state.lock().scheduler.config()
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_one();
        let thread = self.thread.lock().take();
        // The thread may itself have had the last hold of the card, and so of this.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Dispatcher for Scheduled {
    fn attach(&self, gate: Weak<dyn Gate>) {
        // There is one card.
        let _ = self.shared.gate.set(gate);
    }

    fn submit(&self, submission: Submission) {
        let mut state = self.shared.state.lock();
        state.queue(self.shared.now(), submission);
        if let Some(gate) = self.shared.gate.get().and_then(Weak::upgrade) {
            state.decide(&*gate, self.shared.now());
        }
        self.shared.changed.notify_one();
    }

    fn forget(&self, chid: u32) {
        let mut state = self.shared.state.lock();
        if let Some(channel) = state.channels.get_mut(chid as usize) {
            *channel = Channel::default();
            state.scheduler.forget(self.shared.now(), chid as usize);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn now(&self) -> Nanos {
        self.begin.elapsed().as_nanos() as Nanos
    }

    /// What the thread does.
    fn watch(&self) {
        let mut state = self.state.lock();
        while !state.stop {
            let gate = self.gate.get().and_then(Weak::upgrade);
            if let Some(gate) = &gate {
                state.look(&**gate, self.now());
                let back = state.look_at_parked(&**gate, self.now());
                state.decide(&**gate, self.now());
                state.take_off(back);
                if let Some(channel) = state.evictions.pop() {
                    // Leaving takes a while, and guests ring meanwhile.
                    MutexGuard::unlocked(&mut state, || gate.hold(channel as u32, true));
                    state.evicted(&**gate, self.now(), channel);
                    continue;
                }
            }
            let wake = state.wake.map(|at| at.saturating_sub(self.now()));
            let wake = wake.map_or(IDLE, Duration::from_nanos);
            let due = state.scheduler.due().filter(|_| gate.is_some());
            // What is late, and may be so for long, is looked at less and less.
            let now = self.now();
            let poll = due.map(|at| at.saturating_sub(now).max(now.saturating_sub(at) / 8));
            let poll = poll.map(Duration::from_nanos);
            let poll = poll.or(state.any_parked().then_some(POLLS[1]));
            match poll.map(|poll| poll.clamp(POLLS[0], POLLS[1]).min(wake)) {
                // Doorbells need nobody's attention while the card is looked at anyway.
                Some(wait) if wait <= POLLS[0] => {
                    MutexGuard::unlocked(&mut state, || std::thread::sleep(wait));
                }
                // What another engine gets may be over sooner.
                wait => {
                    self.changed.wait_for(&mut state, wait.unwrap_or(wake));
                }
            }
        }
    }
}

/// Whether a ring's index `get`, which is of what was taken and not of what is done, is behind `done`
/// of two indices that follow one another: something beyond it was taken.
fn passed(done: u32, last: u32, get: u32) -> bool {
    let within = match done <= last {
        true => (done..=last).contains(&get),
        false => get >= done || get <= last,
    };
    within && get != done
}

impl State {
    /// A submission waits from now on.
    fn queue(&mut self, now: Nanos, submission: Submission) {
        let channel = submission.chid as usize;
        let Some(known) = self.channels.get_mut(channel) else {
            return;
        };
        known.submissions.push_back(submission);
        let engine = match submission.engine {
            Some(4 | 5) => Engine::Copy,
            _ => Engine::Compute,
        };
        let vm = submission.vm.0.into();
        let unit = sched::Submission::new(vm, channel, engine, submission.put);
        if !self.scheduler.submit(now, unit) {
            // It was merged into the last one, which began earlier.
            let all = &mut self.channels[channel].submissions;
            all.pop_back();
            if let Some(last) = all.back_mut() {
                last.put = submission.put;
            }
        }
    }

    /// Looks at what the card has, and tells the scheduler what is over.
    fn look(&mut self, gate: &dyn Gate, now: Nanos) {
        let on_card: Vec<_> = self.scheduler.on_card().collect();
        if on_card.is_empty() {
            return;
        }
        for (n, flight) in on_card.iter().enumerate() {
            let chid = flight.channel;
            let later = on_card[n..].iter().rfind(|later| later.channel == chid);
            let last = later.map_or(flight.put, |later| later.put);
            let get = gate.progress(chid as u32);
            let activity = gate.activity(chid as u32);
            let channel = &mut self.channels[chid];
            if get == last && activity == Activity::Idle
                || flight.put != last && passed(flight.put, last, get)
            {
                self.complete(now, chid, flight.put);
                continue;
            }
            if activity != Activity::Waiting {
                channel.stalled_since = None;
            } else if now - *channel.stalled_since.get_or_insert(now) > STALL.as_nanos() as Nanos {
                let known = |known: &&Submission| known.put == flight.put;
                let parked = channel.submissions.iter().find(known).copied();
                self.complete(now, chid, flight.put);
                self.channels[chid].parked = parked;
                continue;
            }
            if now - channel.progressed > self.hang && self.others_wait(flight.vm) {
                gate.expel(chid as u32);
            }
        }
    }

    /// Whether anybody could be in the way of others when it goes on.
    fn any_parked(&self) -> bool {
        self.vms > 1 && self.channels.iter().any(|channel| channel.parked.is_some())
    }

    /// Looks at channels that lost their lanes; those that go on, which wait for another turn now.
    fn look_at_parked(&mut self, gate: &dyn Gate, now: Nanos) -> Vec<usize> {
        let mut back = Vec::new();
        for chid in 0..self.channels.len() {
            let Some(submission) = self.channels[chid].parked else {
                continue;
            };
            match gate.activity(chid as u32) {
                Activity::Waiting => continue,
                Activity::Idle => {}
                Activity::Running => {
                    // A later one takes this one along.
                    if self.channels[chid].submissions.is_empty() {
                        self.queue(now, submission);
                    }
                    back.push(chid);
                }
            }
            self.channels[chid].parked = None;
        }
        back
    }

    /// Has those of `channels` leave their engines that did not get their turns at once.
    fn take_off(&mut self, channels: Vec<usize>) {
        for chid in channels {
            let mut on_card = self.scheduler.on_card();
            if on_card.all(|flight| flight.channel != chid) {
                self.evictions.push(chid);
            }
        }
    }

    fn others_wait(&self, vm: usize) -> bool {
        (0..self.vms).any(|other| other != vm && self.scheduler.waiting(other) > 0)
    }

    fn complete(&mut self, now: Nanos, chid: usize, put: u32) {
        self.scheduler.complete(now, chid, put);
        let channel = &mut self.channels[chid];
        channel.stalled_since = None;
        channel.progressed = now;
        let submissions = &mut channel.submissions;
        if let Some(last) = submissions.iter().position(|known| known.put == put) {
            submissions.drain(..=last);
        }
    }

    /// Takes decisions until there is none to take.
    fn decide(&mut self, gate: &dyn Gate, now: Nanos) {
        loop {
            match self.scheduler.next(now) {
                Decision::Dispatch(unit) => {
                    let channel = &mut self.channels[unit.channel];
                    channel.stalled_since = None;
                    channel.parked = None;
                    channel.progressed = now;
                    // Rung under the lock: a later value must not be overtaken.
                    let known = channel
                        .submissions
                        .iter()
                        .find(|known| known.put == unit.put);
                    let rung = known.is_some_and(|submission| gate.ring(submission));
                    if std::mem::take(&mut channel.held) {
                        gate.hold(unit.channel as u32, false);
                    }
                    if !rung {
                        // It was on its way here when its channel ended: nobody will say that it is over.
                        self.complete(now, unit.channel, unit.put);
                    }
                }
                Decision::Preempt { channel, .. } => self.evictions.push(channel),
                Decision::Sleep(until) => {
                    self.wake = until;
                    return;
                }
            }
        }
    }

    /// A channel has left its engine, or died while it was asked to.
    fn evicted(&mut self, gate: &dyn Gate, now: Nanos, chid: usize) {
        self.look(gate, now);
        let works = self
            .scheduler
            .on_card()
            .any(|flight| flight.channel == chid);
        // What it has waits for its turn, which lets it run again.
        let channel = &mut self.channels[chid];
        channel.held = works || !channel.submissions.is_empty();
        if !channel.held {
            gate.hold(chid as u32, false);
        }
        if works {
            self.scheduler.preempted(now, chid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use sched::Policy;

    use super::*;

    /// The binding of a channel that is no more.
    const GONE: u64 = 0;

    /// A card on which work goes on for ever.
    #[derive(Default)]
    struct Busy {
        taken: AtomicU32,
        rung: Mutex<Vec<u32>>,
        expelled: AtomicU32,
    }

    impl Gate for Busy {
        fn ring(&self, submission: &Submission) -> bool {
            self.rung.lock().push(submission.chid);
            submission.binding != GONE
        }

        fn progress(&self, _chid: u32) -> u32 {
            self.taken.load(Ordering::Acquire)
        }

        fn activity(&self, _chid: u32) -> Activity {
            Activity::Running
        }

        fn expel(&self, chid: u32) {
            self.expelled.store(1 << chid, Ordering::Release);
        }

        fn engines(&self) -> [Option<u32>; pfifo::ENGINES as usize] {
            [None; pfifo::ENGINES as usize]
        }

        fn hold(&self, _chid: u32, _held: bool) {}
    }

    fn submission(vm: u16) -> Submission {
        Submission {
            vm: VmId(vm),
            guest: 0,
            chid: vm.into(),
            first: 0,
            put: 1,
            engine: None,
            since: Instant::now(),
            binding: 1,
        }
    }

    #[test]
    fn a_channel_without_an_end_is_killed_once_others_wait() {
        let busy = Arc::new(Busy::default());
        let config = Config::new(Policy::Fifo);
        let scheduled = Scheduled::new(config, 2, Duration::from_millis(20)).unwrap();
        let gate: Arc<dyn Gate> = busy.clone();
        scheduled.attach(Arc::downgrade(&gate));

        scheduled.submit(submission(0));
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(busy.expelled.load(Ordering::Acquire), 0);

        scheduled.submit(submission(1));
        let begin = Instant::now();
        while busy.expelled.load(Ordering::Acquire) == 0 {
            assert!(begin.elapsed() < Duration::from_secs(20), "it stays");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(busy.expelled.load(Ordering::Acquire), 1);
        scheduled.forget(0);
        while *busy.rung.lock() != [0, 1] {
            assert!(begin.elapsed() < Duration::from_secs(20), "nobody follows");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A card on which two channels do what a test says.
    struct Told {
        activity: Mutex<[Activity; 2]>,
        rung: Mutex<Vec<u32>>,
        held: Mutex<Vec<(u32, bool)>>,
    }

    impl Gate for Told {
        fn ring(&self, submission: &Submission) -> bool {
            self.rung.lock().push(submission.chid);
            true
        }

        fn progress(&self, chid: u32) -> u32 {
            match self.activity(chid) {
                Activity::Idle => 1,
                _ => 0,
            }
        }

        fn activity(&self, chid: u32) -> Activity {
            self.activity.lock()[chid as usize]
        }

        fn expel(&self, _chid: u32) {}

        fn engines(&self) -> [Option<u32>; pfifo::ENGINES as usize] {
            [None; pfifo::ENGINES as usize]
        }

        fn hold(&self, chid: u32, held: bool) {
            self.held.lock().push((chid, held));
        }
    }

    #[track_caller]
    fn until(what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_channel_that_lost_its_lane_while_it_waited_goes_on_in_a_turn_of_its_own() {
        let told = Arc::new(Told {
            activity: Mutex::new([Activity::Waiting, Activity::Running]),
            rung: Mutex::default(),
            held: Mutex::default(),
        });
        let config = Config::new(Policy::Fifo);
        let scheduled = Scheduled::new(config, 2, Duration::MAX).unwrap();
        let gate: Arc<dyn Gate> = told.clone();
        scheduled.attach(Arc::downgrade(&gate));
        scheduled.submit(submission(0));
        scheduled.submit(submission(1));
        until("it keeps the lane", || *told.rung.lock() == [0, 1]);

        told.activity.lock()[0] = Activity::Running;
        until("it runs beside", || *told.held.lock() == [(0, true)]);
        assert_eq!(*told.rung.lock(), [0, 1]);
        assert_eq!(scheduled.waiting(VmId(0)), 1);

        told.activity.lock()[1] = Activity::Idle;
        until("it has no turn", || *told.rung.lock() == [0, 1, 0]);
        until("it is held", || {
            *told.held.lock() == [(0, true), (0, false)]
        });
    }

    #[test]
    fn work_that_comes_when_its_channel_has_ended_keeps_nobody_waiting() {
        let busy = Arc::new(Busy::default());
        let config = Config::new(Policy::Fifo);
        let scheduled = Scheduled::new(config, 2, Duration::MAX).unwrap();
        let gate: Arc<dyn Gate> = busy.clone();
        scheduled.attach(Arc::downgrade(&gate));

        scheduled.submit(Submission {
            binding: GONE,
            ..submission(0)
        });
        scheduled.submit(submission(1));

        assert_eq!(*busy.rung.lock(), [0, 1]);
    }

    #[test]
    fn what_was_only_taken_is_not_over() {
        let busy = Busy::default();
        let config = Config::new(Policy::Drr);
        let scheduled = Scheduled::new(config, 1, Duration::from_secs(1)).unwrap();
        // Without a gate, its own thread does not look.
        let mut state = scheduled.shared.state.lock();
        for put in [1, 2] {
            let submission = Submission {
                first: put - 1,
                put,
                ..submission(0)
            };
            state.queue(0, submission);
        }
        state.decide(&busy, 0);
        for (taken, on_card) in [(0, 2), (1, 2), (2, 1)] {
            busy.taken.store(taken, Ordering::Release);
            state.look(&busy, 1);
            assert_eq!(state.scheduler.on_card().count(), on_card, "{taken}");
        }
    }

    #[test]
    fn an_index_is_passed_also_where_the_ring_begins_anew() {
        assert!(passed(3, 5, 4) && passed(3, 5, 5) && !passed(3, 5, 2));
        assert!(passed(510, 2, 511) && passed(510, 2, 1) && !passed(510, 2, 509));
    }
}
