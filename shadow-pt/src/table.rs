//! One shadow table of pages, and the ways to bring it up to date.

use std::ops::Range;

use mmio::layout::pagetable::ENTRY_SIZE;

use crate::part::{Part, Source, scan};
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableKey {
    /// log2 of the bytes of a page of the shadow.
    pub(crate) shift: u32,
    /// The tables of the guest's that it shows, the later of which hide the earlier: one, unless the
    /// guest's large pages are smaller than the card's.
    pub(crate) sources: Vec<Source>,
}

impl TableKey {
    /// Bytes, from the start of what a directory entry covers, that it describes: a power of two.
    pub(crate) fn span(&self) -> u64 {
        let ends = self.sources.iter().map(Source::end);
        ends.max().unwrap_or(0).next_power_of_two()
    }

    /// The shadow's entries.
    pub(crate) fn entries(&self) -> u64 {
        self.span() >> self.shift
    }
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
    /// The sources.
    parts: Box<[Part]>,
    /// The shadow's entries.
    len: usize,
}

impl Table {
    pub(crate) fn new(key: TableKey, policy: &Translation, block: Block) -> Self {
        let sources = key.sources.iter();
        Self {
            block,
            references: 0,
            turn: 0,
            fresh: true,
            parts: sources
                .map(|source| Part::new(*source, key.shift, policy))
                .collect(),
            len: key.entries() as usize,
            key,
        }
    }

    /// The only part, if its entries are where the shadow's are.
    fn alike(&self) -> Option<&Part> {
        match &*self.parts {
            [part] if part.is_alike() => Some(part),
            _ => None,
        }
    }

    /// The entries of the shadow by pages of it.
    fn pages(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let len = self.len;
        let starts = (0..len).step_by(CHUNK);
        starts.map(move |start| start..len.min(start + CHUNK))
    }

    /// Where an entry of the shadow is.
    fn address(&self, entry: usize) -> u64 {
        self.block.address + entry as u64 * ENTRY_SIZE
    }

