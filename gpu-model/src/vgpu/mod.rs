//! A guest's GF100: what it finds behind its BARs.
//!
//! [`mmio::policy`] says which registers are the guest's own, which the aggregator translates and
//! which are the card's. State of the guest is behind locks of its own: nothing here waits for
//! another guest's work.

mod apertures;
mod bar0;
mod config_space;
mod copies;
mod deferred;
mod doorbells;
mod engines;
mod events;
mod falcon;
mod interrupts;
mod mapping;
mod memory;
mod pfifo;
mod registers;
mod timer;
mod watch;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mmio::layout::pagetable::Geometry;
use mmio::regs::{PRAMIN, PROM, board, pfb};
use mmio::{Bar, RegisterMap, Unit, VmId};
use parking_lot::Mutex;
use shadow_pt::WriteTracker;

use self::apertures::Windows;
use self::config_space::ConfigSpace;
use self::doorbells::Doorbells;
use self::events::Events;
use self::falcon::Falcons;
use self::interrupts::Interrupts;
pub use self::interrupts::Slot;
use self::mapping::Mapped;
pub use self::mapping::{Mapper, Piece};
use self::memory::{Around, Memory};
use self::pfifo::Channels;
use self::registers::RegisterFile;
use self::timer::Timer;
use self::watch::Watch;
use crate::aggregator::{Aggregator, HostMethod};
use crate::card::Protection;
use crate::counters::{Counters, Range, Value};
use crate::optimisations::Optimisations;
use crate::partition::Partition;
use crate::tracking::Tracking;

/// Registers of configuration space for BARs.
const BARS: usize = 6;

/// How long a reset waits for channels that the card does not give up, and how often it looks.
const LATE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);

/// The virtual card of one machine. Accesses may come from several threads at once.
pub struct VirtualGpu {
    host: Arc<Aggregator>,
    partition: Partition,
    /// Bytes of the BARs, by their index.
    bars: [u64; BARS],
    map: &'static RegisterMap,
    file: RegisterFile,
    config: ConfigSpace,
    interrupts: Arc<Interrupts>,
    falcons: Falcons,
    timer: Timer,
    channels: Mutex<Channels>,
    doorbells: Doorbells,
    windows: Mutex<Windows>,
    memory: Mutex<Memory>,
    /// Shadow tables may be behind the guest's: changed with the lock of `memory` held.
    put_off: AtomicBool,
    events: Mutex<Events>,
    /// Methods from the host side, for the first context.
    methods: Mutex<Vec<HostMethod>>,
    /// The card has not given up a channel that was killed.
    lingering: AtomicBool,
    /// It was one of a machine that left: until the card gives it up, nobody gets what it had.
    absent: AtomicBool,
    watch: Watch,
    mapped: Mutex<Mapped>,
    /// Where in the card's memory a mapping cannot go on.
    seams: Vec<u64>,
    /// Which pages of the guest's video memory it may have stored to.
    tracker: Box<dyn WriteTracker>,
    tracking: Tracking,
    /// The tracker's decisions come into force one by one.
    settling: Mutex<()>,
    /// The guest may have left something in its memory: it stored to a BAR.
    touched: AtomicBool,
    /// The bits of [`Optimisations`].
    optimisations: AtomicU32,
    counters: Arc<Counters>,
}

impl VirtualGpu {
    /// The virtual card of machine `vm`, in its power-on state, with clean memory.
    ///
    /// # Errors
    ///
    /// The host has no thread for it.
    pub fn new(
        host: Arc<Aggregator>,
        vm: VmId,
        slot: Arc<dyn Slot>,
        optimisations: Optimisations,
        tracking: Tracking,
    ) -> io::Result<Self> {
        let partition = host.layout().partition(vm);
        let mut bars = [0; BARS];
        for bar in [Bar::Bar0, Bar::Bar1, Bar::Bar3, Bar::Bar5] {
            let own = match bar {
                Bar::Bar1 => partition.bars.bar1,
                Bar::Bar3 => partition.bars.bar3,
                Bar::Bar0 | Bar::Bar5 => None,
            };
            bars[bar.index()] = own.unwrap_or_else(|| host.card().bar_size(bar));
        }
        let interrupts = Arc::new(Interrupts::new(slot));
        let gpu = Self {
            map: RegisterMap::gf100(),
            file: RegisterFile::new(host.card()),
            config: ConfigSpace::new(host.card(), |bar| bars[bar.index()]),
            falcons: Falcons::default(),
            timer: Timer::new(host.clone(), interrupts.clone())?,
            interrupts,
            channels: Mutex::default(),
            doorbells: Doorbells::default(),
            windows: Mutex::default(),
            memory: Mutex::new(Memory::new(&partition).map_err(io::Error::other)?),
            put_off: AtomicBool::new(false),
            events: Mutex::default(),
            methods: Mutex::default(),
            lingering: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            watch: Watch::new(partition.vram_size()),
            mapped: Mutex::default(),
            seams: host.stretches().seams(&partition.vram),
            tracker: tracking.tracker(partition.vram_size()),
            tracking,
            settling: Mutex::default(),
            touched: AtomicBool::new(true),
            optimisations: AtomicU32::new(optimisations.bits()),
            counters: host.counters(vm).clone(),
            partition,
            bars,
            host,
        };
        gpu.scrub();
        gpu.describe();
        Ok(gpu)
    }

