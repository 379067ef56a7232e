//! BAND: bandwidth-aware non-preemptive device scheduling.
//!
//! CREDIT with two changes. A machine goes to the tail only if its budget is negative *and* it used
//! more than its part of the bandwidth. And where the next machine is over its part while the last
//! one is not, the engine stands idle for a moment, so that the last one can submit again.
//!
//! Sources: Kato et al., *Gdev: First-Class GPU Resource Management in the Operating System*,
//! USENIX ATC 2012; CPFL/gxen `tools/a3/band_scheduler.cc` select_next_context,
//! utilization_over_bandwidth.

use super::credit::Budgets;
use super::{Candidate, Choice, Rule, part, weights};
use crate::Nanos;
use crate::config::Config;

pub(super) struct Band {
    budgets: Budgets,
    /// How long use is added up, and when the present span ends.
    interval: Nanos,
    end: Nanos,
    /// Time of each machine in this span, and of all.
    used: Vec<Nanos>,
    bandwidth: Nanos,
    idle: Nanos,
    /// Time in which the card worked or had no work, in the last span.
    previous: Nanos,
    patience: Nanos,
    /// For whom the engine stands idle, and until when.
    yielding: Option<(usize, Nanos)>,
    /// Who had the lane before it was free.
    current: Option<usize>,
}

impl Band {
    pub(super) fn new(config: &Config, vms: usize) -> Self {
        Self {
            budgets: Budgets::new(config, vms),
            interval: config.interval.max(1),
            end: 0,
            used: vec![0; vms],
            bandwidth: 0,
            idle: 0,
            previous: 0,
            patience: config.patience,
            yielding: None,
            current: None,
        }
    }

    /// Whether a machine used more than its part.
    fn over(&self, vm: usize, candidates: &[Candidate]) -> bool {
        let (weight, weights) = (candidates[vm].weight, weights(candidates));
        self.bandwidth == 0
            || self.used[vm] > part(self.previous, weight, weights)
            || self.used[vm] > part(self.bandwidth, weight, weights)
    }

    /// The first of the list: within budget and part, else within budget, else anyone.
    fn rank(&self, candidates: &[Candidate]) -> Option<usize> {
        let (mut band, mut over) = (None, None);
        for &vm in &self.budgets.list {
            if !candidates[vm].ready {
                continue;
            }
            if self.budgets.budget[vm] < 0 {
                over = over.or(Some(vm));
            } else if self.over(vm, candidates) {
                band = band.or(Some(vm));
            } else {
                return Some(vm);
            }
        }
        band.or(over)
    }
}

impl Rule for Band {
    fn advance(&mut self, now: Nanos, candidates: &[Candidate]) {
        self.budgets.advance(now, candidates, |_, period| period);
        if now >= self.end {
            self.end += ((now - self.end) / self.interval + 1) * self.interval;
            self.previous = self.bandwidth + self.idle;
            self.used.fill(0);
            self.bandwidth = 0;
            self.idle = 0;
        }
    }

    fn choose(&mut self, now: Nanos, candidates: &[Candidate]) -> Choice {
        if let Some((vm, until)) = self.yielding {
            if candidates[vm].ready {
                self.yielding = None;
                return Choice::Run(vm);
            }
            if now < until {
                return Choice::Wait(until);
            }
        }
        let waited = self.yielding.take().is_some();
        if let Some(ran) = self.budgets.current.take() {
            self.current = Some(ran);
            if self.budgets.budget[ran] < 0 && self.over(ran, candidates) {
                self.budgets.demote(ran);
            }
        }
        let Some(next) = self.rank(candidates) else {
            return Choice::Nobody;
        };
        if let Some(current) = self.current
            && !waited
            && next != current
            && !candidates[current].outranked
            && self.over(next, candidates)
            && !self.over(current, candidates)
            && self.used[next] > self.used[current]
        {
            let until = now + self.patience;
            self.yielding = Some((current, until));
            return Choice::Wait(until);
        }
        Choice::Run(next)
    }

    fn goes_on(&self, vm: usize, _left: Nanos, candidates: &[Candidate]) -> bool {
        self.budgets.budget[vm] >= 0 && !self.over(vm, candidates)
    }

    fn yields(&self, vm: usize) -> bool {
        self.budgets.budget[vm] < 0
    }

    fn charge(&mut self, vm: usize, used: Nanos) {
        self.budgets.charge(vm, used);
        self.used[vm] += used;
        self.bandwidth += used;
    }

    fn idle(&mut self, span: Nanos) {
        self.budgets.idle(span);
        self.idle += span;
    }
}
