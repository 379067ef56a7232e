//! Fetching blocks of video memory by the card's own copy engine, where the CPU would wait for each
//! eight bytes: a guest that makes an address space has a third of a MB of tables for it.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::Aggregator;
use super::own_channel::{Lines, OwnChannel, PAGE, STAGED, STAGING};

/// How long the engine may take for a block: as long as loads would. Machines may be before it.
const PATIENCE: Duration = Duration::from_millis(50);
/// What is shown at once, aligned: tables are side by side.
const WINDOW: u64 = 16 * PAGE;
/// Bytes of a line: as nouveau copies.
const LINE: u64 = 0x1000;
/// A block that is not shorter is fetched.
const LEAST: usize = 0x400;

impl Aggregator {
    /// Copies the card's memory at `address`, in the quickest way.
    pub fn fetch(&self, address: u64, data: &mut [u8]) {
        let engine = match data.len() < LEAST {
            true => None,
            // It may be clearing memory, which takes longer than loads do.
            false => self.own.try_lock().filter(|own| own.staging.is_some()),
        };
        let Some(mut own) = engine else {
            return self.vram.read(address, data);
        };
        for (at, part) in (address..)
            .step_by(STAGING as usize)
            .zip(data.chunks_mut(STAGING as usize))
        {
            if !self.bring(&mut own, at, part) {
                self.vram.read(at, part);
            }
        }
    }

    /// Lets the engine copy what can be staged; whether it did, in time.
    fn bring(&self, own: &mut OwnChannel, address: u64, data: &mut [u8]) -> bool {
        if !own.works || own.late && !own.await_staged(Duration::ZERO) {
            return false;
        }
        let len = data.len() as u64;
        let pages = address / WINDOW * WINDOW..(address + len).next_multiple_of(WINDOW);
        if pages.start < own.shown.start || pages.end > own.shown.end {
            self.show(own, pages);
        }
        let from = address - own.shown.start;
        // A line has less than 64 KiB.
        let rest = len % LINE;
        let copies: Vec<Lines> = [(0, LINE, len / LINE), (len - rest, rest, 1)]
            .into_iter()
            .filter(|(_, bytes, count)| bytes * count != 0)
            .map(|(at, bytes, count)| Lines {
                from: from + at,
                to: STAGED + at,
                pitches: [bytes as u32; 2],
                bytes: bytes as u32,
                count: count as u32,
            })
            .collect();
        self.submit_own(own, &copies, STAGED + STAGING);
        own.late = !own.await_staged(PATIENCE);
        let staging = own.staging.as_ref();
        !own.late && staging.is_some_and(|staging| staging.read_exact_at(data, 0).is_ok())
    }
}
