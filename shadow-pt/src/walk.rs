//! The walk of a guest's own tables, for accesses of a CPU through a BAR.

use std::ops::Range;

use mmio::layout::pagetable::{
    Aperture, ENTRY_SIZE, Geometry, Pde, Pte, SMALL_SHIFT, TablePointer, VA_BITS,
};

use crate::table::CHUNK;
use crate::{GuestAddress, GuestTables, Translation};

/// Bits of the address in a page-directory base.
const BASE_ADDRESS: u64 = 0xff_ffff_f000;

/// Why a virtual address leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// Above the address space's limit.
    #[error("The address is above the limit")]
    Limit,
    /// The directory entry has no tables, or is not in the VM's memory.
    #[error("There is no page table")]
    NoTable,
    /// The tables are too short for it.
    #[error("The page table is too short")]
    ShortTable,
    /// No valid entry leads to a page of the VM.
    #[error("There is no page")]
    NoPage,
}

/// A guest's address space: what an instance block says about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// The page directory.
    pub directory: GuestAddress,
    /// The highest virtual address.
    pub limit: u64,
    /// The size of large pages.
    pub geometry: Geometry,
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The start of the page, which is wholly the VM's.
    pub page: GuestAddress,
    /// log2 of its bytes.
    pub shift: u32,
    /// The guest's entry.
    pub pte: Pte,
}

impl Mapping {
    /// The guest's address of the byte `va`, which is in this page.
    pub fn at(&self, va: u64) -> GuestAddress {
        self.page.offset(va & ((1 << self.shift) - 1))
    }
}

/// A range of virtual addresses that leads to one range of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first virtual address.
    pub va: u64,
    /// The bytes.
    pub len: u64,
    /// Where the first byte is.
    pub at: GuestAddress,
    /// Stores fault.
    pub read_only: bool,
}

impl AddressSpace {
    /// The address space with this page-directory base and limit in its instance block; `None` for
    /// the reserved target.
    pub fn new(base: u64, limit: u64, geometry: Geometry) -> Option<Self> {
        Some(Self {
            directory: GuestAddress::new(Aperture::from_target(base)?, base & BASE_ADDRESS),
            limit,
            geometry,
        })
    }

    /// Translates `va` by the guest's tables as they are now.
    ///
    /// As on the card with the shadow: an entry out of the VM's memory, or in a table there, is
    /// invalid, and of a directory entry with both tables the large page counts if it is valid,
    /// else the small.
    ///
    /// # Errors
    ///
    /// It leads to no page of the VM.
    pub fn walk<M: GuestTables + ?Sized>(
        &self,
        memory: &mut M,
        policy: &Translation,
        va: u64,
    ) -> Result<Mapping, WalkError> {
        if va > self.limit || va >> VA_BITS != 0 {
            return Err(WalkError::Limit);
        }
        let geometry = self.geometry;
        let pde = entry(memory, policy, self.directory, geometry.pde_index(va))
            .map(Pde)
            .ok_or(WalkError::NoTable)?;
        let sides = [
            (
                pde.large(),
                geometry.large_index(va),
                geometry.large_shift(),
            ),
            (pde.small(), geometry.small_index(va), SMALL_SHIFT),
        ];
        if sides.iter().all(|(table, ..)| table.is_none()) {
            return Err(WalkError::NoTable);
        }
        if va & ((1 << geometry.pde_shift()) - 1) >= pde.span() {
            return Err(WalkError::ShortTable);
        }
        for (table, index, shift) in sides {
            let Some(table) = table else { continue };
            let table = GuestAddress::new(table.aperture, table.address);
            let Some(pte) = entry(memory, policy, table, index).map(Pte) else {
                continue;
            };
            if let Some(page) = policy.page(pte, shift) {
                return Ok(Mapping { page, shift, pte });
            }
        }
        Err(WalkError::NoPage)
    }

    /// Calls `found` for each run of pages in the `len` bytes from `va`, in order, each as long as
    /// it gets: what can be mapped in one piece. Tables are read in blocks.
    pub fn runs<M: GuestTables + ?Sized>(
        &self,
        memory: &mut M,
        policy: &Translation,
        va: u64,
        len: u64,
        found: impl FnMut(Run),
    ) {
        let end = va.saturating_add(len).min(self.limit.saturating_add(1));
        let end = end.min(1 << VA_BITS);
        let mut runs = Runs { last: None, found };
        let covered = 1 << self.geometry.pde_shift();
        let mut start = va;
        while start < end {
            let next = (start & !(covered - 1)) + covered;
            let index = self.geometry.pde_index(start);
            if let Some(pde) = entry(memory, policy, self.directory, index).map(Pde) {
                let described = (next - covered).saturating_add(pde.span());
                self.runs_of(
                    memory,
                    policy,
                    pde,
                    start..end.min(next).min(described),
                    &mut runs,
                );
            }
            start = next;
        }
        runs.end();
    }

