//! What PFIFO and the engines behind it owe each other.
//!
//! A PBDMA thread owns an engine while it feeds it: PFIFO never calls one engine from two threads
//! at once. Register accesses arrive on other threads at any time and must not wait for a running
//! method, so an engine keeps the registers apart from its execution state.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::memory::FaultReport;

/// The engines, by the number that binds them to a subchannel.
///
/// Source: ENV `rnndb/fifo/gf100_pfifo.xml gf100_pfifo_engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EngineId {
    /// Graphics and compute.
    Graphics = 0,
    /// First copy engine.
    Copy0 = 4,
    /// Second copy engine.
    Copy1 = 5,
}

impl EngineId {
    /// The engine with number `id`; `None` for the video engines, which this card lacks, and for
    /// software (0x1f).
    pub const fn from_id(id: u32) -> Option<Self> {
        match id {
            0 => Some(EngineId::Graphics),
            4 => Some(EngineId::Copy0),
            5 => Some(EngineId::Copy1),
            _ => None,
        }
    }
}

/// A channel as an engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelRef {
    /// Channel number, 0-127.
    pub chid: u8,
    /// Physical address of its instance block in VRAM.
    pub instance: u64,
}

/// One method call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Subchannel, 0-7.
    pub subchannel: u8,
    /// Byte address of the method, a multiple of 4 below 0x4000. 0 binds a class.
    pub address: u16,
    /// Its argument.
    pub data: u32,
}

/// Why a method did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// [`Pause`] asked, and the work is parked in the engine: [`Engine::resume`] goes on with it
    /// once the channel is current again.
    Paused,
    /// An access of the method faulted. The fault goes to software through PFIFO; the rest of the
    /// method is lost and the engine takes nothing more from this channel until recovery.
    Fault(FaultReport),
    /// The engine raised its own interrupt and takes no method until software has acknowledged it
    /// ([`Engine::stalled`]). The method that trapped is done with.
    Trapped,
}

/// Asks a running job to stop soon: a channel switch, a kick, a reset.
#[derive(Debug, Default)]
pub struct Pause(AtomicBool);

impl Pause {
    /// Asks. Jobs look about once per 64 KiB copied or few thousand instructions executed.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Withdraws the request.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether to stop.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An engine as PFIFO drives it.
pub trait Engine: Send + Sync {
    /// Its number.
    fn id(&self) -> EngineId;

    /// Makes `channel` current: the old channel's context is saved, the new one's loaded. Cheap
    /// when it is current already.
    ///
    /// # Errors
    ///
    /// [`Stop::Fault`] when a context cannot be reached.
    fn switch_to(&self, channel: ChannelRef) -> Result<(), Stop>;

    /// Saves and drops the context of `channel` if it is current, with any parked work kept for
    /// its next turn.
    ///
    /// # Errors
    ///
    /// [`Stop::Fault`] when the context cannot be stored.
    fn evict(&self, channel: ChannelRef) -> Result<(), Stop>;

    /// Forgets everything about `channel`, parked work included: it is dead.
    fn discard(&self, channel: ChannelRef);

    /// Executes a method of the current channel.
    ///
    /// # Errors
    ///
    /// See [`Stop`].
    fn method(&self, method: Method, pause: &Pause) -> Result<(), Stop>;

    /// Goes on with work of the current channel that was paused.
    ///
    /// # Errors
    ///
    /// See [`Stop`].
    fn resume(&self, pause: &Pause) -> Result<(), Stop>;

    /// Waits for an acknowledgement of software before it takes another method.
    fn stalled(&self) -> bool;

    /// Back to power-on state; parked work is dropped.
    fn reset(&self);
}
