//! Building a guest's first PGRAPH context on the card.
//!
//! A driver makes a channel current, sets state through registers and has the result saved; every
//! channel's context then starts as a copy of that. A guest's stores are recorded; when it asks
//! for the context, all of them are done here in one go, in an address space of the guest.

use mmio::regs::falcon::{self, offset};
use mmio::regs::pgraph;

use super::Aggregator;
use crate::card::Registers;

/// Bit of INTR_SET by which the context switcher is asked to switch.
const CHANNEL_SWITCH: u32 = 1 << 8;
/// Valid bit of the channel registers.
const VALID: u32 = 1 << 31;
/// Commands of the built-in firmware.
///
/// Source: K61 `nvkm/engine/gr/fuc/hub.fuc main`.
const SET_CHANNEL: u32 = 0x01;
const SAVE: u32 = 0x02;
/// Valid bit of `FE_MTHD`.
const GO: u32 = 1 << 31;

/// A method from the host side, as `FE_MTHD` and `FE_MTHD_DATA` hold it.
pub type HostMethod = (u32, u32);

impl Aggregator {
    /// Saves the state after `methods` to the context that the instance block at `instance` (of
    /// the card's memory) names; whether the card did.
    pub fn build_context(&self, instance: u64, methods: impl Iterator<Item = HostMethod>) -> bool {
        let _one = self.building.lock();
        let word = VALID | (instance >> 12) as u32;
        let card = self.card();
        let shown = [pgraph::FECS_CHAN, pgraph::FECS_CHAN_NEXT].map(|r| (r, card.get(r)));
        // Switching to the context loads what is there: nothing, so the state is as after reset.
        self.switch(0, word);
        let built = self.command(word, SET_CHANNEL) && {
            for (method, data) in methods {
                card.set(pgraph::FE_MTHD_DATA, data);
                card.set(pgraph::FE_MTHD, method | GO);
            }
            self.command(word, SAVE)
        };
        // The context switcher forgets the instance block, which is the guest's to reuse.
        self.switch(word, 0);
        // What the registers show is the channel that PGRAPH executes.
        for (register, value) in shown {
            card.set(register, value);
        }
        built
    }

    fn switch(&self, from: u32, to: u32) {
        let card = self.card();
        card.set(pgraph::FECS_CHAN, from);
        card.set(pgraph::FECS_CHAN_NEXT, to);
        card.store(falcon::FECS + offset::INTR_SET, CHANNEL_SWITCH);
    }

    fn command(&self, data: u32, command: u32) -> bool {
        let card = self.card();
        let scratch = pgraph::FECS_SCRATCH.offset();
        card.set(pgraph::FECS_SCRATCH_CLR, VALID);
        card.set(pgraph::FECS_WRCMD_DATA, data);
        card.set(pgraph::FECS_WRCMD_CMD, command);
        self.wait(|| card.load(scratch) & VALID != 0)
    }
}
