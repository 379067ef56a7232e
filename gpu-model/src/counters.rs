//! What a machine costs.

use std::sync::atomic::{AtomicU64, Ordering};

use mmio::Bar;
use mmio::regs::pfifo;
use shadow_pt::Report;

/// The counters of one machine.
#[derive(Debug)]
pub struct Counters {
    /// Loads by BAR, in the order of [`BARS`].
    pub reads: [AtomicU64; 4],
    /// Stores by BAR.
    pub writes: [AtomicU64; 4],
    /// Bytes moved by BAR.
    pub bytes: [AtomicU64; 4],
    /// Stores to registers that are not the guest's to store to.
    pub refused: AtomicU64,
    /// Doorbells, by channel of the guest.
    pub doorbells: [AtomicU64; pfifo::CHANNELS as usize],
    /// TLB flushes of the guest.
    pub flushes: AtomicU64,
    /// Syncs of shadow tables.
    pub syncs: AtomicU64,
    /// Directory and page-table entries of the guest that syncs read.
    pub entries_scanned: AtomicU64,
    /// Entries of shadow tables that syncs wrote.
    pub entries_written: AtomicU64,
    /// Entries of the guest that lead out of its memory.
    pub entries_rejected: AtomicU64,
    /// What the guest was told by interrupt.
    pub events: AtomicU64,
    /// Faults among it.
    pub faults: AtomicU64,
}

/// The BARs that are counted.
pub const BARS: [Bar; 4] = [Bar::Bar0, Bar::Bar1, Bar::Bar3, Bar::Bar5];

impl Default for Counters {
    fn default() -> Self {
        let bars = || [const { AtomicU64::new(0) }; BARS.len()];
        Self {
            reads: bars(),
            writes: bars(),
            bytes: bars(),
            refused: AtomicU64::default(),
            doorbells: [const { AtomicU64::new(0) }; pfifo::CHANNELS as usize],
            flushes: AtomicU64::default(),
            syncs: AtomicU64::default(),
            entries_scanned: AtomicU64::default(),
            entries_written: AtomicU64::default(),
            entries_rejected: AtomicU64::default(),
            events: AtomicU64::default(),
            faults: AtomicU64::default(),
        }
    }
}

fn place(bar: Bar) -> usize {
    match bar {
        Bar::Bar0 => 0,
        Bar::Bar1 => 1,
        Bar::Bar3 => 2,
        Bar::Bar5 => 3,
    }
}

impl Counters {
    /// A load of `len` bytes.
    #[inline]
    pub fn read(&self, bar: Bar, len: usize) {
        self.reads[place(bar)].fetch_add(1, Ordering::Relaxed);
        self.bytes[place(bar)].fetch_add(len as u64, Ordering::Relaxed);
    }

    /// A store of `len` bytes.
    #[inline]
    pub fn write(&self, bar: Bar, len: usize) {
        self.writes[place(bar)].fetch_add(1, Ordering::Relaxed);
        self.bytes[place(bar)].fetch_add(len as u64, Ordering::Relaxed);
    }

    /// What a sync did.
    pub fn add_sync(&self, report: &Report) {
        let add = |counter: &AtomicU64, value| counter.fetch_add(value, Ordering::Relaxed);
        add(&self.syncs, 1);
        add(
            &self.entries_scanned,
            report.pdes_scanned + report.ptes_scanned,
        );
        add(
            &self.entries_written,
            report.pdes_written + report.ptes_written,
        );
        add(&self.entries_rejected, report.rejected.total());
    }
}
