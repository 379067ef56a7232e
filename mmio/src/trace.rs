//! Watching accesses: a line per access for files, and a census that costs little.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::map::Window;
use crate::{Access, Bar, Direction, RegisterMap, VmId};

/// Someone who is shown every access after it was done.
pub trait Observer: Send + Sync {
    /// An access and the value that it moved, zero-extended.
    fn observe(&self, access: &Access, value: u64);
}

/// One access as a trace file keeps it: a JSON object on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Nanoseconds since the trace began.
    pub t: u64,
    /// The machine.
    pub vm: VmId,
    /// Its CPU.
    pub vcpu: u8,
    /// The aperture.
    pub bar: Bar,
    /// Load or store.
    pub dir: Direction,
    /// Bytes from the start of the BAR.
    pub offset: u64,
    /// Bytes moved.
    pub width: u8,
    /// What was moved.
    pub value: u64,
    /// The register's name, in BAR0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The fields that are set, where the register has named ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<String>,
}

impl Record {
    fn new(t: u64, access: &Access, value: u64) -> Self {
        let mut record = Self {
            t,
            vm: access.vm,
            vcpu: access.vcpu,
            bar: access.bar,
            dir: access.direction,
            offset: access.offset,
            width: access.width.bytes() as u8,
            value,
            name: None,
            fields: None,
        };
        if let (Bar::Bar0, Ok(offset)) = (access.bar, u32::try_from(access.offset)) {
            let map = RegisterMap::gf100();
            record.name = map.name(offset);
            record.fields = map
                .lookup(offset)
                .and_then(|hit| hit.register.fields)
                .map(|fields| fields(value as u32));
        }
        record
    }
}

/// Writes a [`Record`] for each access.
pub struct Recorder {
    began: Instant,
    /// `None` once a write failed.
    out: Mutex<Option<Box<dyn Write + Send>>>,
}

impl Recorder {
    /// Records to `out`, which should be buffered.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            began: Instant::now(),
            out: Mutex::new(Some(out)),
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or a record before it could not.
    pub fn flush(&self) -> io::Result<()> {
        match self.lock().as_mut() {
            Some(out) => out.flush(),
            None => Err(io::Error::other(
                "The trace ended early: it could not be written",
            )),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Box<dyn Write + Send>>> {
        self.out
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Observer for Recorder {
    fn observe(&self, access: &Access, value: u64) {
        let record = Record::new(self.began.elapsed().as_nanos() as u64, access, value);
        let mut slot = self.lock();
        let written = slot.as_mut().map(|out| {
            serde_json::to_writer(&mut *out, &record)?;
            out.write_all(b"\n")
        });
        if matches!(written, Some(Err(_))) {
            *slot = None;
        }
    }
}

/// Accesses of one BAR.
#[derive(Debug, Default)]
struct Traffic {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
}

/// Counts accesses per BAR, and per register of BAR0.
#[derive(Default)]
pub struct Census {
    traffic: [Traffic; 4],
    registers: Mutex<HashMap<u32, [u64; 2]>>,
    /// Accesses to registers beyond [`Census::MOST_REGISTERS`].
    uncounted: AtomicU64,
}

/// What was counted for one BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarCount {
    /// The BAR.
    pub bar: Bar,
    /// Loads.
    pub reads: u64,
    /// Stores.
    pub writes: u64,
    /// Bytes moved both ways.
    pub bytes: u64,
}

/// What was counted for one register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterCount {
    /// Offset in BAR0.
    pub offset: u32,
    /// Its name; `None` for a register that the map does not list.
    pub name: Option<String>,
    /// Loads.
    pub reads: u64,
    /// Stores.
    pub writes: u64,
}

impl Census {
    /// Registers told apart; a guest that touches more is counted together.
    pub const MOST_REGISTERS: usize = 1 << 16;

    const BARS: [Bar; 4] = [Bar::Bar0, Bar::Bar1, Bar::Bar3, Bar::Bar5];

    /// Counts per BAR.
    pub fn bars(&self) -> Vec<BarCount> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        std::iter::zip(Self::BARS, &self.traffic)
            .map(|(bar, traffic)| BarCount {
                bar,
                reads: load(&traffic.reads),
                writes: load(&traffic.writes),
                bytes: load(&traffic.bytes),
            })
            .collect()
    }

    /// Counts per register, busiest first.
    pub fn registers(&self) -> Vec<RegisterCount> {
        let map = RegisterMap::gf100();
        let registers = self
            .registers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut counts: Vec<_> = registers
            .iter()
            .map(|(&offset, &[reads, writes])| RegisterCount {
                offset,
                name: map.name(offset),
                reads,
                writes,
            })
            .collect();
        counts.sort_by_key(|count| (std::cmp::Reverse(count.reads + count.writes), count.offset));
        counts
    }

    /// Accesses to BAR0 that [`Census::registers`] leaves out.
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }
}

