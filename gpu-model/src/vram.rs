//! All of the card's memory: through the window that every card has for its owner, or by a shorter
//! way where there is one.

use std::sync::Arc;

use mmio::Bar;
use mmio::regs::{PRAMIN, pbus};
use parking_lot::Mutex;

use crate::card::{Card, Registers};

/// What the window register counts in.
const UNIT: u64 = 1 << 16;
/// Most bytes that one holder of the window moves before others have their turn.
const TURN: usize = 1 << 16;

/// The only user of the card's PRAMIN window. Addresses are the card's.
pub struct Vram {
    card: Arc<dyn Card>,
    /// Where the window is, in units of 64 KiB.
    window: Mutex<u32>,
}

impl Vram {
    /// The memory of `card`.
    pub fn new(card: Arc<dyn Card>) -> Self {
        card.set(pbus::BAR0_WINDOW, 0);
        Self {
            card,
            window: Mutex::new(0),
        }
    }

    /// Calls `access` with places in BAR0 and ranges of the buffer, with the window in place.
    fn each(&self, address: u64, len: usize, mut access: impl FnMut(u64, std::ops::Range<usize>)) {
        let mut done = 0;
        while done < len {
            let at = address + done as u64;
            let base = (at / UNIT) as u32;
            let within = at % UNIT;
            let part = (len - done).min(TURN - within as usize % TURN);
            let mut window = self.window.lock();
            if *window != base {
                self.card.set(pbus::BAR0_WINDOW, base);
                *window = base;
            }
            access(u64::from(PRAMIN.start) + within, done..done + part);
            done += part;
        }
    }

    /// Copies out of memory.
    #[inline]
    pub fn read(&self, address: u64, buf: &mut [u8]) {
        if !self.card.vram_read(address, buf) {
            self.window_read(address, buf);
        }
    }

    /// Copies into memory.
    #[inline]
    pub fn write(&self, address: u64, buf: &[u8]) {
        if !self.card.vram_write(address, buf) {
            self.window_write(address, buf);
        }
    }

    /// Copies words of 64 bits into memory, each with one store.
    pub fn write_wide(&self, address: u64, buf: &[u8]) {
        if !self.card.vram_write(address, buf) {
            for (at, word) in (address..).step_by(8).zip(buf.chunks(8)) {
                self.window_write(at, word);
            }
        }
    }

    /// Copies out of memory through the window.
    pub fn window_read(&self, address: u64, buf: &mut [u8]) {
        self.each(address, buf.len(), |at, range| {
            self.card.read(Bar::Bar0, at, &mut buf[range]);
        });
    }

    /// Copies into memory through the window.
    pub fn window_write(&self, address: u64, buf: &[u8]) {
        self.each(address, buf.len(), |at, range| {
            self.card.write(Bar::Bar0, at, &buf[range]);
        });
    }

    /// The word at `address`, a multiple of 4.
    pub fn load(&self, address: u64) -> u32 {
        let mut word = [0; 4];
        self.read(address, &mut word);
        u32::from_le_bytes(word)
    }

    /// Stores a word at `address`, a multiple of 4.
    fn store(&self, address: u64, value: u32) {
        self.write(address, &value.to_le_bytes());
    }

    /// The two words at `address`, a multiple of 8.
    pub fn load_wide(&self, address: u64) -> u64 {
        u64::from(self.load(address)) | u64::from(self.load(address + 4)) << 32
    }

    /// Stores two words at `address`, the high one first: it completes no entry by itself.
    pub fn store_wide(&self, address: u64, value: u64) {
        self.store(address + 4, (value >> 32) as u32);
        self.store(address, value as u32);
    }

    /// Clears `len` bytes.
    pub fn scrub(&self, address: u64, len: u64) {
        if self.card.scrub(address, len) {
            return;
        }
        let zeros = [0; 1 << 12];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(zeros.len() as u64);
            self.write(address + done, &zeros[..part as usize]);
            if done.is_multiple_of(UNIT) {
                // Stores are posted: a load keeps them from piling up before a slow card.
                self.load(address + done);
            }
            done += part;
        }
    }
}
