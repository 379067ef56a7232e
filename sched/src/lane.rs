//! A lane: engines that are given away together, the queues for them, and what they have now.

use std::collections::VecDeque;

use crate::account::{Cap, Engine, Settings, Usage};
use crate::config::Config;
use crate::policy::{Candidate, Choice, Rule, others_ready, rule};
use crate::submission::{Decision, QUEUE, Submission};
use crate::{MICROSECOND, Nanos};

/// What the scheduler knows of a machine beyond its queues.
pub(crate) struct Machine {
    pub settings: Settings,
    pub usage: Usage,
    pub cap: Cap,
}

/// What the scheduler knows of a channel beyond its place in queues.
#[derive(Clone, Copy, Default)]
pub(crate) struct Channel {
    /// Submissions that wait or run.
    pub outstanding: u32,
    /// The lane that they are on.
    pub lane: usize,
    /// Time that it had.
    pub busy: [Nanos; 2],
}

#[derive(Clone, Copy)]
struct Pending {
    submission: Submission,
    arrival: u64,
    since: Nanos,
}

/// A submission on the card.
struct Flight {
    submission: Submission,
    since: Nanos,
    /// How long it is likely to take, and which of the channel's lengths says so.
    length: Option<Nanos>,
    class: usize,
    preempting: bool,
}

/// How long submissions of a channel usually take. Drivers ring twice for each piece of work, once
/// for it and once for the fence behind it, so every other submission has a length of its own.
#[derive(Clone, Copy, Default)]
struct Lengths {
    usual: [Option<Nanos>; 2],
    /// Which of them is the next submission's.
    next: usize,
}

impl Lengths {
    fn next(&self) -> Option<Nanos> {
        self.usual[self.next]
    }

    fn learn(&mut self, class: usize, length: Nanos) {
        let usual = &mut self.usual[class];
        *usual = Some(usual.map_or(length, |usual| {
            // One that the host had no processor for in time is no longer for that.
            length.min(usual - usual / 4 + length / 4)
        }));
    }
}

/// What takes no longer is the fence of what was dispatched before it.
const FENCE: Nanos = 100 * MICROSECOND;
/// Submissions that the card may have at a time of a channel of which nothing is known yet.
const UNKNOWN: usize = 2;

pub(crate) struct Lane {
    rule: Option<Box<dyn Rule>>,
    depth: usize,
    timeslice: Option<Nanos>,
    queues: Vec<VecDeque<Pending>>,
    flights: Vec<Flight>,
    /// Since when the first of them is the first.
    first_since: Nanos,
    /// How long submissions take, by channel.
    lengths: Vec<Lengths>,
    /// Who has the lane, and since when.
    turn: Option<(usize, Nanos)>,
    /// The turn is being cut short: it gets nothing more.
    cutting: bool,
    /// Until when time has been accounted for.
    settled: Nanos,
    candidates: Vec<Candidate>,
}

impl Lane {
    pub fn new(config: &Config, vms: usize, channels: usize) -> Self {
        Self {
            rule: rule(config, vms),
            depth: config.depth.max(1),
            timeslice: config.timeslice,
            queues: vec![VecDeque::new(); vms],
            flights: Vec::new(),
            first_since: 0,
            lengths: vec![Lengths::default(); channels],
            turn: None,
            cutting: false,
            settled: 0,
            candidates: vec![Candidate::default(); vms],
        }
    }

    fn busy(&self, vm: usize) -> bool {
        !self.queues[vm].is_empty() || self.flights.iter().any(|f| f.submission.vm == vm)
    }

    /// Queues a submission; `false` if it was merged into one that waits already.
    pub fn push(&mut self, now: Nanos, arrival: u64, submission: Submission) -> bool {
        let (vm, channel) = (submission.vm, submission.channel);
        if !self.busy(vm)
            && let Some(rule) = &mut self.rule
        {
            rule.woke(now, vm);
        }
        let queue = &mut self.queues[vm];
        if queue.len() >= QUEUE {
            let mut waiting = queue.iter_mut().rev();
            if let Some(last) = waiting.find(|p| p.submission.channel == channel) {
                last.submission.put = submission.put;
                return false;
            }
        }
        queue.push_back(Pending {
            submission,
            arrival,
            since: now,
        });
        true
    }

