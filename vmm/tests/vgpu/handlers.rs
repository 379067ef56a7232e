//! Interrupts of PBDMAs, which wait for the machine.

use std::sync::Arc;
use std::time::Duration;

use gpu_model::{Card, Direct, Optimisations};
use mmio::Bar;
use mmio::layout::pushbuffer::{Header, Mode};
use mmio::regs::pfifo;

use super::guest::machines_on;
use super::rig::intercept::{Intercept, Intercepted};
use super::rig::soft_card;

/// Bytes from a PBDMA's registers to the next one's.
const STRIDE: u32 = 0x2000;
/// A method that the host has not, and what a driver puts in its place: one that does nothing.
const ILLEGAL: u16 = 0xf8;
const NOTHING: u32 = 0x8060_0008;

/// A card on which a PBDMA goes on long before the one who let it knows.
struct Ahead;

impl Intercept for Ahead {
    fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        card.write(bar, offset, data);
        let enables = (0..pfifo::PBDMAS).map(|unit| pfifo::PBDMA_INTR_EN.offset() + STRIDE * unit);
        if bar == Bar::Bar0 && data != [0; 4] && enables.map(u64::from).any(|at| at == offset) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn interrupt_right_behind_one_that_was_dealt_with_reaches_the_machine() {
    let card = Arc::new(Intercepted {
        card: soft_card(2),
        test: Ahead,
    });
    let (_host, mut guests) = machines_on(card, Optimisations::ALL, Arc::new(Direct));
    let guest = &mut guests[0];
    guest.start();
    let illegal = Header::encode(Mode::Increasing, 0, ILLEGAL, 1);
    guest.push(&[illegal, 0, illegal, 0, illegal, 0]);
    guest.ring();

    for _ in 0..3 {
        guest.until("the interrupt", || guest.get(pfifo::PBDMA_INTR_SOURCE) != 0);
        let unit = guest.get(pfifo::PBDMA_INTR_SOURCE).trailing_zeros();
        let at = |register: mmio::RegId| register.offset() + STRIDE * unit;
        let pending = guest.gpu.load(at(pfifo::PBDMA_INTR));
        guest.gpu.store(at(pfifo::PBDMA_CACHE_ADDR), NOTHING);
        guest.gpu.store(at(pfifo::PBDMA_CACHE_DATA), 0);
        guest.gpu.store(at(pfifo::PBDMA_INTR), pending);
    }

    guest.until("the end", || guest.fetched() == 1);
}
