//! What a guest has been told and has not yet dealt with.

use std::collections::VecDeque;

use mmio::regs::pfifo::{self, Intr};
use mmio::regs::pmc;

use super::VirtualGpu;
use crate::aggregator::{Event, Shown};

/// Interrupts of an engine that may wait for the guest; what comes on top is lost, as it would be
/// in registers.
const MOST_WAITING: usize = 16;

/// What PFIFO and the engines report to a guest.
#[derive(Default)]
pub struct Events {
    /// Interrupts of PFIFO that stay until the guest clears them.
    pub latched: Intr,
    /// Units with a fault.
    pub fault_source: u32,
    /// By unit: instance, address low and high, type.
    pub faults: [[u32; 4]; 32],
    /// PBDMAs that wait for the guest.
    pub pbdmas: u32,
    /// Runlist events.
    pub runlist: u32,
    /// Non-stalling interrupts by engine number.
    pub engines: [u32; 16],
    /// Interrupts of engines that wait until the guest has dealt with the one before.
    waiting: VecDeque<(pmc::Intr, Vec<Shown>)>,
}

impl Events {
    /// `PFIFO.INTR`.
    pub fn intr(&self) -> Intr {
        let mut intr = self.latched;
        intr.set(Intr::VM_FAULT, self.fault_source != 0);
        intr.set(Intr::PBDMA, self.pbdmas != 0);
        intr.set(Intr::RUNLIST, self.runlist != 0);
        intr.set(Intr::ENGINE, self.engine_source() != 0);
        intr
    }

    /// `PFIFO.ENGINE_INTR_SOURCE`.
    pub fn engine_source(&self) -> u32 {
        let pending = |(n, bits): (usize, &u32)| u32::from(*bits != 0) << n;
        self.engines.iter().enumerate().map(pending).sum()
    }
}

impl VirtualGpu {
    /// Changes the events and brings PFIFO's line up to date.
    pub(super) fn with_events(&self, change: impl FnOnce(&mut Events)) {
        let mut events = self.events.lock();
        change(&mut events);
        let enabled = self.file.read(pfifo::INTR_EN.offset());
        let level = events.intr().bits() & enabled != 0;
        self.interrupts.set(pmc::Intr::PFIFO, level);
    }

    /// The guest is told.
    pub fn deliver(&self, event: Event) {
        self.counters.count(&self.counters.events);
        match event {
            Event::Fault {
                unit,
                guest,
                registers,
            } => {
                if let Some(guest) = guest {
                    self.counters.add_fault(guest);
                }
                self.with_events(|events| {
                    let bit = 1 << unit;
                    // Of two in one unit the first stays.
                    if events.fault_source & bit == 0 {
                        events.fault_source |= bit;
                        events.faults[unit as usize & 31] = registers;
                    }
                });
            }
            Event::Pbdma => self.look_at_pbdmas(),
            Event::Runlist => self.with_events(|events| {
                events.runlist |= pfifo::INTR_RUNLIST_DONE;
            }),
            Event::Engine { engine, bits } => self.with_events(|events| {
                events.engines[engine] |= bits;
            }),
            Event::Hung => {
                self.counters.count(&self.counters.hangs);
                let code = pfifo::SCHED_ERROR_CTXSW_TIMEOUT;
                self.file.write(pfifo::SCHED_ERROR.offset(), code);
                self.look_at_pbdmas();
                self.with_events(|events| events.latched |= Intr::SCHED_ERROR);
            }
            Event::Engaged { line, registers } => {
                let mut events = self.events.lock();
                if self.pending(line) == 0 {
                    self.show(line, &registers);
                } else if events.waiting.len() < MOST_WAITING {
                    events.waiting.push_back((line, registers));
                }
            }
        }
    }

    /// Shows the PBDMAs that wait for the guest just now, whatever it was told.
    pub(super) fn look_at_pbdmas(&self) {
        self.with_events(|events| {
            events.pbdmas = (0..pfifo::PBDMAS as usize)
                .filter(|&unit| self.host.pbdma_owner(self.vm(), unit).is_some())
                .map(|unit| 1 << unit)
                .sum();
        });
    }

    /// The guest has dealt with an interrupt of `line`: the next one shows.
    pub(super) fn next_engaged(&self, line: pmc::Intr) {
        let mut events = self.events.lock();
        if self.pending(line) == 0
            && let Some(at) = events.waiting.iter().position(|(of, _)| *of == line)
            && let Some((_, registers)) = events.waiting.remove(at)
        {
            self.show(line, &registers);
        }
        self.update_line(line);
    }

    fn show(&self, line: pmc::Intr, registers: &[Shown]) {
        // The pending bits are first: the guest looks at the others when it sees them.
        for &(offset, value) in registers.iter().rev() {
            self.file.write(offset, value);
        }
        self.update_line(line);
    }
}
