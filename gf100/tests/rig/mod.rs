//! A card that is driven the way a driver drives it, without a driver: channels with page tables,
//! rings and control pages in video memory.

#![allow(dead_code)] // Every user needs another part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gf100::memory::{PhysAddr, Tables};
use gf100::{Bus, Card, Config, Falcons};
use mmio::layout::pushbuffer::{Header, IbEntry, Mode, method};
use mmio::layout::{instance, userd};
use mmio::regs::pmc::Enable;
use mmio::regs::{falcon, pfifo, pmc};
use mmio::{Bar, RegId};

/// Video memory of the card.
pub const VRAM: u64 = 64 << 20;
/// Control pages, in video memory; BAR1 shows video memory.
const USERD: u64 = 0x10_0000;
/// The runlist.
const RUNLIST: u64 = 0x1f_0000;
/// What a channel has of video memory for itself: page tables, ring, methods.
const CHANNELS: u64 = 0x40_0000;
const CHANNEL_SIZE: u64 = 0x20_0000;
/// From a channel's own memory: its ring.
const RING: u64 = 0x10_0000;
/// log2 of the ring's entries.
const RING_ORDER: u32 = 6;
/// From a channel's own memory: its methods.
const METHODS: u64 = 0x11_0000;
const METHODS_SIZE: u64 = 0x8_0000;
/// From a channel's own memory: contexts of the copy engines.
const CONTEXTS: u64 = 0x10_8000;
/// Where a channel's own memory is for itself.
const OWN: u64 = 0x4000_0000;
/// The memory that all channels share, in video memory.
pub const DATA: u64 = 0x200_0000;
/// Bytes of it.
pub const DATA_SIZE: u64 = 0x200_0000;
/// Where the shared memory is for every channel.
pub const DATA_VA: u64 = 0x10_0000_0000;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts messages.
#[derive(Default)]
pub struct Line(AtomicUsize);

impl Line {
    /// Messages so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Bus for Line {
    fn msi(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn intx(&self, level: bool) {
        if level {
            self.msi();
        }
    }
}

/// The card and what its driver remembers.
pub struct Rig {
    pub card: Card,
    pub line: Arc<Line>,
    listed: Vec<u8>,
}

/// A channel as its user sees it.
pub struct Channel {
    pub chid: u8,
    pub tables: Tables,
    own: u64,
    put: u32,
    cursor: u64,
}

impl Rig {
    /// A card with PFIFO set up as nouveau does it, and engines whose firmware is up.
    pub fn new() -> Self {
        Self::slow(0)
    }

    /// One whose engines wait for their firmware.
    pub fn empty() -> Self {
        Self::with(Config {
            falcons: Falcons::Empty,
            ..Config::quadro_6000(VRAM)
        })
    }

    /// One whose engines are so much slower than a Quadro 6000's.
    pub fn slow(slow_motion: u32) -> Self {
        Self::with(Config {
            slow_motion,
            falcons: Falcons::Resident,
            ..Config::quadro_6000(VRAM)
        })
    }

    fn with(config: Config) -> Self {
        let line = Arc::new(Line::default());
        let card = Card::new(config, line.clone()).unwrap();
        let rig = Self {
            card,
            line,
            listed: Vec::new(),
        };
        rig.start();
        rig
    }

    /// Initialises PFIFO, and starts the engines.
    pub fn start(&self) {
        self.write(pmc::ENABLE, 0, !0);
        self.write(pmc::INTR_EN_HOST, 0, 1);
        for unit in 0..3 {
            self.write(pfifo::PBDMA_INTR, unit, !0);
            self.write(pfifo::PBDMA_INTR_EN, unit, 0xffff_feff);
        }
        self.write(pfifo::CTRL, 0, pfifo::CTRL_ENABLE);
        self.write(
            pfifo::BAR1_BASE,
            0,
            pfifo::BAR1_BASE_ENABLE | (USERD >> 12) as u32,
        );
        self.write(pfifo::INTR, 0, !0);
        self.write(pfifo::INTR_EN, 0, 0x7fff_ffff);
        self.write(pfifo::ENGINE_INTR_EN, 0, 1);
        self.start_engines();
    }

