//! Stretches of BARs that lead straight to video memory, as memory slots: no exits.
//!
//! The device says which stretches there are ([`Mapper::remap`]); one gets a slot when accesses
//! have trapped in it several times, as a slot costs more than a few exits do. Whatever has no
//! slot traps and is served by the device, so that it does not matter which ones have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mmio::Bar;
use parking_lot::Mutex;
use tracing::debug;

use crate::memory_slots::MemorySlots;
use crate::metrics::{Counter, Metrics};
use crate::vm::{HostMemory, VmOps};

/// Accesses that trap in a stretch before it gets a slot.
const HOT: u32 = 8;
/// Most slots of a BAR: the rest traps.
const MOST_SLOTS: usize = 512;

/// A stretch of a BAR that leads to one stretch of video memory; both are of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the BAR.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
    /// Where it leads in the card's video memory.
    pub vram: u64,
    /// Stores have to trap.
    pub read_only: bool,
}

impl Piece {
    fn contains(&self, offset: u64) -> bool {
        offset.wrapping_sub(self.offset) < self.len
    }

    /// Whether all of `other` is in this piece and leads where this one says.
    fn covers(&self, other: &Piece) -> bool {
        other.offset >= self.offset
            && other.offset + other.len <= self.offset + self.len
            && other.vram.wrapping_sub(self.vram) == other.offset - self.offset
            && other.read_only == self.read_only
    }
}

/// Where video memory is in this process: `len` bytes at an address, if they are there in one
/// piece as long as the machine runs.
pub type VideoMemory = Box<dyn Fn(u64, u64) -> Option<u64> + Send + Sync>;

/// The directly mapped parts of one function's BARs.
pub struct Mapper {
    vm: Arc<dyn VmOps>,
    slots: Arc<MemorySlots>,
    memory: VideoMemory,
    bars: [Side; 3],
    mapped: Counter,
    unmapped: Counter,
}

/// A BAR.
#[derive(Default)]
struct Side {
    /// Whether there is any piece without a slot: looked at without the lock.
    cold: AtomicBool,
    map: Mutex<Map>,
}

#[derive(Default)]
struct Map {
    /// Where the guest placed the BAR.
    base: Option<u64>,
    /// By offset, with the accesses that trapped there.
    pieces: BTreeMap<u64, (Piece, u32)>,
    /// By offset.
    slots: BTreeMap<u64, Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    piece: Piece,
    number: u32,
    memory: HostMemory,
}

impl Map {
    fn piece_at(&mut self, offset: u64) -> Option<&mut (Piece, u32)> {
        let (_, found) = self.pieces.range_mut(..=offset).next_back()?;
        found.0.contains(offset).then_some(found)
    }

    fn is_cold(&self) -> bool {
        self.pieces
            .keys()
            .any(|offset| !self.slots.contains_key(offset))
    }
}

