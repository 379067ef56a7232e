//! EQUAL and FIXED: each machine is held to a part of the time.
//!
//! Every machine gains time at the rate of its part and may run while it has some. Nobody gets what
//! another leaves unused, so a machine's speed does not depend on what the others do: EQUAL divides
//! among the machines that run, FIXED among all, by weight. These are the modes that NVIDIA's vGPU
//! calls equal share and fixed share.

use super::{Candidate, Choice, Rule, turn_length};
use crate::config::Config;
use crate::{MILLISECOND, Nanos, SECOND};

/// A machine counts as running so long after it last had work.
const ACTIVITY: Nanos = SECOND;
/// What a machine may save: enough for others' long kernels to pass.
const SAVINGS: f64 = 50.0 * MILLISECOND as f64;

/// Among whom time is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Equally among the machines that had work lately.
    Running,
    /// By weight among all.
    All,
}

#[derive(Clone, Copy, Default)]
struct Holding {
    /// Time that it may use.
    time: f64,
    /// What it gains per nanosecond.
    rate: f64,
    /// When it had work last.
    active: Option<Nanos>,
}

pub(super) struct Share {
    /// The length of a turn as configured, and at present.
    configured: Nanos,
    length: Nanos,
    of: Of,
    holdings: Vec<Holding>,
    /// Whose turn it is, and how long it has lasted.
    current: usize,
    turn: Nanos,
    last: Nanos,
}

impl Share {
    pub(super) fn new(config: &Config, vms: usize, of: Of) -> Self {
        Self {
            configured: config.quantum,
            length: config.quantum,
            of,
            holdings: vec![Holding::default(); vms],
            current: 0,
            turn: 0,
            last: 0,
        }
    }

    fn counts(&self, holding: &Holding, now: Nanos) -> bool {
        match self.of {
            Of::All => true,
            Of::Running => holding.active.is_some_and(|at| now - at < ACTIVITY),
        }
    }

    fn weight(&self, candidate: &Candidate) -> f64 {
        match self.of {
            Of::All => candidate.weight.into(),
            Of::Running => 1.0,
        }
    }
}

impl Rule for Share {
    fn advance(&mut self, now: Nanos, candidates: &[Candidate]) {
        self.length = turn_length(self.configured, candidates);
        for (holding, candidate) in self.holdings.iter_mut().zip(candidates) {
            if candidate.busy {
                holding.active = Some(now);
            }
        }
        let elapsed = now.saturating_sub(self.last) as f64;
        self.last = now;
        let counting = |(holding, _): &(&Holding, &Candidate)| self.counts(holding, now);
        let all = self.holdings.iter().zip(candidates);
        let total: f64 = all.filter(counting).map(|(_, c)| self.weight(c)).sum();
        for (vm, candidate) in candidates.iter().enumerate() {
            let mut holding = self.holdings[vm];
            // What it gained until now is at the rate until now.
            holding.time = (holding.time + elapsed * holding.rate).min(SAVINGS);
            holding.rate = match self.counts(&holding, now) {
                true => self.weight(candidate) / total,
                false => 0.0,
            };
            self.holdings[vm] = holding;
        }
    }

    fn choose(&mut self, now: Nanos, candidates: &[Candidate]) -> Choice {
        let ready = || (0..candidates.len()).filter(|&vm| candidates[vm].ready);
        let holdings = &self.holdings;
        if candidates[self.current].ready && self.goes_on(self.current, 0, candidates) {
            return Choice::Run(self.current);
        }
        let most = ready().max_by(|&a, &b| holdings[a].time.total_cmp(&holdings[b].time));
        match most {
            Some(vm) if holdings[vm].time > 0.0 => {
                self.current = vm;
                self.turn = 0;
                Choice::Run(vm)
            }
            Some(_) => {
                let until = |vm: usize| (1.0 - holdings[vm].time) / holdings[vm].rate;
                let soonest = ready().map(until).min_by(f64::total_cmp);
                // A rate of zero is not possible for a machine that is ready.
                soonest.map_or(Choice::Nobody, |span| {
                    Choice::Wait(now.saturating_add(span.ceil() as Nanos))
                })
            }
            None => Choice::Nobody,
        }
    }

    fn goes_on(&self, vm: usize, left: Nanos, _candidates: &[Candidate]) -> bool {
        self.holdings[vm].time > left as f64 && self.turn + left < self.length
    }

    fn yields(&self, vm: usize) -> bool {
        self.holdings[vm].time <= 0.0 || self.turn >= self.length
    }

    fn charge(&mut self, vm: usize, used: Nanos) {
        self.holdings[vm].time -= used as f64;
        self.turn += used;
    }
}