    /// Whose it is.
    pub fn vm(&self) -> VmId {
        self.partition.vm
    }

    /// What it has of the card.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// What it has cost.
    pub fn counters(&self) -> Vec<Value> {
        let mut values = self.counters.values();
        values.push(Value {
            name: "messages",
            range: None,
            channel: None,
            engine: None,
            value: self.interrupts.sent(),
        });
        values
    }

    /// How it does its work.
    pub fn optimisations(&self) -> Optimisations {
        Optimisations::from_bits_truncate(self.optimisations.load(Ordering::Relaxed))
    }

    /// How it knows what its guest stored to page tables.
    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    /// How it does its work from now on.
    pub fn set_optimisations(&self, optimisations: Optimisations) {
        self.switch_doorbells(optimisations);
        // What was put off may be asked for by nobody any more.
        self.memory.lock().catch_up(&self.around());
        self.remap_all();
        self.defer_again();
    }

    fn store_optimisations(&self, optimisations: Optimisations) {
        let bits = optimisations.bits();
        self.optimisations.store(bits, Ordering::Relaxed);
    }

    fn around(&self) -> Around<'_> {
        Around {
            host: &self.host,
            partition: &self.partition,
            tracker: &*self.tracker,
            counters: &self.counters,
            optimisations: self.optimisations(),
            geometry: self.geometry(),
        }
    }

    /// The size of large pages that the guest set: how its tables are read. The card's own stays as
    /// it is.
    fn geometry(&self) -> Geometry {
        pfb::geometry(self.file.read(pfb::MMU_CTRL.offset()))
    }

    /// Bytes of a BAR.
    pub fn bar_size(&self, bar: Bar) -> u64 {
        self.bars[bar.index()]
    }

    /// Whether it answers. It does not while the card still works for a machine that left.
    pub fn is_present(&self) -> bool {
        !self.absent.load(Ordering::Acquire)
    }

    /// Takes back what channels had that the card has given up meanwhile.
    pub(crate) fn reclaim(&self) {
        if !self.lingering.load(Ordering::Acquire) {
            return;
        }
        {
            // Under the lock: a channel that is killed meanwhile leaves its tables after this.
            let mut memory = self.memory.lock();
            if !self.host.are_gone(self.vm()) {
                return;
            }
            memory.release(&self.host);
            self.lingering.store(false, Ordering::SeqCst);
        }
        if self.absent.load(Ordering::SeqCst) {
            // The card may have written until now.
            self.touched.store(true, Ordering::Release);
            self.scrub();
            self.absent.store(false, Ordering::Release);
        }
    }

    /// Loads from configuration space.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        if !self.is_present() {
            return data.fill(0xff);
        }
        self.config.read(offset, data, self.interrupts.asserted());
    }

    /// Stores to configuration space.
    pub fn config_write(&self, offset: u64, data: &[u8]) {
        if !self.is_present() {
            return;
        }
        let signalling = self.config.write(offset, data);
        self.interrupts.configure(signalling);
    }

    /// Loads from a BAR, in any length and alignment; what is not there reads as ones.
    pub fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        self.counters.read(self.range(bar, offset), data.len());
        if !self.inside(bar, offset, data.len()) || !self.is_present() {
            return data.fill(0xff);
        }
        match bar {
            Bar::Bar0 => self.registers_read(offset as u32, data),
            Bar::Bar1 | Bar::Bar3 => self.aperture_read(bar, offset, data),
            // The ports that a VBIOS uses in real mode; nothing runs one.
            Bar::Bar5 => data.fill(0),
        }
    }

    /// Stores to a BAR, in any length and alignment; what is not there is dropped.
    pub fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        self.counters.write(self.range(bar, offset), data.len());
        if !self.inside(bar, offset, data.len()) || !self.is_present() {
            return;
        }
        // Most of the time it has been: the line is shared by all processors.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Release);
        }
        match bar {
            Bar::Bar0 => self.registers_write(offset as u32, data),
            Bar::Bar1 | Bar::Bar3 => self.aperture_write(bar, offset, data),
            Bar::Bar5 => {}
        }
    }

    /// What byte `offset` of a BAR belongs to.
    #[inline]
    fn range(&self, bar: Bar, offset: u64) -> Range {
        match bar {
            Bar::Bar0 => {
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                if PRAMIN.contains(&offset) {
                    Range::Unit(Unit::Pramin)
                } else if PROM.contains(&offset) {
                    Range::Unit(Unit::Prom)
                } else {
                    let at = self.map.lookup(offset);
                    at.map_or(Range::Unlisted, |at| Range::Unit(at.register.unit))
                }
            }
            Bar::Bar1 if self.userd(offset).is_some() => Range::Userd,
            Bar::Bar1 => Range::Bar1,
            Bar::Bar3 => Range::Bar3,
            Bar::Bar5 => Range::Bar5,
        }
    }

    fn inside(&self, bar: Bar, offset: u64, len: usize) -> bool {
        let end = offset.checked_add(len as u64);
        end.is_some_and(|end| end <= self.bar_size(bar))
    }

    /// Shows `size` bytes of RAM at guest-physical `address` to the card.
    ///
    /// # Errors
    ///
    /// They are not the guest's to have, the card cannot map them, or it is not
    /// [present](Self::is_present).
    pub fn dma_map(
        &self,
        address: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        if !self.is_present() {
            return Err(io::Error::other(
                "The card still works for the machine that had this GPU before",
            ));
        }
        let range = (address, size);
        let mut memory = self.memory.lock();
        memory.map(&self.around(), range, protection, (file, offset))
    }

    /// Takes the RAM inside `size` bytes at guest-physical `address` away from the card.
    pub fn dma_unmap(&self, address: u64, size: u64) {
        let mut memory = self.memory.lock();
        memory.unmap(&self.around(), address, size);
    }

    /// A function-level reset, which a machine that leaves ends with: its channels are dead, its
    /// video memory is clean, its registers are as after power-on. If the card does not give a
    /// channel up, the virtual card is not [present](Self::is_present) until it does.
    pub fn reset(&self) {
        self.reset_fifo();
        // Before the look: whoever takes the channels back after it sees that nobody is there.
        self.absent.store(true, Ordering::SeqCst);
        if !self.lingering.load(Ordering::SeqCst) {
            self.absent.store(false, Ordering::SeqCst);
        }
        *self.windows.lock() = Windows::default();
        self.methods.lock().clear();
        self.falcons.reset(0..u32::MAX);
        self.timer.reset();
        self.config.reset();
        self.file.reset(0..u32::MAX);
        self.interrupts.reset();
        // After a reset there are no tables behind the BARs.
        self.remap_all();
        self.scrub();
        self.describe();
        // Mostly the card is only late, and the next machine need not know.
        let begin = Instant::now();
        while !self.is_present() && begin.elapsed() < LATE {
            std::thread::sleep(LOOK);
            self.reclaim();
        }
    }

    /// Clears the guest's video memory, unless it is clean still.
    fn scrub(&self) {
        let touched = self.touched.swap(false, Ordering::AcqRel);
        // What is stored through mappings is not seen here.
        if !touched && !self.mapped.lock().is_possible() {
            return;
        }
        let Partition { vram, tables, .. } = &self.partition;
        for range in [vram, tables] {
            self.host.scrub(range.start, range.end - range.start);
        }
        self.mapped.lock().forget();
    }

    /// Writes what the guest has to its registers.
    fn describe(&self) {
        let mib = (self.partition.vram_size() >> 20) as u32;
        // As many controllers as the memory can be spread over evenly, six at most.
        let controllers = (1..=6).rev().find(|n| mib.is_multiple_of(*n)).unwrap_or(1);
        self.file.write(board::FBP_COUNT.offset(), controllers);
        self.file
            .write(pfb::PARTITION_SIZE_ALL.offset(), mib / controllers);
        for offset in pfb::PARTITION_SIZE.elements().take(controllers as usize) {
            self.file.write(offset, mib / controllers);
        }
        self.describe_falcons();
    }
}