    /// Starts the falcons of all engines.
    pub fn start_engines(&self) {
        for base in [falcon::FECS, falcon::CE0, falcon::CE1] {
            self.write(RegId(base + falcon::offset::UC_CTRL), 0, falcon::START);
        }
    }

    /// Loads element `index` of a register.
    pub fn read(&self, register: RegId, index: u32) -> u32 {
        let mut data = [0; 4];
        let at = register.describe().unwrap().offset_of(index);
        self.card.read(Bar::Bar0, at.into(), &mut data);
        u32::from_le_bytes(data)
    }

    /// Stores to element `index` of a register.
    pub fn write(&self, register: RegId, index: u32, value: u32) {
        let at = register.describe().unwrap().offset_of(index);
        self.card.write(Bar::Bar0, at.into(), &value.to_le_bytes());
    }

    /// A channel that is bound, runnable and on the runlist.
    pub fn channel(&mut self, chid: u8) -> Channel {
        let channel = self.prepare(chid);
        self.bind(&channel);
        self.listed.push(chid);
        self.submit_runlist();
        channel
    }

    /// Instance block, page tables and control page of a channel.
    pub fn prepare(&self, chid: u8) -> Channel {
        let own = CHANNELS + CHANNEL_SIZE * u64::from(chid);
        let memory = self.card.memory();
        let vram = memory.vram();
        vram.fill(own, CHANNEL_SIZE, 0);
        let mut tables = Tables::new(memory.clone(), own);
        tables.map(OWN, PhysAddr::vram(own), CHANNEL_SIZE, false);
        tables.map(DATA_VA, PhysAddr::vram(DATA), DATA_SIZE, true);
        assert!(tables.end() <= own + RING, "room for page tables");
        let control = USERD + userd::STRIDE * u64::from(chid);
        vram.fill(control, userd::STRIDE, 0);
        for (offset, value) in [
            (instance::USERD, control as u32),
            (instance::SIGNATURE, instance::SIGNATURE_VALUE),
            (instance::ACQUIRE, 0xffff_f902),
            (instance::GP_BASE, (OWN + RING) as u32),
            (
                instance::GP_BASE_HI,
                ((OWN + RING) >> 32) as u32 | RING_ORDER << 16,
            ),
            (0x54, 2),
            (instance::DMA_STATE_0, 0x2040_0000),
            (instance::SLI, 0x3000_0001),
            (0x9c, 0x100),
            (instance::SUBCHANNEL_ENGINES, 0x1f1f_1f1f),
            (instance::SUBCHANNEL_ENGINES + 4, 0x1f1f_1f1f),
            (instance::CURRENT_ENGINE, 0x1f),
            (0xb8, 0xf800_0000),
            (instance::PB_TIMESLICE, 0x1000_3080),
            (instance::ENG_TIMESLICE, 0x1000_0010),
            (instance::CE0_CONTEXT, (OWN + CONTEXTS) as u32 | 4),
            (instance::CE1_CONTEXT, (OWN + CONTEXTS + 0x1000) as u32 | 4),
        ] {
            vram.store(own + offset, value);
        }
        Channel {
            chid,
            tables,
            own,
            put: 0,
            cursor: 0,
        }
    }

    /// Makes a channel exist and run.
    pub fn bind(&self, channel: &Channel) {
        let word = 3 << 30 | channel.instance().to_channel_word();
        self.write(pfifo::CHAN, channel.chid.into(), word);
        self.write(pfifo::CHAN_STATE, channel.chid.into(), 0x001f_0001);
    }

    /// Takes a channel away as nouveau does.
    pub fn remove(&mut self, channel: &Channel) {
        self.kick(channel.chid);
        self.write(pfifo::CHAN_STATE, channel.chid.into(), 0x001f_0000);
        self.listed.retain(|&chid| chid != channel.chid);
        self.submit_runlist();
        self.write(pfifo::CHAN, channel.chid.into(), 0);
    }

    /// Puts exactly these channels on the runlist.
    pub fn set_runlist(&mut self, channels: &[u8]) {
        self.listed = channels.to_vec();
        self.submit_runlist();
    }

