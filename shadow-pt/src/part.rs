//! One of the guest's tables that a shadow table shows, as it was last read.

use std::ops::Range;

use mmio::layout::pagetable::{ENTRY_SIZE, Pte, SMALL_SHIFT};

use crate::{GuestAddress, GuestTables, Rejected, Report, Translation};

/// A table of the guest's, and of which addresses it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    /// Where the guest keeps it.
    pub(crate) at: GuestAddress,
    /// log2 of the bytes of a page.
    pub(crate) shift: u32,
    /// Entries that count.
    pub(crate) entries: u64,
    /// Where its first page is, in bytes from the start of what the card's directory entry covers.
    pub(crate) start: u64,
}

impl Source {
    /// Where its pages end, likewise.
    pub(crate) fn end(&self) -> u64 {
        self.start + (self.entries << self.shift)
    }
}

/// A source, with its entries.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) source: Source,
    /// Entries in the VM's memory.
    pub(crate) readable: usize,
    /// The guest's entries as last read. Those behind `readable` stay 0.
    pub(crate) seen: Box<[u64]>,
    /// The shadow's entry for the first page.
    first: usize,
    /// log2 of the shadow's entries for each of the guest's.
    scale: u32,
}

impl Part {
    /// A part, not yet read, of a shadow table for pages of 2^`shift` bytes.
    pub(crate) fn new(source: Source, shift: u32, policy: &Translation) -> Self {
        Self {
            source,
            readable: policy.entries(source.at, source.entries) as usize,
            seen: vec![0; source.entries as usize].into(),
            first: (source.start >> shift) as usize,
            scale: source.shift - shift,
        }
    }

    /// Whether each of its entries has the same place in the shadow.
    pub(crate) fn is_alike(&self) -> bool {
        (self.first, self.scale) == (0, 0)
    }

    /// The shadow's entries for those of `entries`.
    pub(crate) fn shadowed(&self, entries: &Range<usize>) -> Range<usize> {
        let place = |entry| self.first + (entry << self.scale);
        place(entries.start)..place(entries.end)
    }

    /// Those entries whose shadows are in `range`, be it in part.
    fn entries(&self, range: &Range<usize>) -> Range<usize> {
        let start = range.start.saturating_sub(self.first) >> self.scale;
        let end = (range.end.saturating_sub(self.first)).div_ceil(1 << self.scale);
        let len = self.seen.len();
        start.min(len)..end.min(len)
    }

    /// Whether the guest has anything for the shadow's entry `at`.
    pub(crate) fn holds(&self, at: usize) -> bool {
        let entry = at.checked_sub(self.first).map(|at| at >> self.scale);
        let entry = entry.and_then(|entry| self.seen.get(entry));
        entry.is_some_and(|entry| *entry != 0)
    }

    /// Reads all entries.
    pub(crate) fn scan<M>(&mut self, memory: &mut M, report: &mut Report)
    where
        M: GuestTables + ?Sized,
    {
        scan(
            memory,
            self.source.at,
            &mut self.seen[..self.readable],
            report,
        );
    }

    /// Reads the entries for the shadow's of `range`, word by word.
    pub(crate) fn scan_words<M>(
        &mut self,
        range: &Range<usize>,
        memory: &mut M,
        report: &mut Report,
    ) where
        M: GuestTables + ?Sized,
    {
        let Range { start, end } = self.entries(range);
        let seen = &mut self.seen[..self.readable.min(end)];
        for (entry, seen) in seen.iter_mut().enumerate().skip(start) {
            let at = self.source.at.offset(entry as u64 * ENTRY_SIZE);
            *seen = read_words(memory, at, report);
            report.ptes_scanned += 1;
        }
    }

    /// Translates the entries for the shadow's of `range` to `out`, where those that lead nowhere
    /// leave what is there.
    pub(crate) fn lay(
        &self,
        policy: &Translation,
        range: &Range<usize>,
        out: &mut [u64],
        rejected: &mut Rejected,
    ) {
        for entry in self.entries(range) {
            let shadow = policy.shadow(self.seen[entry], self.source.shift, rejected);
            if shadow == 0 {
                continue;
            }
            let own = self.shadowed(&(entry..entry + 1));
            for at in own.start.max(range.start)..own.end.min(range.end) {
                out[at - range.start] = match self.scale {
                    0 => shadow,
                    _ => piece(Pte(shadow), at - own.start).0,
                };
            }
        }
    }
}

/// Small page `n` of the large one to which `pte` leads.
fn piece(pte: Pte, n: usize) -> Pte {
    pte.with_address(pte.address() + ((n as u64) << SMALL_SHIFT))
}

/// Reads a guest's entries in one block, if there are any.
pub(crate) fn scan<M>(memory: &mut M, at: GuestAddress, entries: &mut [u64], report: &mut Report)
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