impl Mapper {
    /// Nothing is mapped yet in `vm`, whose slots are numbered by `slots`.
    pub fn new(
        vm: Arc<dyn VmOps>,
        slots: Arc<MemorySlots>,
        memory: VideoMemory,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            vm,
            slots,
            memory,
            bars: Default::default(),
            mapped: metrics.counter("memory_slots_added_total", &[]),
            unmapped: metrics.counter("memory_slots_removed_total", &[]),
        })
    }

    fn side(&self, bar: Bar) -> Option<&Side> {
        match bar {
            Bar::Bar0 => Some(&self.bars[0]),
            Bar::Bar1 => Some(&self.bars[1]),
            Bar::Bar3 => Some(&self.bars[2]),
            Bar::Bar5 => None,
        }
    }

    /// From now on exactly `pieces` of `bar` may be mapped; in force on return. They do not
    /// overlap.
    pub fn remap(&self, bar: Bar, pieces: &[Piece]) {
        let Some(side) = self.side(bar) else { return };
        let mut map = side.map.lock();
        let before = std::mem::take(&mut map.pieces);
        for piece in pieces {
            let heat = before.get(&piece.offset).map_or(0, |(_, heat)| *heat);
            map.pieces.insert(piece.offset, (*piece, heat.min(HOT - 1)));
        }
        let slots: Vec<Slot> = map.slots.values().copied().collect();
        for slot in slots {
            let whole = map.piece_at(slot.piece.offset).map(|(piece, _)| *piece);
            if !whole.is_some_and(|piece| piece.covers(&slot.piece)) {
                self.unmap(&mut map, &slot);
            }
        }
        side.cold.store(map.is_cold(), Ordering::Release);
    }

    /// The guest placed `bar` at a guest-physical address, or decodes it no more.
    pub fn place(&self, bar: Bar, base: Option<u64>) {
        let Some(side) = self.side(bar) else { return };
        let mut map = side.map.lock();
        let slots: Vec<Slot> = map.slots.values().copied().collect();
        for slot in slots {
            self.unmap(&mut map, &slot);
        }
        map.base = base;
        side.cold.store(map.is_cold(), Ordering::Release);
    }

    /// An access at `offset` of `bar` trapped.
    #[inline]
    pub fn trapped(&self, bar: Bar, offset: u64) {
        if let Some(side) = self.side(bar)
            && side.cold.load(Ordering::Acquire)
        {
            self.heat(side, offset);
        }
    }

    fn heat(&self, side: &Side, offset: u64) {
        let mut map = side.map.lock();
        let Some((piece, heat)) = map.piece_at(offset) else {
            return;
        };
        *heat += 1;
        let piece = *piece;
        if *heat == HOT {
            self.map(&mut map, piece);
            side.cold.store(map.is_cold(), Ordering::Release);
        }
    }

    fn map(&self, map: &mut Map, piece: Piece) {
        let inside: Vec<Slot> = map
            .slots
            .range(piece.offset..piece.offset + piece.len)
            .map(|(_, slot)| *slot)
            .collect();
        for slot in inside {
            self.unmap(map, &slot);
        }
        let (Some(base), Some(host)) = (map.base, (self.memory)(piece.vram, piece.len)) else {
            return;
        };
        if map.slots.len() >= MOST_SLOTS {
            return;
        }
        let memory = HostMemory {
            guest: base + piece.offset,
            len: piece.len,
            host,
            read_only: piece.read_only,
        };
        let number = self.slots.take();
        match self.vm.add_memory(number, memory) {
            Ok(()) => {
                let slot = Slot {
                    piece,
                    number,
                    memory,
                };
                map.slots.insert(piece.offset, slot);
                self.mapped.increment();
            }
            Err(error) => {
                // A guest may have placed its BAR over something else; it traps, as before.
                debug!(?piece, %error, "not mapped");
                self.slots.give_back(number);
            }
        }
    }

    fn unmap(&self, map: &mut Map, slot: &Slot) {
        map.slots.remove(&slot.piece.offset);
        self.unmapped.increment();
        match self.vm.remove_memory(slot.number, slot.memory) {
            Ok(()) => self.slots.give_back(slot.number),
            // The number stays taken: its slot is not known to be empty.
            Err(error) => tracing::warn!(%error, "a memory slot stays"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::testing::TestVm;

    const BASE: u64 = 0xd000_0000;
    const HOST: u64 = 0x7000_0000_0000;

    fn mapper() -> (Arc<TestVm>, Arc<Mapper>) {
        let vm = Arc::new(TestVm::default());
        let memory: VideoMemory = Box::new(|at, len| (at + len <= 1 << 20).then_some(HOST + at));
        let mapper = Mapper::new(
            vm.clone(),
            MemorySlots::from(5),
            memory,
            &Metrics::default(),
        );
        mapper.place(Bar::Bar3, Some(BASE));
        (vm, mapper)
    }

    fn piece(offset: u64, len: u64, vram: u64) -> Piece {
        Piece {
            offset,
            len,
            vram,
            read_only: false,
        }
    }

    fn touch(mapper: &Mapper, offset: u64) {
        for _ in 0..HOT {
            mapper.trapped(Bar::Bar3, offset);
        }
    }

    fn mapped(vm: &TestVm) -> Vec<(u64, u64, u64)> {
        let mut all: Vec<_> =
            vm.0.lock()
                .memory
                .values()
                .map(|memory| (memory.guest - BASE, memory.len, memory.host - HOST))
                .collect();
        all.sort();
        all
    }

    #[test]
    fn piece_gets_a_slot_when_it_is_hot() {
        let (vm, mapper) = mapper();
        mapper.remap(
            Bar::Bar3,
            &[piece(0x2000, 0x3000, 0x8000), piece(0, 0x1000, 0)],
        );

        for _ in 1..HOT {
            mapper.trapped(Bar::Bar3, 0x4ffc);
        }
        assert_eq!(mapped(&vm), []);
        mapper.trapped(Bar::Bar3, 0x2000);

        assert_eq!(mapped(&vm), [(0x2000, 0x3000, 0x8000)]);
        touch(&mapper, 0x1000);
        touch(&mapper, 0x5000);
        assert_eq!(mapped(&vm).len(), 1);
    }

    #[test]
    fn slot_stays_while_its_piece_grows_and_goes_when_it_leads_elsewhere() {
        let (vm, mapper) = mapper();
        mapper.remap(Bar::Bar3, &[piece(0x2000, 0x1000, 0x8000)]);
        touch(&mapper, 0x2000);

        mapper.remap(Bar::Bar3, &[piece(0x1000, 0x3000, 0x7000)]);
        assert_eq!(mapped(&vm), [(0x2000, 0x1000, 0x8000)]);
        touch(&mapper, 0x1000);
        assert_eq!(mapped(&vm), [(0x1000, 0x3000, 0x7000)]);

        mapper.remap(Bar::Bar3, &[piece(0x1000, 0x3000, 0x6000)]);
        assert_eq!(mapped(&vm), []);
    }

    #[test]
    fn page_that_has_to_trap_splits_a_slot_at_once() {
        let (vm, mapper) = mapper();
        mapper.remap(Bar::Bar3, &[piece(0, 0x3000, 0x8000)]);
        touch(&mapper, 0);

        let halves = [piece(0, 0x1000, 0x8000), piece(0x2000, 0x1000, 0xa000)];
        mapper.remap(Bar::Bar3, &halves);

        assert_eq!(mapped(&vm), []);
        touch(&mapper, 0x2000);
        assert_eq!(mapped(&vm), [(0x2000, 0x1000, 0xa000)]);
    }

    #[test]
    fn bar_that_moves_leaves_no_slot_behind() {
        let (vm, mapper) = mapper();
        mapper.remap(Bar::Bar3, &[piece(0, 0x1000, 0)]);
        touch(&mapper, 0);

        mapper.place(Bar::Bar3, None);
        assert_eq!(mapped(&vm), []);
        touch(&mapper, 0);
        assert_eq!(mapped(&vm), []);
    }

    #[test]
    fn piece_beyond_video_memory_traps() {
        let (vm, mapper) = mapper();
        mapper.remap(Bar::Bar3, &[piece(0, 0x2000, (1 << 20) - 0x1000)]);

        touch(&mapper, 0);

        assert_eq!(mapped(&vm), []);
    }
}
