//! FIFO: submissions in the order of arrival.
//!
//! Source: CPFL/gxen `tools/a3/fifo_scheduler.cc`: one queue for all machines.

use super::{Candidate, Choice, Rule};
use crate::Nanos;

pub(super) struct Fifo;

fn first(candidates: &[Candidate]) -> Option<usize> {
    let ready = candidates.iter().enumerate().filter(|(_, c)| c.ready);
    ready.min_by_key(|(_, c)| c.arrival).map(|(vm, _)| vm)
}

impl Rule for Fifo {
    fn choose(&mut self, _now: Nanos, candidates: &[Candidate]) -> Choice {
        first(candidates).map_or(Choice::Nobody, Choice::Run)
    }

    fn goes_on(&self, vm: usize, _left: Nanos, candidates: &[Candidate]) -> bool {
        first(candidates) == Some(vm)
    }
}
