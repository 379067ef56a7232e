//! DRR: deficit round robin with overrun debt.
//!
//! Each round gives every machine a quantum; a machine has the lane while it has some left. The
//! last submission of a turn cannot be cut short, so a turn may overrun: what it overran is a debt
//! that the machine's next rounds pay, as in AMD's fairness mode.
//!
//! Round robin alone is unfair to a machine that waits for each submission before it makes the
//! next: its queue is empty whenever the lane is given away, and another one's long submission
//! comes between. So a round does not end while such a machine has time left and is known to come
//! back soon: the lane stays free for it for up to `patience`, unless that would cost more than
//! `idle_budget` of all time.
//!
//! Time that a machine has while no other one is ready makes no debt: who worked alone for a second
//! does not wait for a second when another one comes.
//!
//! Source of the rule: Shreedhar, Varghese, *Efficient Fair Queuing using Deficit Round Robin*,
//! SIGCOMM 1995.

use super::{Candidate, Choice, Rule, others_ready, quantum, turn_length};
use crate::Nanos;
use crate::config::Config;

#[derive(Clone, Copy, Default)]
struct Turn {
    /// What is left of its quanta; below zero is debt.
    deficit: i64,
    /// Since when it has had no work, if it had some.
    thinks_since: Option<Nanos>,
    /// How long it usually has none.
    thinks: Nanos,
}

pub(super) struct Drr {
    /// The length of a turn as configured, and at present.
    configured: Nanos,
    length: Nanos,
    patience: Nanos,
    turns: Vec<Turn>,
    /// Whose turn it is, or was last.
    current: usize,
    /// Another one is ready.
    contested: bool,
    /// Since when the lane has been kept free.
    waiting_since: Option<Nanos>,
    /// Time that may still be spent so, and how it grows.
    allowance: i64,
    budget: u32,
    last: Nanos,
}

impl Drr {
    pub(super) fn new(config: &Config, vms: usize) -> Self {
        Self {
            configured: config.quantum,
            length: config.quantum,
            patience: config.patience,
            turns: vec![Turn::default(); vms],
            current: 0,
            contested: false,
            waiting_since: None,
            allowance: 0,
            budget: config.idle_budget,
            last: 0,
        }
    }

    /// Machines in the order of their turns.
    fn ring(&self) -> impl Iterator<Item = usize> + use<> {
        let (vms, first) = (self.turns.len(), self.current);
        (0..vms).map(move |n| (first + n) % vms)
    }

    /// Until when to wait for a machine that has time left and comes back soon.
    fn awaited(&self, now: Nanos, candidates: &[Candidate]) -> Option<Nanos> {
        let spent = self.waiting_since.map_or(0, |since| now - since);
        let left = self.allowance - spent as i64;
        if left <= 0 {
            return None;
        }
        let soon = self
            .turns
            .iter()
            .zip(candidates)
            .filter(|(turn, candidate)| turn.deficit > 0 && !candidate.busy && !candidate.outranked)
            .filter(|(turn, _)| turn.thinks <= self.patience)
            .filter_map(|(turn, _)| Some(turn.thinks_since? + self.patience))
            .filter(|&until| until > now)
            .min()?;
        Some(soon.min(now + left as u64))
    }

    fn start_round(&mut self, candidates: &[Candidate]) {
        // As many rounds at once as it takes until somebody has time again.
        let rounds = self
            .turns
            .iter()
            .zip(candidates)
            .filter(|(_, candidate)| candidate.ready)
            .map(|(turn, candidate)| -turn.deficit / quantum(self.length, candidate.weight) + 1)
            .min()
            .unwrap_or(0);
        for (turn, candidate) in self.turns.iter_mut().zip(candidates) {
            let quantum = quantum(self.length, candidate.weight);
            turn.deficit = (turn.deficit + rounds * quantum).min(quantum);
        }
    }
}

impl Rule for Drr {
    fn advance(&mut self, now: Nanos, candidates: &[Candidate]) {
        let length = turn_length(self.configured, candidates);
        if length < self.length {
            // Turns that were given when fewer had work would make this round too long.
            for (turn, candidate) in self.turns.iter_mut().zip(candidates) {
                turn.deficit = turn.deficit.min(quantum(length, candidate.weight));
            }
        }
        self.length = length;
        self.contested = others_ready(self.current, candidates);
        let gain = (now.saturating_sub(self.last) * u64::from(self.budget)) / 1000;
        if gain > 0 {
            let most = 20 * self.patience as i64;
            self.allowance = self.allowance.saturating_add_unsigned(gain).min(most);
            self.last = now;
        }
    }

    fn choose(&mut self, now: Nanos, candidates: &[Candidate]) -> Choice {
        let with_time = |turns: &[Turn], vm: &usize| turns[*vm].deficit > 0;
        let ready = |vm: &usize| candidates[*vm].ready;
        let mut next = self
            .ring()
            .filter(ready)
            .find(|vm| with_time(&self.turns, vm));
        if next.is_none() && candidates.iter().any(|c| c.ready) {
            if let Some(until) = self.awaited(now, candidates) {
                self.waiting_since.get_or_insert(now);
                return Choice::Wait(until);
            }
            self.start_round(candidates);
            let mut ring = self.ring().filter(ready);
            next = ring.find(|vm| with_time(&self.turns, vm));
        }
        if let Some(since) = self.waiting_since.take() {
            self.allowance -= now.saturating_sub(since) as i64;
        }
        let Some(next) = next else {
            return Choice::Nobody;
        };
        self.current = next;
        Choice::Run(next)
    }

    fn goes_on(&self, vm: usize, left: Nanos, candidates: &[Candidate]) -> bool {
        self.turns[vm].deficit > left as i64 || !others_ready(vm, candidates)
    }

    fn yields(&self, vm: usize) -> bool {
        self.turns[vm].deficit <= 0
    }

    fn charge(&mut self, vm: usize, used: Nanos) {
        let deficit = &mut self.turns[vm].deficit;
        *deficit = match self.contested {
            true => *deficit - used as i64,
            false => (*deficit - used as i64).max((*deficit).min(0)),
        };
    }

    fn woke(&mut self, now: Nanos, vm: usize) {
        let turn = &mut self.turns[vm];
        if let Some(since) = turn.thinks_since.take() {
            let last = now.saturating_sub(since);
            turn.thinks = turn.thinks - turn.thinks / 4 + last / 4;
        }
    }

    fn drained(&mut self, now: Nanos, vm: usize) {
        self.turns[vm].thinks_since = Some(now);
    }
}