    /// Charges whoever had the lane until now.
    pub fn settle(&mut self, now: Nanos, machines: &mut [Machine], channels: &mut [Channel]) {
        let elapsed = now.saturating_sub(self.settled);
        self.settled = self.settled.max(now);
        if elapsed == 0 {
            return;
        }
        let Some(rule) = &mut self.rule else {
            // All that is on the card has an equal part of it, as far as anybody can tell.
            let each = elapsed / self.flights.len().max(1) as u64;
            for flight in &self.flights {
                charge(&flight.submission, each, machines, channels);
            }
            return;
        };
        match self.flights.first() {
            Some(flight) => {
                rule.charge(flight.submission.vm, elapsed);
                charge(&flight.submission, elapsed, machines, channels);
            }
            None if self.queues.iter().all(VecDeque::is_empty) => rule.idle(elapsed),
            None => {}
        }
    }

    fn look(&mut self, now: Nanos, machines: &mut [Machine]) {
        // Whoever has the lane outranks others even while it has nothing more to dispatch.
        let owner = self.flights.first().map(|f| f.submission.vm);
        let mut urgent = owner.map_or(0, |vm| machines[vm].settings.priority);
        for (vm, machine) in machines.iter_mut().enumerate() {
            let Settings {
                weight,
                cap,
                priority,
            } = machine.settings;
            machine.cap.fill(now, cap);
            let head = self.queues[vm].front();
            let ready = head.is_some() && machine.cap.open(cap, 0);
            if ready {
                urgent = urgent.max(priority);
            }
            self.candidates[vm] = Candidate {
                ready,
                outranked: false,
                busy: head.is_some(),
                arrival: head.map_or(0, |p| p.arrival),
                weight,
            };
        }
        for (candidate, machine) in self.candidates.iter_mut().zip(machines) {
            candidate.outranked = machine.settings.priority < urgent;
            candidate.ready &= !candidate.outranked;
        }
        for flight in &self.flights {
            self.candidates[flight.submission.vm].busy = true;
        }
        if let Some(rule) = &mut self.rule {
            rule.advance(now, &self.candidates);
        }
    }

    /// What to do with the lane. Time must have been settled.
    pub fn next(&mut self, now: Nanos, machines: &mut [Machine]) -> Decision {
        if self.rule.is_none() {
            return self.pass_on(now, machines);
        }
        self.look(now, machines);
        if let Some(flight) = self.flights.first() {
            let vm = flight.submission.vm;
            return match self.has_more(now, vm, &machines[vm]) {
                true => self.dispatch(now, vm, machines),
                false => self.cut_short(now, vm, machines),
            };
        }
        let Some(rule) = &mut self.rule else {
            unreachable!("a lane without a rule passes everything on");
        };
        match rule.choose(now, &self.candidates) {
            Choice::Run(vm) => self.dispatch(now, vm, machines),
            Choice::Wait(until) => Decision::Sleep(Some(until.max(now + 1))),
            Choice::Nobody => Decision::Sleep(self.cap_opens(now, machines)),
        }
    }

    /// Whether `vm`, which has the lane, gets more of its work dispatched.
    fn has_more(&self, now: Nanos, vm: usize, machine: &Machine) -> bool {
        let left = self.left(now);
        let most = if left.is_some() {
            self.depth
        } else {
            self.depth.min(UNKNOWN)
        };
        let room = self.flights.len() < most && !self.cutting && self.candidates[vm].ready;
        let left = left.unwrap_or(0);
        let open = machine.cap.open(machine.settings.cap, left);
        let goes_on = |rule: &dyn Rule| open && rule.goes_on(vm, left, &self.candidates);
        room && (self.is_fence(vm) || self.rule.as_deref().is_some_and(goes_on))
    }

