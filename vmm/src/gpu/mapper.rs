//! Stretches of BARs that lead straight to video memory, as memory slots: no exits.
//!
//! The device says which stretches there are ([`Mapper::remap`]); one gets a slot when accesses
//! have trapped in it several times, as a slot costs more than a few exits do. Whatever has no
//! slot traps and is served by the device, so that it does not matter which ones have.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use gpu_model::{Mapper, Piece};
use mmio::Bar;
use parking_lot::Mutex;
use tracing::debug;

use crate::memory_slots::MemorySlots;
use crate::metrics::{Counter, Metrics};
use crate::store_rings::StoreRings;
use crate::vm::{HostMemory, VmOps};

const PAGE: u64 = 0x1000;
/// Accesses that trap in a stretch before it gets a slot.
const HOT: u32 = 8;
/// Most slots of a BAR: the rest traps.
const MOST_SLOTS: usize = 512;

fn contains(piece: &Piece, offset: u64) -> bool {
    offset.wrapping_sub(piece.offset) < piece.len
}

/// Whether all of `part` is in `whole` and leads where that says.
fn covers(whole: &Piece, part: &Piece) -> bool {
    part.offset >= whole.offset
        && part.offset + part.len <= whole.offset + whole.len
        && part.vram.wrapping_sub(whole.vram) == part.offset - whole.offset
        && part.read_only == whole.read_only
}

/// Where video memory is in this process: `len` bytes at an address, if they are there in one
/// piece as long as the machine runs.
pub type VideoMemory = Box<dyn Fn(u64, u64) -> Option<u64> + Send + Sync>;

/// The directly mapped parts of one function's BARs.
pub struct SlotMapper {
    vm: Arc<dyn VmOps>,
    slots: Arc<MemorySlots>,
    memory: VideoMemory,
    /// Whether anybody asks what was stored.
    log_stores: bool,
    bars: [Side; 3],
    late: Mutex<Late>,
    /// Video memory that may have been stored to through slots which are gone.
    lost: Mutex<Vec<(u64, u64)>>,
    mapped: Counter,
    unmapped: Counter,
}

/// Stores to BAR0 that KVM collects.
#[derive(Default)]
struct Late {
    /// Where the guest placed the BAR.
    base: Option<u64>,
    /// Offsets in the BAR.
    runs: Vec<Range<u32>>,
    /// What KVM was told: addresses and bytes.
    collected: Vec<(u64, u32)>,
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
        contains(&found.0, offset).then_some(found)
    }

    fn is_cold(&self) -> bool {
        self.pieces
            .keys()
            .any(|offset| !self.slots.contains_key(offset))
    }
}

impl SlotMapper {
    /// Nothing is mapped yet in `vm`, whose slots are numbered by `slots`. With `log_stores`,
    /// [`Mapper::dirty`] is going to be called.
    pub fn new(
        vm: Arc<dyn VmOps>,
        slots: Arc<MemorySlots>,
        memory: VideoMemory,
        log_stores: bool,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            vm,
            slots,
            memory,
            log_stores,
            bars: Default::default(),
            late: Mutex::default(),
            lost: Mutex::default(),
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
        if bar == Bar::Bar0 {
            let mut late = self.late.lock();
            late.base = base;
            self.collect(&mut late);
        }
    }

    /// Tells KVM which stores to collect. What it has no room for exits, as before.
    fn collect(&self, late: &mut Late) {
        for (at, len) in late.collected.drain(..) {
            // It was collected, so that can end.
            let _ = self.vm.stop_collecting(at, len);
        }
        let Some(base) = late.base else { return };
        for run in &late.runs {
            let (at, len) = (base + u64::from(run.start), run.end - run.start);
            if let Err(error) = self.vm.collect_stores(at, len) {
                return debug!(%error, "not collected");
            }
            late.collected.push((at, len));
        }
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

    /// As [`Mapper::dirty`], by the rings of the machine. A slot that is gone meanwhile was told as
    /// lost.
    fn dirty_in(&self, rings: &StoreRings, found: &mut dyn FnMut(u64, u64)) {
        let mut stored = Vec::new();
        let whole = rings.take(&mut |page| stored.push(page)).is_err();
        if stored.is_empty() && !whole {
            return;
        }
        for side in &self.bars {
            let map = side.map.lock();
            for slot in map.slots.values().filter(|slot| slot.memory.log_stores) {
                let Piece { vram, len, .. } = slot.piece;
                if whole {
                    // Stores may have come without an entry.
                    found(vram, len);
                    continue;
                }
                // They are in order.
                let first = stored.partition_point(|&(number, _)| number < slot.number);
                let own = stored[first..].iter();
                for (_, page) in own.take_while(|(number, _)| *number == slot.number) {
                    if page * PAGE < len {
                        found(vram + page * PAGE, PAGE);
                    }
                }
            }
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
            log_stores: self.log_stores && !piece.read_only,
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
        if slot.memory.log_stores {
            // What is stored before the slot is gone is in no log any more. A guest can have it come
            // and go as often as it likes before anybody asks.
            let stretch = (slot.piece.vram, slot.piece.len);
            let mut lost = self.lost.lock();
            if !lost.contains(&stretch) {
                lost.push(stretch);
            }
        }
        match self.vm.remove_memory(slot.number, slot.memory) {
            Ok(()) => self.slots.give_back(slot.number),
            // The number stays taken: its slot is not known to be empty.
            Err(error) => tracing::warn!(%error, "a memory slot stays"),
        }
    }
}

impl Mapper for SlotMapper {
    fn remap(&self, bar: Bar, pieces: &[Piece]) {
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
            if !whole.is_some_and(|piece| covers(&piece, &slot.piece)) {
                self.unmap(&mut map, &slot);
            }
        }
        side.cold.store(map.is_cold(), Ordering::Release);
    }

    fn defer(&self, runs: &[Range<u32>]) {
        let mut late = self.late.lock();
        if late.runs != runs {
            late.runs = runs.to_vec();
            self.collect(&mut late);
        }
    }

    fn dirty(&self, found: &mut dyn FnMut(u64, u64)) {
        for (address, len) in std::mem::take(&mut *self.lost.lock()) {
            found(address, len);
        }
        if let Some(rings) = self.vm.store_rings() {
            return self.dirty_in(rings, found);
        }
        for side in &self.bars {
            let map = side.map.lock();
            for slot in map.slots.values().filter(|slot| slot.memory.log_stores) {
                match self.vm.stored_pages(slot.number, slot.memory) {
                    Ok(bits) => {
                        for page in pages(&bits) {
                            found(slot.piece.vram + page * PAGE, PAGE);
                        }
                    }
                    // It may have been stored to.
                    Err(_) => found(slot.piece.vram, slot.piece.len),
                }
            }
        }
    }
}

/// A mapper as long as its machine is there: what outlives the machine has this.
pub struct WhileThere(pub Weak<SlotMapper>);

impl Mapper for WhileThere {
    fn remap(&self, bar: Bar, pieces: &[Piece]) {
        if let Some(mapper) = self.0.upgrade() {
            mapper.remap(bar, pieces);
        }
    }

