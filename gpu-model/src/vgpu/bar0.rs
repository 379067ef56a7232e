//! BAR0: what a load or a store of each register does.

use std::ops::Range;
use std::sync::atomic::Ordering;

use mmio::policy::{Policy, rule};
use mmio::regs::pfb::{LARGE_64K, VmFlush};
use mmio::regs::pmc::{Enable, Intr};
use mmio::regs::{PRAMIN, PROM, falcon, pbus, pfb, pmc, ppci, ptimer};
use mmio::{Bar, Hit, Kind, Unit, words};

use super::VirtualGpu;
use super::events::Events;
use crate::card::Registers;

/// Registers of PFIFO and its PBDMAs.
const PFIFO: [Range<u32>; 2] = [0x2000..0x4000, 0x4_0000..0x4_6000];

impl VirtualGpu {
    pub(super) fn registers_read(&self, offset: u32, data: &mut [u8]) {
        if PRAMIN.contains(&offset) {
            return self.pramin_read(offset, data);
        }
        if PROM.contains(&offset) {
            return self.host.card().read(Bar::Bar0, offset.into(), data);
        }
        words::load(offset, data, |at| self.load(at));
    }

    pub(super) fn registers_write(&self, offset: u32, data: &[u8]) {
        if PRAMIN.contains(&offset) {
            return self.pramin_write(offset, data);
        }
        let kept = |at| self.file.read(at);
        words::store(offset, data, kept, |at, value| self.store(at, value));
    }

    /// Loads a register.
    #[inline]
    pub fn load(&self, offset: u32) -> u32 {
        match rule(offset).policy {
            Policy::Forwarded => return self.host.card().load(offset),
            Policy::Denied => return 0,
            Policy::Virtual | Policy::Shadowed => {}
        }
        let Some(at) = self.map.lookup(offset) else {
            return self.file.read(offset);
        };
        let known = match at.register.unit {
            Unit::Pmc => self.pmc_load(at),
            Unit::Pfifo => self.fifo_load(at),
            Unit::Ptimer => self.timer_load(at),
            Unit::Pce | Unit::Ppmu | Unit::Pgraph => self.falcons.read(offset),
            _ => None,
        };
        match known {
            Some(value) => value,
            None if at.register.kind == Kind::Wo => 0,
            None => self.file.read(offset),
        }
    }

    /// Stores to a register.
    #[inline]
    pub fn store(&self, offset: u32, value: u32) {
        match rule(offset).policy {
            Policy::Forwarded | Policy::Denied => {
                return self.counters.count(&self.counters.refused);
            }
            Policy::Virtual | Policy::Shadowed => {}
        }
        let Some(at) = self.map.lookup(offset) else {
            return self.file.write(offset, value);
        };
        let done = match at.register.unit {
            Unit::Pmc => self.pmc_store(at, value),
            Unit::Pbus => self.bus_store(at, value),
            Unit::Pfifo => self.fifo_store(at, value),
            Unit::Ptimer => self.timer_store(at, value),
            Unit::Pfb => self.memory_store(at, value),
            Unit::Ppci => {
                if at.register.id == ppci::MSI_REARM {
                    self.interrupts.rearm();
                }
                false
            }
            Unit::Pce => self.falcons.write(offset, value) || self.copy_store(at, value),
            Unit::Ppmu => self.falcons.write(offset, value) || self.pmu_store(at, value),
            Unit::Pgraph => self.falcons.write(offset, value) || self.graph_store(at, value),
            _ => false,
        };
        if done {
            return;
        }
        match at.register.kind {
            Kind::Rw | Kind::Wo => self.file.write(offset, value),
            Kind::W1c => self.file.clear(offset, value),
            Kind::Ro => {}
        }
    }

    fn pmc_load(&self, at: Hit) -> Option<u32> {
        match (at.register.id, at.index) {
            (pmc::INTR_HOST, 0) => Some(self.interrupts.status()),
            (pmc::INTR_EN_HOST, 0) => Some(self.interrupts.enable().into()),
            (pmc::INTR_MASK, 0) => Some(self.interrupts.mask()),
            _ => None,
        }
    }

