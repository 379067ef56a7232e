//! A channel's PBDMA state: in RAMFC while it rests, here while it is on a PBDMA.

use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use mmio::layout::pagetable::Aperture;
use mmio::layout::pushbuffer::{ENGINE_SOFTWARE, Semaphore};
use mmio::layout::{instance, userd};
use mmio::regs::pfifo;

use super::pusher::Pusher;
use super::state::Slot;
use crate::engine::{ChannelRef, Method};
use crate::memory::{Access, BusError, Memory, PhysAddr};
use crate::register_file::RegisterFile;

const WORDS: usize = instance::RAMFC_SIZE as usize / 4;
/// IB_FLAGS: the segment is not part of the main ring.
const NOT_MAIN: u32 = 1 << 3;
/// DMA_MGET_HI: it was ever set.
const MGET_VALID: u32 = 1 << 31;
/// What a driver's time slice can be at most: other channels want to live, too.
const LONGEST_SLICE: Duration = Duration::from_secs(1);
/// The time slice where RAMFC names none.
const DEFAULT_SLICE: Duration = Duration::from_millis(1);

/// A channel on a PBDMA.
pub struct Context {
    /// Which.
    pub channel: ChannelRef,
    /// Its row's count at the time.
    pub binding: u64,
    /// RAMFC as it was loaded; fields below take precedence.
    ramfc: [u32; WORDS],
    /// Its control page.
    pub userd: Option<PhysAddr>,
    /// The command at hand.
    pub pusher: Pusher,
    /// Index of the next entry of the indirect buffer.
    pub ib_get: u32,
    /// Index behind the last entry, as last read.
    pub ib_put: u32,
    /// Where the segment at hand goes on.
    pub get: u64,
    /// Where it ends.
    pub put: u64,
    /// The segment at hand is part of the main ring.
    pub main: bool,
    /// The last `get` in the main ring, with [`MGET_VALID`] in its high word.
    main_get: u64,
    /// The reference counter.
    pub reference: u32,
    /// Semaphore address.
    pub semaphore: u64,
    /// Semaphore sequence.
    pub sequence: u32,
    /// The last semaphore operation, with ACQUIRE_PENDING while it waits.
    pub operation: Semaphore,
    /// When a pending acquire times out, in units of 1024 ns.
    pub deadline: u32,
    /// Engine numbers of the subchannels.
    pub engines: [u8; 8],
    /// Engine number of the last method.
    pub current: u8,
    /// A method that is to be executed before the next word.
    pub cache: Option<Method>,
    /// Index of the engine with a job of the channel that was paused.
    pub paused: Option<usize>,
}

/// Whether RAMFC was ever set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// It was.
    Valid,
    /// It was not.
    Missing,
}

