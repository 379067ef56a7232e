//! Which policy, and its parameters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{MICROSECOND, MILLISECOND, Nanos, SECOND};

/// A rule by which machines take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Every doorbell reaches the card at once; the card's own round robin decides.
    Direct,
    /// One submission at a time, in the order of arrival.
    Fifo,
    /// Credits per period; a machine in debt goes to the tail of the list. As in GPUvm.
    Credit,
    /// Credits, demotion by share of bandwidth, and waiting for who is behind. As in Gdev and
    /// GPUvm.
    Band,
    /// Deficit round robin in which a machine pays back what its last kernel overran.
    Drr,
    /// Each running machine is held to an equal share.
    Equal,
    /// Each machine is held to its share by weight, whoever else runs.
    Fixed,
}

/// A name that is no policy's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("There is no scheduler {0:?}, only direct, fifo, credit, band, drr, equal and fixed")]
pub struct UnknownPolicy(pub String);

impl Policy {
    /// All of them, the simplest first.
    pub const ALL: [Self; 7] = [
        Self::Direct,
        Self::Fifo,
        Self::Credit,
        Self::Band,
        Self::Drr,
        Self::Equal,
        Self::Fixed,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fifo => "fifo",
            Self::Credit => "credit",
            Self::Band => "band",
            Self::Drr => "drr",
            Self::Equal => "equal",
            Self::Fixed => "fixed",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let known = Self::ALL.into_iter().find(|policy| policy.name() == name);
        known.ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
}

/// Whether engines are given away together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lanes {
    /// One machine has all engines, as in GPUvm, which knew of one.
    Joint,
    /// Compute and copies are given away apart from one another.
    Apart,
}

/// A policy with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The rule.
    pub policy: Policy,
    /// How engines are given away.
    pub lanes: Lanes,
    /// Submissions of the machine whose turn it is that the card may have at a time.
    pub depth: usize,
    /// CREDIT, BAND: how often credits are given.
    pub period: Nanos,
    /// BAND: for how long the use of bandwidth is added up.
    pub interval: Nanos,
    /// BAND, DRR: how long the engine may stand idle at a time for a machine that is behind.
    pub patience: Nanos,
    /// DRR: the fraction of time, in thousandths, that may be spent with such waiting.
    pub idle_budget: u32,
    /// DRR, EQUAL, FIXED: how long a turn lasts at weight 100.
    pub quantum: Nanos,
    /// How long a turn may last before the channel is taken off its engine in favour of others;
    /// `None` waits until its work is done.
    pub timeslice: Option<Nanos>,
}

impl Config {
    /// A policy as its authors ran it, or with defaults that suit a GF100.
    ///
    /// Sources: CPFL/gxen `tools/a3/band_scheduler.cc`, `credit_scheduler.cc` and `context.cc` for
    /// the rules; branch `reverting5` (October 2013) for a period of 500 ms; CPFL/gdev
    /// `common/gdev_vsched_band.c` for a patience of 500 us, which GPUvm took over.
    pub const fn new(policy: Policy) -> Self {
        let published = matches!(policy, Policy::Fifo | Policy::Credit | Policy::Band);
        Self {
            policy,
            lanes: if published {
                Lanes::Joint
            } else {
                Lanes::Apart
            },
            depth: if published { 1 } else { 8 },
            period: 500 * MILLISECOND,
            interval: 500 * MILLISECOND,
            patience: 500 * MICROSECOND,
            idle_budget: 25,
            quantum: 10 * MILLISECOND,
            timeslice: None,
        }
    }

    /// BAND or CREDIT with the parameters of Gdev: credits every 30 ms, use added up for a second.
    ///
    /// Source: CPFL/gdev `common/gdev_sched.h` GDEV_PERIOD_DEFAULT, GDEV_UPDATE_INTERVAL.
    pub const fn gdev(policy: Policy) -> Self {
        Self {
            period: 30 * MILLISECOND,
            interval: SECOND,
            ..Self::new(policy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_its_name() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert!("cfs".parse::<Policy>().is_err());
    }
}
