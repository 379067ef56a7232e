//! What a virtual GPU does to be quicker than GPUvm as it was published, each by itself.

use std::fmt;
use std::str::FromStr;

use bitflags::bitflags;

bitflags! {
    /// Switches, by machine; all may change while it runs. Without any, a virtual GPU does all work
    /// at each TLB flush, all page tables word by word, and traps every access.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Optimisations: u32 {
        /// Pages of BAR3 are mapped for direct access, but for those that are watched.
        const BAR3_REMAP = 1 << 0;
        /// Shadow tables follow when the card is about to use them, not at each TLB flush.
        const LAZY_SHADOW = 1 << 1;
        /// Only what changed in the guest's tables is read and written.
        const INCREMENTAL = 1 << 2;
        /// Tables are read and written as blocks, not word by word.
        const BULK = 1 << 3;
        /// Pages of BAR1 that are memory are mapped for direct access.
        const BAR1_MAP = 1 << 4;
        /// Doorbells reach the card without an exit: nothing decides when.
        const DOORBELL_DIRECT = 1 << 5;
        /// Doorbells are looked for instead of trapped.
        const DOORBELL_POLL = 1 << 6;
        /// Stores without effect are collected by KVM.
        const COALESCE = 1 << 7;
        /// The PRAMIN window is mapped for direct access, but for pages that are watched.
        const PRAMIN_MAP = 1 << 8;
    }
}

/// Names of the switches.
const NAMES: [(&str, Optimisations); 9] = [
    ("bar3-remap", Optimisations::BAR3_REMAP),
    ("lazy-shadow", Optimisations::LAZY_SHADOW),
    ("incremental", Optimisations::INCREMENTAL),
    ("bulk", Optimisations::BULK),
    ("bar1-map", Optimisations::BAR1_MAP),
    ("doorbell-direct", Optimisations::DOORBELL_DIRECT),
    ("doorbell-poll", Optimisations::DOORBELL_POLL),
    ("coalesce", Optimisations::COALESCE),
    ("pramin-map", Optimisations::PRAMIN_MAP),
];

impl Optimisations {
    /// All that go together with everything else. Polling for doorbells takes a processor, and direct
    /// ones leave schedulers nothing to decide: both have to be asked for.
    pub const ALL: Self = Self::all()
        .difference(Self::DOORBELL_DIRECT)
        .difference(Self::DOORBELL_POLL);

    /// Those that need a machine whose BARs are mapped and trapped in this process.
    pub const LOCAL: Self = Self::BAR3_REMAP
        .union(Self::BAR1_MAP)
        .union(Self::PRAMIN_MAP)
        .union(Self::DOORBELL_DIRECT)
        .union(Self::DOORBELL_POLL)
        .union(Self::COALESCE);

    /// Those of the publication.
    pub const PAPER: Self = Self::BAR3_REMAP.union(Self::LAZY_SHADOW);

    /// Shadow tables may be behind until a doorbell: nobody may ring it unseen.
    pub(crate) fn lazy(self) -> bool {
        self.contains(Self::LAZY_SHADOW) && !self.contains(Self::DOORBELL_DIRECT)
    }

    /// The names of all switches.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("There is no optimisation {0:?}: none, paper, all, or some of {known}", known = Optimisations::names().collect::<Vec<_>>().join(","))]
pub struct UnknownOptimisation(String);

impl FromStr for Optimisations {
    type Err = UnknownOptimisation;

    /// `none`, `paper`, `all` and names of switches, separated by commas.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::empty();
        for name in text.split(',') {
            all |= match name {
                "none" => Self::empty(),
                "paper" => Self::PAPER,
                "all" => Self::ALL,
                _ => {
                    NAMES
                        .iter()
                        .find(|(known, _)| *known == name)
                        .ok_or_else(|| UnknownOptimisation(name.to_owned()))?
                        .1
                }
            };
        }
        Ok(all)
    }
}

impl fmt::Display for Optimisations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = NAMES
            .iter()
            .filter(|(_, switch)| self.contains(*switch))
            .map(|(name, _)| *name)
            .collect();
        match names.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_back_from_its_names() {
        for set in [
            Optimisations::empty(),
            Optimisations::PAPER,
            Optimisations::ALL,
            Optimisations::all(),
            Optimisations::BULK,
        ] {
            assert_eq!(set.to_string().parse(), Ok(set));
        }
        assert_eq!("paper".parse(), Ok(Optimisations::PAPER));
        assert_eq!(
            "paper,bulk".parse(),
            Ok(Optimisations::PAPER | Optimisations::BULK)
        );
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let refused = "bulk,fast".parse::<Optimisations>().unwrap_err();
        assert!(refused.to_string().contains("\"fast\""));
    }
}
