//! Memory is clean for whoever gets it, also on a card that has no quick way to clear it.

use std::sync::Arc;

use gpu_model::{Card, Settings};
use guest::hostile::Rig;
use mmio::Bar;
use mmio::regs::pfifo;

use crate::rig::intercept::{Intercept, Intercepted, OwnDoorbell};
use crate::rig::{EACH, Machines, soft_card};

/// A card on which memory is cleared by its engine or by stores.
#[derive(Default)]
struct Slow {
    doorbell: OwnDoorbell,
}

impl Intercept for Slow {
    fn scrub(&self, _card: &dyn Card, _address: u64, _len: u64) -> bool {
        false
    }

    fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        self.doorbell.write(card, bar, offset, data);
    }
}

/// What is left of a machine that filled its memory, and worked, when it has gone.
fn left_behind(machines: &Machines) -> Vec<u8> {
    let mut guilty = Rig::new(&machines.bars[0]);
    let mut other = Rig::new(&machines.bars[1]);
    guilty.recovers().unwrap();
    other.recovers().unwrap();
    let part = machines.part(0).vram;
    let full = vec![0x66; (EACH - (1 << 20)) as usize];
    let card = machines.host.card();
    card.vram_write(part.start + (1 << 20), &full);

    machines.bars[0].0.reset();

    other.works().unwrap();
    assert_eq!(other.get(pfifo::VM_FAULT_SOURCE), 0);
    let beside = machines.vram(1, 0, 1 << 20);
    assert!(beside.iter().any(|byte| *byte != 0));
    machines.vram(0, 0, EACH)
}

fn machines(slow: Slow) -> (Machines, Arc<Intercepted<Slow>>) {
    let card = Arc::new(Intercepted {
        card: soft_card(3),
        test: slow,
    });
    // What was in it before is not zero.
    card.vram_write(EACH, &[0x77; 0x1000]);
    let machines = Machines::on(card.clone(), 3, Settings::default());
    (machines, card)
}

#[test]
fn the_engine_clears_what_a_machine_leaves() {
    let (machines, card) = machines(Slow::default());
    assert!(machines.vram(1, 0, 0x1000).iter().all(|byte| *byte == 0));
    let before = card.test.doorbell.rung();

    assert!(left_behind(&machines).iter().all(|byte| *byte == 0));

    // Its video memory, and that of its tables.
    assert_eq!(card.test.doorbell.rung() - before, 2);
    Rig::new(&machines.bars[0]).recovers().unwrap();
}

#[test]
fn stores_clear_it_where_the_engine_does_not() {
    let (machines, card) = machines(Slow {
        doorbell: OwnDoorbell::new(true),
    });

    assert!(left_behind(&machines).iter().all(|byte| *byte == 0));

    // It was asked once, and never again.
    assert_eq!(card.test.doorbell.rung(), 1);
}