    /// For how long the card has work, if that can be told.
    fn left(&self, now: Nanos) -> Option<Nanos> {
        let mut lengths = self.flights.iter().map(|flight| flight.length);
        let first = (self.first_since + lengths.next()??).saturating_sub(now);
        lengths.try_fold(first, |sum, length| Some(sum + length?))
    }

    /// Whether the next submission of `vm` takes no time and belongs to the last one on the card,
    /// which does.
    fn is_fence(&self, vm: usize) -> bool {
        let (Some(last), Some(next)) = (self.flights.last(), self.queues[vm].front()) else {
            return false;
        };
        let channel = next.submission.channel;
        let next = self.lengths[channel].next();
        last.submission.channel == channel
            && last.length.is_some_and(|length| length > FENCE)
            && next.is_some_and(|length| length <= FENCE)
    }

    /// When the first machine that is kept at its cap may run again.
    fn cap_opens(&self, now: Nanos, machines: &[Machine]) -> Option<Nanos> {
        let waiting = machines
            .iter()
            .zip(&self.queues)
            .filter(|(_, queue)| !queue.is_empty());
        let opens = waiting.map(|(machine, _)| machine.cap.opens(machine.settings.cap));
        // A look per microsecond is as exact as caps are.
        opens.min().map(|at| at.max(now + MICROSECOND))
    }

    /// Without a rule: everything goes to the card as it comes.
    fn pass_on(&mut self, now: Nanos, machines: &mut [Machine]) -> Decision {
        let waiting = self.queues.iter().enumerate();
        let first = waiting
            .filter_map(|(vm, queue)| Some((queue.front()?.arrival, vm)))
            .min();
        first.map_or(Decision::Sleep(None), |(_, vm)| {
            self.dispatch(now, vm, machines)
        })
    }

    fn dispatch(&mut self, now: Nanos, vm: usize, machines: &mut [Machine]) -> Decision {
        let Some(pending) = self.queues[vm].pop_front() else {
            return Decision::Sleep(None);
        };
        let submission = pending.submission;
        let usage = &mut machines[vm].usage;
        let waited = now.saturating_sub(pending.since);
        usage.dispatched += 1;
        usage.waited += waited;
        usage.longest_wait = usage.longest_wait.max(waited);
        if self.flights.is_empty() && (self.cutting || self.turn.is_none_or(|(o, _)| o != vm)) {
            self.turn = Some((vm, now));
            self.cutting = false;
        }
        if self.flights.is_empty() {
            self.first_since = now;
        }
        let on_card = self
            .flights
            .iter_mut()
            .find(|f| self.rule.is_none() && f.submission.channel == submission.channel);
        match on_card {
            Some(flight) => flight.submission.put = submission.put,
            None => {
                let lengths = &mut self.lengths[submission.channel];
                self.flights.push(Flight {
                    submission,
                    since: now,
                    length: lengths.next(),
                    class: lengths.next,
                    preempting: false,
                });
                lengths.next ^= 1;
            }
        }
        Decision::Dispatch(submission)
    }

    /// Whether the time slice of `vm` is over and somebody waits for the lane.
    fn cut_short(&mut self, now: Nanos, vm: usize, machines: &mut [Machine]) -> Decision {
        let (Some(slice), Some(rule)) = (self.timeslice, &self.rule) else {
            return Decision::Sleep(None);
        };
        let since = self.turn.map_or(now, |(_, since)| since);
        if !others_ready(vm, &self.candidates) {
            return Decision::Sleep(None);
        }
        if now < since + slice {
            return Decision::Sleep(Some(since + slice));
        }
        if !rule.yields(vm) {
            // It is asked again when some more of its time is gone.
            return Decision::Sleep(Some(now + slice.max(MICROSECOND)));
        }
        match self.flights.iter_mut().find(|flight| !flight.preempting) {
            Some(flight) => {
                let channel = flight.submission.channel;
                for flight in &mut self.flights {
                    flight.preempting |= flight.submission.channel == channel;
                }
                self.cutting = true;
                machines[vm].usage.preemptions += 1;
                Decision::Preempt { vm, channel }
            }
            None => Decision::Sleep(None),
        }
    }

