//! Two machines whose drivers are a few lines each.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpu_model::{Card, Direct, Dispatcher, Host, Optimisations, Protection, Settings, VirtualGpu};
use mmio::layout::pagetable::{Aperture, Pde, Pte, TablePointer};
use mmio::layout::pushbuffer::{Header, IbEntry, Mode, method};
use mmio::layout::{instance, userd};
use mmio::regs::{PRAMIN, pbus, pfifo, pmc};
use mmio::{Bar, RegId};

use super::rig::{Bars, EACH, Machines, soft_card};

const RAM: u64 = 1 << 20;

/// The guest's video memory. All is in the first MiB, where PRAMIN looks after reset.
pub const CHANNEL: u64 = 0x1_0000;
const BAR1: u64 = 0x1_1000;
const RUNLIST: u64 = 0x1_2000;
pub const USERD: u64 = 0x1_3000;
const RING: u64 = 0x1_4000;
pub const DIRECTORY: u64 = 0x2_0000;
const TABLE: u64 = 0x4_0000;
pub const RESULT: u64 = 0x9_0000;
const WORK: u64 = 0x9_2000;
const CONTEXT: u64 = 0x9_3000;
/// What copies are made from, and behind it what they are made to.
const DATA: u64 = 0x10_0000;

/// Virtual pages of the channel: ring, pushbuffer behind it, result in VRAM, result in RAM, and one
/// that is beyond the partition.
const VA_RING: u64 = 0x1000;
pub const VA_VRAM: u64 = 0x2000;
pub const VA_RAM: u64 = 0x3000;
pub const VA_FOREIGN: u64 = 0x4000;
pub const VA_USERD: u64 = 0x5000;
/// The pushbuffer of copies, the copy engine's context, and what is copied.
const VA_WORK: u64 = 0x6000;
const VA_CONTEXT: u64 = 0x7000;
const VA_DATA: u64 = 0x10_0000;
/// Bytes of a line of a copy, and most lines.
const LINE: u32 = 0x8000;
const LINES: u32 = 512;
/// The subchannel of copies, and the words of one.
const COPY: u8 = 4;
const COPY_WORDS: u32 = 12;

/// A guest's driver, as far as the tests need one.
pub struct Guest {
    pub gpu: Arc<VirtualGpu>,
    ram: File,
    pub put: u32,
}

impl Guest {
    fn new(gpu: Arc<VirtualGpu>) -> Self {
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(RAM).unwrap();
        let all = Protection {
            read: true,
            write: true,
        };
        gpu.dma_map(0, RAM, all, ram.try_clone().unwrap(), 0)
            .unwrap();
        Self { gpu, ram, put: 0 }
    }

    pub fn set(&self, register: RegId, value: u32) {
        self.gpu.store(register.offset(), value);
    }

    pub fn get(&self, register: RegId) -> u32 {
        self.gpu.load(register.offset())
    }

    pub fn poke(&self, address: u64, value: u64) {
        let at = u64::from(PRAMIN.start) + address;
        self.gpu.write(Bar::Bar0, at, &value.to_le_bytes());
    }

