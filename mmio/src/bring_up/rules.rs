//! Which stores of a driver bring engines up.
//!
//! Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_init, gf100_gr_init_ctxctl_int`,
//! `nvkm/engine/gr/ctxgf100.c gf100_grctx_generate`, `nvkm/engine/falcon.c nvkm_falcon_init`,
//! `nvkm/engine/fifo/gf100.c gf100_fifo_init`, `nvkm/subdev/ltc/gf100.c gf100_ltc_init`,
//! `nvkm/subdev/privring/gf100.c gf100_privring_init`; the same in K612, but for when each is called.

use std::fmt;

use crate::RegId;
use crate::regs::falcon::{self, offset};
use crate::regs::{board, pfifo, pgraph, pltc, pmc};

/// What stores bring up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What engines share: the way to their registers, to memory, and from PBDMAs.
    Shared,
    /// PGRAPH with its context switcher, and the first context.
    Graphics,
    /// A copy engine: both run the same firmware, which finds out which of them it is by a register.
    /// Registers are those of the first.
    Copy,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "what engines share",
            Self::Graphics => "PGRAPH",
            Self::Copy => "a copy engine",
        })
    }
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// What is good on any day.
    Value,
    /// In the bits of `mask`, where something is, as an address without its `shift` lowest bits.
    Address {
        /// What is there.
        place: Place,
        /// Bits that are left out.
        shift: u32,
        /// Where it is in the register.
        mask: u32,
    },
}

/// Memory that a register leads to, and that whoever brings the card up has to have there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Video memory for stores of the GPCs that their MMU turns away, when it is told to debug.
    Stray,
    /// Video memory for loads likewise.
    Void,
    /// Buffers of a channel, in its address space. Those of the first context are nobody's: what
    /// switches contexts stores those of each channel when it loads one for the first time.
    ///
    /// Source: K61 `nvkm/engine/gr/fuc/hub.fuc ctx_mmio_exec`, `nvkm/engine/gr/gf100.c
    /// gf100_gr_chan_new`.
    Buffers,
}

/// What a driver waits for around a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    No,
    /// Before it: PGRAPH is idle.
    Idle,
    /// After it: the internal command is done, and PGRAPH idle after one that says so.
    Command,
    /// After it: the power mode has changed.
    Power,
    /// After it: some microseconds, for reset lines.
    Delay,
}

/// Where stores belong to the bring-up of what, and why.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// First byte.
    pub start: u32,
    /// Bytes.
    pub len: u32,
    /// What they bring up; none: they are left out.
    pub part: Option<Part>,
    /// What the registers hold.
    pub holds: Holds,
    /// What is waited for.
    pub wait: Wait,
    /// Why.
    pub reason: &'static str,
}

const fn range(start: u32, end: u32, part: Part, reason: &'static str) -> Rule {
    Rule {
        start,
        len: end - start,
        part: Some(part),
        holds: Holds::Value,
        wait: Wait::No,
        reason,
    }
}

const fn waiting(register: RegId, wait: Wait, reason: &'static str) -> Rule {
    Rule {
        wait,
        ..range(register.0, register.0 + 4, Part::Graphics, reason)
    }
}

const fn address(register: RegId, place: Place, shift: u32, mask: u32) -> Rule {
    Rule {
        holds: Holds::Address { place, shift, mask },
        ..range(
            register.0,
            register.0 + 4,
            Part::Graphics,
            "Memory of the driver's",
        )
    }
}

const fn without(start: u32, len: u32, reason: &'static str) -> Rule {
    Rule {
        part: None,
        ..range(start, start + len, Part::Shared, reason)
    }
}

const PBDMA: &str = "A setting of each PBDMA";
const TALK: &str = "Whoever brings the card up talks to the context switcher";
const FETCH: &str = "Firmware that the falcon would fetch from memory of the driver's";
const ALL: u32 = u32::MAX;
/// Flags are above the address.
const PAGES: u32 = 0x0fff_ffff;