    /// Submissions of `channel` up to the one with `put` are over; how many those are.
    pub fn complete(
        &mut self,
        now: Nanos,
        channel: usize,
        put: u32,
        machines: &mut [Machine],
    ) -> u32 {
        let is = |flight: &Flight| flight.submission.channel == channel;
        let last = self
            .flights
            .iter()
            .rposition(|flight| is(flight) && flight.submission.put == put);
        let Some(last) = last else { return 0 };
        let done = &self.flights[last];
        let vm = done.submission.vm;
        let usage = &mut machines[vm].usage;
        usage.longest_run = usage.longest_run.max(now.saturating_sub(done.since));
        // A fence is mostly seen to be over together with what it follows; of more that is, nothing
        // can be told.
        let own = self.flights[..=last].iter().filter(|flight| is(flight));
        let took = [now.saturating_sub(self.first_since), 0];
        for (flight, length) in own.zip(took) {
            self.lengths[channel].learn(flight.class, length);
        }
        self.first_since = now;
        let mut place = 0;
        self.remove_flights(now, |flight| {
            place += 1;
            is(flight) && place <= last + 1
        })
    }

    fn remove_flights(&mut self, now: Nanos, mut gone: impl FnMut(&Flight) -> bool) -> u32 {
        let Some(vm) = self.flights.first().map(|f| f.submission.vm) else {
            return 0;
        };
        let before = self.flights.len();
        self.flights.retain(|flight| !gone(flight));
        if !self.busy(vm)
            && let Some(rule) = &mut self.rule
        {
            rule.drained(now, vm);
        }
        (before - self.flights.len()) as u32
    }

    /// `channel` was taken off: what it had on the card waits again, first in its queue. How many
    /// submissions became one.
    pub fn put_back(&mut self, now: Nanos, arrival: u64, channel: usize) -> u32 {
        let mut own = self
            .flights
            .iter()
            .map(|flight| flight.submission)
            .filter(|submission| submission.channel == channel);
        let Some(mut submission) = own.next() else {
            return 0;
        };
        let merged = own.map(|later| submission.put = later.put).count() as u32;
        submission.resume = true;
        self.queues[submission.vm].push_front(Pending {
            submission,
            arrival,
            since: now,
        });
        self.flights.retain(|f| f.submission.channel != channel);
        merged
    }

    /// `channel` is dead; its work is gone.
    pub fn forget(&mut self, now: Nanos, channel: usize) {
        for queue in &mut self.queues {
            queue.retain(|pending| pending.submission.channel != channel);
        }
        self.remove_flights(now, |flight| flight.submission.channel == channel);
        self.lengths[channel] = Lengths::default();
    }

    /// Submissions of `vm` that wait.
    pub fn waiting(&self, vm: usize) -> usize {
        self.queues[vm].len()
    }

    /// When the first of what is on the card will be over, as far as can be told.
    pub fn due(&self) -> Option<Nanos> {
        let first = self.flights.first()?;
        // Nothing is known of submissions that run side by side.
        let length = first.length.filter(|_| self.rule.is_some());
        Some(self.first_since + length.unwrap_or(0))
    }

    /// What is on the card.
    pub fn on_card(&self) -> impl Iterator<Item = Submission> + '_ {
        self.flights.iter().map(|flight| flight.submission)
    }
}

fn charge(
    submission: &Submission,
    used: Nanos,
    machines: &mut [Machine],
    channels: &mut [Channel],
) {
    let engine = Engine::index(submission.engine);
    let machine = &mut machines[submission.vm];
    machine.usage.busy[engine] += used;
    machine.cap.take(used);
    channels[submission.channel].busy[engine] += used;
}
