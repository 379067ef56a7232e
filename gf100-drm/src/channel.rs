//! A channel: its instance block, its ring, and the fences that tell how far it is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gf100::memory::PhysAddr;
use mmio::layout::pushbuffer::{Header, IbEntry, Mode, Semaphore, method};
use mmio::layout::{instance, userd};
use parking_lot::Mutex;

use crate::buffer::Buffer;
use crate::device::Device;
use crate::error::Error;
use crate::memory::{AddressSpace, Block, Mapped};

/// log2 of the ring's entries.
const RING_ORDER: u32 = 11;
/// The ring's entries.
const RING_ENTRIES: u32 = 1 << RING_ORDER;
/// Bytes of the commands of a fence, one place per entry of the ring.
const FENCE_BYTES: u64 = 32;
/// Bytes of a copy engine's context.
const COPY_CONTEXT: u64 = 0x1000;

/// What the driver keeps for a channel in the channel's address space, by offset.
mod own {
    use super::{COPY_CONTEXT, FENCE_BYTES, IbEntry, RING_ENTRIES};

    /// The ring.
    pub const RING: u64 = 0;
    /// Commands of fences.
    pub const COMMANDS: u64 = RING + RING_ENTRIES as u64 * IbEntry::SIZE;
    /// Contexts of the copy engines.
    pub const COPY_CONTEXTS: u64 = COMMANDS + RING_ENTRIES as u64 * FENCE_BYTES;
    /// The context of PGRAPH, to the end.
    pub const GRAPHICS: u64 = COPY_CONTEXTS + 2 * COPY_CONTEXT;
}

/// A segment of commands to execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// Fetch it only when all before it has executed.
    pub no_prefetch: bool,
}

/// A channel.
pub struct Channel {
    device: Arc<Device>,
    chid: u32,
    instance: Block,
    own: Mapped,
    fence: Mapped,
    ring: Mutex<Ring>,
    died: OnceLock<String>,
    closed: AtomicBool,
}

struct Ring {
    put: u32,
    /// The last fence that was submitted.
    sequence: u32,
    /// Submissions that are not done.
    pending: VecDeque<Pending>,
    /// When the first of them got its turn.
    since: Instant,
}

struct Pending {
    sequence: u32,
    /// What it uses must not go away before.
    _buffers: Vec<Arc<Buffer>>,
}

impl Channel {
    /// Makes channel number `chid` in an address space; it is not on the card yet.
    ///
    /// # Errors
    ///
    /// Memory has run out.
    pub fn new(device: &Arc<Device>, space: &Arc<AddressSpace>, chid: u32) -> Result<Self, Error> {
        let block = |heap: &Arc<crate::memory::Heap>, size| {
            heap.take(size, 1).map(Arc::new).ok_or(Error::NoMemory)
        };
        let own = block(&device.vram, own::GRAPHICS + device.context_size())?;
        let own = space.map(own, 0, 1)?;
        let fence = space.map(block(&device.gart, FENCE_BYTES)?, 0, 1)?;
        let instance = device.vram.take(instance::SIZE, 1).ok_or(Error::NoMemory)?;
        let channel = Self {
            device: device.clone(),
            chid,
            instance,
            own,
            fence,
            ring: Mutex::new(Ring {
                put: 0,
                sequence: 0,
                pending: VecDeque::new(),
                since: Instant::now(),
            }),
            died: OnceLock::new(),
            closed: AtomicBool::new(false),
        };
        channel.fill_instance(space.directory());
        Ok(channel)
    }

    /// Source: K61 `nvkm/engine/fifo/gpfifogf100.c gf100_fifo_gpfifo_new`,
    /// `gf100_fifo_gpfifo_engine_init`.
    fn fill_instance(&self, directory: PhysAddr) {
        let control = self.device.control_page(self.chid);
        let address = |offset: u64| self.own.va() + offset;
        let ring = address(own::RING);
        for (offset, value) in [
            (instance::USERD, control as u32),
            (instance::USERD_HI, (control >> 32) as u32),
            (instance::SIGNATURE, instance::SIGNATURE_VALUE),
            (instance::ACQUIRE, 0xffff_f902),
            (instance::GP_BASE, ring as u32),
            (instance::GP_BASE_HI, (ring >> 32) as u32 | RING_ORDER << 16),
            (0x54, 2),
            (instance::DMA_STATE_0, 0x2040_0000),
            (instance::SLI, 0x3000_0001),
            (0x9c, 0x100),
            (instance::SUBCHANNEL_ENGINES, 0x1f1f_1f1f),
            (instance::SUBCHANNEL_ENGINES + 4, 0x1f1f_1f1f),
            (instance::CURRENT_ENGINE, 0x1f),
            (0xb8, 0xf800_0000),
            (instance::PB_TIMESLICE, 0x1000_3080),
            (instance::ENG_TIMESLICE, 0x1000_0010),
        ] {
            self.instance.store(offset, value);
        }
        let contexts = address(own::COPY_CONTEXTS);
        for (offset, value) in [
            (instance::PAGE_DIR_BASE, directory.address),
            (instance::ADDR_LIMIT, (1 << 40) - 1),
            (instance::GR_CONTEXT, address(own::GRAPHICS) | 4),
            (instance::CE0_CONTEXT, contexts | 4),
            (instance::CE1_CONTEXT, (contexts + COPY_CONTEXT) | 4),
        ] {
            self.instance.store_wide(offset, value);
        }
    }

