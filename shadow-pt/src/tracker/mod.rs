//! Which pages a guest may have written.
//!
//! A sync reads a page of a table again only if it may have changed. Who can say so depends on how
//! the guest's stores come to its video memory:
//!
//! * [`PageTimes`] is told of each store, page by page: by traps, and by a log of what is stored
//!   through mappings.
//! * [`Untracked`] is told nothing: all pages are read and compared.
//! * [`Guarded`] chooses pages whose stores have to trap. Of the others it knows nothing.
//!
//! What the card's own engines store is seen by none of them: only reading finds it.

mod guarded;
mod times;

use std::fmt;

use crate::GuestAddress;

pub use guarded::{Guarded, Patience};
pub use times::PageTimes;

/// Pages that one question covers.
const GROUP: u64 = 64;
/// log2 of a page.
const PAGE_SHIFT: u32 = 12;

/// A point in a tracker's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Knows which 4 KiB pages of a guest's memory may have been written, so that a sync need not read
/// the others.
///
/// It may say "written" too often, never too rarely. One tracker serves all shadows of a VM.
pub trait WriteTracker: fmt::Debug + Send + Sync {
    /// Starts a new epoch: every write that comes after this call is reported to whoever asks with
    /// the epoch returned.
    fn collect(&self) -> Epoch;

    /// Of the 64 pages from `at` on, bit n for page n, those of `asked` that may have been written
    /// since the start of `since`. `at` is a multiple of 4 KiB.
    fn written(&self, at: GuestAddress, asked: u64, since: Epoch) -> u64;

    /// `len` bytes at `address` of the guest's video memory have been written. Called after the
    /// write, from any thread: a sync that did not see the write finds the mark the next time.
    fn mark(&self, address: u64, len: u64);

    /// The page at `at` was read because it may have been written; whether it differed from what
    /// was read before.
    fn compared(&self, at: GuestAddress, changed: bool) {
        let _ = (at, changed);
    }

    /// Whether stores to the page with this address of video memory have to trap.
    fn traps(&self, address: u64) -> bool {
        let _ = address;
        false
    }

    /// Decides anew which pages' stores have to trap; `None` if they are the same as before. Else the
    /// caller makes it so, and then tells that it is [in force](Self::in_force).
    fn settle(&self) -> Option<Round> {
        None
    }

    /// What [`traps`](Self::traps) said when `round` was settled is so.
    fn in_force(&self, round: Round) {
        let _ = round;
    }
}

/// A decision of [`WriteTracker::settle`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(u64);

/// Knows nothing: every page may have been written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untracked;

impl WriteTracker for Untracked {
    fn collect(&self) -> Epoch {
        Epoch(0)
    }

    fn written(&self, _at: GuestAddress, asked: u64, _since: Epoch) -> u64 {
        asked
    }

    fn mark(&self, _address: u64, _len: u64) {}
}
