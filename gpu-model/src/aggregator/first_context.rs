//! The first context of all, where a record says how it is made: once, when the card is brought up.
//!
//! It takes PGRAPH itself to make one, which has other things to do as soon as there are machines.
//! So what a machine's driver does for that changes nothing on the card: it gets a copy of this one.

use mmio::VmId;
use mmio::bring_up::Record;
use mmio::layout::instance;
use mmio::layout::pagetable::{Aperture, ENTRY_SIZE, Pde, Pte, TablePointer};
use mmio::regs::pgraph;

use super::own_channel::PAGE;
use super::{Aggregator, BringUpError};
use crate::card::Registers;
use crate::partition::Layout;

/// What the channel of the context has, from the start of the first machine's video memory on, which
/// nobody has yet: instance block, directory and table, and pages.
const DIRECTORY: u64 = 0x1_0000;
const TABLE: u64 = 0x2_0000;
const PAGES: u64 = 0x4_0000;
/// Virtual address of the buffers to which registers of the context lead, and their bytes: nouveau has
/// 512 KiB.
pub(super) const BUFFERS: u64 = PAGE;
const BUFFERS_SIZE: u64 = 8 * PAGE;
/// Virtual address of the context, and most bytes of it.
const CONTEXT: u64 = BUFFERS + BUFFERS_SIZE;
const MOST_BYTES: u64 = 4 << 20;

impl Aggregator {
    /// Makes the first context as `record` says; its bytes.
    ///
    /// Source: K61 `nvkm/engine/gr/ctxgf100.c gf100_grctx_generate`.
    pub(super) fn make_first_context(&self, record: &Record) -> Result<Box<[u8]>, BringUpError> {
        let size = u64::from(self.context_size);
        if size == 0 || size > MOST_BYTES {
            return Err(BringUpError::FirstContext);
        }
        let base = self.layout().partition(VmId(0)).vram.start;
        let used = PAGES + (CONTEXT + size).next_multiple_of(PAGE);
        self.scrub(base, used);
        self.scrub(self.layout().stray(), Layout::STRAY_SIZE);
        self.make_space(base, (CONTEXT + size).div_ceil(PAGE));

        let card = self.card();
        self.replay(&record.channel, 0)?;
        let word = (base >> 12) as u32;
        let current = word | pgraph::FECS_CHAN_VALID;
        if !self.command(current, pgraph::FECS_SET_CHANNEL) {
            return Err(BringUpError::FirstContext);
        }
        self.replay(&record.context, 0)?;
        self.switch(current, word);
        let left = || card.get(pgraph::FECS_CHAN) & pgraph::FECS_CHAN_VALID == 0;
        if !self.wait(left) {
            return Err(BringUpError::FirstContext);
        }
        card.set(pgraph::FECS_CHAN, 0);
        card.set(pgraph::FECS_CHAN_NEXT, 0);

        let mut bytes = vec![0; size as usize];
        self.fetch(base + PAGES + CONTEXT, &mut bytes);
        self.scrub(base, used);
        Ok(bytes.into())
    }

    /// Makes the address space of so many pages, and the instance block.
    fn make_space(&self, base: u64, pages: u64) {
        let vram = self.vram();
        let table = TablePointer {
            aperture: Aperture::Vram,
            address: base + TABLE,
            volatile: false,
        };
        vram.store_wide(base + DIRECTORY, Pde::new(Some(table), None).0);
        for page in 0..pages {
            let entry = Pte::new(Aperture::Vram, base + PAGES + page * PAGE);
            vram.store_wide(base + TABLE + page * ENTRY_SIZE, entry.0);
        }
        for (at, value) in [
            (instance::PAGE_DIR_BASE, base + DIRECTORY),
            (instance::ADDR_LIMIT, pages * PAGE - 1),
            (instance::GR_CONTEXT, CONTEXT | instance::CONTEXT_VALID),
        ] {
            vram.store_wide(base + at, value);
        }
        self.flush_tlb(base + DIRECTORY);
    }
}
