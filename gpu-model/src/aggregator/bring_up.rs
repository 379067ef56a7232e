//! Bringing the card up, once for all machines.

use mmio::Bar;
use mmio::layout::{instance, pagetable};
use mmio::regs::falcon::{self, offset};
use mmio::regs::{pbus, pfifo, pgraph, pmc, ppci};
use pagetable::{Aperture, Pde, Pte, TablePointer};

use super::Aggregator;
use crate::card::Registers;
use crate::partition::BarSpace;

/// Bit of UC_CTRL that starts a falcon.
const START: u32 = 1 << 1;
/// Bit of the control register of an aperture that selects translation.
const TRANSLATE: u32 = 1 << 31;

impl Aggregator {
    pub(super) fn bring_up(&mut self) {
        let card = self.card();
        card.set(pmc::INTR_EN_HOST, 0);
        card.set(pmc::ENABLE, 0);
        card.set(pmc::ENABLE, u32::MAX);
        self.set_up_bars();
        self.set_up_pfifo();
        self.set_up_pgraph();
        let card = self.card();
        for base in [falcon::CE0, falcon::CE1] {
            card.store(base + offset::UC_CTRL, START);
        }
        self.set_up_own_channel();
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

    /// BAR1 and BAR3 show what the layout says and nothing else.
    fn set_up_bars(&self) {
        let card = self.card();
        for (bar, register) in [(Bar::Bar1, pbus::BAR1_BLOCK), (Bar::Bar3, pbus::BAR2_BLOCK)] {
            let space = self.layout().bar_space(bar);
            self.set_up_bar(bar, &space);
            self.flush_tlb(space.directory);
            card.set(register, TRANSLATE | (space.instance >> 12) as u32);
        }
        card.set(pfifo::BAR1_BASE, pfifo::BAR1_BASE_ENABLE);
        card.show(self.stretches());
    }

    /// Writes the address space of a BAR: one table of large pages.
    fn set_up_bar(&self, bar: Bar, space: &BarSpace) {
        let vram = self.vram();
        vram.scrub(space.instance, instance::SIZE);
        vram.scrub(space.directory, BarSpace::DIRECTORY_SIZE);
        let mut table = [0; pagetable::LARGE_COUNT as usize];
        let mut end = 0;
        for stretch in self.stretches().behind(bar) {
            let first = (stretch.offset >> pagetable::LARGE_SHIFT) as usize;
            let pages = stretch.vram.clone().step_by(1 << pagetable::LARGE_SHIFT);
            for (entry, page) in table[first..].iter_mut().zip(pages) {
                *entry = Pte::new(Aperture::Vram, page).0;
            }
            end = end.max(stretch.offset + (stretch.vram.end - stretch.vram.start));
        }
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        vram.write_wide(space.table, &bytes);
        let pointer = TablePointer {
            aperture: Aperture::Vram,
            address: space.table,
            volatile: false,
        };
        vram.store_wide(space.directory, Pde::new(Some(pointer), None).0);
        vram.store_wide(space.instance + instance::PAGE_DIR_BASE, space.directory);
        vram.store_wide(space.instance + instance::ADDR_LIMIT, end - 1);
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