    /// The shadow's entries of `range`, as follows from what was read, as the start of `out`. What is
    /// rejected is counted, of one part or of all.
    fn shadow<'a>(
        &self,
        policy: &Translation,
        range: &Range<usize>,
        part: Option<usize>,
        out: &'a mut [u64; CHUNK],
        rejected: &mut Rejected,
    ) -> &'a [u64] {
        let out = &mut out[..range.len()];
        if let Some(only) = self.alike() {
            translate(
                policy,
                &only.seen[range.clone()],
                self.key.shift,
                out,
                rejected,
            );
            return out;
        }
        out.fill(0);
        for (n, own) in self.parts.iter().enumerate() {
            let mut others = Rejected::default();
            let counted = part.is_none_or(|part| part == n);
            let rejected = if counted { &mut *rejected } else { &mut others };
            own.lay(policy, range, out, rejected);
        }
        out
    }

    /// Rewrites all entries, read and written word by word.
    pub(crate) fn rewrite_words<M>(&mut self, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        let [mut before, mut now] = [[0; CHUNK]; 2];
        for range in self.pages() {
            let mut known = Rejected::default();
            // Mostly nothing changes: where the guest's entries have the same places, what they were
            // is only translated of those that did.
            match self.alike() {
                Some(only) => before[..range.len()].copy_from_slice(&only.seen[range.clone()]),
                None => {
                    self.shadow(vm.policy, &range, None, &mut before, &mut known);
                }
            }
            for part in &mut self.parts {
                part.scan_words(&range, vm.memory, report);
            }
            let now = self.shadow(vm.policy, &range, None, &mut now, &mut report.rejected);
            let only = self.alike();
            for (index, (&before, &new)) in range.zip(before.iter().zip(now)) {
                let old = match only {
                    Some(only) if only.seen[index] == before => new,
                    Some(_) => vm.policy.shadow(before, self.key.shift, &mut known),
                    None => before,
                };
                let at = self.address(index);
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
        }
        self.fresh = false;
    }

    /// Rewrites all entries, in blocks.
    pub(crate) fn rewrite<M>(&mut self, vm: &mut Vm<'_, M>, report: &mut Report)
    where
        M: GuestTables + CardTables + ?Sized,
    {
        let mut shadow = [0; CHUNK];
        for part in &mut self.parts {
            part.scan(vm.memory, report);
        }
        for range in self.pages() {
            let shadow = self.shadow(vm.policy, &range, None, &mut shadow, &mut report.rejected);
            vm.memory.write_block(self.address(range.start), shadow);
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
        for part in &mut self.parts {
            part.scan(vm.memory, report);
        }
        for range in self.pages() {
            let shadow = self.shadow(vm.policy, &range, None, now, &mut report.rejected);
            let page = self.address(range.start);
            let there = what_is_there(&vm.pool.filled(page), shadow);
            for run in Differences::new(&there[..shadow.len()], shadow) {
                let at = page + run.start as u64 * ENTRY_SIZE;
                vm.memory.write_block(at, &shadow[run.clone()]);
                report.wrote(&shadow[run]);
            }
        }
        self.fresh = false;
    }

    /// The table is in use no more: it is known what of it may hold something.
    pub(crate) fn leave(self, pool: &mut TablePool) -> Block {
        if self.fresh {
            return self.block;
        }
        // An empty entry of the guest is an empty one of the shadow.
        for range in self.pages() {
            let page = self.address(range.start);
            match self.alike() {
                Some(only) => pool.set_filled(page, only.seen[range].iter().map(|seen| *seen != 0)),
                None => {
                    let holds = |at| self.parts.iter().any(|part| part.holds(at));
                    pool.set_filled(page, range.map(holds));
                }
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
        for n in 0..self.parts.len() {
            let part = &self.parts[n];
            for page in WrittenPages::new(vm.tracker, part.source.at, part.readable, since) {
                let alike = self.alike().is_some();
                let part = &mut self.parts[n];
                let first = page * CHUNK;
                let entries = first..part.readable.min(first + CHUNK);
                let seen = &mut part.seen[entries.clone()];
                let now = &mut now[..seen.len()];
                let from = part.source.at.offset(first as u64 * ENTRY_SIZE);
                scan(vm.memory, from, now, report);
                let differs = seen != now;
                vm.tracker.compared(from, differs);
                if !differs {
                    continue;
                }
                if !alike {
                    seen.swap_with_slice(now);
                    self.update(vm, (n, entries), now, shadow, report);
                    continue;
                }
                for run in Differences::new(seen, now) {
                    let shadow = &mut shadow[..run.len()];
                    let (guest, rejected) = (&now[run.clone()], &mut report.rejected);
                    translate(vm.policy, guest, self.key.shift, shadow, rejected);
                    let at = self.block.address + (first + run.start) as u64 * ENTRY_SIZE;
                    vm.memory.write_block(at, shadow);
                    report.wrote(shadow);
                }
                seen.copy_from_slice(now);
            }
        }
    }

    /// Writes what follows from those of the `entries` of part `n` that were something else `before`.
    fn update<M>(
        &self,
        vm: &mut Vm<'_, M>,
        (n, entries): (usize, Range<usize>),
        before: &[u64],
        buffer: &mut [u64; CHUNK],
        report: &mut Report,
    ) where
        M: CardTables + ?Sized,
    {
        let part = &self.parts[n];
        for run in Differences::new(before, &part.seen[entries.clone()]) {
            let run = entries.start + run.start..entries.start + run.end;
            let Range { mut start, end } = part.shadowed(&run);
            // A page of large entries has many pages of small ones.
            while start < end {
                let range = start..end.min(start + CHUNK);
                let rejected = &mut report.rejected;
                let shadow = self.shadow(vm.policy, &range, Some(n), buffer, rejected);
                vm.memory.write_block(self.address(start), shadow);
                report.wrote(shadow);
                start = range.end;
            }
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

fn translate(
    policy: &Translation,
    guest: &[u64],
    shift: u32,
    shadow: &mut [u64],
    rejected: &mut Rejected,
) {
    for (shadow, &entry) in shadow.iter_mut().zip(guest) {
        *shadow = policy.shadow(entry, shift, rejected);
    }
}

/// The words of an entry, low first.
pub(crate) fn words(entry: u64) -> [u32; 2] {
    [entry as u32, (entry >> 32) as u32]
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
