//! Bringing the card up, once for all machines: with what a driver of the operator's stored for that,
//! or, where the falcons have firmware of their own, without.

use std::time::Duration;

use mmio::bring_up::Record;
use mmio::bring_up::rules::IDENTITY;
use mmio::layout::{instance, pagetable};
use mmio::regs::falcon::{self, offset};
use mmio::regs::{board, pbus, pce, pfb, pfifo, pgraph, pmc, ppci};
use mmio::{Bar, RegId};
use pagetable::{Aperture, Pde, Pte, TablePointer};
use thiserror::Error;

use super::Aggregator;
use crate::card::Registers;
use crate::partition::BarSpace;

/// Bit of the control register of an aperture that selects translation.
const TRANSLATE: u32 = 1 << 31;
/// How long firmware may take to come up: nouveau waits as long.
const FIRMWARE: Duration = Duration::from_secs(2);
/// The copy engines.
const COPY_ENGINES: u32 = 2;

/// Why a card does not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BringUpError {
    /// Nobody initialised it.
    #[error("The card is not initialised: the scripts of its VBIOS have not run since its reset")]
    NotInitialised,
    /// The record is of another card.
    #[error("The record is of another card: {register:?} is {found:#x}, and was {recorded:#x}")]
    OtherCard {
        /// Where they differ.
        register: RegId,
        /// What this card has there.
        found: u32,
        /// What the other one had.
        recorded: u32,
    },
    /// The context switcher is not there.
    #[error("The card's context switcher does not start: {}", firmware(*.recorded))]
    ContextSwitcher {
        /// It was given firmware.
        recorded: bool,
    },
    /// A copy engine is not there.
    #[error("The card's copy engine {number} does not start: {}", firmware(*.recorded))]
    CopyEngine {
        /// Which.
        number: u32,
        /// It was given firmware.
        recorded: bool,
    },
    /// PGRAPH does not finish what it was told.
    #[error("PGRAPH is not done with {value:#x} in {register:?}")]
    Busy {
        /// Where it was told.
        register: RegId,
        /// What it was told.
        value: u32,
    },
    /// There is no first context.
    #[error("The card does not save the first context")]
    FirstContext,
}

fn firmware(recorded: bool) -> &'static str {
    match recorded {
        true => "the firmware of the record does not run",
        false => "it has no firmware",
    }
}

impl BringUpError {
    /// A record of a driver's bring-up would help.
    pub fn wants_record(&self) -> bool {
        matches!(
            self,
            Self::ContextSwitcher { recorded: false }
                | Self::CopyEngine {
                    recorded: false,
                    ..
                }
        )
    }
}

impl Aggregator {
    /// Brings the card up, by `record` if there is one.
    pub(super) fn bring_up(&mut self, record: Option<&Record>) -> Result<(), BringUpError> {
        let card = self.card();
        if card.get(board::DEVINIT_STATUS) & board::DEVINIT_DONE == 0 {
            return Err(BringUpError::NotInitialised);
        }
        card.set(pmc::INTR_EN_HOST, 0);
        card.set(pmc::ENABLE, 0);
        card.set(pmc::ENABLE, u32::MAX);
        if let Some(record) = record {
            self.compare(record)?;
            self.replay(&record.shared, 0)?;
        }
        let card = self.card();
        card.set(pfb::MMU_CTRL, card.get(pfb::MMU_CTRL) & !pfb::LARGE_64K);
        self.set_up_bars();
        self.set_up_pfifo();
        self.set_up_pgraph(record)?;
        for number in 0..COPY_ENGINES {
            self.start_copy_engine(number, record)?;
        }
        self.set_up_own_channel();
        // The context switcher leaves the size of a context here.
        let scratch = pgraph::FECS_SCRATCH.offset();
        self.context_size = self.card().load(scratch + 4);
        if let Some(record) = record {
            self.first_context = Some(self.make_first_context(record)?);
        }
        let card = self.card();
        card.store(scratch, 0);
        card.set(pmc::INTR_MASK, u32::MAX);
        card.set(pmc::INTR_EN_HOST, 1);
        card.set(ppci::MSI_REARM, 0xff);
        Ok(())
    }

    /// A record holds what a driver found out about its card.
    fn compare(&self, record: &Record) -> Result<(), BringUpError> {
        let known = IDENTITY.iter().flat_map(|register| register.elements());
        for register in known {
            let mut recorded = record.card.iter().filter(|s| s.register == register);
            let found = self.card().load(register);
            if let Some(other) = recorded.find(|store| store.value != found) {
                return Err(BringUpError::OtherCard {
                    register: RegId(register),
                    found,
                    recorded: other.value,
                });
            }
        }
        Ok(())
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
        card.set(pfifo::PBDMA_ENABLE_PMC, u32::MAX);
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

    fn set_up_pgraph(&self, record: Option<&Record>) -> Result<(), BringUpError> {
        if let Some(record) = record {
            self.replay(&record.graphics, 0)?;
        }
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
        card.store(falcon::FECS + offset::UC_CTRL, falcon::START);
        let ready = || card.get(pgraph::FECS_SCRATCH) & pgraph::FECS_READY != 0;
        match self.wait_at_most(FIRMWARE, ready) {
            true => Ok(()),
            false => Err(BringUpError::ContextSwitcher {
                recorded: record.is_some(),
            }),
        }
    }

    /// Source: K61 `nvkm/engine/falcon.c nvkm_falcon_init`, `nvkm/engine/ce/gf100.c gf100_ce_init`.
    fn start_copy_engine(&self, number: u32, record: Option<&Record>) -> Result<(), BringUpError> {
        let apart = falcon::SIZE * number;
        if let Some(record) = record {
            self.replay(&record.copy, apart)?;
        }
        let card = self.card();
        let base = falcon::CE0 + apart;
        card.store(base + offset::UC_CTRL, falcon::START);
        card.store(base + offset::FIFO_CTRL, falcon::FIFO_CTRL_ENABLE);
        card.store(pce::UNIT.offset() + apart, number);
        // What the firmware does first.
        let runs = || card.load(base + offset::INTR_DISPATCH) == pce::INTR_DISPATCH_VALUE;
        match self.wait_at_most(FIRMWARE, runs) {
            true => Ok(()),
            false => Err(BringUpError::CopyEngine {
                number,
                recorded: record.is_some(),
            }),
        }
    }
}
