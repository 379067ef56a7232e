//! Non-stalling interrupts, which do not say whose they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gpu_model::{Card, Direct, Optimisations};
use mmio::Bar;
use mmio::regs::pfifo;

use super::guest::{Guest, machines_on};
use super::rig::intercept::{Intercept, Intercepted};
use super::rig::soft_card;

/// A card on which whoever asks which engine interrupted loses the processor before the answer, once.
#[derive(Default)]
struct Interrupted {
    asked: AtomicBool,
    goes_on: AtomicBool,
}

impl Intercept for Interrupted {
    fn read(&self, card: &dyn Card, bar: Bar, offset: u64, data: &mut [u8]) {
        let source = u64::from(pfifo::ENGINE_INTR_SOURCE.offset());
        if (bar, offset) == (Bar::Bar0, source) && !self.asked.swap(true, Ordering::AcqRel) {
            while !self.goes_on.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        card.read(bar, offset, data);
    }
}

#[test]
fn interrupt_of_work_that_comes_while_another_one_is_looked_at_reaches_its_machine() {
    let card = Arc::new(Intercepted {
        card: soft_card(2),
        test: Interrupted::default(),
    });
    let (_host, mut guests) = machines_on(card.clone(), Optimisations::ALL, Arc::new(Direct));
    let came = |guest: &Guest| guest.get(pfifo::INTR) & pfifo::Intr::ENGINE.bits() != 0;
    guests.iter().for_each(Guest::start);
    guests[0].set(pfifo::INTR_EN, u32::MAX);
    guests[1].set(pfifo::INTR_EN, !pfifo::Intr::ENGINE.bits());
    guests[0].interrupt();
    guests[0].until("the look", || card.test.asked.load(Ordering::Acquire));

    guests[1].interrupt();
    guests[1].until("the work", || guests[1].fetched() == 1);
    card.test.goes_on.store(true, Ordering::Release);

    for guest in &guests {
        guest.until("the interrupt", || came(guest));
    }
}
