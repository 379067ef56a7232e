//! Building a guest's first PGRAPH context on the card.
//!
//! A driver makes a channel current, sets state through registers and has the result saved; every
//! channel's context then starts as a copy of that. A guest's stores are recorded; when it asks
//! for the context, all of them are done here in one go, in an address space of the guest. That is for
//! cards that make a context beside what they execute; for others there is a
//! [first context](super::first_context) for all guests.

use mmio::regs::falcon::{self, offset};
use mmio::regs::pgraph;

use super::Aggregator;
use crate::card::Registers;

/// A method from the host side, as `FE_MTHD` and `FE_MTHD_DATA` hold it.
pub type HostMethod = (u32, u32);

impl Aggregator {
    /// Saves the state after `methods` to the context that the instance block at `instance` (of
    /// the card's memory) names; whether the card did.
    pub fn build_context(&self, instance: u64, methods: impl Iterator<Item = HostMethod>) -> bool {
        let _one = self.building.lock();
        let word = pgraph::FECS_CHAN_VALID | (instance >> 12) as u32;
        let card = self.card();
        let shown = [pgraph::FECS_CHAN, pgraph::FECS_CHAN_NEXT].map(|r| (r, card.get(r)));
        // Switching to the context loads what is there: nothing, so the state is as after reset.
        self.switch(0, word);
        let built = self.command(word, pgraph::FECS_SET_CHANNEL) && {
            for (method, data) in methods {
                card.set(pgraph::FE_MTHD_DATA, data);
                card.set(pgraph::FE_MTHD, method | pgraph::FE_MTHD_GO);
            }
            self.command(word, pgraph::FECS_SAVE)
        };
        // The context switcher forgets the instance block, which is the guest's to reuse.
        self.switch(word, 0);
        // What the registers show is the channel that PGRAPH executes.
        for (register, value) in shown {
            card.set(register, value);
        }
        built
    }

    pub(super) fn switch(&self, from: u32, to: u32) {
        let card = self.card();
        card.set(pgraph::FECS_CHAN, from);
        card.set(pgraph::FECS_CHAN_NEXT, to);
        card.store(falcon::FECS + offset::INTR_SET, falcon::CHANNEL_SWITCH);
    }

    pub(super) fn command(&self, data: u32, command: u32) -> bool {
        let card = self.card();
        let scratch = pgraph::FECS_SCRATCH.offset();
        card.set(pgraph::FECS_SCRATCH_CLR, pgraph::FECS_READY);
        card.set(pgraph::FECS_WRCMD_DATA, data);
        card.set(pgraph::FECS_WRCMD_CMD, command);
        self.wait(|| card.load(scratch) & pgraph::FECS_READY != 0)
    }
}
