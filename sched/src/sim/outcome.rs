//! What a simulation, or a measurement, says of fairness.

use serde::{Deserialize, Serialize};

use crate::account::Usage;
use crate::config::Policy;
use crate::{Nanos, SECOND};

/// Over how long fairness is judged.
pub const WINDOW: Nanos = SECOND;
/// A machine counts in a window in which it had work for so much of the time, in thousandths.
const WANTING: u64 = 990;

/// Jain's index of fairness: 1 if all are equal, 1/n if one has everything.
///
/// Source: Jain, Chiu, Hawe, DEC-TR-301, 1984.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (shares.len() as f64 * squares)
}

/// What one machine had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VmOutcome {
    /// Its part of the time that the card worked.
    pub share: f64,
    /// Time that the card worked for it, in each window.
    pub windows: Vec<Nanos>,
    /// Submissions that are over.
    pub finished: u64,
    /// From the doorbell to the end: half of the submissions took at most this.
    pub latency_p50: Nanos,
    /// 95 of 100.
    pub latency_p95: Nanos,
    /// 99 of 100.
    pub latency_p99: Nanos,
    /// The longest that is over.
    pub latency_max: Nanos,
    /// What the scheduler accounted.
    pub usage: Usage,
}

/// What a policy did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The policy.
    pub policy: Policy,
    /// The machines.
    pub vms: Vec<VmOutcome>,
    /// Jain's index over weighted shares, in each window in which at least two machines had work
    /// all the time.
    pub jain: Vec<f64>,
    /// How far shares of windows are from what weights say, in percentage points on average.
    pub share_error: f64,
    /// The fraction of the time in which there was work but the card did none.
    pub lost: f64,
    /// Machines that had work for a window and got nothing, times windows.
    pub starved: u64,
}

impl Outcome {
    /// The worst window; 1 if there is none.
    pub fn worst_jain(&self) -> f64 {
        self.jain.iter().copied().fold(1.0, f64::min)
    }
}

#[derive(Clone, Default)]
struct Account {
    /// Time that the card worked for it, by window.
    ran: Vec<Nanos>,
    /// Time in which it had work, by window.
    wanted: Vec<Nanos>,
    outstanding: u32,
    wants_since: Nanos,
    latencies: Vec<Nanos>,
}

/// Keeps count while a simulation runs.
pub(super) struct Tally {
    duration: Nanos,
    accounts: Vec<Account>,
    /// Time in which anybody had work.
    wanted: Nanos,
    outstanding: u32,
    wants_since: Nanos,
    /// Time in which an engine worked: spans, merged as they come.
    worked: Nanos,
    worked_until: Nanos,
}

fn add(windows: &mut [Nanos], mut from: Nanos, until: Nanos) {
    while from < until {
        let window = (from / WINDOW) as usize;
        let end = until.min((window as u64 + 1) * WINDOW);
        if let Some(sum) = windows.get_mut(window) {
            *sum += end - from;
        }
        from = end;
    }
}

impl Tally {
    pub(super) fn new(vms: usize, duration: Nanos) -> Self {
        let windows = duration.div_ceil(WINDOW) as usize;
        let account = Account {
            ran: vec![0; windows],
            wanted: vec![0; windows],
            ..Account::default()
        };
        Self {
            duration,
            accounts: vec![account; vms],
            wanted: 0,
            outstanding: 0,
            wants_since: 0,
            worked: 0,
            worked_until: 0,
        }
    }

    /// A machine made a submission.
    pub(super) fn arrived(&mut self, now: Nanos, vm: usize) {
        let account = &mut self.accounts[vm];
        if account.outstanding == 0 {
            account.wants_since = now;
        }
        account.outstanding += 1;
        if self.outstanding == 0 {
            self.wants_since = now;
        }
        self.outstanding += 1;
    }

