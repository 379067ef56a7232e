//! Interrupts of PBDMAs, which wait for the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gpu_model::{Card, Direct, Optimisations};
use mmio::Bar;
use mmio::layout::pushbuffer::{Header, Mode};
use mmio::regs::pfifo;

use super::guest::{Guest, machines_on};
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
    do_illegal(guest, 3);

    for _ in 0..3 {
        handle(guest);
    }

    guest.until("the end", || guest.fetched() == 1);
}

/// A card on which whoever asks which PBDMA interrupted loses the processor before that, once.
#[derive(Default)]
struct Late {
    asked: AtomicBool,
    goes_on: AtomicBool,
}

impl Intercept for Late {
    fn read(&self, card: &dyn Card, bar: Bar, offset: u64, data: &mut [u8]) {
        let source = u64::from(pfifo::PBDMA_INTR_SOURCE.offset());
        if (bar, offset) == (Bar::Bar0, source) && !self.asked.swap(true, Ordering::AcqRel) {
            while !self.goes_on.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        card.read(bar, offset, data);
    }
}

#[test]
fn interrupt_of_a_channel_that_is_gone_reaches_nobody_and_leaves_the_unit_free() {
    let card = Arc::new(Intercepted {
        card: soft_card(2),
        test: Late::default(),
    });
    let (_host, mut guests) = machines_on(card.clone(), Optimisations::ALL, Arc::new(Direct));
    guests.iter().for_each(Guest::start);
    do_illegal(&mut guests[1], 1);
    guests[1].until("the look", || card.test.asked.load(Ordering::Acquire));
    guests[1].set(pfifo::CHAN, 0);
    card.test.goes_on.store(true, Ordering::Release);

    // Whatever unit takes each of them.
    guests[1].put = 0;
    guests[1].start();
    for _ in 0..2 * pfifo::PBDMAS {
        do_illegal(&mut guests[1], 1);
        handle(&guests[1]);
    }
    guests[1].until("the end", || guests[1].fetched() == guests[1].put);
    let pending = pfifo::Intr::from_bits_retain(guests[0].get(pfifo::INTR));
    assert!(!pending.contains(pfifo::Intr::PBDMA));
}

#[test]
fn interrupt_of_a_channel_that_its_guest_takes_away_is_none_any_more() {
    let (_host, mut guests) = machines_on(soft_card(2), Optimisations::ALL, Arc::new(Direct));
    let guest = &mut guests[0];
    guest.start();
    do_illegal(guest, 1);
    guest.until("the interrupt", || guest.get(pfifo::PBDMA_INTR_SOURCE) != 0);

    guest.set(pfifo::CHAN, 0);

    assert_eq!(guest.get(pfifo::PBDMA_INTR_SOURCE), 0);
}

/// A card that remembers whether a channel was taken away while a PBDMA had it.
#[derive(Default)]
struct Watchful(AtomicBool);

impl Intercept for Watchful {
    fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        let chan = u64::from(pfifo::CHAN.offset());
        if (bar, offset, data) == (Bar::Bar0, chan, &[0; 4]) {
            let mut state = [0; 4];
            card.read(bar, pfifo::CHAN_STATE.offset().into(), &mut state);
            let state = pfifo::ChanState::from_bits_retain(u32::from_le_bytes(state));
            let loaded = state.contains(pfifo::ChanState::LOADED);
            self.0.fetch_or(loaded, Ordering::AcqRel);
        }
        card.write(bar, offset, data);
    }
}

#[test]
fn channel_that_waits_for_its_guest_leaves_the_card_before_it_ends() {
    let card = Arc::new(Intercepted {
        card: soft_card(2),
        test: Watchful::default(),
    });
    let (_host, mut guests) = machines_on(card.clone(), Optimisations::ALL, Arc::new(Direct));
    let guest = &mut guests[0];
    guest.start();
    do_illegal(guest, 3);
    guest.until("the interrupt", || guest.get(pfifo::PBDMA_INTR_SOURCE) != 0);

    guest.set(pfifo::CHAN, 0);

    assert!(!card.test.0.load(Ordering::Acquire));
}

/// Has a guest's channel execute a method that the host does not have, some times.
fn do_illegal(guest: &mut Guest, times: usize) {
    guest.push(&[Header::encode(Mode::Increasing, 0, ILLEGAL, 1), 0].repeat(times));
    guest.ring();
}

/// Deals with an interrupt as a driver does.
#[track_caller]
fn handle(guest: &Guest) {
    guest.until("the interrupt", || guest.get(pfifo::PBDMA_INTR_SOURCE) != 0);
    let unit = guest.get(pfifo::PBDMA_INTR_SOURCE).trailing_zeros();
    let at = |register: mmio::RegId| register.offset() + STRIDE * unit;
    let pending = guest.gpu.load(at(pfifo::PBDMA_INTR));
    guest.gpu.store(at(pfifo::PBDMA_CACHE_ADDR), NOTHING);
    guest.gpu.store(at(pfifo::PBDMA_CACHE_DATA), 0);
    guest.gpu.store(at(pfifo::PBDMA_INTR), pending);
}
