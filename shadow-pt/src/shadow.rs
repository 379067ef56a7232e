//! One address space's shadow: the directory, and the tables that it leads to.

use std::collections::HashMap;
use std::mem;

use mmio::layout::pagetable::{
    Aperture, ENTRY_SIZE, Geometry, LARGE_SHIFT, PDE_COUNT, Pde, SMALL_SHIFT, TablePointer,
};

use crate::part::{Source, read_words};
use crate::pool::Block;
use crate::table::{CHUNK, Differences, Table, TableKey, WrittenPages, what_is_there, words};
use crate::{CardTables, Epoch, GuestAddress, GuestTables, PoolExhausted, Report, Retired};
use crate::{TablePool, Translation, WriteTracker};

/// How a sync finds what the guest changed.
///
/// All leave the same shadow behind, and may take turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// As GPUvm was published: the whole directory and each table it leads to, word by word, and
    /// everything written anew.
    Naive,
    /// The same in blocks.
    Bulk,
    /// Blocks of the pages that the tracker names, compared to what was there at the last sync;
    /// only differences are written.
    #[default]
    Incremental,
}

/// What a sync works with: all that belongs to one VM.
pub struct Vm<'a, M: ?Sized> {
    /// The guest's and the card's memory.
    pub memory: &'a mut M,
    /// Where the VM's memory is.
    pub policy: &'a Translation,
    /// The size of large pages that the guest set.
    pub geometry: Geometry,
    /// Where its shadow tables go.
    pub pool: &'a mut TablePool,
    /// Which pages [`Algorithm::Incremental`] need not read.
    pub tracker: &'a dyn WriteTracker,
}

/// No table.
const NONE: u32 = u32::MAX;
/// The indices of a slot, and log2 of the card's pages.
const LARGE: usize = 0;
const SMALL: usize = 1;
const SHIFTS: [u32; 2] = [LARGE_SHIFT, SMALL_SHIFT];

/// Most directory entries of a guest for what one of the card's covers.
const MOST_TOGETHER: usize = 2;

/// The shadow of one address space: of one page directory of the guest, for all channels that use
/// it.
///
/// The card has one size of large pages for all, 128 KiB, whatever a guest sets. A guest with large
/// pages of 64 KiB has directory entries that cover half as much: the card's shows the tables of two
/// of them as one table of small pages.
#[derive(Debug)]
pub struct Shadow {
    guest: GuestAddress,
    /// What the guest had set when its tables were last read.
    geometry: Geometry,
    /// The guest's directory entries for what one of the card's covers.
    together: usize,
    directory: Block,
    /// The guest's directory as last read; 0 where the pool was exhausted.
    seen: Box<[u64]>,
    /// Entries of it that are in the VM's memory.
    readable: usize,
    /// By directory entry of the card, its tables' places in `tables`: large, small.
    slots: Box<[[u32; 2]]>,
    tables: Vec<Option<Table>>,
    vacant: Vec<u32>,
    places: HashMap<TableKey, u32>,
    /// Tables that may have lost their last reference in this sync.
    dropped: Vec<u32>,
    /// How often the pool had got memory back when it was last exhausted.
    starved: Option<u64>,
    /// Counts syncs.
    turn: u64,
    /// Nothing was read yet.
    fresh: bool,
    /// The last incremental sync.
    synced: Epoch,
    /// Directory entries of the card that differ, and the guest's for them; empty between syncs.
    changed: Vec<(usize, [u64; MOST_TOGETHER])>,
    /// For the pages of tables.
    buffers: Box<[[u64; CHUNK]; 2]>,
}

impl Shadow {
    /// The shadow of the guest's page directory at `guest`, empty until the first sync.
    ///
    /// # Errors
    ///
    /// There is no memory for the directory.
    pub fn new<M: CardTables + ?Sized>(
        guest: GuestAddress,
        vm: &mut Vm<'_, M>,
    ) -> Result<Self, PoolExhausted> {
        let directory = vm.pool.allocate(PDE_COUNT * ENTRY_SIZE)?;
        for first in (0..PDE_COUNT).step_by(CHUNK) {
            let page = directory.address + first * ENTRY_SIZE;
            let there = what_is_there(&vm.pool.filled(page), &[0; CHUNK]);
            for run in Differences::new(&there, &[0; CHUNK]) {
                let at = page + run.start as u64 * ENTRY_SIZE;
                vm.memory.write_block(at, &[0; CHUNK][run]);
            }
        }
        let mut shadow = Self {
            guest,
            geometry: vm.geometry,
            together: 1,
            directory,
            seen: Box::default(),
            readable: 0,
            slots: vec![[NONE; 2]; PDE_COUNT as usize].into(),
            tables: Vec::new(),
            vacant: Vec::new(),
            places: HashMap::new(),
            dropped: Vec::new(),
            starved: None,
            turn: 0,
            fresh: true,
            synced: Epoch::default(),
            changed: Vec::new(),
            buffers: Box::new([[0; CHUNK]; 2]),
        };
        shadow.begin(vm);
        Ok(shadow)
    }

