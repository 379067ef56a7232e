//! The hypervisor's own channel: the card's last, for its first copy engine.
//!
//! A load or a store of a card on the bus is a transaction of eight bytes; the engine moves blocks.
//! It [clears](super::scrub) video memory, and [fetches](super::fetch) some.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use mmio::layout::copy::{self, exec};
use mmio::layout::pagetable::{
    self, Aperture, ENTRY_SIZE, LARGE_COUNT, LARGE_SHIFT, PDE_SHIFT, Pde, Pte, SMALL_SHIFT,
    TablePointer,
};
use mmio::layout::pushbuffer::{Header, IbEntry, Mode, Semaphore, method};
use mmio::layout::{instance, userd};
use mmio::regs::pfb;
use mmio::regs::pfifo::{self, ChanState};

use super::Aggregator;
use super::channels::channel;
use crate::card::Registers;
use crate::partition::{Layout, OWN_CHANNEL};

/// The page of the channel, which the last entry of its table of large pages shows: indirect buffer,
/// pushbuffer, semaphore, the engine's context, the table, a line of zeros, and the directory.
const RING: u64 = 0;
const PUSH: u64 = 0x1000;
pub(super) const SEMAPHORE: u64 = 0x2000;
const CONTEXT: u64 = 0x3000;
const TABLE: u64 = 0x4000;
pub(super) const ZEROS: u64 = 0x8000;
const DIRECTORY: u64 = 0x1_0000;
/// Bytes of a large page.
pub(super) const PAGE: u64 = 1 << LARGE_SHIFT;
/// Virtual address of the channel's page, and bytes that the table shows before it.
pub(super) const OWN: u64 = (LARGE_COUNT - 1) * PAGE;
/// Virtual address of memory of this process, in small pages: what is [staged](STAGING), and a
/// semaphore behind it.
pub(super) const STAGED: u64 = 1 << PDE_SHIFT;
/// Bytes that can be staged: a table of small pages.
pub(super) const STAGING: u64 = pagetable::SMALL_COUNT * ENTRY_SIZE;
/// Bytes of both.
const STAGED_BYTES: u64 = STAGING + (1 << SMALL_SHIFT);
/// Bytes that the card sees: behind those a page to which it flushes what it stores to memory.
const SEEN_BYTES: u64 = STAGED_BYTES + (1 << SMALL_SHIFT);
/// Bytes that the shortest tables describe.
const SHORT: u64 = 16 << 20;
/// log2 of the entries of the indirect buffer.
const RING_ORDER: u32 = 9;
/// The subchannel of copies.
const SUBCHANNEL: u8 = 4;

/// The state of the channel.
#[derive(Debug, Default)]
pub(super) struct OwnChannel {
    /// The engine does what it is told.
    pub(super) works: bool,
    /// Submissions so far: what the last one leaves in its semaphore.
    pub(super) count: u32,
    /// Memory of this process that the engine has.
    pub(super) staging: Option<File>,
    /// Somebody waited in vain for the last submission, which fetches.
    pub(super) late: bool,
    /// The large pages of video memory that the table shows from its first entry on, and no others.
    pub(super) shown: Range<u64>,
}

/// A copy of lines.
pub(super) struct Lines {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Bytes from line to line, of source and destination.
    pub(super) pitches: [u32; 2],
    /// Bytes of a line.
    pub(super) bytes: u32,
    pub(super) count: u32,
}

fn increasing(method: u16, count: u16) -> u32 {
    Header::encode(Mode::Increasing, SUBCHANNEL, method, count)
}

fn halves(address: u64) -> [u32; 2] {
    [(address >> 32) as u32, address as u32]
}

impl OwnChannel {
    /// Waits until the store of the last submission is in the staged semaphore; whether it is.
    pub(super) fn await_staged(&self, patience: Duration) -> bool {
        let Some(staging) = &self.staging else {
            return false;
        };
        let begin = Instant::now();
        loop {
            let mut word = [0; 4];
            let read = staging.read_exact_at(&mut word, STAGING);
            if read.is_ok() && u32::from_le_bytes(word) == self.count {
                return true;
            }
            if begin.elapsed() > patience {
                return false;
            }
            std::thread::sleep(super::LOOK);
        }
    }
}

