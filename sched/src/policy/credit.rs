//! CREDIT: a budget per period, and a list whose head goes first.
//!
//! After its run, a machine with a negative budget goes to the tail of the list; the first machine
//! of the list that has work is next. Each period, the time that the card worked or stood idle is
//! given out in equal parts (here: by weight).
//!
//! Source: CPFL/gxen `tools/a3/credit_scheduler.cc` replenish, select_next_context; `context.cc`
//! replenish.

use super::{Candidate, Choice, Rule, part, weights};
use crate::Nanos;
use crate::config::Config;

/// Budgets, how they are filled, and the list: what CREDIT and BAND share.
pub(super) struct Budgets {
    period: Nanos,
    next: Nanos,
    pub(super) budget: Vec<i64>,
    /// Machines, the head first.
    pub(super) list: Vec<usize>,
    /// Who had the lane last.
    pub(super) current: Option<usize>,
    /// Time of the period in which the card worked, or had no work.
    bandwidth: Nanos,
    idle: Nanos,
}

impl Budgets {
    pub(super) fn new(config: &Config, vms: usize) -> Self {
        Self {
            period: config.period.max(1),
            next: 0,
            budget: vec![0; vms],
            list: (0..vms).collect(),
            current: None,
            bandwidth: 0,
            idle: 0,
        }
    }

    /// Gives out credits for the periods that ended; the threshold beyond which a budget is reset
    /// is `threshold(credit, period)`.
    pub(super) fn advance(
        &mut self,
        now: Nanos,
        candidates: &[Candidate],
        threshold: impl Fn(i64, i64) -> i64,
    ) {
        if now < self.next {
            return;
        }
        let missed = (now - self.next) / self.period + 1;
        self.next += missed * self.period;
        // After so many idle periods nothing changes any more.
        let rounds = missed.min(2 * candidates.len() as u64 + 4);
        let weights = weights(candidates);
        for round in 0..rounds {
            let worked = self.bandwidth != 0;
            let measured = match round {
                0 => self.bandwidth + self.idle,
                _ => self.period,
            };
            for (budget, candidate) in self.budget.iter_mut().zip(candidates) {
                let credit = part(measured, candidate.weight, weights) as i64;
                let default = part(self.period, candidate.weight, weights) as i64;
                let threshold = threshold(credit, self.period as i64);
                *budget += credit;
                if !worked && *budget >= default || *budget > threshold {
                    *budget = default;
                } else if *budget < -threshold {
                    *budget = 0;
                }
            }
            self.bandwidth = 0;
            self.idle = 0;
        }
    }

    pub(super) fn charge(&mut self, vm: usize, used: Nanos) {
        self.budget[vm] -= used as i64;
        self.bandwidth += used;
        self.current = Some(vm);
    }

    pub(super) fn idle(&mut self, span: Nanos) {
        self.idle += span;
    }

    /// Puts who had the lane to the tail.
    pub(super) fn demote(&mut self, vm: usize) {
        self.list.retain(|&other| other != vm);
        self.list.push(vm);
    }
}

pub(super) struct Credit(Budgets);

impl Credit {
    pub(super) fn new(config: &Config, vms: usize) -> Self {
        Self(Budgets::new(config, vms))
    }
}

impl Rule for Credit {
    fn advance(&mut self, now: Nanos, candidates: &[Candidate]) {
        self.0.advance(now, candidates, |credit, _| 2 * credit);
    }

    fn choose(&mut self, _now: Nanos, candidates: &[Candidate]) -> Choice {
        if let Some(current) = self.0.current.take()
            && self.0.budget[current] < 0
        {
            self.0.demote(current);
        }
        let mut list = self.0.list.iter();
        let next = list.find(|&&vm| candidates[vm].ready);
        next.map_or(Choice::Nobody, |&vm| Choice::Run(vm))
    }

    fn goes_on(&self, vm: usize, _left: Nanos, _candidates: &[Candidate]) -> bool {
        self.0.budget[vm] >= 0
    }

    fn yields(&self, vm: usize) -> bool {
        self.0.budget[vm] < 0
    }

    fn charge(&mut self, vm: usize, used: Nanos) {
        self.0.charge(vm, used);
    }

    fn idle(&mut self, span: Nanos) {
        self.0.idle(span);
    }
}