    /// Nothing of the guest's directory was read yet, which is as the guest's setting says.
    fn begin<M: ?Sized>(&mut self, vm: &Vm<'_, M>) {
        let count = vm.geometry.pde_count();
        self.geometry = vm.geometry;
        self.together = (count / PDE_COUNT) as usize;
        self.seen = vec![0; count as usize].into();
        self.readable = vm.policy.entries(self.guest, count) as usize;
        self.fresh = true;
    }

    /// The guest's page directory.
    pub fn guest(&self) -> GuestAddress {
        self.guest
    }

    /// Where the shadow directory is in the card's video memory: for the shadow instance block.
    pub fn directory(&self) -> u64 {
        self.directory.address
    }

    /// Tables that the directory leads to.
    pub fn tables(&self) -> usize {
        self.places.len()
    }

    /// Whether entries may be empty for lack of memory, since the last sync or an earlier one.
    ///
    /// A sync tries them again once the pool got memory back, so a report of a later sync need not
    /// mention them.
    pub fn is_starved(&self) -> bool {
        self.starved.is_some()
    }

    /// Brings the shadow up to date with the guest's tables.
    ///
    /// The card may be walking the shadow: a table is complete before the directory leads to it.
    /// Where the guest set another size of large pages than at the last sync, the directory leads
    /// nowhere in between.
    pub fn sync<M>(&mut self, algorithm: Algorithm, vm: &mut Vm<'_, M>) -> (Report, Retired)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        let mut report = Report::default();
        self.turn += 1;
        if self.geometry != vm.geometry {
            self.abandon(vm, &mut report);
            self.begin(vm);
        }
        let retry = self.starved.is_some_and(|then| then != vm.pool.releases());
        let whole = self.fresh || retry || algorithm != Algorithm::Incremental;
        if whole {
            self.starved = None;
        }
        match algorithm {
            Algorithm::Naive => self.sync_words(vm, &mut report),
            Algorithm::Bulk => self.sync_blocks(vm, &mut report),
            Algorithm::Incremental => self.sync_changes(whole, vm, &mut report),
        }
        self.fresh = false;
        let retired = self.retire(vm.pool);
        report.tables_retired = retired.0.len() as u64;
        (report, retired)
    }

    /// The end of the address space, to which no channel leads any more: all its memory, of `pool`,
    /// to be released after a TLB flush.
    pub fn close(self, pool: &mut TablePool) -> Retired {
        for (page, slots) in (0..).zip(self.slots.chunks(CHUNK)) {
            let at = self.directory.address + page * CHUNK as u64 * ENTRY_SIZE;
            pool.set_filled(at, slots.iter().map(|tables| *tables != [NONE; 2]));
        }
        let tables = self.tables.into_iter().flatten();
        let tables = tables.map(|table| table.leave(pool));
        Retired(tables.chain([self.directory]).collect())
    }

