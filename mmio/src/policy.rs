//! What a guest of a shared card may do with each register of BAR0.
//!
//! Nothing is forwarded unless a rule says so: what no rule names is storage of the guest's own
//! device. The rules are data; the device model in `gpu-model` gives the virtual and shadowed
//! registers their behaviour.

use std::sync::LazyLock;

use crate::RegId;
use crate::regs::{
    PRAMIN, PROM, board, falcon, pbus, pce, pfb, pfifo, pgraph, pmc, ppci, ppmu, ptimer,
};

/// How an access to a register is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// By the guest's own device; the card never sees it.
    Virtual,
    /// By the guest's own device, which brings a translated and bounded form of it to the card.
    Shadowed,
    /// Loads are the card's; stores are dropped, as the register belongs to all guests.
    Forwarded,
    /// Loads are 0, stores are dropped.
    Denied,
}

/// A policy, where it holds, and why.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// First byte.
    pub start: u32,
    /// Bytes of one element.
    pub len: u32,
    /// Elements.
    pub count: u32,
    /// Bytes from one element to the next.
    pub stride: u32,
    /// What is done.
    pub policy: Policy,
    /// Why.
    pub reason: &'static str,
}

const fn range(start: u32, end: u32, policy: Policy, reason: &'static str) -> Rule {
    Rule {
        start,
        len: end - start,
        count: 1,
        stride: 0,
        policy,
        reason,
    }
}

const fn word(register: RegId, policy: Policy, reason: &'static str) -> Rule {
    array(register, 1, 4, policy, reason)
}

const fn array(
    register: RegId,
    count: u32,
    stride: u32,
    policy: Policy,
    reason: &'static str,
) -> Rule {
    Rule {
        start: register.0,
        len: 4,
        count,
        stride,
        policy,
        reason,
    }
}

/// End of the registers of the chip.
const END: u32 = 0x0100_0000;
/// End of BAR0.
const BAR0_END: u32 = 0x0200_0000;

/// What holds where no rule does.
pub static DEFAULT: Rule = range(0, BAR0_END, Policy::Virtual, "Unlisted");

/// The rules. Of two that name a register the later one counts.
pub static RULES: &[Rule] = {
    use Policy::{Denied, Forwarded, Shadowed, Virtual};
    &[
        word(pmc::BOOT_0, Forwarded, "Identification"),
        word(pmc::BOOT_1, Forwarded, "Identification"),
        array(pmc::INTR_HOST, 2, 4, Virtual, "Causes of this guest only"),
        array(
            pmc::INTR_EN_HOST,
            2,
            4,
            Virtual,
            "Gates this guest's messages",
        ),
        array(pmc::INTR_MASK, 2, 4, Virtual, "Gates this guest's messages"),
        word(
            pmc::ENABLE,
            Virtual,
            "Resets units of this guest's device only",
        ),
        range(
            0x001000,
            0x002000,
            Virtual,
            "Errors of this guest's accesses",
        ),
        word(pbus::BAR0_WINDOW, Shadowed, "Bounded to the partition"),
        word(
            pbus::BAR1_BLOCK,
            Shadowed,
            "Tables of the guest, walked in software",
        ),
        word(
            pbus::BAR2_BLOCK,
            Shadowed,
            "Tables of the guest, walked in software",
        ),
        range(
            0x002000,
            0x004000,
            Virtual,
            "Set-up and interrupts of PFIFO",
        ),
        word(pfifo::BAR1_BASE, Shadowed, "Where doorbells are"),
        array(
            pfifo::RUNLIST_WR,
            2,
            4,
            Shadowed,
            "Merged with those of other guests",
        ),
        word(
            pfifo::RUNLIST_RD_LEN,
            Shadowed,
            "Pending while the merged list is",
        ),
        word(pfifo::KICK, Shadowed, "Channel translated"),
        array(
            pfifo::ENG_STATE,
            6,
            4,
            Shadowed,
            "Shown while a channel of the guest is on it",
        ),
        range(0x003000, 0x003400, Shadowed, "Shadow channels"),
        range(
            0x040000,
            0x046000,
            Shadowed,
            "Shown while the unit waits for the guest",
        ),
        word(
            ptimer::TIME_0,
            Forwarded,
            "One clock for registers and reports",
        ),
        word(
            ptimer::TIME_1,
            Forwarded,
            "One clock for registers and reports",
        ),
        word(ptimer::ALARM, Virtual, "An alarm of the guest's own"),
        word(board::GPC_COUNT, Forwarded, "The board"),
        word(board::TPC_COUNT, Forwarded, "The board"),
        word(board::FBP_COUNT, Virtual, "The partition's share of memory"),
        word(board::DISABLED_ENGINES, Forwarded, "The board"),
        word(board::DISABLED_GPCS, Forwarded, "The board"),
        word(
            board::DISABLED_FBPS,
            Virtual,
            "The partition's share of memory",
        ),
        word(board::SPEEDO, Forwarded, "The board"),
        word(board::STRAPS, Forwarded, "The board"),
        word(board::DEVINIT_STATUS, Forwarded, "The card is initialised"),
        range(
            ppci::CONFIG,
            ppci::CONFIG + 0x1000,
            Virtual,
            "The guest's function",
        ),
        word(pfb::SYSMEM_FLUSH, Virtual, "A bus address of the guest"),
        word(pfb::MMU_CTRL, Virtual, "How the guest's tables are read"),
        word(pfb::VM_FLUSH_PDB, Shadowed, "Shadow tables"),
        word(pfb::VM_FLUSH, Shadowed, "Shadow tables"),
        word(
            pfb::PARTITION_SIZE_ALL,
            Virtual,
            "The partition's share of memory",
        ),
        array(
            pfb::PARTITION_SIZE,
            8,
            0x1000,
            Virtual,
            "The partition's share of memory",
        ),
        range(
            falcon::CE0,
            falcon::CE0 + 2 * falcon::SIZE,
            Virtual,
            "Brought up once",
        ),
        array(
            pce::DISPATCH_ERROR,
            2,
            0x1000,
            Shadowed,
            "Errors of the guest's channels",
        ),
        array(
            pce::DISPATCH_DATA,
            2,
            0x1000,
            Shadowed,
            "Errors of the guest's channels",
        ),
        range(
            falcon::PMU,
            falcon::PMU + falcon::SIZE,
            Virtual,
            "A unit of the guest's own",
        ),
        word(
            ppmu::HOST_TO_PMU_PUT,
            Virtual,
            "Messages are taken and dropped",
        ),
        range(PROM.start, PROM.end, Forwarded, "The VBIOS"),
        range(0x400000, 0x600000, Virtual, "Brought up once"),
        word(pgraph::INTR, Shadowed, "Errors of the guest's channels"),
        word(pgraph::FE_MTHD, Shadowed, "Recorded for the first context"),
        word(pgraph::FECS_WRCMD_CMD, Shadowed, "Instance translated"),
        word(pgraph::FECS_UNITS, Forwarded, "The board"),
        word(pgraph::FECS_CHAN, Shadowed, "Instance translated"),
        word(pgraph::FECS_CHAN_NEXT, Shadowed, "Instance translated"),
        array(
            pgraph::GPC_TPCS,
            8,
            pgraph::GPC_STRIDE,
            Forwarded,
            "The board",
        ),
        range(
            PRAMIN.start,
            PRAMIN.end,
            Shadowed,
            "Bounded to the partition",
        ),
        range(END, BAR0_END, Denied, "Nothing of the chip is there"),
    ]
};