    /// A submission is over.
    pub(super) fn finished(&mut self, now: Nanos, vm: usize, submitted: Nanos) {
        let account = &mut self.accounts[vm];
        account.latencies.push(now - submitted);
        account.outstanding -= 1;
        if account.outstanding == 0 {
            add(&mut account.wanted, account.wants_since, now);
        }
        self.outstanding -= 1;
        if self.outstanding == 0 {
            self.wanted += now - self.wants_since;
        }
    }

    /// An engine worked for a machine.
    pub(super) fn ran(&mut self, vm: usize, since: Nanos, until: Nanos) {
        add(&mut self.accounts[vm].ran, since, until);
        // Engines overlap; spans come in the order of their ends.
        let from = since.max(self.worked_until);
        if until > from {
            self.worked += until - from;
            self.worked_until = until;
        }
    }

    pub(super) fn outcome(
        mut self,
        policy: Policy,
        weights: &[u32],
        usage: impl Fn(usize) -> Usage,
    ) -> Outcome {
        for account in &mut self.accounts {
            if account.outstanding > 0 {
                add(&mut account.wanted, account.wants_since, self.duration);
            }
        }
        if self.outstanding > 0 {
            self.wanted += self.duration - self.wants_since;
        }
        let whole = (self.duration / WINDOW) as usize;
        let mut jains = Vec::new();
        let (mut errors, mut judged, mut starved) = (0.0, 0_u64, 0);
        for window in 0..whole {
            let wanting = |vm: &usize| self.accounts[*vm].wanted[window] >= WINDOW * WANTING / 1000;
            let vms: Vec<usize> = (0..self.accounts.len()).filter(wanting).collect();
            if vms.len() < 2 {
                continue;
            }
            let ran = |vm: usize| self.accounts[vm].ran[window] as f64;
            let weighted: Vec<f64> = vms
                .iter()
                .map(|&vm| ran(vm) / f64::from(weights[vm]))
                .collect();
            jains.push(jain(&weighted));
            let total: f64 = vms.iter().map(|&vm| ran(vm)).sum();
            let weight: f64 = vms.iter().map(|&vm| f64::from(weights[vm])).sum();
            for &vm in &vms {
                starved += u64::from(ran(vm) == 0.0);
                if total > 0.0 {
                    errors += (ran(vm) / total - f64::from(weights[vm]) / weight).abs();
                    judged += 1;
                }
            }
        }
        let all: Nanos = self.accounts.iter().flat_map(|a| &a.ran).sum();
        let lost = 1.0 - self.worked as f64 / self.wanted.max(1) as f64;
        let vms = self.accounts.into_iter().enumerate();
        Outcome {
            policy,
            vms: vms.map(|(n, a)| a.outcome(all, usage(n))).collect(),
            jain: jains,
            share_error: 100.0 * errors / judged.max(1) as f64,
            lost: if self.wanted == 0 { 0.0 } else { lost.max(0.0) },
            starved,
        }
    }
}

impl Account {
    fn outcome(mut self, all: Nanos, usage: Usage) -> VmOutcome {
        self.latencies.sort_unstable();
        let of_hundred = |n: usize| {
            let last = self.latencies.len().saturating_sub(1);
            self.latencies.get(last * n / 100).copied().unwrap_or(0)
        };
        let mine: Nanos = self.ran.iter().sum();
        VmOutcome {
            share: mine as f64 / all.max(1) as f64,
            finished: self.latencies.len() as u64,
            latency_p50: of_hundred(50),
            latency_p95: of_hundred(95),
            latency_p99: of_hundred(99),
            latency_max: of_hundred(100),
            windows: self.ran,
            usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_is_one_for_equals_and_a_nth_for_a_monopoly() {
        assert_eq!(jain(&[2.0, 2.0, 2.0, 2.0]), 1.0);
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(jain(&[0.0, 0.0]), 1.0);
    }

    #[test]
    fn a_span_over_a_boundary_counts_in_both_windows() {
        let mut windows = [0; 2];
        add(&mut windows, WINDOW - 3, WINDOW + 4);
        assert_eq!(windows, [3, 4]);
    }
}