    fn defer(&self, runs: &[Range<u32>]) {
        if let Some(mapper) = self.0.upgrade() {
            mapper.defer(runs);
        }
    }

    fn dirty(&self, found: &mut dyn FnMut(u64, u64)) {
        if let Some(mapper) = self.0.upgrade() {
            mapper.dirty(found);
        }
    }
}

/// The numbers of the bits that are set.
fn pages(bits: &[u64]) -> impl Iterator<Item = u64> {
    let words = (0..).step_by(64).zip(bits).filter(|(_, word)| **word != 0);
    words.flat_map(|(first, word)| {
        let set = (0..64).filter(move |bit| word >> bit & 1 != 0);
        set.map(move |bit| first + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::testing::TestVm;

    const BASE: u64 = 0xd000_0000;
    const HOST: u64 = 0x7000_0000_0000;

    fn mapper() -> (Arc<TestVm>, Arc<SlotMapper>) {
        let vm = Arc::new(TestVm::default());
        let memory: VideoMemory = Box::new(|at, len| (at + len <= 1 << 20).then_some(HOST + at));
        let mapper = SlotMapper::new(
            vm.clone(),
            MemorySlots::from(5),
            memory,
            true,
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

    fn touch(mapper: &SlotMapper, offset: u64) {
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
    fn stores_are_told_once_also_those_before_a_slot_went() {
        let (vm, mapper) = mapper();
        let dirty = || {
            let mut all = Vec::new();
            mapper.dirty(&mut |address, len| all.push((address, len)));
            all
        };
        mapper.remap(Bar::Bar3, &[piece(0x2000, 0x3000, 0x8000)]);
        touch(&mapper, 0x2000);
        vm.0.lock().stored.insert(5, vec![0b101]);

        assert_eq!(dirty(), [(0x8000, PAGE), (0xa000, PAGE)]);
        assert_eq!(dirty(), []);
        mapper.remap(Bar::Bar3, &[]);
        assert_eq!(dirty(), [(0x8000, 0x3000)]);
    }

    #[test]
    fn slot_that_comes_and_goes_is_lost_once() {
        let (_vm, mapper) = mapper();
        mapper.remap(Bar::Bar3, &[piece(0, 0x1000, 0x8000)]);
        for _ in 0..3 {
            mapper.remap(Bar::Bar3, &[piece(0, 0x1000, 0x8000)]);
            touch(&mapper, 0);
            mapper.place(Bar::Bar3, Some(BASE));
        }

        assert_eq!(*mapper.lost.lock(), [(0x8000, 0x1000)]);
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
    fn stores_are_collected_where_the_bar_is_and_while_they_may_be_late() {
        let (vm, mapper) = mapper();
        let collected = || vm.0.lock().collected.clone();
        let runs = [0x100..0x200, 0x400..0x404];
        mapper.defer(&runs);
        assert_eq!(collected(), []);

        mapper.place(Bar::Bar0, Some(BASE));
        assert_eq!(collected(), [(BASE + 0x100, 0x100), (BASE + 0x400, 4)]);
        mapper.place(Bar::Bar0, Some(2 * BASE));
        assert_eq!(collected()[0], (2 * BASE + 0x100, 0x100));
        mapper.defer(&runs[1..]);
        assert_eq!(collected(), [(2 * BASE + 0x400, 4)]);
        mapper.place(Bar::Bar0, None);
        assert_eq!(collected(), []);
    }

    #[test]
    fn piece_beyond_video_memory_traps() {
        let (vm, mapper) = mapper();
        mapper.remap(Bar::Bar3, &[piece(0, 0x2000, (1 << 20) - 0x1000)]);

        touch(&mapper, 0);

        assert_eq!(mapped(&vm), []);
    }
}
