//! A driver of the smallest kind: one channel, one address space, in the first MiB of video memory.

use std::time::{Duration, Instant};

use mmio::layout::pagetable::{Aperture, ENTRY_SIZE, Pde, Pte, TablePointer};
use mmio::layout::pushbuffer::{Header, IbEntry, Mode, Semaphore, method};
use mmio::layout::{instance, userd};
use mmio::regs::{PRAMIN, board, pbus, pfb, pfifo, pmc};
use mmio::{Bar, RegId};

/// The device as the machine that has it sees it.
pub trait Device {
    /// Loads the word at `offset` of a BAR.
    fn load(&self, bar: Bar, offset: u64) -> u32;

    /// Stores a word at `offset` of a BAR.
    fn store(&self, bar: Bar, offset: u64, value: u32);
}

/// What a case found wrong.
pub type Verdict = Result<(), String>;

/// How long the device may take to do work.
const PATIENCE: Duration = Duration::from_secs(30);

/// The instance block of the channel.
pub const CHANNEL: u64 = 0x1_0000;
/// The instance block of BAR1, which shows the channel's address space.
pub const BAR1: u64 = 0x1_1000;
/// The runlist.
pub const RUNLIST: u64 = 0x1_2000;
/// The control page.
pub const USERD: u64 = 0x1_3000;
/// Indirect buffer, and pushbuffers behind it.
pub const RING: u64 = 0x1_4000;
/// The page directory.
pub const DIRECTORY: u64 = 0x2_0000;
/// The table of small pages.
pub const TABLE: u64 = 0x4_0000;
/// A table of large pages, to which nothing leads by itself.
pub const LARGE_TABLE: u64 = 0x8_0000;
/// Where honest work leaves its results.
pub const RESULT: u64 = 0x9_0000;

/// Virtual address of [`RING`].
pub const VA_RING: u64 = 0x1000;
/// Virtual address of [`RESULT`].
pub const VA_RESULT: u64 = 0x2000;
/// Virtual address of a page that is elsewhere in each attack.
pub const VA_TARGET: u64 = 0x3000;
/// Virtual address of [`USERD`].
pub const VA_USERD: u64 = 0x4000;

/// log2 of the entries of the indirect buffer.
const RING_ORDER: u64 = 5;
/// Bytes of the indirect buffer, and of each pushbuffer.
const PUSH_SIZE: u64 = 0x40;
/// Stores that start a flush of one directory's translations.
const FLUSH: u32 = 0x8000_0001;

/// The driver.
pub struct Rig<'a> {
    device: &'a dyn Device,
    vram: u64,
    put: u32,
    value: u32,
}

impl<'a> Rig<'a> {
    /// A driver that has done nothing yet.
    pub fn new(device: &'a dyn Device) -> Self {
        let mut rig = Self {
            device,
            vram: 0,
            put: 0,
            value: 0x1000,
        };
        let mib = rig.get(board::FBP_COUNT) * rig.get(pfb::PARTITION_SIZE_ALL);
        rig.vram = u64::from(mib) << 20;
        rig
    }

    /// Bytes of video memory that the device says it has.
    pub fn vram(&self) -> u64 {
        self.vram
    }

    /// Loads a register.
    pub fn get(&self, register: RegId) -> u32 {
        self.load(register.offset())
    }

    /// Stores to a register.
    pub fn set(&self, register: RegId, value: u32) {
        self.store(register.offset(), value);
    }

    /// Loads the register at an offset.
    pub fn load(&self, offset: u32) -> u32 {
        self.device.load(Bar::Bar0, offset.into())
    }

    /// Stores to the register at an offset.
    pub fn store(&self, offset: u32, value: u32) {
        self.device.store(Bar::Bar0, offset.into(), value);
    }

    /// Loads from another BAR.
    pub fn bar_load(&self, bar: Bar, offset: u64) -> u32 {
        self.device.load(bar, offset)
    }

    /// Stores to another BAR.
    pub fn bar_store(&self, bar: Bar, offset: u64, value: u32) {
        self.device.store(bar, offset, value);
    }

    fn window(&self, address: u64) -> u64 {
        self.set(pbus::BAR0_WINDOW, (address >> 20 << 4) as u32);
        u64::from(PRAMIN.start) + address % (1 << 20)
    }

    /// Loads the word at `address` of video memory through PRAMIN.
    pub fn peek(&self, address: u64) -> u32 {
        let at = self.window(address);
        self.device.load(Bar::Bar0, at)
    }

    /// Stores a word at `address` of video memory through PRAMIN.
    pub fn poke(&self, address: u64, value: u32) {
        let at = self.window(address);
        self.device.store(Bar::Bar0, at, value);
    }

    /// Stores two words.
    pub fn poke_wide(&self, address: u64, value: u64) {
        self.poke(address, value as u32);
        self.poke(address + 4, (value >> 32) as u32);
    }

    /// Leads virtual page `va` somewhere, without a flush.
    pub fn map(&self, va: u64, pte: Pte) {
        self.poke_wide(TABLE + va / 0x1000 * ENTRY_SIZE, pte.0);
    }

    /// Leads the large page `index` of what directory entry 1 covers somewhere, without a flush; that
    /// entry has [`LARGE_TABLE`] only.
    pub fn map_large(&self, index: u64, pte: Pte) {
        let table = TablePointer {
            aperture: Aperture::Vram,
            address: LARGE_TABLE,
            volatile: false,
        };
        self.poke_wide(DIRECTORY + ENTRY_SIZE, Pde::new(Some(table), None).0);
        self.poke_wide(LARGE_TABLE + index * ENTRY_SIZE, pte.0);
    }

    /// Lets the device forget translations of the address space.
    pub fn flush(&self) {
        self.set(pfb::VM_FLUSH_PDB, (DIRECTORY >> 8) as u32);
        self.set(pfb::VM_FLUSH, FLUSH);
    }

