//! Bringing the card up, once for all machines.

use mmio::layout::{instance, pagetable};
use mmio::regs::falcon::{self, offset};
use mmio::regs::{pbus, pfifo, pgraph, pmc, ppci};
use pagetable::{Aperture, Pde, Pte, TablePointer};

use super::Aggregator;
use crate::card::Registers;
use crate::partition::Layout;

/// Bit of UC_CTRL that starts a falcon.
const START: u32 = 1 << 1;
/// Bit of the control register of an aperture that selects translation.
const TRANSLATE: u32 = 1 << 31;
/// Bits 2-3 of a directory entry: its tables describe an eighth of what they could, 16 MiB.
const SPAN_16M: u64 = 3 << 2;

impl Aggregator {
    pub(super) fn bring_up(&mut self) {
        let card = self.card();
        card.set(pmc::INTR_EN_HOST, 0);
        card.set(pmc::ENABLE, 0);
        card.set(pmc::ENABLE, u32::MAX);
        self.set_up_bar1();
        self.set_up_pfifo();
        self.set_up_pgraph();
        let card = self.card();
        for base in [falcon::CE0, falcon::CE1] {
            card.store(base + offset::UC_CTRL, START);
        }
        self.set_up_scrubber();
        let card = self.card();
        // The context switcher leaves the size of a context here.
        let scratch = pgraph::FECS_SCRATCH.offset();
        let size = card.load(scratch + 4);
        card.store(scratch, 0);
        card.set(pmc::INTR_MASK, u32::MAX);
        card.set(pmc::INTR_EN_HOST, 1);
        card.set(ppci::MSI_REARM, 0xff);
        self.context_size = size;
    }

    /// BAR1 shows the control pages of all channels and nothing else.
    fn set_up_bar1(&self) {
        let layout = self.layout();
        let vram = self.vram();
        let (block, directory) = (layout.bar1_instance(), layout.bar1_directory());
        let table = layout.bar1_table();
        vram.scrub(block, instance::SIZE);
        vram.scrub(directory, pagetable::PDE_COUNT * pagetable::ENTRY_SIZE);
        vram.scrub(table, Layout::bar1_table_size());
        let pointer = TablePointer {
            aperture: Aperture::Vram,
            address: table,
            volatile: false,
        };
        for chid in 0..pfifo::CHANNELS {
            let page = Pte::new(Aperture::Vram, layout.userd(chid));
            vram.store_wide(table + u64::from(chid) * pagetable::ENTRY_SIZE, page.0);
        }
        vram.store_wide(directory, Pde::new(None, Some(pointer)).0 | SPAN_16M);
        vram.store_wide(block + instance::PAGE_DIR_BASE, directory);
        let limit = Layout::control_page(pfifo::CHANNELS) - 1;
        vram.store_wide(block + instance::ADDR_LIMIT, limit);
        let card = self.card();
        card.set(pbus::BAR1_BLOCK, TRANSLATE | (block >> 12) as u32);
        card.set(pfifo::BAR1_BASE, pfifo::BAR1_BASE_ENABLE);
    }

    fn set_up_pfifo(&self) {
        let card = self.card();
        card.set(pfifo::PBDMA_ENABLE, u32::MAX);
        for unit in 0..pfifo::PBDMAS as usize {
            self.unmask_pbdma(unit);
        }
        card.set(pfifo::ENGINE_INTR_EN, 1);
        let hang = self.limits.hang.as_micros();
        let hang =
            u32::try_from(hang).map_or(pfifo::TIMEOUT_VALUE, |us| us.min(pfifo::TIMEOUT_VALUE));
        card.set(pfifo::CHSW_TIMEOUT, pfifo::TIMEOUT_ENABLE | hang);
        card.set(pfifo::INTR, u32::MAX);
        card.set(pfifo::INTR_EN, Self::interrupts_for(0).bits());
        card.set(pfifo::CTRL, pfifo::CTRL_ENABLE);
    }

    fn set_up_pgraph(&self) {
        let card = self.card();
        for register in super::events::UNIT_TRAPS {
            card.set(register.1, pgraph::TRAP_RESET | pgraph::TRAP_ENABLE);
        }
        for register in [
            pgraph::TRAP_GPCS_EN,
            pgraph::TRAP_ROPS_EN,
            pgraph::TRAP_EN,
            pgraph::FECS_INTR_UP_EN,
            pgraph::INTR,
            pgraph::INTR_EN,
        ] {
            card.set(register, u32::MAX);
        }
        let pull = pgraph::FifoControl::PULL | pgraph::FifoControl::UNK16;
        card.set(pgraph::FIFO_CONTROL, pull.bits());
        card.store(falcon::FECS + offset::UC_CTRL, START);
    }
}
