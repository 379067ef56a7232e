//! Work on its way from a guest to the card, and who decides when it goes there.
//!
//! A doorbell of a guest does not reach the card: it becomes a [`Submission`], and the
//! [`Dispatcher`] rings for it through the [`Gate`], at once or when its turn comes. Until then the
//! card does not see the guest's put index, as the control page that it reads is the hypervisor's.

use std::sync::Weak;
use std::time::Instant;

use mmio::VmId;
use mmio::regs::pfifo;

/// Entries of an indirect buffer that a guest gave to a channel.
#[derive(Clone, Copy, Debug)]
pub struct Submission {
    /// The machine.
    pub vm: VmId,
    /// Its number for the channel.
    pub guest: u32,
    /// The card's number for it.
    pub chid: u32,
    /// Index of the first entry: what the last submission of the channel ended before.
    pub first: u32,
    /// Index behind the last entry.
    pub put: u32,
    /// Number of the engine that was last seen to work for the channel, if any was.
    pub engine: Option<u32>,
    /// When the guest rang.
    pub since: Instant,
    /// Which of the channels that had this number, one after the other, it is for.
    pub(crate) binding: u64,
}

/// Decides when submissions go to the card.
pub trait Dispatcher: Send + Sync {
    /// The way to the card. Called once, before anything else.
    fn attach(&self, gate: Weak<dyn Gate>);

    /// Whether it decides anything at all. If not, doorbells go straight to the card.
    fn decides(&self) -> bool {
        true
    }

    /// A guest rang a doorbell. It waits meanwhile: this must not block.
    fn submit(&self, submission: Submission);

    /// The card's channel `chid` is no more, nor is its work.
    fn forget(&self, chid: u32);
}

/// What a channel is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has done all that the card knows of.
    Idle,
    /// It is on a PBDMA and goes on.
    Running,
    /// It has work but does not go on: it waits for a semaphore, for a PBDMA, or for its guest.
    Waiting,
}

/// What a dispatcher can do with the card.
pub trait Gate: Send + Sync {
    /// Gives a submission to the card, and with it all earlier ones of its channel; `false` if the
    /// channel is gone.
    fn ring(&self, submission: &Submission) -> bool;

    /// Index of the entry that channel `chid` takes next: a submission is done when this is its
    /// `put`.
    fn progress(&self, chid: u32) -> u32;

    /// What channel `chid` is doing.
    fn activity(&self, chid: u32) -> Activity;

    /// Channel `chid` keeps the card from others for too long: it is killed, and its guest told.
    fn expel(&self, chid: u32);

    /// By engine number, the card's channel that it works for.
    fn engines(&self) -> [Option<u32>; pfifo::ENGINES as usize];

    /// Lets a channel that its guest lets run do so, or holds it.
    fn hold(&self, chid: u32, held: bool);
}

/// Lets everybody have the card at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Dispatcher for Direct {
    fn attach(&self, _gate: Weak<dyn Gate>) {}

    fn decides(&self) -> bool {
        false
    }

    fn submit(&self, _submission: Submission) {}

    fn forget(&self, _chid: u32) {}
}