impl Observer for Census {
    fn observe(&self, access: &Access, _value: u64) {
        let at = Self::BARS
            .iter()
            .position(|bar| *bar == access.bar)
            .unwrap_or(0);
        let traffic = &self.traffic[at];
        let (counter, column) = match access.direction {
            Direction::Read => (&traffic.reads, 0),
            Direction::Write => (&traffic.writes, 1),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        traffic
            .bytes
            .fetch_add(access.width.bytes() as u64, Ordering::Relaxed);
        if let (Bar::Bar0, Ok(offset)) = (access.bar, u32::try_from(access.offset & !3)) {
            // Words of memory are no registers: a window counts as one.
            let offset = Window::at(offset).map_or(offset, |window| window.range.start);
            let mut registers = self
                .registers
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if registers.len() >= Self::MOST_REGISTERS && !registers.contains_key(&offset) {
                self.uncounted.fetch_add(1, Ordering::Relaxed);
            } else {
                registers.entry(offset).or_default()[column] += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Width;
    use crate::regs::pmc;

    fn access(offset: u64, direction: Direction) -> Access {
        Access {
            vm: VmId(0),
            vcpu: 0,
            bar: Bar::Bar0,
            offset,
            width: Width::Dword,
            direction,
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_recorded_line_reads_back_with_name_and_fields() {
        let out = Shared::default();
        let recorder = Recorder::new(Box::new(out.clone()));
        let offset = pmc::INTR_HOST.offset().into();
        recorder.observe(&access(offset, Direction::Read), 0x1100);
        recorder.flush().unwrap();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let record: Record = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(record.name.as_deref(), Some("PMC.INTR_HOST[0]"));
        assert_eq!(record.fields.as_deref(), Some("PFIFO | PGRAPH"));
        assert_eq!((record.offset, record.value), (offset, 0x1100));
    }

    #[test]
    fn the_census_tells_listed_from_unlisted_registers() {
        let census = Census::default();
        census.observe(&access(0x140, Direction::Write), 1);
        for _ in 0..3 {
            census.observe(&access(0x00ab_cdec, Direction::Read), 0);
        }
        let counts = census.registers();
        assert_eq!(
            (counts[0].offset, counts[0].name.as_deref(), counts[0].reads),
            (0x00ab_cdec, None, 3)
        );
        assert_eq!(counts[1].name.as_deref(), Some("PMC.INTR_EN_HOST[0]"));
        assert_eq!(census.bars()[0].bytes, 16);
    }

    #[test]
    fn the_census_is_bounded() {
        let census = Census::default();
        // From behind the windows on.
        for word in 0..Census::MOST_REGISTERS as u64 + 5 {
            census.observe(&access(0x0100_0000 + word * 4, Direction::Read), 0);
        }
        assert_eq!(census.registers().len(), Census::MOST_REGISTERS);
        assert_eq!(census.uncounted(), 5);
    }
}
