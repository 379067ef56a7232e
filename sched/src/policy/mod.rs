//! The rules by which machines take turns on a lane.

mod band;
mod credit;
mod drr;
mod fifo;
mod share;

use crate::account::Settings;
use crate::config::{Config, Policy};
use crate::{MILLISECOND, Nanos};

/// What a rule may know of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Candidate {
    /// It has a submission that waits, is below its cap, and no more urgent machine is ready.
    pub ready: bool,
    /// Some other machine that is ready is more urgent.
    pub outranked: bool,
    /// It has work that waits or runs.
    pub busy: bool,
    /// The number of its first submission, in the order of all.
    pub arrival: u64,
    /// Its weight.
    pub weight: u32,
}

/// What to do with a free lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Give it to this machine, which is ready.
    Run(usize),
    /// Leave it free until something happens, or until then.
    Wait(Nanos),
    /// Nobody may have it.
    Nobody,
}

/// A rule for one lane. The machines are those of `candidates`, by index.
pub(crate) trait Rule: Send {
    /// It is `now`.
    fn advance(&mut self, _now: Nanos, _candidates: &[Candidate]) {}

    /// Who gets the free lane.
    fn choose(&mut self, now: Nanos, candidates: &[Candidate]) -> Choice;

    /// Whether `vm`, which has the lane, is ready, and keeps the card at work for another `left`,
    /// may have more of its work dispatched.
    fn goes_on(&self, vm: usize, left: Nanos, candidates: &[Candidate]) -> bool;

    /// Whether `vm` may be taken off the lane now that its time slice is over.
    fn yields(&self, _vm: usize) -> bool {
        true
    }

    /// `vm` had the lane for `used`.
    fn charge(&mut self, _vm: usize, _used: Nanos) {}

    /// The lane had no work for `span`.
    fn idle(&mut self, _span: Nanos) {}

    /// `vm` has a submission after it had none.
    fn woke(&mut self, _now: Nanos, _vm: usize) {}

    /// `vm` has no work left.
    fn drained(&mut self, _now: Nanos, _vm: usize) {}
}

/// The rule for `vms` machines; none for [`Policy::Direct`].
pub(crate) fn rule(config: &Config, vms: usize) -> Option<Box<dyn Rule>> {
    Some(match config.policy {
        Policy::Direct => return None,
        Policy::Fifo => Box::new(fifo::Fifo),
        Policy::Credit => Box::new(credit::Credit::new(config, vms)),
        Policy::Band => Box::new(band::Band::new(config, vms)),
        Policy::Drr => Box::new(drr::Drr::new(config, vms)),
        Policy::Equal => Box::new(share::Share::new(config, vms, share::Of::Running)),
        Policy::Fixed => Box::new(share::Share::new(config, vms, share::Of::All)),
    })
}

/// Whether anybody but `vm` is ready.
pub(crate) fn others_ready(vm: usize, candidates: &[Candidate]) -> bool {
    let mut ready = candidates.iter().enumerate().filter(|(_, c)| c.ready);
    ready.any(|(other, _)| other != vm)
}

/// The part of `total` that a machine of `weight` gets among `weights`.
fn part(total: Nanos, weight: u32, weights: u64) -> Nanos {
    (u128::from(total) * u128::from(weight) / u128::from(weights.max(1))) as Nanos
}

fn weights(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|c| u64::from(c.weight)).sum()
}

/// A round of turns should not take longer, so that windows of a second are fair.
const ROUND: Nanos = 100 * MILLISECOND;
/// No turn is shorter: changing machines costs time.
const LEAST_TURN: Nanos = MILLISECOND;

/// The length of turns: as configured, but shorter where many machines have work.
fn turn_length(configured: Nanos, candidates: &[Candidate]) -> Nanos {
    let busy = candidates.iter().filter(|c| c.busy).count() as u64;
    (ROUND / busy.max(1)).max(LEAST_TURN).min(configured)
}

/// A turn of a machine: the default weight has `length` itself.
fn quantum(length: Nanos, weight: u32) -> i64 {
    let default = u64::from(Settings::default().weight);
    (length * u64::from(weight) / default).max(1) as i64
}
