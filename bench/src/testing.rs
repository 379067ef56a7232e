//! Set-up that tests have in common.

use crate::job::{Job, Load, Size, Suite, Way};

/// A small job of `guests`, the first of its repetitions.
pub fn job(suite: Suite, mode: &str, guests: u16) -> Job {
    Job {
        suite,
        mode: mode.parse().unwrap(),
        way: Way::Nested,
        guests,
        sched: if guests > 1 { "drr" } else { "direct" }.into(),
        size: Size::Small,
        load: Load::default(),
        slow_motion: 0,
        pcie: false,
        workloads: Vec::new(),
        repetition: 0,
    }
}