impl Context {
    /// Reads the state of `channel`, which is the `binding`th in its row of the channel table.
    ///
    /// # Errors
    ///
    /// There is no memory at its instance block.
    pub fn load(
        memory: &Memory,
        channel: ChannelRef,
        binding: u64,
    ) -> Result<(Self, Signature), BusError> {
        let mut bytes = [0; WORDS * 4];
        memory.read(channel.instance, &mut bytes)?;
        let mut ramfc = [0; WORDS];
        for (word, bytes) in ramfc.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let word = |offset: u64| ramfc[offset as usize / 4];
        let wide = |low, high| u64::from(word(high)) << 32 | u64::from(word(low));
        let userd = wide(instance::USERD, instance::USERD_HI);
        let cache = word(instance::CACHE_ADDR);
        let map = wide(
            instance::SUBCHANNEL_ENGINES,
            instance::SUBCHANNEL_ENGINES + 4,
        );
        let paused = word(instance::PAUSED_ENGINE);
        let context = Self {
            channel,
            binding,
            userd: Aperture::from_target(userd).map(|aperture| PhysAddr {
                aperture,
                address: userd & 0xff_ffff_f000,
            }),
            pusher: Pusher::load(
                word(instance::DMA_STATE_0),
                word(instance::DMA_STATE_1),
                word(instance::SLI),
            ),
            ib_get: word(instance::IB_GET),
            ib_put: word(instance::IB_PUT),
            get: wide(instance::DMA_GET, instance::DMA_GET_HI),
            put: wide(instance::DMA_PUT, instance::DMA_PUT_HI),
            main: word(instance::IB_FLAGS) & NOT_MAIN == 0,
            main_get: wide(instance::DMA_MGET, instance::DMA_MGET_HI),
            reference: word(instance::REF_CNT),
            semaphore: wide(instance::SEMAPHORE_ADDRESS, instance::SEMAPHORE_ADDRESS_HI),
            sequence: word(instance::SEMAPHORE_SEQUENCE),
            operation: Semaphore::from_bits_retain(word(instance::SEMAPHORE_STATE)),
            deadline: word(instance::ACQUIRE_DEADLINE),
            engines: map.to_le_bytes().map(|engine| engine & ENGINE_SOFTWARE),
            current: word(instance::CURRENT_ENGINE) as u8 & ENGINE_SOFTWARE,
            cache: method_of(cache, word(instance::CACHE_DATA)),
            paused: (paused as usize).checked_sub(1),
            ramfc,
        };
        let signature = match word(instance::SIGNATURE) as u16 {
            sig if u32::from(sig) == instance::SIGNATURE_VALUE => Signature::Valid,
            _ => Signature::Missing,
        };
        Ok((context, signature))
    }

    /// Whether it is what `slot` says.
    pub fn is_in(&self, slot: &Slot) -> bool {
        slot.channel == Some(self.channel) && slot.binding == self.binding
    }

    /// Writes the state back.
    pub fn save(&self, memory: &Memory) {
        let mut ramfc = self.ramfc;
        let mut set = |offset: u64, value: u32| ramfc[offset as usize / 4] = value;
        let [state_0, state_1, sli] = self.pusher.save(
            self.word(instance::DMA_STATE_0),
            self.word(instance::DMA_STATE_1),
        );
        set(instance::DMA_STATE_0, state_0);
        set(instance::DMA_STATE_1, state_1);
        set(instance::SLI, sli);
        for (offset, value) in self.pointers() {
            set(offset, value);
        }
        let flags = self.word(instance::IB_FLAGS) & !NOT_MAIN;
        set(
            instance::IB_FLAGS,
            flags | if self.main { 0 } else { NOT_MAIN },
        );
        set(instance::ACQUIRE_DEADLINE, self.deadline);
        let map = u64::from_le_bytes(self.engines);
        set(instance::SUBCHANNEL_ENGINES, map as u32);
        set(instance::SUBCHANNEL_ENGINES + 4, (map >> 32) as u32);
        set(instance::CURRENT_ENGINE, self.current.into());
        let (addr, data) = self.cache.map_or((0, 0), words_of);
        set(instance::CACHE_ADDR, addr);
        set(instance::CACHE_DATA, data);
        set(
            instance::PAUSED_ENGINE,
            self.paused.map_or(0, |engine| engine as u32 + 1),
        );
        let mut bytes = [0; WORDS * 4];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(ramfc) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        // It was read from there; if the memory has gone, so has the channel.
        let _ = memory.write(self.channel.instance, &bytes);
    }

    /// Shows how far the channel is to its owner.
    pub fn publish(&mut self, memory: &Memory) {
        if self.main {
            self.main_get = self.get | u64::from(MGET_VALID) << 32;
        }
        let Some(userd) = self.userd else { return };
        let guard = memory.enter();
        let Ok(page) = memory.span(&guard, userd, Access::Write) else {
            return;
        };
        // What the channel has done is visible before its progress is.
        fence(Ordering::Release);
        let set = |offset: u64, value: u32| {
            // A page that is cut short by the end of memory shows less.
            let _ = page.store(offset as usize, value);
        };
        set(userd::PUT, self.put as u32);
        set(userd::PUT_HI, (self.put >> 32) as u32);
        set(userd::GET_HI, (self.get >> 32) as u32);
        set(userd::GET, self.get as u32);
        set(userd::REF_CNT, self.reference);
        set(userd::TOP_LEVEL_GET, self.main_get as u32);
        set(userd::TOP_LEVEL_GET_HI, (self.main_get >> 32) as u32);
        set(userd::GP_GET, self.ib_get);
    }

