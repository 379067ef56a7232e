//! Stores that may reach the device later than they were made, as long as they come in order and
//! before the guest's next load or other store.

use std::ops::Range;
use std::sync::LazyLock;

use mmio::policy::{Policy, rule};
use mmio::regs::{PRAMIN, falcon};
use mmio::{Kind, RegisterMap, Unit};

use super::VirtualGpu;
use crate::optimisations::Optimisations;

/// Bytes of the shortest run that is worth being told, unless it is of a port.
const LEAST: u32 = 0x100;

impl VirtualGpu {
    /// The runs of registers in BAR0 whose stores may be late, if the guest's stores are collected:
    /// those that are only stored, and the ports through which firmware comes.
    pub fn deferrable(&self) -> &'static [Range<u32>] {
        static RUNS: LazyLock<Vec<Range<u32>>> = LazyLock::new(runs);
        match self.optimisations().contains(Optimisations::COALESCE) {
            true => &RUNS,
            false => &[],
        }
    }
}

fn runs() -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    let mut ports = Vec::new();
    for offset in (0..PRAMIN.start).step_by(4) {
        if is_port(offset) {
            ports.push(offset..offset + 4);
        } else if is_plain(offset) {
            match runs.last_mut() {
                Some(run) if run.end == offset => run.end += 4,
                _ => runs.push(offset..offset + 4),
            }
        }
    }
    runs.retain(|run| run.end - run.start >= LEAST);
    runs.extend(ports);
    runs
}

/// Whether a store to the register at `offset` does nothing but to be found there later.
fn is_plain(offset: u32) -> bool {
    if rule(offset).policy != Policy::Virtual {
        return false;
    }
    RegisterMap::gf100().lookup(offset).is_none_or(|at| {
        let behaves = [
            Unit::Pmc,
            Unit::Pbus,
            Unit::Pfifo,
            Unit::Ptimer,
            Unit::Pfb,
            Unit::Ppci,
            Unit::Pce,
            Unit::Ppmu,
            Unit::Pgraph,
        ];
        at.register.kind == Kind::Rw && !behaves.contains(&at.register.unit)
    })
}

/// Whether the register at `offset` is one of a falcon's to load its memories by.
fn is_port(offset: u32) -> bool {
    use falcon::offset::{DMEM_CTRL, DMEM_DATA, IMEM_CTRL, IMEM_DATA};
    let falcons = [
        falcon::CE0,
        falcon::CE1,
        falcon::PMU,
        falcon::FECS,
        falcon::GPCCS,
    ];
    let place = offset % falcon::SIZE;
    falcons.contains(&(offset - place))
        && [IMEM_CTRL, IMEM_DATA, DMEM_CTRL, DMEM_DATA].contains(&place)
}

#[cfg(test)]
mod tests {
    use mmio::regs::pmc;

    use super::*;

    #[test]
    fn ports_of_falcons_are_deferrable_and_their_controls_are_not() {
        assert!(is_port(falcon::FECS + falcon::offset::IMEM_DATA));
        assert!(!is_port(falcon::FECS + falcon::offset::UC_CTRL));
        assert!(!is_port(pmc::ENABLE.offset()));
    }
}