    fn submit_runlist(&self) {
        let vram = self.card.memory().vram();
        for (n, &chid) in self.listed.iter().enumerate() {
            vram.store(RUNLIST + 8 * n as u64, u32::from(chid));
            vram.store(RUNLIST + 8 * n as u64 + 4, 4u32);
        }
        self.write(pfifo::RUNLIST_WR, 0, (RUNLIST >> 12) as u32);
        self.write(
            pfifo::RUNLIST_WR_LEN,
            0,
            0x01f0_0000 | self.listed.len() as u32,
        );
        self.wait("the runlist", || {
            self.read(pfifo::RUNLIST_RD_LEN, 0) & pfifo::RUNLIST_PENDING == 0
        });
    }

    /// Kicks a channel and waits until it is off.
    pub fn kick(&self, chid: u8) {
        self.write(pfifo::KICK, 0, chid.into());
        self.wait("the kick", || self.read(pfifo::KICK, 0) == u32::from(chid));
    }

    /// Toggles an enable bit, and starts what that stopped.
    pub fn reset_unit(&self, unit: Enable) {
        self.write(pmc::ENABLE, 0, !unit.bits());
        self.write(pmc::ENABLE, 0, !0);
        self.start_engines();
    }

    /// The word at `offset` of the shared memory.
    pub fn load(&self, offset: u64) -> u32 {
        self.card.memory().vram().load(DATA + offset)
    }

    /// Stores a word at `offset` of the shared memory.
    pub fn store(&self, offset: u64, value: u32) {
        self.card.memory().vram().store(DATA + offset, value);
    }

    /// Bytes of the shared memory.
    pub fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.card.memory().vram().read(DATA + offset, &mut bytes);
        bytes
    }

