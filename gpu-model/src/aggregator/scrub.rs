//! Clearing video memory by the card's own copy engine, where stores would take the CPU for ever:
//! through a window of a card on the bus each is a transaction of eight bytes.
//!
//! The hypervisor has the card's last channel for that. Its address space shows what is to be
//! cleared, by a table that is filled anew each time, and one large page with all that the channel
//! needs. It copies a line of zeros to every line.

use std::time::{Duration, Instant};

use mmio::layout::copy::{self, exec};
use mmio::layout::pagetable::{self, Aperture, LARGE_COUNT, LARGE_SHIFT, Pde, Pte, TablePointer};
use mmio::layout::pushbuffer::{Header, IbEntry, Mode, Semaphore, method};
use mmio::layout::{instance, userd};
use mmio::regs::pfifo::{self, ChanState};

use super::Aggregator;
use super::channels::channel;
use crate::card::Registers;
use crate::partition::SCRUBBER;

/// How long the engine may take for what one table shows: machines may be before it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The page of the channel, which the last entry of the table shows: indirect buffer, pushbuffer,
/// semaphore, the engine's context, the table, a line of zeros, and the directory.
const RING: u64 = 0;
const PUSH: u64 = 0x1000;
const SEMAPHORE: u64 = 0x2000;
const CONTEXT: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const ZEROS: u64 = 0x8000;
const DIRECTORY: u64 = 0x1_0000;
/// Bytes of a large page.
const PAGE: u64 = 1 << LARGE_SHIFT;
/// Virtual address of the channel's page, and bytes that the table shows before it.
const OWN: u64 = (LARGE_COUNT - 1) * PAGE;
/// log2 of the entries of the indirect buffer.
const RING_ORDER: u32 = 9;
/// Bytes of a line: a divisor of a page.
const LINE: u64 = 0x8000;
/// The subchannel of copies.
const SUBCHANNEL: u8 = 4;

/// The state of the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Scrubber {
    /// The engine does what it is told.
    works: bool,
    /// Submissions so far.
    count: u32,
}

impl Aggregator {
    /// Gives the scrubber its channel.
    pub(super) fn set_up_scrubber(&self) {
        let page = self.layout().scrubber();
        let vram = self.vram();
        vram.scrub(page, PAGE);
        vram.scrub(self.layout().userd(SCRUBBER), userd::STRIDE);
        let pointer = TablePointer {
            aperture: Aperture::Vram,
            address: page + TABLE,
            volatile: false,
        };
        vram.store_wide(page + DIRECTORY, Pde::new(Some(pointer), None).0);
        let own = Pte::new(Aperture::Vram, page);
        vram.store_wide(page + TABLE + OWN / PAGE * pagetable::ENTRY_SIZE, own.0);

        let block = self.layout().instance(SCRUBBER);
        vram.scrub(block, instance::SIZE);
        let ring = (OWN + RING) | u64::from(RING_ORDER) << 48;
        for (at, value) in [
            (instance::PAGE_DIR_BASE, page + DIRECTORY),
            (instance::ADDR_LIMIT, OWN + PAGE - 1),
            (instance::USERD, self.layout().userd(SCRUBBER)),
            (instance::SIGNATURE, instance::SIGNATURE_VALUE.into()),
            (instance::GP_BASE, ring),
            (
                instance::CE0_CONTEXT,
                (OWN + CONTEXT) | instance::CONTEXT_VALID,
            ),
        ] {
            vram.store_wide(block + at, value);
        }
        let card = self.card();
        card.flush(false);
        let word = pfifo::CHAN_VALID | (block >> 12) as u32;
        card.store(channel(pfifo::CHAN, SCRUBBER), word);
        let state = ChanState::RUNNABLE | ChanState::ENGINE;
        card.store(channel(pfifo::CHAN_STATE, SCRUBBER), state.bits());
        self.list_own_channel();
        self.scrubber.lock().works = true;
    }

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
        let mut scrubber = self.scrubber.lock();
        if !scrubber.works {
            return false;
        }
        let page = self.layout().scrubber();
        self.show(Some((address, len)));

        scrubber.count += 1;
        let words = work(len, scrubber.count);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.vram.write(page + PUSH, &bytes);
        let ring = 1 << RING_ORDER;
        let entry = IbEntry::new(OWN + PUSH, words.len() as u32);
        let at = u64::from((scrubber.count - 1) % ring) * IbEntry::SIZE;
        self.vram.store_wide(page + RING + at, entry.0);
        self.card.flush(false);
        self.control_store(SCRUBBER, userd::GP_PUT, scrubber.count % ring);

        let begin = Instant::now();
        while self.vram.load(page + SEMAPHORE) != scrubber.count {
            if begin.elapsed() > PATIENCE {
                tracing::warn!(
                    "The card's copy engine does not clear memory: stores do from now on"
                );
                scrubber.works = false;
                self.stop(SCRUBBER);
                self.card.store(channel(pfifo::CHAN, SCRUBBER), 0);
                break;
            }
            std::thread::sleep(super::LOOK);
        }
        // Whatever it may still do reaches nothing that somebody has by then.
        self.show(None);
        scrubber.works
    }

    /// Shows the engine the `len` bytes at `address`, or nothing.
    fn show(&self, range: Option<(u64, u64)>) {
        let page = self.layout().scrubber();
        let (address, len) = range.unwrap_or_default();
        let entries: Vec<u8> = (0..OWN)
            .step_by(PAGE as usize)
            .map(|at| match at < len {
                true => Pte::new(Aperture::Vram, address + at),
                false => Pte::default(),
            })
            .flat_map(|entry| entry.0.to_le_bytes())
            .collect();
        self.vram.write_wide(page + TABLE, &entries);
        self.flush_tlb(page + DIRECTORY);
    }
}

/// What the channel executes: copies to `len` bytes from address 0, and the store of `count` behind
/// them.
fn work(len: u64, count: u32) -> Vec<u32> {
    let increasing = |method, count| Header::encode(Mode::Increasing, SUBCHANNEL, method, count);
    let halves = |address: u64| [(address >> 32) as u32, address as u32];
    let mut words = vec![increasing(method::OBJECT, 1), copy::CE0];
    let mut at = 0;
    while at < len {
        let lines = ((len - at) / LINE).min(copy::MOST_LINES);
        let (from, to) = (halves(OWN + ZEROS), halves(at));
        words.push(increasing(copy::SRC_ADDRESS_HIGH, 8));
        words.extend([from, to].concat());
        // A pitch of 0 makes one line many.
        words.extend([0, LINE as u32, LINE as u32, lines as u32]);
        let exec = exec::SRC_LINEAR | exec::DST_LINEAR;
        words.push(Header::encode_immediate(SUBCHANNEL, copy::EXEC, exec));
        at += lines * LINE;
    }
    let trigger = Semaphore::RELEASE | Semaphore::RELEASE_SHORT;
    words.push(increasing(method::SEMAPHORE_ADDRESS_HIGH, 4));
    words.extend(halves(OWN + SEMAPHORE));
    words.extend([count, trigger.bits()]);
    words
}
