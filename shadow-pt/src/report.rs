//! What a sync did, for the counters.

use std::ops::AddAssign;

/// Entries that lead out of the VM's memory, of those that a sync translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Page-table entries for video memory behind the VM's.
    pub vram_pages: u64,
    /// Page-table entries for system memory that is not the VM's RAM.
    pub ram_pages: u64,
    /// Page-table entries with the reserved target.
    pub reserved_targets: u64,
    /// Table pointers of directory entries.
    pub tables: u64,
}

impl Rejected {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.vram_pages + self.ram_pages + self.reserved_targets + self.tables
    }
}

impl AddAssign for Rejected {
    fn add_assign(&mut self, other: Self) {
        self.vram_pages += other.vram_pages;
        self.ram_pages += other.ram_pages;
        self.reserved_targets += other.reserved_targets;
        self.tables += other.tables;
    }
}

/// What one sync did, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Directory entries of the guest that were read.
    pub pdes_scanned: u64,
    /// Page-table entries of the guest that were read.
    pub ptes_scanned: u64,
    /// Directory entries of the shadow that were written.
    pub pdes_written: u64,
    /// Page-table entries of the shadow that were written.
    pub ptes_written: u64,
    /// Those of them that were written as empty ones.
    pub ptes_emptied: u64,
    /// 32-bit words read from the guest's memory.
    pub words_read: u64,
    /// 32-bit words written to the card's memory.
    pub words_written: u64,
    /// Shadow tables that were made.
    pub tables_allocated: u64,
    /// Shadow tables that the directory no longer leads to.
    pub tables_retired: u64,
    /// Directory entries that stayed empty because the VM's memory for shadow tables is used up.
    pub starved: u64,
    /// Entries that lead out of the VM's memory.
    pub rejected: Rejected,
}

impl Report {
    /// These page-table entries were written to the shadow.
    pub(crate) fn wrote(&mut self, entries: &[u64]) {
        let count = entries.len() as u64;
        self.ptes_written += count;
        self.ptes_emptied += entries.iter().filter(|entry| **entry == 0).count() as u64;
        self.words_written += 2 * count;
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.pdes_scanned += other.pdes_scanned;
        self.ptes_scanned += other.ptes_scanned;
        self.pdes_written += other.pdes_written;
        self.ptes_written += other.ptes_written;
        self.ptes_emptied += other.ptes_emptied;
        self.words_read += other.words_read;
        self.words_written += other.words_written;
        self.tables_allocated += other.tables_allocated;
        self.tables_retired += other.tables_retired;
        self.starved += other.starved;
        self.rejected += other.rejected;
    }
}