    /// Shows the channel in the registers of PBDMA `pbdma`.
    pub fn show(&self, file: &RegisterFile, pbdma: usize) {
        let base = pfifo::PBDMA_IB_PUT.offset() + super::PBDMA_STRIDE * pbdma as u32;
        for (offset, value) in self.pointers() {
            file.write(base + offset as u32, value);
        }
    }

    /// The words of RAMFC that are positions and semaphores.
    fn pointers(&self) -> [(u64, u32); 13] {
        let high = |address: u64| (address >> 32) as u32;
        [
            (instance::IB_PUT, self.ib_put),
            (instance::IB_GET, self.ib_get),
            (instance::DMA_GET, self.get as u32),
            (instance::DMA_GET_HI, high(self.get)),
            (instance::DMA_PUT, self.put as u32),
            (instance::DMA_PUT_HI, high(self.put)),
            (instance::DMA_MGET, self.main_get as u32),
            (instance::DMA_MGET_HI, high(self.main_get)),
            (instance::REF_CNT, self.reference),
            (instance::SEMAPHORE_ADDRESS_HI, high(self.semaphore)),
            (instance::SEMAPHORE_ADDRESS, self.semaphore as u32),
            (instance::SEMAPHORE_SEQUENCE, self.sequence),
            (instance::SEMAPHORE_STATE, self.operation.bits()),
        ]
    }

    /// Virtual address of entry `index` of the indirect buffer.
    pub fn entry(&self, index: u32) -> u64 {
        let high = u64::from(self.word(instance::GP_BASE_HI) & 0xff) << 32;
        let base = high | u64::from(self.word(instance::GP_BASE));
        base.wrapping_add(u64::from(index) * 8)
    }

    /// Entries of the indirect buffer less one.
    pub fn entry_mask(&self) -> u32 {
        let order = (self.word(instance::GP_BASE_HI) >> 16 & 0x1f).min(28);
        (1 << order) - 1
    }

    /// How long it may have a PBDMA or engine that others wait for.
    pub fn slice(&self) -> Duration {
        let slice = |word: u32| {
            let units = u64::from(word & 0xff) << (word >> 12 & 0xf);
            let enabled = word & 1 << 28 != 0 && units != 0;
            enabled.then(|| Duration::from_nanos(units * 1024))
        };
        slice(self.word(instance::PB_TIMESLICE))
            .max(slice(self.word(instance::ENG_TIMESLICE)))
            .unwrap_or(DEFAULT_SLICE)
            .min(LONGEST_SLICE)
    }

    /// How long an acquire may wait, in units of 1024 ns.
    pub fn acquire_timeout(&self) -> Option<u32> {
        let word = self.word(instance::ACQUIRE);
        (word & 1 << 31 != 0).then(|| (word >> 15 & 0xffff) << (word >> 11 & 0xf))
    }

    fn word(&self, offset: u64) -> u32 {
        self.ramfc[offset as usize / 4]
    }
}

/// The method that a CACHE register pair holds.
pub fn method_of(addr: u32, data: u32) -> Option<Method> {
    (addr & pfifo::CACHE_VALID != 0).then_some(Method {
        subchannel: (addr >> 16 & 7) as u8,
        address: (addr & 0x3ffc) as u16,
        data,
    })
}

/// The CACHE register pair that holds `method`.
pub fn words_of(method: Method) -> (u32, u32) {
    let addr = u32::from(method.subchannel) << 16 | u32::from(method.address);
    (pfifo::CACHE_VALID | addr, method.data)
}