    /// The directory leads to no table any more.
    fn abandon<M>(&mut self, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: CardTables + ?Sized,
    {
        for index in 0..self.slots.len() {
            let slots = mem::replace(&mut self.slots[index], [NONE; 2]);
            if slots != [NONE; 2] {
                self.detach(slots);
                self.write_directory(index, &[0], vm, report);
            }
        }
    }

    fn sync_words<M>(&mut self, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        for index in 0..self.slots.len() {
            let old = self.entry(index);
            let mut entries = [0; MOST_TOGETHER];
            let entries = &mut entries[..self.together];
            for (place, entry) in (index * self.together..self.readable).zip(&mut *entries) {
                let at = self.guest.offset(place as u64 * ENTRY_SIZE);
                *entry = read_words(vm.memory, at, report);
                report.pdes_scanned += 1;
            }
            self.point(index, entries, vm, report);
            for place in self.slots[index] {
                // Many entries may share a table; NONE is behind the last place.
                if let Some(Some(table)) = self.tables.get_mut(place as usize)
                    && table.turn != self.turn
                {
                    table.turn = self.turn;
                    table.rewrite_words(vm, report);
                }
            }
            let new = self.entry(index);
            let at = self.directory.address + index as u64 * ENTRY_SIZE;
            let mut write = |address, word| {
                vm.memory.write_word(address, word);
                report.words_written += 1;
            };
            let [low, high] = words(new.0);
            // The span is in the low word, and a table of small pages must never be seen with a
            // longer one than it has: what is behind it is not of its kind.
            if new.span() != old.span() {
                write(at + 4, 0);
            }
            write(at, low);
            write(at + 4, high);
            report.pdes_written += 1;
        }
    }

    fn sync_blocks<M>(&mut self, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        let mut directory = vec![0; self.seen.len()];
        self.read_directory(0, &mut directory[..self.readable], vm, report);
        for first in (0..directory.len()).step_by(CHUNK) {
            let entries = &directory[first..first + CHUNK];
            if self.seen[first..first + CHUNK] != *entries {
                let index = first / self.together;
                for (n, entries) in entries.chunks(self.together).enumerate() {
                    self.point(index + n, entries, vm, report);
                }
            }
        }
        for table in self.tables.iter_mut().flatten() {
            if table.references > 0 {
                table.rewrite(vm, report);
            }
        }
        let mut entries = [0; CHUNK];
        for first in (0..self.slots.len()).step_by(CHUNK) {
            for (n, entry) in entries.iter_mut().enumerate() {
                *entry = self.entry(first + n).0;
            }
            self.write_directory(first, &entries, vm, report);
        }
    }

    /// Reads the `whole` directory, or what may have been written of it.
    fn sync_changes<M>(&mut self, whole: bool, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        let now = vm.tracker.collect();
        let since = match whole {
            true => Epoch::default(),
            false => self.synced,
        };
        let mut changed = mem::take(&mut self.changed);
        // In one block, if it is read at all.
        let mut directory = vec![0; if whole { self.readable } else { 0 }];
        if whole {
            self.read_directory(0, &mut directory, vm, report);
        }
        for page in WrittenPages::new(vm.tracker, self.guest, self.readable, since) {
            let first = page * CHUNK;
            let mut entries = [0; CHUNK];
            let len = CHUNK.min(self.readable - first);
            let entries = match directory.get(first..first + len) {
                Some(entries) => entries,
                None => {
                    self.read_directory(first, &mut entries[..len], vm, report);
                    &entries[..len]
                }
            };
            let seen = &self.seen[first..first + len];
            let differs = seen != entries;
            if differs {
                let seen = seen.chunks(self.together);
                let both = seen.zip(entries.chunks(self.together)).enumerate();
                changed.extend(both.filter(|(_, (seen, now))| seen != now).map(
                    |(n, (_, entries))| {
                        let mut now = [0; MOST_TOGETHER];
                        now[..entries.len()].copy_from_slice(entries);
                        (first / self.together + n, now)
                    },
                ));
            }
            let at = self.guest.offset(first as u64 * ENTRY_SIZE);
            vm.tracker.compared(at, differs);
        }
        for (index, entries) in &changed {
            self.point(*index, &entries[..self.together], vm, report);
        }
        for table in self.tables.iter_mut().flatten() {
            if table.references > 0 {
                table.refresh(vm, self.synced, &mut self.buffers, report);
            }
        }
        for (index, _) in changed.drain(..) {
            let entry = self.entry(index);
            self.write_directory(index, &[entry.0], vm, report);
        }
        self.changed = changed;
        self.synced = now;
    }

    fn read_directory<M: GuestTables + ?Sized>(
        &self,
        first: usize,
        entries: &mut [u64],
        vm: &mut Vm<'_, M>,
        report: &mut Report,
    ) {
        if entries.is_empty() {
            return;
        }
        let at = self.guest.offset(first as u64 * ENTRY_SIZE);
        vm.memory.read_block(at, entries);
        report.pdes_scanned += entries.len() as u64;
        report.words_read += 2 * entries.len() as u64;
    }

    fn write_directory<M: CardTables + ?Sized>(
        &self,
        first: usize,
        entries: &[u64],
        vm: &mut Vm<'_, M>,
        report: &mut Report,
    ) {
        let at = self.directory.address + first as u64 * ENTRY_SIZE;
        vm.memory.write_block(at, entries);
        report.pdes_written += entries.len() as u64;
        report.words_written += 2 * entries.len() as u64;
    }

    /// The shadow of what directory entry `index` of the card covers.
    fn entry(&self, index: usize) -> Pde {
        let slots = self.slots[index];
        if slots == [NONE; 2] {
            return Pde(0);
        }
        let tables = slots.map(|place| self.tables.get(place as usize)?.as_ref());
        let pointers = tables.map(|table| {
            Some(TablePointer {
                aperture: Aperture::Vram,
                address: table?.block.address,
                volatile: false,
            })
        });
        let spans = tables.iter().flatten().map(|table| table.key.span());
        Pde::new(pointers[LARGE], pointers[SMALL]).with_span(spans.max().unwrap_or(0))
    }

    /// The guest's directory entries for what entry `index` of the card covers are now `entries`.
    fn point<M: ?Sized>(
        &mut self,
        index: usize,
        entries: &[u64],
        vm: &mut Vm<'_, M>,
        report: &mut Report,
    ) {
        let range = index * self.together..(index + 1) * self.together;
        if self.seen[range.clone()].iter().eq(entries) {
            return;
        }
        let old = self.slots[index];
        match self.attach(entries, vm, report) {
            Ok(slots) => {
                self.seen[range].copy_from_slice(entries);
                self.slots[index] = slots;
            }
            Err(PoolExhausted) => {
                report.starved += 1;
                self.starved = Some(vm.pool.releases());
                // Unlike anything that would have to be done: it will be tried again.
                self.seen[range].fill(0);
                self.slots[index] = [NONE; 2];
            }
        }
        self.detach(old);
    }

    /// The places of the tables to which directory entries of the guest lead, all or none.
    fn attach<M: ?Sized>(
        &mut self,
        entries: &[u64],
        vm: &mut Vm<'_, M>,
        report: &mut Report,
    ) -> Result<[u32; 2], PoolExhausted> {
        let covered = 1 << self.geometry.pde_shift();
        let large_shift = self.geometry.large_shift();
        let mut sources = [Vec::new(), Vec::new()];
        for (start, &entry) in (0..).step_by(covered).zip(entries) {
            let entry = Pde(entry);
            let span = entry.span().min(covered as u64);
            // A large page hides small ones.
            for (pointer, shift) in [(entry.small(), SMALL_SHIFT), (entry.large(), large_shift)] {
                let Some(pointer) = pointer else { continue };
                let source = Source {
                    at: GuestAddress::new(pointer.aperture, pointer.address),
                    shift,
                    entries: span >> shift,
                    start,
                };
                if vm.policy.entries(source.at, source.entries) == 0 {
                    report.rejected.tables += 1;
                    continue;
                }
                // What is no page of the card is many small ones.
                let side = if shift == LARGE_SHIFT { LARGE } else { SMALL };
                sources[side].push(source);
            }
        }
        let mut slots = [NONE; 2];
        for (side, sources) in sources.into_iter().enumerate() {
            if sources.is_empty() {
                continue;
            }
            let shift = SHIFTS[side];
            match self.table(TableKey { shift, sources }, vm, report) {
                Ok(place) => slots[side] = place,
                Err(exhausted) => {
                    self.detach(slots);
                    return Err(exhausted);
                }
            }
        }
        Ok(slots)
    }

    /// The place of a table, with a reference more.
    fn table<M: ?Sized>(
        &mut self,
        key: TableKey,
        vm: &mut Vm<'_, M>,
        report: &mut Report,
    ) -> Result<u32, PoolExhausted> {
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None => {
                let block = vm.pool.allocate(key.entries() * ENTRY_SIZE)?;
                report.tables_allocated += 1;
                let place = self.vacant.pop().unwrap_or_else(|| {
                    self.tables.push(None);
                    (self.tables.len() - 1) as u32
                });
                self.places.insert(key.clone(), place);
                self.tables[place as usize] = Some(Table::new(key, vm.policy, block));
                place
            }
        };
        if let Some(table) = &mut self.tables[place as usize] {
            table.references += 1;
        }
        Ok(place)
    }

    /// A directory entry no longer leads to these tables.
    fn detach(&mut self, slots: [u32; 2]) {
        for place in slots {
            if let Some(Some(table)) = self.tables.get_mut(place as usize) {
                table.references -= 1;
                if table.references == 0 {
                    self.dropped.push(place);
                }
            }
        }
    }

    /// Takes out the tables without references, to which the directory as written does not lead.
    fn retire(&mut self, pool: &mut TablePool) -> Retired {
        let mut retired = Retired::default();
        for place in self.dropped.drain(..) {
            let entry = &mut self.tables[place as usize];
            if let Some(table) = entry.take_if(|table| table.references == 0) {
                self.places.remove(&table.key);
                self.vacant.push(place);
                retired.0.push(table.leave(pool));
            }
        }
        retired
    }
}
