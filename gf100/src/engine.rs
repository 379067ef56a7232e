//! What PFIFO and the engines behind it owe each other.
//!
//! A PBDMA thread owns an engine while it feeds it: PFIFO never calls one engine from two threads
//! at once. Register accesses arrive on other threads at any time and must not wait for a running
//! method, so an engine keeps the registers apart from its execution state.
//!
//! The reset of an engine is such a register access (its [`Block::reset`](crate::block::Block)):
//! the registers go to power-on state at once, a running job ends at its next look at
//! [`Pause`] or so, and contexts and parked work are dropped before the next call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::memory::{FaultReport, PhysAddr};

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
    /// Its instance block.
    pub instance: PhysAddr,
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

/// Method calls of a subchannel, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Calls<'a> {
    /// Subchannel, 0-7.
    pub subchannel: u8,
    /// Byte address of the first method.
    pub address: u16,
    /// Bytes from each method to the next: 4, or 0 for the same one.
    pub step: u16,
    /// Their arguments.
    pub data: &'a [u32],
}

impl<'a> Calls<'a> {
    /// Method addresses wrap here.
    pub const ADDRESSES: u16 = 0x4000;

    /// The first.
    pub fn first(self) -> Option<Method> {
        Some(Method {
            subchannel: self.subchannel,
            address: self.address,
            data: *self.data.first()?,
        })
    }

    /// All but the first `count`, of which there are as many.
    pub fn skip(self, count: usize) -> Self {
        Self {
            address: self.address.wrapping_add(self.step * count as u16) % Self::ADDRESSES,
            data: &self.data[count..],
            ..self
        }
    }

    /// The first `count`, of which there are as many.
    pub fn take(self, count: usize) -> Self {
        Self {
            data: &self.data[..count],
            ..self
        }
    }
}

/// Why a method did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// [`Pause`] asked, and the work is parked in the engine: [`Engine::resume`] goes on with it
    /// once the channel is current again. Work that is started with the request already there is
    /// parked before its first step.
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

/// How an engine tells PFIFO that something it waits for has happened: software acknowledged the
/// interrupt of an engine that was [`Engine::stalled`], or reset it.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes PFIFO. Call it without holding a lock that a method of [`Engine`] takes.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// An engine as PFIFO drives it.
pub trait Engine: Send + Sync {
    /// Its number.
    fn id(&self) -> EngineId;

    /// Takes the waker of the PFIFO that will drive it; called once, before anything else.
    fn connect(&self, waker: Waker);

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

    /// Executes methods of the current channel until one of them stops; how many were executed,
    /// the one that stopped included.
    ///
    /// # Errors
    ///
    /// See [`Stop`].
    fn methods(&self, calls: Calls<'_>, pause: &Pause) -> (usize, Result<(), Stop>) {
        let mut rest = calls;
        while let Some(method) = rest.first() {
            rest = rest.skip(1);
            if let Err(stop) = self.method(method, pause) {
                return (calls.data.len() - rest.data.len(), Err(stop));
            }
        }
        (calls.data.len(), Ok(()))
    }

    /// Goes on with work of the current channel that was paused; nothing if there is none, as
    /// after a reset.
    ///
    /// # Errors
    ///
    /// See [`Stop`].
    fn resume(&self, pause: &Pause) -> Result<(), Stop>;

    /// Waits for an acknowledgement of software before it takes another method. Answers at once,
    /// from any thread; when it changes to `false` the engine calls [`Waker::wake`].
    fn stalled(&self) -> bool;
}