impl Aggregator {
    /// Gives the hypervisor its channel.
    pub(super) fn set_up_own_channel(&self) {
        let page = self.layout().own_page();
        let vram = self.vram();
        vram.scrub(page, Layout::OWN_SIZE);
        vram.scrub(self.layout().userd(OWN_CHANNEL), userd::STRIDE);
        let table = |address| TablePointer {
            aperture: Aperture::Vram,
            address,
            volatile: false,
        };
        let shown = Pde::new(Some(table(page + TABLE)), None);
        vram.store_wide(page + DIRECTORY, shown.0);
        let own = Pte::new(Aperture::Vram, page);
        vram.store_wide(page + TABLE + OWN / PAGE * ENTRY_SIZE, own.0);
        let staging = self.stage();
        if staging.is_some() {
            let staged = Pde::new(None, Some(table(page + PAGE))).with_span(SHORT);
            vram.store_wide(page + DIRECTORY + ENTRY_SIZE, staged.0);
        }

        let block = self.layout().instance(OWN_CHANNEL);
        vram.scrub(block, instance::SIZE);
        let ring = (OWN + RING) | u64::from(RING_ORDER) << 48;
        for (at, value) in [
            (instance::PAGE_DIR_BASE, page + DIRECTORY),
            (instance::ADDR_LIMIT, STAGED + STAGED_BYTES - 1),
            (instance::USERD, self.layout().userd(OWN_CHANNEL)),
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
        card.store(channel(pfifo::CHAN, OWN_CHANNEL), word);
        let state = ChanState::RUNNABLE | ChanState::ENGINE;
        card.store(channel(pfifo::CHAN_STATE, OWN_CHANNEL), state.bits());
        self.list_own_channel();
        *self.own.lock() = OwnChannel {
            works: true,
            staging,
            ..OwnChannel::default()
        };
    }

    /// Memory of this process for the engine, if the card wants blocks of its memory fetched.
    fn stage(&self) -> Option<File> {
        let address = self.layout().staging()?;
        let staging = self.card.stage(address, SEEN_BYTES)?;
        let flushed = (address + STAGED_BYTES) >> 8;
        self.card().set(pfb::SYSMEM_FLUSH, flushed as u32);
        let entries: Vec<u8> = (address..address + STAGED_BYTES)
            .step_by(1 << SMALL_SHIFT)
            .flat_map(|page| Pte::new(Aperture::SysCoherent, page).0.to_le_bytes())
            .collect();
        let table = self.layout().own_page() + PAGE;
        self.vram.write_wide(table, &entries);
        Some(staging)
    }

    /// Shows the engine whole large pages of video memory, and no others.
    pub(super) fn show(&self, own: &mut OwnChannel, range: Range<u64>) {
        if own.shown == range {
            return;
        }
        let most = OWN / PAGE;
        let pages = |range: &Range<u64>| (range.end - range.start) / PAGE;
        let changed = pages(&own.shown).max(pages(&range)).min(most);
        let entries: Vec<u8> = (0..changed)
            .map(|n| range.start + n * PAGE)
            .map(|page| match range.contains(&page) {
                true => Pte::new(Aperture::Vram, page),
                false => Pte::default(),
            })
            .flat_map(|entry| entry.0.to_le_bytes())
            .collect();
        let page = self.layout().own_page();
        self.vram.write_wide(page + TABLE, &entries);
        self.flush_tlb(page + DIRECTORY);
        own.shown = range;
    }

    /// Lets the engine make `copies`, and then store the count of submissions at virtual address
    /// `semaphore`.
    pub(super) fn submit_own(&self, own: &mut OwnChannel, copies: &[Lines], semaphore: u64) {
        own.count += 1;
        let mut words = vec![increasing(method::OBJECT, 1), copy::CE0];
        for lines in copies {
            words.push(increasing(copy::SRC_ADDRESS_HIGH, 8));
            words.extend([halves(lines.from), halves(lines.to), lines.pitches].concat());
            words.extend([lines.bytes, lines.count]);
            let exec = exec::SRC_LINEAR | exec::DST_LINEAR;
            words.push(Header::encode_immediate(SUBCHANNEL, copy::EXEC, exec));
        }
        let trigger = Semaphore::RELEASE | Semaphore::RELEASE_SHORT;
        words.push(increasing(method::SEMAPHORE_ADDRESS_HIGH, 4));
        words.extend(halves(semaphore));
        words.extend([own.count, trigger.bits()]);

        let page = self.layout().own_page();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.vram.write(page + PUSH, &bytes);
        let ring = 1 << RING_ORDER;
        let entry = IbEntry::new(OWN + PUSH, words.len() as u32);
        let at = u64::from((own.count - 1) % ring) * IbEntry::SIZE;
        self.vram.store_wide(page + RING + at, entry.0);
        // What guests stored through mappings has to be seen as well.
        self.card.flush(true);
        self.control_store(OWN_CHANNEL, userd::GP_PUT, own.count % ring);
    }

    /// The engine does not do what it is told: it is left alone from now on.
    pub(super) fn give_up(&self, own: &mut OwnChannel) {
        tracing::warn!(
            "The card's copy engine does not move memory: loads and stores do from now on"
        );
        own.works = false;
        self.stop(OWN_CHANNEL);
        self.card.store(channel(pfifo::CHAN, OWN_CHANNEL), 0);
    }
}
