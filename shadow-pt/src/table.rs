//! One shadow table of pages, and the ways to bring it up to date.

use std::ops::Range;

use mmio::layout::pagetable::ENTRY_SIZE;

use crate::pool::{Block, Filled, TablePool};
use crate::{CardTables, Epoch, GuestAddress, GuestTables, Rejected, Report, Translation};
use crate::{Vm, WriteTracker};

/// Entries of a 4 KiB page, the unit of block reads.
pub(crate) const CHUNK: usize = 512;
/// Entries in a row that are rather written again than skipped.
const GAP: usize = 3;
/// Bytes of 64 pages, the unit of questions to a tracker.
const GROUP_BYTES: u64 = 64 * CHUNK as u64 * ENTRY_SIZE;

/// What makes a table of pages another one: all directory entries with the same share a shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableKey {
    /// Where the guest keeps it.
    pub(crate) at: GuestAddress,
    /// log2 of the bytes of a page.
    pub(crate) shift: u32,
    /// Entries that count.
    pub(crate) entries: u64,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) key: TableKey,
    pub(crate) block: Block,
    /// Directory entries that lead here, large and small apart.
    pub(crate) references: u32,
    /// The last sync that rewrote it.
    pub(crate) turn: u64,
    /// The shadow has not been written yet.
    fresh: bool,
    /// The guest's entries as last read. Those behind `readable` stay 0.
    seen: Box<[u64]>,
    /// Entries in the VM's memory.
    readable: usize,
}

impl Table {
    pub(crate) fn new(key: TableKey, readable: u64, block: Block) -> Self {
        Self {
            key,
            block,
            references: 0,
            turn: 0,
            fresh: true,
            seen: vec![0; key.entries as usize].into(),
            readable: readable as usize,
        }
    }

    /// Rewrites all entries, read and written word by word.
    pub(crate) fn rewrite_words<M>(&mut self, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        let shift = self.key.shift;
        for (index, seen) in self.seen.iter_mut().enumerate() {
            let offset = index as u64 * ENTRY_SIZE;
            let old = vm.policy.shadow(*seen, shift, &mut Rejected::default());
            if index < self.readable {
                *seen = read_words(vm.memory, self.key.at.offset(offset), report);
                report.ptes_scanned += 1;
            }
            let new = vm.policy.shadow(*seen, shift, &mut report.rejected);
            let at = self.block.address + offset;
            let [low, high] = words(new);
            let mut write = |address, word| {
                vm.memory.write_word(address, word);
                report.words_written += 1;
            };
            // The card may be walking here: an address of one memory must never be seen with the
            // target of another.
            if !self.fresh && high != words(old)[1] {
                write(at, 0);
            }
            write(at + 4, high);
            write(at, low);
            report.ptes_written += 1;
            report.ptes_emptied += u64::from(new == 0);
        }
        self.fresh = false;
    }

    /// Rewrites all entries, in blocks.
    pub(crate) fn rewrite<M>(&mut self, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        scan(
            vm.memory,
            self.key.at,
            &mut self.seen[..self.readable],
            report,
        );
        let mut shadow = [0; CHUNK];
        for (n, seen) in self.seen.chunks(CHUNK).enumerate() {
            let offset = (n * CHUNK) as u64 * ENTRY_SIZE;
            let shadow = &mut shadow[..seen.len()];
            translate(vm.policy, seen, self.key.shift, shadow, report);
            let at = self.block.address + offset;
            vm.memory.write_block(at, shadow);
            report.wrote(shadow);
        }
        self.fresh = false;
    }

    /// Writes all entries that are not there yet: nothing leads here so far, and of empty ones only
    /// those are written that may hold something.
    fn fill<M>(&mut self, vm: &mut Vm<'_, M>, [now, _]: &mut [[u64; CHUNK]; 2], report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        scan(
            vm.memory,
            self.key.at,
            &mut self.seen[..self.readable],
            report,
        );
        for (n, seen) in self.seen.chunks(CHUNK).enumerate() {
            let offset = (n * CHUNK) as u64 * ENTRY_SIZE;
            let shadow = &mut now[..seen.len()];
            translate(vm.policy, seen, self.key.shift, shadow, report);
            let page = self.block.address + offset;
            let there = what_is_there(&vm.pool.filled(page), shadow);
            for run in Differences::new(&there[..shadow.len()], shadow) {
                let at = page + run.start as u64 * ENTRY_SIZE;
                vm.memory.write_block(at, &shadow[run.clone()]);
                report.wrote(&shadow[run]);
            }
        }
        self.fresh = false;
    }

    /// Where the pages of the shadow are.
    fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        let bytes = self.seen.len() as u64 * ENTRY_SIZE;
        let first = self.block.address;
        (first..first + bytes).step_by(CHUNK * ENTRY_SIZE as usize)
    }

    /// The table is in use no more: it is known what of it may hold something.
    pub(crate) fn leave(self, pool: &mut TablePool) -> Block {
        if !self.fresh {
            for (page, seen) in self.pages().zip(self.seen.chunks(CHUNK)) {
                // An empty entry of the guest is an empty one of the shadow.
                pool.set_filled(page, seen.iter().map(|entry| *entry != 0));
            }
        }
        self.block
    }

    /// Writes the entries that differ from when they were last read, and few others, looking only at
    /// pages that may have been written since `since`.
    pub(crate) fn refresh<M>(
        &mut self,
        vm: &mut Vm<'_, M>,
        since: Epoch,
        buffers: &mut [[u64; CHUNK]; 2],
        report: &mut Report,
    ) where
        M: GuestTables + CardTables + ?Sized,
    {
        if self.fresh {
            return self.fill(vm, buffers, report);
        }
        let [now, shadow] = buffers;
        for page in WrittenPages::new(vm.tracker, self.key.at, self.readable, since) {
            let seen = &mut self.seen[page * CHUNK..self.readable.min((page + 1) * CHUNK)];
            let now = &mut now[..seen.len()];
            let offset = (page * CHUNK) as u64 * ENTRY_SIZE;
            let from = self.key.at.offset(offset);
            scan(vm.memory, from, now, report);
            vm.tracker.compared(from, seen != now);
            for run in Differences::new(seen, now) {
                let entries = &mut shadow[run.clone()];
                let guest = &now[run.clone()];
                translate(vm.policy, guest, self.key.shift, entries, report);
                let at = self.block.address + offset + run.start as u64 * ENTRY_SIZE;
                vm.memory.write_block(at, entries);
                report.wrote(entries);
            }
            seen.copy_from_slice(now);
        }
    }
}

