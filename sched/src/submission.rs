//! What goes into a scheduler and what comes out.

use crate::Nanos;
use crate::account::Engine;

/// Most submissions of a machine that wait one by one; later ones are merged.
pub const QUEUE: usize = 256;

/// A value of GP_PUT for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The machine.
    pub vm: usize,
    /// The card's number of the channel.
    pub channel: usize,
    /// What it is likely to use.
    pub engine: Engine,
    /// The value.
    pub put: u32,
    /// The channel was taken off its engine with this on it, and has to be made runnable.
    pub resume: bool,
}

impl Submission {
    /// A new one.
    pub fn new(vm: usize, channel: usize, engine: Engine, put: u32) -> Self {
        Self {
            vm,
            channel,
            engine,
            put,
            resume: false,
        }
    }
}

/// What the card is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It gets this.
    Dispatch(Submission),
    /// This channel is to leave its engine; [`Scheduler::preempted`](crate::Scheduler::preempted) says when it has.
    Preempt {
        /// Whose it is.
        vm: usize,
        /// The card's number of it.
        channel: usize,
    },
    /// Nothing until something happens, or until then.
    Sleep(Option<Nanos>),
}