    /// The runs in `range`, which the tables of one directory entry describe.
    fn runs_of<M: GuestTables + ?Sized, F: FnMut(Run)>(
        &self,
        memory: &mut M,
        policy: &Translation,
        pde: Pde,
        range: Range<u64>,
        runs: &mut Runs<F>,
    ) {
        let large_shift = self.geometry.large_shift();
        let mut small = Chunk::new(pde.small());
        let mut large = Chunk::new(pde.large());
        if small.table.is_none() && large.table.is_none() {
            return;
        }
        let mut va = range.start;
        while va < range.end {
            let next = (va & !((1 << SMALL_SHIFT) - 1)) + (1 << SMALL_SHIFT);
            let candidates = [
                (&mut large, self.geometry.large_index(va), large_shift),
                (&mut small, self.geometry.small_index(va), SMALL_SHIFT),
            ];
            for (chunk, index, shift) in candidates {
                let pte = chunk.entry(memory, policy, index);
                if let Some(page) = policy.page(pte, shift) {
                    runs.add(Run {
                        va,
                        len: next.min(range.end) - va,
                        at: page.offset(va & ((1 << shift) - 1)),
                        read_only: pte.read_only(),
                    });
                    break;
                }
            }
            va = next;
        }
    }
}

/// Collects pieces to runs.
struct Runs<F> {
    last: Option<Run>,
    found: F,
}

impl<F: FnMut(Run)> Runs<F> {
    fn add(&mut self, piece: Run) {
        match &mut self.last {
            Some(run)
                if run.va + run.len == piece.va
                    && run.at.offset(run.len) == piece.at
                    && run.read_only == piece.read_only =>
            {
                run.len += piece.len;
            }
            _ => {
                if let Some(run) = self.last.replace(piece) {
                    (self.found)(run);
                }
            }
        }
    }

    fn end(mut self) {
        if let Some(run) = self.last.take() {
            (self.found)(run);
        }
    }
}

/// A table, and a page of its entries at hand.
struct Chunk {
    table: Option<GuestAddress>,
    /// Index of the first entry at hand.
    first: u64,
    /// Entries at hand; those behind are not the VM's.
    len: u64,
    entries: [u64; CHUNK],
}

impl Chunk {
    fn new(table: Option<TablePointer>) -> Self {
        Self {
            table: table.map(|table| GuestAddress::new(table.aperture, table.address)),
            first: u64::MAX,
            len: 0,
            entries: [0; CHUNK],
        }
    }

    /// Entry `index`; an invalid one if there is none.
    #[inline]
    fn entry<M: GuestTables + ?Sized>(
        &mut self,
        memory: &mut M,
        policy: &Translation,
        index: u64,
    ) -> Pte {
        let Some(table) = self.table else {
            return Pte(0);
        };
        let first = index / CHUNK as u64 * CHUNK as u64;
        if self.first != first {
            self.first = first;
            let readable = policy.entries(table, first + CHUNK as u64);
            self.len = readable.saturating_sub(first);
            let entries = &mut self.entries[..self.len as usize];
            if !entries.is_empty() {
                memory.read_block(table.offset(first * ENTRY_SIZE), entries);
            }
        }
        match index - first {
            at if at < self.len => Pte(self.entries[at as usize]),
            _ => Pte(0),
        }
    }
}

/// Entry `index` of the table at `table`, if the table is the VM's memory so far.
fn entry<M: GuestTables + ?Sized>(
    memory: &mut M,
    policy: &Translation,
    table: GuestAddress,
    index: u64,
) -> Option<u64> {
    if policy.entries(table, index + 1) <= index {
        return None;
    }
    let mut entry = [0];
    memory.read_block(table.offset(index * ENTRY_SIZE), &mut entry);
    Some(entry[0])
}

/// Lines of a walker's cache.
const LINES: usize = 64;

/// A walker that remembers, as a TLB does: until [`Walker::flush`] it may lead to pages that were
/// there before.
#[derive(Clone, Debug)]
pub struct Walker {
    space: AddressSpace,
    /// By the low bits of the virtual page number: that number, and where it leads.
    lines: Box<[Option<(u64, Mapping)>; LINES]>,
}

impl Walker {
    /// A walker of `space` that remembers nothing yet.
    pub fn new(space: AddressSpace) -> Self {
        Self {
            space,
            lines: Box::new([None; LINES]),
        }
    }

    /// The address space.
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// Forgets everything: the guest flushed its TLB.
    pub fn flush(&mut self) {
        self.lines.fill(None);
    }

    /// Where `va` leads.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::walk`].
    #[inline]
    pub fn resolve<M: GuestTables + ?Sized>(
        &mut self,
        memory: &mut M,
        policy: &Translation,
        va: u64,
    ) -> Result<Mapping, WalkError> {
        let number = va >> SMALL_SHIFT;
        let line = number as usize % LINES;
        match self.lines[line] {
            Some((cached, mapping)) if cached == number && va <= self.space.limit => Ok(mapping),
            _ => {
                let mapping = self.space.walk(memory, policy, va)?;
                self.lines[line] = Some((number, mapping));
                Ok(mapping)
            }
        }
    }
}
