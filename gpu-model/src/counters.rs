//! What a machine costs, by machine and by channel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mmio::regs::pfifo;
use mmio::{Bar, Unit};
use shadow_pt::Report;

/// Engines that work is done by: numbers and names.
const ENGINES: [(u32, &str); 3] = [(0, "gr"), (4, "ce0"), (5, "ce1")];

/// A part of the BARs that accesses are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Registers of a unit of BAR0.
    Unit(Unit),
    /// Offsets of BAR0 at which no register is known.
    Unlisted,
    /// Control pages of channels, in BAR1.
    Userd,
    /// The rest of BAR1.
    Bar1,
    /// BAR3.
    Bar3,
    /// The I/O ports.
    Bar5,
}

/// The number of ranges.
const RANGES: usize = Unit::COUNT + 5;

impl Range {
    fn index(self) -> usize {
        match self {
            Self::Unit(unit) => unit as usize,
            Self::Unlisted => Unit::COUNT,
            Self::Userd => Unit::COUNT + 1,
            Self::Bar1 => Unit::COUNT + 2,
            Self::Bar3 => Unit::COUNT + 3,
            Self::Bar5 => Unit::COUNT + 4,
        }
    }

    /// The BAR and the name of the range with this index.
    fn name(index: usize) -> (Bar, &'static str) {
        const UNITS: [&str; Unit::COUNT] = [
            "pmc", "pbus", "pfifo", "ptimer", "pfb", "pltc", "pclk", "ptherm", "pgpio", "pfuse",
            "ppriv", "ppci", "ppmu", "pce", "pdisp", "pgraph", "prom", "pramin",
        ];
        match index.checked_sub(Unit::COUNT) {
            None => (Bar::Bar0, UNITS[index]),
            Some(0) => (Bar::Bar0, "unlisted"),
            Some(1) => (Bar::Bar1, "userd"),
            Some(2) => (Bar::Bar1, "memory"),
            Some(3) => (Bar::Bar3, "memory"),
            Some(_) => (Bar::Bar5, "ports"),
        }
    }
}

/// The accesses to a range that came here.
#[derive(Debug, Default)]
struct Accesses {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

/// What a channel costs.
#[derive(Debug, Default)]
struct Channel {
    doorbells: AtomicU64,
    faults: AtomicU64,
    queue_wait_ns: AtomicU64,
    engine_ns: [AtomicU64; ENGINES.len()],
}

/// The counters of one machine. All only grow. No other machine's are in the same cache lines, nor in
/// those that are fetched along with them.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    accesses: [Accesses; RANGES],
    channels: [Channel; pfifo::CHANNELS as usize],
    /// Stores to registers that are not the guest's to store to.
    pub refused: AtomicU64,
    /// TLB flushes of the guest.
    pub flushes: AtomicU64,
    /// Syncs of shadow tables.
    pub syncs: AtomicU64,
    /// Syncs that a flush asked for and that were put off until the tables were used.
    pub syncs_deferred: AtomicU64,
    /// Time in syncs.
    pub sync_ns: AtomicU64,
    /// Directory and page-table entries of the guest that syncs read.
    pub entries_scanned: AtomicU64,
    /// Entries of shadow tables that syncs wrote.
    pub entries_written: AtomicU64,
    /// Those of them that became empty.
    pub entries_emptied: AtomicU64,
    /// Bytes that syncs read from the guest's tables.
    pub sync_bytes_read: AtomicU64,
    /// Bytes that syncs wrote to shadow tables.
    pub sync_bytes_written: AtomicU64,
    /// Entries of the guest that lead out of its memory.
    pub entries_rejected: AtomicU64,
    /// Bytes that were written to shadow instance blocks.
    pub block_bytes_written: AtomicU64,
    /// Stores to instance blocks that were mirrored.
    pub mirrored: AtomicU64,
    /// What the guest was told by interrupt.
    pub events: AtomicU64,
    /// Channels that were killed because others waited for them.
    pub hangs: AtomicU64,
}

/// A counter as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What was counted; the end of the name is the unit, if it is none of things.
    pub name: &'static str,
    /// Where accesses went.
    pub range: Option<(Bar, &'static str)>,
    /// Whose channel, by the guest's number.
    pub channel: Option<u32>,
    /// Which engine.
    pub engine: Option<&'static str>,
    /// How much.
    pub value: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            accesses: std::array::from_fn(|_| Accesses::default()),
            channels: std::array::from_fn(|_| Channel::default()),
            refused: AtomicU64::default(),
            flushes: AtomicU64::default(),
            syncs: AtomicU64::default(),
            syncs_deferred: AtomicU64::default(),
            sync_ns: AtomicU64::default(),
            entries_scanned: AtomicU64::default(),
            entries_written: AtomicU64::default(),
            entries_emptied: AtomicU64::default(),
            sync_bytes_read: AtomicU64::default(),
            sync_bytes_written: AtomicU64::default(),
            entries_rejected: AtomicU64::default(),
            block_bytes_written: AtomicU64::default(),
            mirrored: AtomicU64::default(),
            events: AtomicU64::default(),
            hangs: AtomicU64::default(),
        }
    }
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Ordering::Relaxed);
}

