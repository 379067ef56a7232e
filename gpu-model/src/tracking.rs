//! How it is known what a guest stored to its page tables, of which shadows are to follow.

use shadow_pt::{Guarded, PageTimes, Patience, Untracked, WriteTracker};

/// A way to know. Stores that trap are always seen; these differ in those through mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tracking {
    /// The [`Mapper`](crate::Mapper) keeps a log of them. With nothing mapped there is nothing to log.
    #[default]
    Logged,
    /// Page tables are mapped for loads only.
    Trapped,
    /// Not at all: page tables are read and compared.
    Compared,
    /// As [`Self::Trapped`] for pages that are seldom stored to, as [`Self::Compared`] for others.
    Hybrid,
}

impl Tracking {
    /// Whether anybody asks a mapper for its log.
    pub const fn needs_log(self) -> bool {
        matches!(self, Self::Logged)
    }

    /// A tracker of `len` bytes of video memory.
    pub(crate) fn tracker(self, len: u64) -> Box<dyn WriteTracker> {
        match self {
            Self::Logged => Box::new(PageTimes::new(len)),
            Self::Trapped => Box::new(Guarded::new(len, Patience::STRICT)),
            Self::Compared => Box::new(Untracked),
            Self::Hybrid => Box::new(Guarded::new(len, Patience::HYBRID)),
        }
    }
}