    /// Resets the device's units, and sets everything up from nothing.
    ///
    /// # Errors
    ///
    /// The device does not take the runlist.
    pub fn start(&mut self) -> Verdict {
        self.set(pmc::ENABLE, 0);
        self.set(pmc::ENABLE, u32::MAX);
        self.put = 0;
        for page in [CHANNEL, BAR1, RUNLIST, USERD, RING] {
            for at in (0..0x1000).step_by(4) {
                self.poke(page + at, 0);
            }
        }
        let table = TablePointer {
            aperture: Aperture::Vram,
            address: TABLE,
            volatile: false,
        };
        self.poke_wide(DIRECTORY, Pde::new(None, Some(table)).0);
        self.map(VA_RING, Pte::new(Aperture::Vram, RING));
        self.map(VA_RESULT, Pte::new(Aperture::Vram, RESULT));
        self.map(VA_TARGET, Pte(0));
        self.map(VA_USERD, Pte::new(Aperture::Vram, USERD));
        for block in [CHANNEL, BAR1] {
            self.poke_wide(block + instance::PAGE_DIR_BASE, DIRECTORY);
            self.poke_wide(block + instance::ADDR_LIMIT, (1 << 40) - 1);
        }
        self.poke_wide(CHANNEL + instance::USERD, USERD);
        self.poke(CHANNEL + instance::SIGNATURE, instance::SIGNATURE_VALUE);
        self.poke_wide(CHANNEL + instance::GP_BASE, VA_RING | RING_ORDER << 48);
        self.set(pbus::BAR1_BLOCK, 1 << 31 | (BAR1 >> 12) as u32);
        let userd = (VA_USERD >> 12) as u32;
        self.set(pfifo::BAR1_BASE, pfifo::BAR1_BASE_ENABLE | userd);
        self.set(pfifo::INTR_EN, u32::MAX);
        self.bind();
        self.runlist(RUNLIST, &[0])
    }

    /// Puts the channel into row 0 of the channel table and lets it run.
    pub fn bind(&self) {
        let word = pfifo::CHAN_VALID | (CHANNEL >> 12) as u32;
        self.set(pfifo::CHAN, word);
        self.set(pfifo::CHAN_STATE, 0x001f_0001);
    }

    /// Submits a runlist, written to `address`.
    ///
    /// # Errors
    ///
    /// The device does not take it.
    pub fn runlist(&self, address: u64, channels: &[u32]) -> Verdict {
        for (at, &chid) in (address..).step_by(8).zip(channels) {
            self.poke_wide(at, u64::from(chid) | 4 << 32);
        }
        self.set(pfifo::RUNLIST_WR, (address >> 12) as u32);
        self.set(pfifo::RUNLIST_WR_LEN, channels.len() as u32);
        self.until("The runlist is taken over", || {
            self.get(pfifo::RUNLIST_RD_LEN) & pfifo::RUNLIST_PENDING == 0
        })
    }

    /// Waits for something.
    ///
    /// # Errors
    ///
    /// It does not come.
    pub fn until(&self, what: &str, done: impl Fn() -> bool) -> Verdict {
        let begin = Instant::now();
        while !done() {
            if begin.elapsed() > PATIENCE {
                return Err(format!("{what}: not within {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Gives the channel a semaphore operation at `va`, without a doorbell.
    pub fn push(&mut self, va: u64, value: u32, operation: Semaphore) {
        let header = Header::encode(Mode::Increasing, 0, method::SEMAPHORE_ADDRESS_HIGH, 4);
        self.submit(&[
            header,
            (va >> 32) as u32,
            va as u32,
            value,
            operation.bits(),
        ]);
    }

    /// Gives the channel 16 words at most to execute, without a doorbell.
    pub fn submit(&mut self, words: &[u32]) {
        let entry = u64::from(self.put) % (1 << RING_ORDER);
        let push = (1 << RING_ORDER) * IbEntry::SIZE + entry * PUSH_SIZE;
        for (at, word) in (RING + push..).step_by(4).zip(words) {
            self.poke(at, *word);
        }
        let segment = IbEntry::new(VA_RING + push, words.len() as u32);
        self.poke_wide(RING + entry * IbEntry::SIZE, segment.0);
        self.put = (self.put + 1) % (1 << RING_ORDER);
    }

    /// Rings the channel's doorbell.
    pub fn ring(&self) {
        self.bar_store(Bar::Bar1, VA_USERD + userd::GP_PUT, self.put);
    }

    /// Has the channel store `value` at `va`.
    pub fn release(&mut self, va: u64, value: u32) {
        self.push(va, value, Semaphore::RELEASE | Semaphore::RELEASE_SHORT);
        self.ring();
    }

    /// Has the channel load from `va` until it finds `value`.
    pub fn acquire(&mut self, va: u64, value: u32) {
        self.push(va, value, Semaphore::ACQUIRE_EQUAL);
        self.ring();
    }

    /// The device still does honest work, after a reset of its own.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn recovers(&mut self) -> Verdict {
        self.start()?;
        self.works()
    }

    /// The channel does honest work.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn works(&mut self) -> Verdict {
        self.value += 1;
        let value = self.value;
        self.release(VA_RESULT, value);
        self.until("Honest work is done", || self.peek(RESULT) == value)
    }

    /// The channel faulted, and that was shown to this machine.
    ///
    /// # Errors
    ///
    /// It did not.
    pub fn faulted(&self) -> Verdict {
        self.until("A fault is reported", || {
            self.get(pfifo::VM_FAULT_SOURCE) != 0
        })?;
        self.set(pfifo::VM_FAULT_SOURCE, u32::MAX);
        Ok(())
    }
}