fn add_time(counter: &AtomicU64, time: Duration) {
    add(counter, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

impl Counters {
    /// A load of `len` bytes.
    #[inline]
    pub fn read(&self, range: Range, len: usize) {
        let accesses = &self.accesses[range.index()];
        add(&accesses.reads, 1);
        add(&accesses.bytes_read, len as u64);
    }

    /// A store of `len` bytes.
    #[inline]
    pub fn write(&self, range: Range, len: usize) {
        let accesses = &self.accesses[range.index()];
        add(&accesses.writes, 1);
        add(&accesses.bytes_written, len as u64);
    }

    /// One more.
    pub fn count(&self, counter: &AtomicU64) {
        add(counter, 1);
    }

    fn channel(&self, channel: u32) -> Option<&Channel> {
        self.channels.get(channel as usize)
    }

    /// A doorbell of a channel of the guest.
    pub fn add_doorbell(&self, channel: u32) {
        if let Some(channel) = self.channel(channel) {
            add(&channel.doorbells, 1);
        }
    }

    /// A fault of a channel of the guest.
    pub fn add_fault(&self, channel: u32) {
        if let Some(channel) = self.channel(channel) {
            add(&channel.faults, 1);
        }
    }

    /// A submission of a channel waited that long for its turn.
    pub fn add_queue_wait(&self, channel: u32, time: Duration) {
        if let Some(channel) = self.channel(channel) {
            add_time(&channel.queue_wait_ns, time);
        }
    }

    /// The engine with this number worked that long for a channel.
    pub fn add_engine_time(&self, number: u32, channel: u32, time: Duration) {
        let engine = ENGINES.iter().position(|(engine, _)| *engine == number);
        if let (Some(channel), Some(engine)) = (self.channel(channel), engine) {
            add_time(&channel.engine_ns[engine], time);
        }
    }

    /// So many bytes were written to a shadow instance block.
    pub fn add_block_bytes(&self, len: u64) {
        add(&self.block_bytes_written, len);
    }

    /// What a sync did, and how long that took.
    pub fn add_sync(&self, report: &Report, time: Duration) {
        add(&self.syncs, 1);
        add_time(&self.sync_ns, time);
        add(
            &self.entries_scanned,
            report.pdes_scanned + report.ptes_scanned,
        );
        add(
            &self.entries_written,
            report.pdes_written + report.ptes_written,
        );
        add(&self.entries_emptied, report.ptes_emptied);
        add(&self.sync_bytes_read, 4 * report.words_read);
        add(&self.sync_bytes_written, 4 * report.words_written);
        add(&self.entries_rejected, report.rejected.total());
    }

    /// All counters that have counted anything, and those of the machine as a whole.
    pub fn values(&self) -> Vec<Value> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let plain = |name, counter| Value {
            name,
            range: None,
            channel: None,
            engine: None,
            value: load(counter),
        };
        let mut values = vec![
            plain("stores_refused", &self.refused),
            plain("tlb_flushes", &self.flushes),
            plain("syncs", &self.syncs),
            plain("syncs_deferred", &self.syncs_deferred),
            plain("sync_ns", &self.sync_ns),
            plain("entries_scanned", &self.entries_scanned),
            plain("entries_written", &self.entries_written),
            plain("entries_emptied", &self.entries_emptied),
            plain("sync_read_bytes", &self.sync_bytes_read),
            plain("sync_written_bytes", &self.sync_bytes_written),
            plain("entries_rejected", &self.entries_rejected),
            plain("block_written_bytes", &self.block_bytes_written),
            plain("stores_mirrored", &self.mirrored),
            plain("events", &self.events),
            plain("hangs", &self.hangs),
        ];
        for (index, accesses) in self.accesses.iter().enumerate() {
            let range = Some(Range::name(index));
            let of = |name, counter| Value {
                range,
                ..plain(name, counter)
            };
            values.extend(
                [
                    of("reads", &accesses.reads),
                    of("writes", &accesses.writes),
                    of("read_bytes", &accesses.bytes_read),
                    of("written_bytes", &accesses.bytes_written),
                ]
                .into_iter()
                .filter(|value| value.value != 0),
            );
        }
        for (number, channel) in (0..).zip(&self.channels) {
            let of = |name, counter| Value {
                channel: Some(number),
                ..plain(name, counter)
            };
            let engines = ENGINES.iter().zip(&channel.engine_ns);
            let engines = engines.map(|((_, engine), time)| Value {
                engine: Some(engine),
                ..of("engine_ns", time)
            });
            values.extend(
                [
                    of("doorbells", &channel.doorbells),
                    of("faults", &channel.faults),
                    of("queue_wait_ns", &channel.queue_wait_ns),
                ]
                .into_iter()
                .chain(engines)
                .filter(|value| value.value != 0),
            );
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_counted_where_it_went() {
        let counters = Counters::default();
        counters.write(Range::Unit(Unit::Pramin), 8);
        counters.write(Range::Unit(Unit::Pramin), 4);
        let values = counters.values();
        let of = |name| values.iter().find(|value| value.name == name);
        let bytes = of("written_bytes").unwrap();
        assert_eq!(bytes.range, Some((Bar::Bar0, "pramin")));
        assert_eq!(bytes.value, 12);
        assert_eq!(of("reads"), None);
    }

    #[test]
    fn time_is_kept_by_channel_and_engine() {
        let counters = Counters::default();
        counters.add_engine_time(5, 3, Duration::from_nanos(7));
        counters.add_engine_time(1, 3, Duration::from_nanos(9));
        counters.add_engine_time(5, 4000, Duration::from_nanos(9));
        let times: Vec<_> = counters
            .values()
            .into_iter()
            .filter(|value| value.engine.is_some())
            .collect();
        assert_eq!(times.len(), 1);
        assert_eq!(
            (times[0].channel, times[0].engine, times[0].value),
            (Some(3), Some("ce1"), 7)
        );
    }
}