    fn pmc_store(&self, at: Hit, value: u32) -> bool {
        match (at.register.id, at.index) {
            (pmc::INTR_EN_HOST, 0) => self.interrupts.set_enable(value & 1 != 0),
            (pmc::INTR_MASK, 0) => self.interrupts.set_mask(value),
            (pmc::ENABLE, _) => self.set_enable(value),
            _ => return false,
        }
        true
    }

    /// Falling bits of `PMC.ENABLE` reset units of this guest.
    fn set_enable(&self, value: u32) {
        let before = self.file.read(pmc::ENABLE.offset());
        self.file.write(pmc::ENABLE.offset(), value);
        let fallen = Enable::from_bits_truncate(before & !value);
        if fallen.contains(Enable::PFIFO) {
            self.reset_fifo();
        }
        if fallen.contains(Enable::PGRAPH) {
            self.reset_graph();
        }
        // PMU raises nothing here.
        for (bit, base, line) in [
            (Enable::CE0, falcon::CE0, Some(Intr::CE0)),
            (Enable::CE1, falcon::CE1, Some(Intr::CE1)),
            (Enable::PMU, falcon::PMU, None),
        ] {
            if fallen.contains(bit) {
                self.falcons.reset(base..base + falcon::SIZE);
                self.file.reset(base..base + falcon::SIZE);
                if let Some(line) = line {
                    self.refresh_line(line);
                }
                self.describe_falcons();
            }
        }
    }

    pub(super) fn reset_fifo(&self) {
        self.reset_channels();
        for range in PFIFO {
            self.file.reset(range);
        }
        self.host.listen(self.vm(), false);
        self.with_events(|events| *events = Events::default());
    }

    fn bus_store(&self, at: Hit, value: u32) -> bool {
        match at.register.id {
            pbus::BAR1_BLOCK => self.set_window(Bar::Bar1, value),
            pbus::BAR2_BLOCK => self.set_window(Bar::Bar3, value),
            // What the guest stored through mappings is nobody else's to know of.
            pbus::BAR_FLUSH => self.host.card().flush(true),
            pbus::BAR0_WINDOW => {
                self.file.write(at.register.id.offset(), value);
                self.remap(Bar::Bar0);
                return true;
            }
            _ => {}
        }
        false
    }

    fn memory_store(&self, at: Hit, value: u32) -> bool {
        match at.register.id {
            pfb::VM_FLUSH if value & VmFlush::TRIGGER.bits() != 0 => {
                self.counters.count(&self.counters.flushes);
                let all = VmFlush::from_bits_retain(value).contains(VmFlush::ALL_PDB);
                let space = self.file.read(pfb::VM_FLUSH_PDB.offset());
                self.flush((!all).then_some(space));
                false
            }
            // The state of the flush queue stays as it is at reset, as a flush is done at once.
            pfb::MMU_CTRL => {
                let before = self.geometry();
                let value = at.register.reset | value & LARGE_64K;
                self.file.write(at.register.id.offset(), value);
                if self.geometry() != before {
                    self.windows.lock().read_as(self.geometry());
                    self.flush(None);
                }
                true
            }
            _ => false,
        }
    }

    /// Nobody uses translations of the directory that `space` (of the flush register) names any more,
    /// or of any, as they were.
    fn flush(&self, space: Option<u32>) {
        self.track_mapped();
        {
            let mut memory = self.memory.lock();
            memory.flush(&self.around(), space);
            self.put_off.store(memory.is_stale(), Ordering::Release);
        }
        self.windows.lock().flush();
        for bar in self.behind(space) {
            self.remap(bar);
        }
        self.settle_tracker();
    }

    fn timer_load(&self, at: Hit) -> Option<u32> {
        match at.register.id {
            ptimer::INTR => Some(self.timer.pending().into()),
            ptimer::INTR_EN => Some(self.timer.enabled().into()),
            _ => None,
        }
    }

    fn timer_store(&self, at: Hit, value: u32) -> bool {
        match at.register.id {
            ptimer::INTR if value & 1 != 0 => self.timer.acknowledge(),
            ptimer::INTR => {}
            ptimer::INTR_EN => self.timer.enable(value & 1 != 0),
            ptimer::ALARM => {
                self.timer.set(value);
                return false;
            }
            _ => return false,
        }
        true
    }
}
