//! Recording a driver.

use std::sync::{Mutex, PoisonError};

use super::record::{Record, Store};
use super::rules::{IDENTITY, Part, rule};
use crate::regs::falcon::{self, offset};
use crate::regs::pgraph;
use crate::regs::pmc::{self, Enable};
use crate::trace::Observer;
use crate::{Access, Bar, Direction, RegisterMap, Width};

/// Watches a driver that brings up a card of its own, and keeps what it stores for that.
///
/// What a unit was told before it was reset does not count. A driver may take its time: engines are
/// brought up when somebody uses them.
#[derive(Default)]
pub struct Recorder(Mutex<State>);

/// How far PGRAPH is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The context switcher is not started.
    #[default]
    Off,
    /// It is.
    Ready,
    /// The channel of the first context is current.
    Current,
    /// The first context is saved.
    Saved,
}

#[derive(Default)]
struct State {
    record: Record,
    stage: Stage,
    /// Of each copy engine, until one is started.
    copy: [Vec<Store>; 2],
}

impl Recorder {
    /// What was stored so far, by `driver`.
    pub fn record(&self, driver: String) -> Record {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.record.clone().by(driver)
    }
}

impl Observer for Recorder {
    fn observe(&self, access: &Access, value: u64) {
        let (Bar::Bar0, Ok(at)) = (access.bar, u32::try_from(access.offset)) else {
            return;
        };
        if !at.is_multiple_of(4) {
            return;
        }
        let words = match access.width {
            Width::Dword => 1,
            Width::Qword => 2,
            // Drivers access no part of a register.
            Width::Byte | Width::Word => return,
        };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for word in 0..words {
            let (at, value) = (at + 4 * word, (value >> (32 * word)) as u32);
            match access.direction {
                Direction::Read => state.loaded(at, value),
                Direction::Write => state.stored(at, value),
            }
        }
    }
}

impl State {
    fn loaded(&mut self, at: u32, value: u32) {
        let hit = RegisterMap::gf100().lookup(at);
        let tells = hit.is_some_and(|hit| IDENTITY.contains(&hit.register.id));
        let card = &mut self.record.card;
        if tells && card.iter().all(|known| known.register != at) {
            Record::push(card, at, value);
        }
    }

    fn stored(&mut self, at: u32, value: u32) {
        if at == pmc::ENABLE.0 {
            return self.reset(!Enable::from_bits_retain(value));
        }
        match self.stage {
            Stage::Off if at == falcon::FECS + offset::UC_CTRL && value & falcon::START != 0 => {
                self.stage = Stage::Ready;
                return;
            }
            Stage::Ready if at == pgraph::FECS_WRCMD_CMD.0 && value == pgraph::FECS_SET_CHANNEL => {
                self.stage = Stage::Current;
                return;
            }
            Stage::Current if saves(at, value) => {
                self.stage = Stage::Saved;
                return;
            }
            _ => {}
        }
        let engine = (at / falcon::SIZE).wrapping_sub(falcon::CE0 / falcon::SIZE) as usize;
        if let Some(stores) = self.copy.get_mut(engine) {
            let place = falcon::CE0 + at % falcon::SIZE;
            if place == falcon::CE0 + offset::UC_CTRL && value & falcon::START != 0 {
                if self.record.copy.is_empty() {
                    self.record.copy = std::mem::take(stores);
                }
            } else if rule(place).is_some() && self.record.copy.is_empty() {
                Record::push(stores, place, value);
            }
            return;
        }
        let record = &mut self.record;
        let list = match (rule(at).and_then(|rule| rule.part), self.stage) {
            (Some(Part::Shared), Stage::Off) => &mut record.shared,
            (Some(Part::Graphics), Stage::Off) => &mut record.graphics,
            (Some(Part::Graphics), Stage::Ready) => &mut record.channel,
            (Some(Part::Graphics), Stage::Current) => &mut record.context,
            _ => return,
        };
        Record::push(list, at, value);
    }

    /// `units` are reset.
    fn reset(&mut self, units: Enable) {
        if units.contains(Enable::PGRAPH) && self.stage != Stage::Saved {
            self.stage = Stage::Off;
            let record = &mut self.record;
            for list in [
                &mut record.graphics,
                &mut record.channel,
                &mut record.context,
            ] {
                list.clear();
            }
        }
        for (unit, stores) in [Enable::CE0, Enable::CE1].into_iter().zip(&mut self.copy) {
            if units.contains(unit) {
                stores.clear();
            }
        }
    }
}