    /// Its number.
    pub fn chid(&self) -> u32 {
        self.chid
    }

    /// Its instance block.
    pub fn instance(&self) -> PhysAddr {
        self.instance.at()
    }

    /// Nothing has killed it.
    pub fn is_alive(&self) -> bool {
        self.died.get().is_none()
    }

    /// Why it was killed.
    pub fn cause_of_death(&self) -> Option<&str> {
        self.died.get().map(String::as_str)
    }

    /// It runs no more; `false` if it did not anyway.
    pub fn die(&self, why: &str) -> bool {
        self.died.set(why.to_owned()).is_ok()
    }

    /// Executes `segments` one after the other; the fence that then passes. `buffers` stay where
    /// they are until it has.
    ///
    /// # Errors
    ///
    /// The channel is dead.
    pub fn submit(&self, segments: &[Segment], buffers: Vec<Arc<Buffer>>) -> Result<u32, Error> {
        let mut ring = self.ring.lock();
        self.retire(&mut ring);
        if ring.pending.is_empty() {
            ring.since = Instant::now();
        }
        for segment in segments.iter().filter(|segment| segment.length >= 4) {
            let entry = IbEntry::new(segment.address, (segment.length / 4) as u32);
            let entry = match segment.no_prefetch {
                true => entry.no_prefetch(),
                false => entry,
            };
            self.append(&mut ring, entry)?;
        }
        ring.sequence = ring.sequence.wrapping_add(1);
        let sequence = ring.sequence;
        let commands = own::COMMANDS + u64::from(ring.put) * FENCE_BYTES;
        let words = self.fence_commands(sequence);
        for (at, word) in (commands..).step_by(4).zip(words) {
            self.own.block().store(at, word);
        }
        let entry = IbEntry::new(self.own.va() + commands, words.len() as u32);
        self.append(&mut ring, entry)?;
        ring.pending.push_back(Pending {
            sequence,
            _buffers: buffers,
        });
        self.device.ring(self.chid, ring.put);
        Ok(sequence)
    }

    /// Releases the fence when all engines are done, and interrupts.
    fn fence_commands(&self, sequence: u32) -> [u32; 6] {
        let release = Semaphore::RELEASE | Semaphore::RELEASE_SHORT;
        [
            Header::encode(Mode::Increasing, 0, method::SEMAPHORE_ADDRESS_HIGH, 4),
            (self.fence.va() >> 32) as u32,
            self.fence.va() as u32,
            sequence,
            release.bits(),
            Header::encode_immediate(0, method::NOTIFY_INTR, 0),
        ]
    }

    /// Puts an entry into the ring, as soon as there is room.
    fn append(&self, ring: &mut Ring, entry: IbEntry) -> Result<(), Error> {
        let next = (ring.put + 1) % RING_ENTRIES;
        while self.device.control(self.chid, userd::GP_GET) == next {
            if !self.is_alive() {
                return Err(Error::Dead);
            }
            self.device.ring(self.chid, ring.put);
            std::thread::sleep(Duration::from_micros(50));
        }
        if !self.is_alive() {
            return Err(Error::Dead);
        }
        let at = own::RING + u64::from(ring.put) * IbEntry::SIZE;
        self.own.block().store_wide(at, entry.0);
        ring.put = next;
        Ok(())
    }

    /// Whether a fence has passed. All fences of a dead channel have.
    pub fn passed(&self, sequence: u32) -> bool {
        let done = self.fence.block().load(0);
        done.wrapping_sub(sequence) as i32 >= 0 || !self.is_alive()
    }

    /// Waits for a fence.
    ///
    /// # Errors
    ///
    /// The channel died before.
    pub fn wait(&self, sequence: u32) -> Result<(), Error> {
        while !self.passed(sequence) {
            let seen = self.device.events.count();
            self.device.listen();
            if !self.passed(sequence) {
                self.device.events.wait(seen, Duration::from_millis(100));
            }
        }
        match self.is_alive() {
            true => Ok(()),
            false => Err(Error::Dead),
        }
    }

    /// Waits until everything that was submitted is done.
    ///
    /// # Errors
    ///
    /// The channel died before.
    pub fn idle(&self) -> Result<(), Error> {
        let sequence = self.ring.lock().sequence;
        self.wait(sequence)
    }

    /// Takes it off the card once it is idle.
    pub fn close(&self) {
        // A dead channel is idle, too.
        let _ = self.idle();
        self.device.remove_channel(self.chid);
        self.closed.store(true, Ordering::Release);
    }

    /// It is off the card: whoever still has it, as the driver's thread may for a moment, has
    /// nothing to wait for.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Something that was submitted is not done.
    pub fn is_busy(&self) -> bool {
        let sequence = self.ring.lock().sequence;
        !self.passed(sequence)
    }

    /// For how long the card has been at work on the same submission.
    pub fn stuck_for(&self) -> Duration {
        let mut ring = self.ring.lock();
        self.retire(&mut ring);
        match ring.pending.is_empty() || !self.is_alive() {
            true => Duration::ZERO,
            false => ring.since.elapsed(),
        }
    }

    /// Lets go of what submissions that are done used.
    fn retire(&self, ring: &mut Ring) {
        while let Some(first) = ring.pending.front()
            && self.passed(first.sequence)
        {
            ring.pending.pop_front();
            ring.since = Instant::now();
        }
    }
}