    /// Fills `len` bytes of the shared memory with something recognisable and returns it.
    pub fn pattern(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut x = offset as u32 ^ 0x9e37_79b9;
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 24) as u8
            })
            .collect();
        self.card.memory().vram().write(DATA + offset, &bytes);
        bytes
    }

    /// Waits for something.
    #[track_caller]
    pub fn wait(&self, what: &str, mut there: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !there() {
            assert!(begin.elapsed() < PATIENCE, "waiting for {what}");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Waits until a PBDMA has interrupt `bits`, and says which.
    #[track_caller]
    pub fn wait_pbdma(&self, bits: pfifo::PbdmaIntr) -> u32 {
        let find = || (0..3).find(|&unit| self.read(pfifo::PBDMA_INTR, unit) & bits.bits() != 0);
        self.wait(&format!("{bits:?}"), || find().is_some());
        find().unwrap()
    }

    /// Lets a PBDMA go on without the method at hand, as nouveau does.
    pub fn acknowledge_pbdma(&self, unit: u32) {
        let pending = self.read(pfifo::PBDMA_INTR, unit);
        self.write(pfifo::PBDMA_CACHE_ADDR, unit, 0x8060_0008);
        self.write(pfifo::PBDMA_INTR, unit, pending);
    }

    /// Deals with a fault of engine number `engine` as nouveau 6.1 does.
    pub fn recover(&mut self, channel: &Channel, engine: u32, unit: Enable) {
        let chid = channel.chid.into();
        let state = self.read(pfifo::CHAN_STATE, chid);
        self.write(pfifo::CHAN_STATE, chid, state & !1);
        self.listed.retain(|&other| other != channel.chid);
        let frozen = self.read(pfifo::ENG_FREEZE, 0);
        self.write(pfifo::ENG_FREEZE, 0, frozen | 1 << engine);
        self.reset_unit(unit);
        self.submit_runlist();
        self.write(pfifo::ENG_FAULT, 0, 1 << engine);
        self.write(pfifo::ENG_FREEZE, 0, frozen & !(1 << engine));
    }
}

impl Channel {
    /// The instance block.
    pub fn instance(&self) -> PhysAddr {
        PhysAddr::vram(self.own)
    }

    /// A word of the control page, through BAR1.
    pub fn control(&self, rig: &Rig, offset: u64) -> u32 {
        let mut data = [0; 4];
        let at = USERD + userd::STRIDE * u64::from(self.chid) + offset;
        rig.card.read(Bar::Bar1, at, &mut data);
        u32::from_le_bytes(data)
    }

    /// A word of the instance block.
    pub fn ramfc(&self, rig: &Rig, offset: u64) -> u32 {
        rig.card.memory().vram().load(self.own + offset)
    }

    /// The context that copy engine `engine` leaves in memory.
    pub fn context(&self, rig: &Rig, engine: u64) -> [u32; 64] {
        let at = self.own + CONTEXTS + 0x1000 * engine;
        let vram = rig.card.memory().vram();
        std::array::from_fn(|n| vram.load(at + 4 * n as u64))
    }

    /// Writes methods without submitting them; the entry that does.
    pub fn write(&mut self, rig: &Rig, words: &[u32]) -> IbEntry {
        let bytes = words.len() as u64 * 4;
        if self.cursor + bytes > METHODS_SIZE {
            self.cursor = 0;
        }
        let at = METHODS + self.cursor;
        for (n, &word) in words.iter().enumerate() {
            rig.card
                .memory()
                .vram()
                .store(self.own + at + 4 * n as u64, word);
        }
        self.cursor += bytes;
        IbEntry::new(OWN + at, words.len() as u32)
    }

    /// Puts an entry into the ring and rings the doorbell.
    pub fn submit(&mut self, rig: &Rig, entry: IbEntry) {
        let at = self.own + RING + 8 * u64::from(self.put);
        rig.card.memory().vram().store(at, entry.0);
        self.put = (self.put + 1) % (1 << RING_ORDER);
        self.ring(rig, self.put);
    }

    /// Stores the put index.
    pub fn ring(&self, rig: &Rig, put: u32) {
        let at = USERD + userd::STRIDE * u64::from(self.chid) + userd::GP_PUT;
        rig.card.write(Bar::Bar1, at, &put.to_le_bytes());
    }

    /// Submits methods.
    pub fn push(&mut self, rig: &Rig, words: &[u32]) {
        let entry = self.write(rig, words);
        self.submit(rig, entry);
    }

    /// Submits methods and waits until they are done.
    #[track_caller]
    pub fn run(&mut self, rig: &Rig, words: &[u32]) {
        self.push(rig, words);
        self.finish(rig);
    }

    /// As [`Channel::finish`], looking all the time: for benchmarks.
    pub fn finish_busily(&mut self, rig: &Rig) {
        let mark = 0xf00d_0000 + self.put;
        self.push(rig, &incr(0, method::REF_CNT, &[mark]));
        let begin = Instant::now();
        while self.control(rig, userd::REF_CNT) != mark {
            assert!(begin.elapsed() < PATIENCE, "waiting for the channel");
            std::thread::yield_now();
        }
    }

    /// Waits until everything submitted is done.
    #[track_caller]
    pub fn finish(&mut self, rig: &Rig) {
        let mark = 0xf00d_0000 + self.put;
        self.push(rig, &incr(0, method::REF_CNT, &[mark]));
        rig.wait("the channel", || self.control(rig, userd::REF_CNT) == mark);
    }
}

/// Methods from `address` on.
pub fn incr(subchannel: u8, address: u16, data: &[u32]) -> Vec<u32> {
    let mut words = vec![Header::encode(
        Mode::Increasing,
        subchannel,
        address,
        data.len() as u16,
    )];
    words.extend(data);
    words
}

/// A semaphore operation on the shared memory.
pub fn semaphore(offset: u64, sequence: u32, trigger: u32) -> Vec<u32> {
    let at = DATA_VA + offset;
    incr(
        0,
        method::SEMAPHORE_ADDRESS_HIGH,
        &[(at >> 32) as u32, at as u32, sequence, trigger],
    )
}

/// Binds copy engine 0 or 1 to a subchannel.
pub fn bind_copy(subchannel: u8, engine: u32) -> Vec<u32> {
    let class = [0x90b5, 0x90b8][engine as usize];
    incr(subchannel, method::OBJECT, &[class | (4 + engine) << 16])
}

/// A copy within the shared memory, as nouveau does it.
pub fn copy(subchannel: u8, to: u64, from: u64, width: u32, lines: u32) -> Vec<u32> {
    let (to, from) = (DATA_VA + to, DATA_VA + from);
    let mut words = incr(
        subchannel,
        0x30c,
        &[
            (from >> 32) as u32,
            from as u32,
            (to >> 32) as u32,
            to as u32,
            width,
            width,
            width,
            lines,
        ],
    );
    words.push(Header::encode_immediate(subchannel, 0x300, 0x110));
    words
}