/// Entries of memory of which is known which may hold something; those that do are like none of
/// `wanted`.
pub(crate) fn what_is_there(filled: &Filled, wanted: &[u64]) -> [u64; CHUNK] {
    let mut there = [0; CHUNK];
    for (n, (there, wanted)) in there.iter_mut().zip(wanted).enumerate() {
        if filled[n / 64] >> (n % 64) & 1 != 0 {
            *there = !wanted;
        }
    }
    there
}

/// Reads a guest's entries in one block, if there are any.
fn scan<M>(memory: &mut M, at: GuestAddress, entries: &mut [u64], report: &mut Report)
where
    M: GuestTables + ?Sized,
{
    if !entries.is_empty() {
        memory.read_block(at, entries);
        report.ptes_scanned += entries.len() as u64;
        report.words_read += 2 * entries.len() as u64;
    }
}

/// Reads an entry as two words.
pub(crate) fn read_words<M>(memory: &mut M, at: GuestAddress, report: &mut Report) -> u64
where
    M: GuestTables + ?Sized,
{
    report.words_read += 2;
    let low = memory.read_word(at);
    u64::from(low) | u64::from(memory.read_word(at.offset(4))) << 32
}

/// The words of an entry, low first.
pub(crate) fn words(entry: u64) -> [u32; 2] {
    [entry as u32, (entry >> 32) as u32]
}

fn translate(
    policy: &Translation,
    guest: &[u64],
    shift: u32,
    shadow: &mut [u64],
    report: &mut Report,
) {
    for (shadow, &entry) in shadow.iter_mut().zip(guest) {
        *shadow = policy.shadow(entry, shift, &mut report.rejected);
    }
}

/// The runs of entries that differ between two versions of a page, nearby ones as one.
pub(crate) struct Differences<'a> {
    old: &'a [u64],
    new: &'a [u64],
    next: usize,
}

impl<'a> Differences<'a> {
    pub(crate) fn new(old: &'a [u64], new: &'a [u64]) -> Self {
        // Mostly all are the same, which is known fastest of the whole.
        let next = if old == new { new.len() } else { 0 };
        Self { old, new, next }
    }
}

impl Iterator for Differences<'_> {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.old.iter().zip(self.new).enumerate().skip(self.next);
        let mut differing = rest.filter(|(_, (old, new))| old != new).map(|(at, _)| at);
        let start = differing.next()?;
        let mut end = start + 1;
        for at in differing {
            if at - end > GAP {
                break;
            }
            end = at + 1;
        }
        self.next = end;
        Some(start..end)
    }
}

/// The numbers of a table's pages that may have been written.
pub(crate) struct WrittenPages {
    /// What the tracker said of groups of 64 pages; a full small table is one group.
    masks: [u64; 2],
    group: usize,
}

impl WrittenPages {
    /// Of the pages with the `readable` first entries of the table at `at`, at most 65536.
    pub(crate) fn new(
        tracker: &dyn WriteTracker,
        at: GuestAddress,
        readable: usize,
        since: Epoch,
    ) -> Self {
        let pages = readable.div_ceil(CHUNK);
        debug_assert!(pages <= 128);
        let masks = [0, 1].map(|group: usize| {
            let wanted = match pages.saturating_sub(64 * group) {
                0 => return 0,
                pages @ 1..64 => (1 << pages) - 1,
                _ => !0,
            };
            tracker.written(at.offset(group as u64 * GROUP_BYTES), wanted, since)
        });
        Self { masks, group: 0 }
    }
}

impl Iterator for WrittenPages {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.masks[self.group] == 0 {
            if self.group == 1 {
                return None;
            }
            self.group = 1;
        }
        let mask = &mut self.masks[self.group];
        let page = mask.trailing_zeros() as usize;
        *mask &= *mask - 1;
        Some(64 * self.group + page)
    }
}
