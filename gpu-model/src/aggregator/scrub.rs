//! Clearing video memory by the card's own copy engine, where stores would take the CPU for ever: it
//! copies a line of zeros to every line.

use std::time::{Duration, Instant};

use mmio::layout::copy;

use super::Aggregator;
use super::own_channel::{Lines, OWN, PAGE, SEMAPHORE, ZEROS};

/// How long the engine may take for what one table shows: machines may be before it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a line: a divisor of a page.
const LINE: u64 = 0x8000;

impl Aggregator {
    /// Clears `len` bytes of the card's memory at `address`.
    pub fn scrub(&self, address: u64, len: u64) {
        if self.card.scrub(address, len) {
            return;
        }
        if !address.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
            return self.vram.scrub(address, len);
        }
        let mut done = 0;
        while done < len {
            let part = (len - done).min(OWN);
            if !self.clear(address + done, part) {
                return self.vram.scrub(address + done, len - done);
            }
            done += part;
        }
    }

    /// Lets the engine clear pages that fit the table; whether it did.
    fn clear(&self, address: u64, len: u64) -> bool {
        let mut own = self.own.lock();
        if !own.works {
            return false;
        }
        if own.late && !own.await_staged(PATIENCE) {
            self.give_up(&mut own);
            return false;
        }
        own.late = false;
        self.show(&mut own, address..address + len);
        self.submit_own(&mut own, &copies(len), OWN + SEMAPHORE);
        let semaphore = self.layout().own_page() + SEMAPHORE;
        let begin = Instant::now();
        while self.vram.load(semaphore) != own.count {
            if begin.elapsed() > PATIENCE {
                self.give_up(&mut own);
                break;
            }
            std::thread::sleep(super::LOOK);
        }
        // Whatever it may still do reaches nothing that somebody has by then.
        self.show(&mut own, 0..0);
        own.works
    }
}

/// Copies of zeros to `len` bytes from address 0.
fn copies(len: u64) -> Vec<Lines> {
    let all = len / LINE;
    let starts = (0..all).step_by(copy::MOST_LINES as usize);
    let part = |first: u64| Lines {
        from: OWN + ZEROS,
        to: first * LINE,
        // A pitch of 0 makes one line many.
        pitches: [0, LINE as u32],
        bytes: LINE as u32,
        count: (all - first).min(copy::MOST_LINES) as u32,
    };
    starts.map(part).collect()
}
