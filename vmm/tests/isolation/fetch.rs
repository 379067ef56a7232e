//! Page tables of guests come right, also from a card whose memory is fetched by its engine.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gpu_model::{Card, Protection, Settings};
use guest::hostile::Rig;
use mmio::Bar;
use mmio::regs::pfifo;

use crate::rig::intercept::{Intercept, Intercepted, OwnDoorbell};
use crate::rig::{Machines, soft_card};

/// A card that wants to be asked for blocks.
#[derive(Default)]
struct Distant {
    doorbell: OwnDoorbell,
    /// The longest load of memory.
    longest: AtomicU64,
}

impl Intercept for Distant {
    fn stage(&self, card: &dyn Card, iova: u64, size: u64) -> Option<File> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        let both = Protection {
            read: true,
            write: true,
        };
        card.dma_map(iova, size, both, file.try_clone().unwrap(), 0)
            .unwrap();
        Some(file)
    }

    fn vram_read(&self, card: &dyn Card, address: u64, data: &mut [u8]) -> bool {
        self.longest.fetch_max(data.len() as u64, Ordering::Relaxed);
        card.vram_read(address, data)
    }

    fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        self.doorbell.write(card, bar, offset, data);
    }
}

fn machines(deaf: bool) -> (Machines, Arc<Intercepted<Distant>>) {
    let card = Arc::new(Intercepted {
        card: soft_card(2),
        test: Distant {
            doorbell: OwnDoorbell::new(deaf),
            ..Distant::default()
        },
    });
    let machines = Machines::on(card.clone(), 2, Settings::default());
    (machines, card)
}

/// Both machines make channels and work, one after the other and after a reset.
fn work(machines: &Machines) {
    for bars in machines.bars.iter().chain([&machines.bars[0]]) {
        bars.0.reset();
        let mut rig = Rig::new(bars);
        rig.recovers().unwrap();
        rig.works().unwrap();
        assert_eq!(rig.get(pfifo::VM_FAULT_SOURCE), 0);
    }
}

#[test]
fn the_engine_fetches_tables() {
    let (machines, card) = machines(false);
    card.test.longest.store(0, Ordering::Relaxed);

    work(&machines);

    let Distant { doorbell, longest } = &card.test;
    assert!(doorbell.rung() >= 6);
    assert!(longest.load(Ordering::Relaxed) < 0x400);
}

#[test]
fn loads_bring_tables_where_the_engine_does_not() {
    let (machines, card) = machines(true);

    work(&machines);

    // It was asked once, and would be again when it has done that.
    assert_eq!(card.test.doorbell.rung(), 1);
    card.test.doorbell.hear();
    card.write(Bar::Bar1, OwnDoorbell::place(), &1u32.to_le_bytes());
    work(&machines);
    assert!(card.test.doorbell.rung() > 2);
}