/// The rules. Of two that name a register the later one counts.
pub static RULES: &[Rule] = &[
    range(0x122300, 0x122400, Part::Shared, "Pace of the register bus"),
    range(
        pfifo::ENG_PBDMA_MASK.0,
        pfifo::ENG_PBDMA_MASK.0 + 0x18,
        Part::Shared,
        "Which PBDMAs feed which engine",
    ),
    range(0x04013c, 0x040140, Part::Shared, PBDMA),
    range(0x04213c, 0x042140, Part::Shared, PBDMA),
    range(0x04413c, 0x044140, Part::Shared, PBDMA),
    range(
        0x17e800,
        0x17ec00,
        Part::Shared,
        "The level-two cache and its clear values",
    ),
    without(pltc::CBC_CLEAR.0, 12, "Clears tags of the driver's"),
    without(pltc::CBC_BASE.0, 4, "Tags in memory of the driver's"),
    range(
        pmc::CTXCTL_GATE.0,
        pmc::CTXCTL_GATE.0 + 4,
        Part::Graphics,
        "Closed while the context switcher is loaded",
    ),
    range(
        0x400000,
        0x600000,
        Part::Graphics,
        "PGRAPH and the context switcher",
    ),
    without(falcon::FECS + offset::INTR_SET, 4, TALK),
    without(pgraph::FECS_WRCMD_DATA.0, 4, TALK),
    without(pgraph::FECS_WRCMD_CMD.0, 4, TALK),
    without(pgraph::FECS_SCRATCH_CLR.0, 4, TALK),
    without(pgraph::FECS_CHAN.0, 8, TALK),
    without(falcon::FECS + offset::DMA_BASE, offset::DMA_SIZE, FETCH),
    without(falcon::GPCCS + offset::DMA_BASE, offset::DMA_SIZE, FETCH),
    address(pgraph::GPC_MMU_DEBUG_WR, Place::Stray, 8, ALL),
    address(pgraph::GPC_MMU_DEBUG_RD, Place::Void, 8, ALL),
    address(pgraph::BUNDLE_HUB, Place::Buffers, 8, ALL),
    address(pgraph::BUNDLE_GPC, Place::Buffers, 8, ALL),
    address(pgraph::PAGEPOOL_HUB, Place::Buffers, 8, ALL),
    address(pgraph::PAGEPOOL_TPC, Place::Buffers, 8, ALL),
    address(pgraph::ATTRIBUTES_GPC, Place::Buffers, 12, PAGES),
    address(pgraph::ATTRIBUTES_TPC, Place::Buffers, 12, PAGES),
    waiting(pgraph::ICMD_MODE, Wait::Idle, "Begins internal commands"),
    waiting(pgraph::ICMD_CMD, Wait::Command, "An internal command"),
    waiting(pgraph::FE_PWR_MODE, Wait::Power, "Power while units reset"),
    waiting(pgraph::FECS_RED_SWITCH, Wait::Delay, "Resets units"),
    range(
        falcon::CE0,
        falcon::CE0 + falcon::SIZE,
        Part::Copy,
        "The falcon and its memories",
    ),
    without(falcon::CE0 + offset::DMA_BASE, offset::DMA_SIZE, FETCH),
];

/// What tells one card from another, as far as a bring-up depends on it: the chip, and what of it is
/// there.
pub static IDENTITY: &[RegId] = &[
    pmc::BOOT_0,
    board::FBP_COUNT,
    board::DISABLED_FBPS,
    pgraph::FECS_UNITS,
    pgraph::GPC_TPCS,
];

/// The rule for the register at `offset` of BAR0; none if no rule names it, or one that leaves it out.
pub fn rule(offset: u32) -> Option<&'static Rule> {
    let names = |rule: &&Rule| offset.wrapping_sub(rule.start) < rule.len;
    RULES
        .iter()
        .rev()
        .find(names)
        .filter(|rule| rule.part.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{self, Policy};
    use crate::regs::{PRAMIN, PROM, pbus, ppmu};

    #[test]
    fn engines_belong_to_a_bring_up_and_what_machines_share_by_other_means_does_not() {
        for (register, part) in [
            (falcon::FECS + offset::IMEM_DATA, Part::Graphics),
            (falcon::GPCCS + offset::DMEM_DATA, Part::Graphics),
            (falcon::CE0 + offset::IMEM_DATA, Part::Copy),
            (pgraph::FE_MTHD.0, Part::Graphics),
            (pmc::CTXCTL_GATE.0, Part::Graphics),
            (0x17e8d8, Part::Shared),
        ] {
            assert_eq!(rule(register).and_then(|rule| rule.part), Some(part));
        }
        for register in [
            pmc::ENABLE.0,
            pmc::INTR_EN_HOST.0,
            pbus::BAR1_BLOCK.0,
            pfifo::RUNLIST_WR.0,
            pfifo::CHAN.0,
            pltc::CBC_BASE.0,
            pgraph::FECS_WRCMD_CMD.0,
            falcon::CE0 + offset::DMA_BASE,
            falcon::CE1,
            falcon::PMU,
            ppmu::HOST_TO_PMU_PUT.0,
            PROM.start,
            PRAMIN.start,
            u32::MAX,
        ] {
            assert!(rule(register).is_none(), "{register:#x}");
        }
    }

    #[test]
    fn what_is_brought_up_once_is_no_guests() {
        for part in RULES.iter().filter(|rule| rule.part.is_some()) {
            assert!(part.start.is_multiple_of(4) && part.len.is_multiple_of(4));
            let policy = policy::rule(part.start).policy;
            assert!(matches!(policy, Policy::Virtual | Policy::Shadowed));
        }
    }

    #[test]
    fn addresses_fit_their_bits() {
        for rule in RULES {
            if let Holds::Address { shift, mask, .. } = rule.holds {
                let highest = (1u64 << 40) - 1;
                assert_eq!((highest >> shift) & !u64::from(mask), 0);
            }
        }
    }
}