    pub fn peek(&self, address: u64) -> u32 {
        let mut word = [0; 4];
        let at = u64::from(PRAMIN.start) + address;
        self.gpu.read(Bar::Bar0, at, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn ram(&self, address: u64) -> u32 {
        let mut word = [0; 4];
        self.ram.read_exact_at(&mut word, address).unwrap();
        u32::from_le_bytes(word)
    }

    pub fn map(&self, va: u64, pte: Pte) {
        self.poke(TABLE + va / 0x1000 * 8, pte.0);
    }

    /// Builds an address space and a channel, and lets it run.
    pub fn start(&self) {
        self.set(pmc::ENABLE, 0);
        self.set(pmc::ENABLE, u32::MAX);
        let table = TablePointer {
            aperture: Aperture::Vram,
            address: TABLE,
            volatile: false,
        };
        self.poke(DIRECTORY, Pde::new(None, Some(table)).0);
        self.map(VA_RING, Pte::new(Aperture::Vram, RING));
        self.map(VA_VRAM, Pte::new(Aperture::Vram, RESULT));
        self.map(VA_RAM, Pte::new(Aperture::SysCoherent, 0x8000));
        self.map(VA_FOREIGN, Pte::new(Aperture::Vram, EACH));
        self.map(VA_USERD, Pte::new(Aperture::Vram, USERD));
        self.map(VA_WORK, Pte::new(Aperture::Vram, WORK));
        self.map(VA_CONTEXT, Pte::new(Aperture::Vram, CONTEXT));
        for page in (0..2 * u64::from(LINES * LINE)).step_by(0x1000) {
            self.map(VA_DATA + page, Pte::new(Aperture::Vram, DATA + page));
        }
        for block in [CHANNEL, BAR1] {
            self.poke(block + instance::PAGE_DIR_BASE, DIRECTORY);
            self.poke(block + instance::ADDR_LIMIT, (1 << 40) - 1);
        }
        self.poke(CHANNEL + instance::USERD, USERD);
        self.poke(
            CHANNEL + instance::SIGNATURE,
            instance::SIGNATURE_VALUE.into(),
        );
        self.poke(CHANNEL + instance::GP_BASE, VA_RING | 9 << 48);
        self.poke(CHANNEL + instance::CE0_CONTEXT, VA_CONTEXT | 4);
        self.set(pbus::BAR1_BLOCK, 1 << 31 | (BAR1 >> 12) as u32);
        self.set(
            pfifo::BAR1_BASE,
            pfifo::BAR1_BASE_ENABLE | (VA_USERD >> 12) as u32,
        );
        self.set(pfifo::INTR_EN, u32::MAX);
        self.set(pfifo::CHAN, pfifo::CHAN_VALID | (CHANNEL >> 12) as u32);
        self.set(pfifo::CHAN_STATE, 0x001f_0001);
        self.poke(RUNLIST, 4 << 32);
        self.set(pfifo::RUNLIST_WR, (RUNLIST >> 12) as u32);
        self.set(pfifo::RUNLIST_WR_LEN, 1);
        self.until("the runlist", || self.get(pfifo::INTR_RUNLIST) != 0);
    }

    /// Releases a semaphore at `va` with `value`.
    pub fn release(&mut self, va: u64, value: u32) {
        self.prepare(va, value);
        self.ring();
    }

    /// Writes what releases a semaphore, without a doorbell.
    pub fn prepare(&mut self, va: u64, value: u32) {
        let header = 0x2000_0000 | 4 << 16 | u32::from(method::SEMAPHORE_ADDRESS_HIGH) >> 2;
        self.push(&[header, (va >> 32) as u32, va as u32, value, 0x0100_0002, 0]);
    }

    /// Writes an even number of words that the channel is to execute, 16 at most, without a doorbell; a
    /// last word of 0 does nothing.
    pub fn push(&mut self, words: &[u32]) {
        let push = 0x800 + u64::from(self.put) * 0x40;
        for (n, pair) in (0..).zip(words.chunks_exact(2)) {
            let wide = u64::from(pair[1]) << 32 | u64::from(pair[0]);
            self.poke(RING + push + n * 8, wide);
        }
        let entry = (VA_RING + push) | (words.len() as u64) << 42;
        self.poke(RING + u64::from(self.put) * 8, entry);
        self.put += 1;
    }

    pub fn ring(&self) {
        let doorbell = VA_USERD + userd::GP_PUT;
        self.gpu.write(Bar::Bar1, doorbell, &self.put.to_le_bytes());
    }

    /// Makes the work of [`Guest::copy`]: `lines` lines of 32 KiB, by a copy engine.
    pub fn prepare_copies(&self, lines: u32) {
        let mut words = vec![
            Header::encode(Mode::Increasing, COPY, method::OBJECT, 1),
            0x90b5 | 4 << 16,
            Header::encode(Mode::Increasing, COPY, 0x30c, 8),
        ];
        // From, to, their pitches, width and lines.
        let (from, to) = (VA_DATA as u32, VA_DATA as u32 + LINES * LINE);
        words.extend([0, from, 0, to, LINE, LINE, LINE, lines]);
        words.push(Header::encode_immediate(COPY, 0x300, 0x110));
        for (n, pair) in (0..).zip(words.chunks_exact(2)) {
            let wide = u64::from(pair[1]) << 32 | u64::from(pair[0]);
            self.poke(WORK + n * 8, wide);
        }
        assert_eq!(words.len(), COPY_WORDS as usize);
    }

    /// Submits a copy. The ring has room for 250 submissions.
    pub fn copy(&mut self) {
        let entry = IbEntry::new(VA_WORK, COPY_WORDS);
        self.poke(RING + u64::from(self.put) * 8, entry.0);
        self.put += 1;
        self.ring();
    }

    /// Submits a non-stalling interrupt.
    pub fn interrupt(&mut self) {
        let header = Header::encode_immediate(0, method::NOTIFY_INTR, 0);
        self.poke(WORK, header.into());
        let entry = IbEntry::new(VA_WORK, 1);
        self.poke(RING + u64::from(self.put) * 8, entry.0);
        self.put += 1;
        self.ring();
    }

    /// What the card has fetched.
    pub fn fetched(&self) -> u32 {
        let mut word = [0; 4];
        self.gpu
            .read(Bar::Bar1, VA_USERD + userd::GP_GET, &mut word);
        u32::from_le_bytes(word)
    }

    #[track_caller]
    pub fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{what} did not come"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub fn machines(optimisations: Optimisations) -> (Host, Vec<Guest>) {
    machines_with(optimisations, Arc::new(Direct))
}

pub fn machines_with(
    optimisations: Optimisations,
    dispatcher: Arc<dyn Dispatcher>,
) -> (Host, Vec<Guest>) {
    machines_on(soft_card(2), optimisations, dispatcher)
}

pub fn machines_on(
    card: Arc<dyn Card>,
    optimisations: Optimisations,
    dispatcher: Arc<dyn Dispatcher>,
) -> (Host, Vec<Guest>) {
    let settings = Settings {
        optimisations,
        dispatcher,
        ..Settings::default()
    };
    machines_as(card, settings)
}

pub fn machines_as(card: Arc<dyn Card>, settings: Settings) -> (Host, Vec<Guest>) {
    let Machines { host, bars, .. } = Machines::on(card, 2, settings);
    let guests = bars.into_iter().map(|Bars(gpu)| Guest::new(gpu)).collect();
    (host, guests)
}