/// A store that has the context switcher save the current channel.
fn saves(at: u32, value: u32) -> bool {
    let switch = at == falcon::FECS + offset::INTR_SET && value & falcon::CHANNEL_SWITCH != 0;
    switch || at == pgraph::FECS_WRCMD_CMD.0 && value == pgraph::FECS_SAVE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VmId;
    use crate::bring_up::record::{Lack, RecordError};

    const ALL: u32 = u32::MAX;
    const CLASS: u32 = 0x8000_9097;

    fn access(recorder: &Recorder, direction: Direction, register: u32, value: u32) {
        let access = Access {
            vm: VmId(0),
            vcpu: 0,
            bar: Bar::Bar0,
            offset: register.into(),
            width: Width::Dword,
            direction,
        };
        recorder.observe(&access, value.into());
    }

    fn store(recorder: &Recorder, stores: &[(u32, u32)]) {
        for &(register, value) in stores {
            access(recorder, Direction::Write, register, value);
        }
    }

    /// What a driver stores to bring one up, in short: unit by unit.
    fn graphics() -> Vec<(u32, u32)> {
        vec![
            (pmc::CTXCTL_GATE.0, 0),
            (falcon::FECS + offset::IMEM_DATA, 1),
            (falcon::GPCCS + offset::IMEM_DATA, 2),
            (pmc::CTXCTL_GATE.0, 1),
            (falcon::FECS + offset::UC_CTRL, falcon::START),
            (pgraph::FE_PWR_MODE.0, 0x12),
            (pgraph::FECS_SCRATCH_CLR.0, 1 << 31),
            (pgraph::FECS_WRCMD_DATA.0, 0x8000_1234),
            (pgraph::FECS_WRCMD_CMD.0, pgraph::FECS_SET_CHANNEL),
            (pgraph::FE_MTHD_DATA.0, 3),
            (pgraph::FE_MTHD.0, CLASS),
            (pgraph::FECS_CHAN_NEXT.0, 0x1234),
            (falcon::FECS + offset::INTR_SET, falcon::CHANNEL_SWITCH),
        ]
    }

    fn copy(base: u32) -> [(u32, u32); 4] {
        [
            (base + offset::IMEM_DATA, 4),
            (base + offset::UC_ENTRY, 0),
            (base + offset::UC_CTRL, falcon::START),
            (base + offset::FIFO_CTRL, falcon::FIFO_CTRL_ENABLE),
        ]
    }

    fn listed(stores: &[Store]) -> Vec<(u32, u32)> {
        stores.iter().map(|s| (s.register, s.value)).collect()
    }

    #[test]
    fn stores_are_kept_in_their_order_and_by_what_they_bring_up() {
        let recorder = Recorder::default();
        access(&recorder, Direction::Read, pmc::BOOT_0.0, 0xc0);
        access(&recorder, Direction::Read, pmc::BOOT_0.0, 0xc0);
        access(&recorder, Direction::Read, pmc::INTR_HOST.0, 1);
        store(&recorder, &[(0x17e8d8, 6), (pmc::INTR_EN_HOST.0, 1)]);
        store(&recorder, &copy(falcon::CE1));
        store(&recorder, &graphics());
        store(&recorder, &[(pgraph::FE_MTHD.0, 7)]);

        let text = recorder.record("nouveau".into()).text().unwrap();
        let record = Record::parse(text.as_bytes()).unwrap();

        assert_eq!(record.driver, "nouveau");
        assert_eq!(listed(&record.card), [(pmc::BOOT_0.0, 0xc0)]);
        assert_eq!(listed(&record.shared), [(0x17e8d8, 6)]);
        assert_eq!(listed(&record.graphics), graphics()[..4]);
        assert_eq!(listed(&record.copy), copy(falcon::CE0)[..2]);
        assert_eq!(listed(&record.channel), graphics()[5..6]);
        assert_eq!(listed(&record.context), graphics()[9..11]);
    }

    #[test]
    fn what_a_unit_was_told_before_its_reset_does_not_count() {
        let recorder = Recorder::default();
        store(&recorder, &graphics()[..8]);
        store(&recorder, &[(falcon::CE0 + offset::IMEM_DATA, 9)]);
        store(&recorder, &[(pmc::ENABLE.0, 0), (pmc::ENABLE.0, ALL)]);
        store(&recorder, &graphics());
        store(&recorder, &copy(falcon::CE0));
        store(&recorder, &[(pmc::ENABLE.0, 0), (pmc::ENABLE.0, ALL)]);
        store(&recorder, &graphics());
        store(&recorder, &copy(falcon::CE1));

        let record = recorder.record(String::new());

        assert_eq!(listed(&record.graphics), graphics()[..4]);
        assert_eq!(listed(&record.copy), copy(falcon::CE0)[..2]);
        assert_eq!(listed(&record.context), graphics()[9..11]);
    }

    #[test]
    fn a_wide_store_is_two() {
        let recorder = Recorder::default();
        let wide = Access {
            vm: VmId(0),
            vcpu: 0,
            bar: Bar::Bar0,
            offset: 0x17e8d8,
            width: Width::Qword,
            direction: Direction::Write,
        };
        recorder.observe(&wide, 2 << 32 | 1);

        let record = recorder.record(String::new());

        assert_eq!(listed(&record.shared), [(0x17e8d8, 1), (0x17e8dc, 2)]);
    }

    #[test]
    fn a_driver_that_did_not_come_to_an_end_leaves_no_record() {
        let recorder = Recorder::default();
        let lacks = |recorder: &Recorder| match recorder.record(String::new()).text() {
            Err(RecordError::Lacks(lack)) => Some(lack),
            _ => None,
        };
        assert_eq!(lacks(&recorder), Some(Lack::Card));
        access(&recorder, Direction::Read, pmc::BOOT_0.0, 0xc0);
        assert_eq!(lacks(&recorder), Some(Lack::ContextSwitcher));
        store(&recorder, &graphics()[..9]);
        assert_eq!(lacks(&recorder), Some(Lack::CopyEngine));
        store(&recorder, &copy(falcon::CE1));
        assert_eq!(lacks(&recorder), Some(Lack::Context));
        store(&recorder, &graphics()[9..]);
        assert_eq!(lacks(&recorder), None);
    }

    #[test]
    fn a_driver_that_goes_on_for_ever_is_not_kept_for_ever() {
        let recorder = Recorder::default();
        for value in 0..1 << 17 {
            store(&recorder, &[(pgraph::FE_MTHD_DATA.0, value)]);
        }
        let record = recorder.record(String::new());

        assert!(record.graphics.len() <= (1 << 16) + 1);
        assert!(matches!(record.text(), Err(RecordError::Long)));
    }
}