const PAGE: usize = 0x1000;
const PAGE_WORDS: usize = PAGE / 4;
/// The default, in the tables below.
const NONE: u8 = u8::MAX;

/// Rules by place: a page holds one rule, or a table of its words.
struct Map {
    pages: Vec<Page>,
}

enum Page {
    Whole(u8),
    Words(Box<[u8; PAGE_WORDS]>),
}

impl Map {
    fn new(rules: &[Rule]) -> Self {
        assert!(rules.len() < usize::from(NONE), "too many rules");
        let mut map = Self {
            pages: (0..BAR0_END as usize / PAGE)
                .map(|_| Page::Whole(NONE))
                .collect(),
        };
        for (id, rule) in (0u8..).zip(rules) {
            for element in 0..rule.count {
                map.claim(rule.start + element * rule.stride, rule.len, id);
            }
        }
        map
    }

    fn claim(&mut self, start: u32, len: u32, id: u8) {
        let (mut at, end) = (start as usize, (start + len) as usize);
        while at < end {
            let next = end.min((at / PAGE + 1) * PAGE);
            let page = &mut self.pages[at / PAGE];
            if next - at == PAGE {
                *page = Page::Whole(id);
            } else {
                if let Page::Whole(all) = page {
                    *page = Page::Words(Box::new([*all; PAGE_WORDS]));
                }
                if let Page::Words(words) = page {
                    words[at % PAGE / 4..(at % PAGE + next - at) / 4].fill(id);
                }
            }
            at = next;
        }
    }
}

/// The rule for the register whose word holds byte `offset`.
#[inline]
pub fn rule(offset: u32) -> &'static Rule {
    static MAP: LazyLock<Map> = LazyLock::new(|| Map::new(RULES));
    let id = match MAP.pages.get(offset as usize / PAGE) {
        Some(Page::Whole(id)) => *id,
        Some(Page::Words(words)) => words[offset as usize % PAGE / 4],
        None => NONE,
    };
    RULES.get(usize::from(id)).unwrap_or(&DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RegisterMap;

    #[test]
    fn what_no_rule_names_is_the_guests_own() {
        assert_eq!(rule(0x00ab_cdec).policy, Policy::Virtual);
        assert_eq!(rule(0x00ab_cdec).reason, DEFAULT.reason);
        assert_eq!(rule(u32::MAX).policy, Policy::Virtual);
    }

    #[test]
    fn a_later_rule_takes_a_register_out_of_a_range() {
        assert_eq!(rule(0x400000).policy, Policy::Virtual);
        assert_eq!(rule(pgraph::FECS_UNITS.0 + 3).policy, Policy::Forwarded);
        assert_eq!(rule(pgraph::FECS_UNITS.0 + 4).policy, Policy::Virtual);
        let last = pgraph::GPC_TPCS.0 + 7 * pgraph::GPC_STRIDE;
        assert_eq!(rule(last).policy, Policy::Forwarded);
    }

    #[test]
    fn only_loads_without_effect_reach_the_card_as_they_are() {
        let forwarded = RegisterMap::gf100()
            .iter()
            .filter(|register| rule(register.id.0).policy == Policy::Forwarded);
        for register in forwarded {
            let clock = [ptimer::TIME_0, ptimer::TIME_1].contains(&register.id);
            assert!(
                register.kind == crate::Kind::Ro || clock,
                "{}",
                register.name
            );
        }
    }

    #[test]
    fn every_rule_is_inside_bar0_and_made_of_words() {
        for rule in RULES {
            let end = rule.start + (rule.count - 1) * rule.stride + rule.len;
            assert!(rule.start % 4 == 0 && rule.len % 4 == 0 && end <= BAR0_END);
        }
    }
}
