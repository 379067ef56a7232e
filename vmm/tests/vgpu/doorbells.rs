//! Doorbells that nobody traps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gpu_model::{Card, Direct, Host, Optimisations};
use mmio::Bar;
use mmio::layout::userd;
use mmio::regs::pfifo;

use super::Record;
use super::guest::{Guest, RESULT, VA_USERD, VA_VRAM, machines, machines_on};
use super::rig::intercept::{Intercept, Intercepted};
use super::rig::soft_card;

const UNTRAPPED: [Optimisations; 2] =
    [Optimisations::DOORBELL_POLL, Optimisations::DOORBELL_DIRECT];

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a guest's store of its put index through the mapping leaves in `page` of the card.
fn ring_through(host: &Host, page: u64, put: u32) {
    host.card()
        .vram_write(page + userd::GP_PUT, &put.to_le_bytes());
}

fn watched(guest: &Guest) -> Arc<Record> {
    let record = Arc::new(Record::default());
    guest.gpu.set_mapper(Some(record.clone()));
    record
}

#[test]
fn doorbell_that_nobody_traps_is_found() {
    for switch in UNTRAPPED {
        let (host, mut guests) = machines(switch | Optimisations::LAZY_SHADOW);
        let guest = &mut guests[0];
        let record = watched(guest);
        guest.start();
        guest.prepare(VA_VRAM, 0x77);
        let page = record.leads(Bar::Bar1, VA_USERD).unwrap();
        ring_through(&host, page, 1);
        guest.until("the work", || {
            guest.gpu.poll_doorbells();
            guest.peek(RESULT) == 0x77
        });
        guest.until("its progress", || {
            let mut get = [0; 4];
            guest.gpu.poll_doorbells();
            host.card().vram_read(page + userd::GP_GET, &mut get);
            get == 1u32.to_le_bytes()
        });
    }
}

/// A guest that stores the next put index as soon as somebody has loaded the last one.
struct QuickGuest {
    /// Where the guest's stores go, while it waits to store.
    page: AtomicU64,
}

impl Intercept for QuickGuest {
    fn read(&self, card: &dyn Card, bar: Bar, offset: u64, data: &mut [u8]) {
        card.read(bar, offset, data);
        if bar == Bar::Bar1 && offset % userd::STRIDE == userd::GP_PUT {
            let page = self.page.swap(0, Ordering::AcqRel);
            if page != 0 {
                card.vram_write(page + userd::GP_PUT, &[2, 0, 0, 0]);
            }
        }
    }
}

#[test]
fn direct_doorbell_right_behind_another_one_is_not_overwritten() {
    let card = Arc::new(Intercepted {
        card: soft_card(2),
        test: QuickGuest {
            page: AtomicU64::new(0),
        },
    });
    let (host, mut guests) = machines_on(
        card.clone(),
        Optimisations::DOORBELL_DIRECT,
        Arc::new(Direct),
    );
    let guest = &mut guests[0];
    let record = watched(guest);
    guest.start();
    guest.prepare(VA_VRAM, 0x77);
    guest.prepare(VA_VRAM, 0x88);
    let page = record.leads(Bar::Bar1, VA_USERD).unwrap();
    ring_through(&host, page, 1);
    card.test.page.store(page, Ordering::Release);

    guest.until("the work of both", || {
        guest.gpu.poll_doorbells();
        guest.peek(RESULT) == 0x88
    });

    guest.until("the end", || guest.fetched() == 2);
}

#[test]
fn doorbell_that_traps_is_not_overtaken_by_one_that_was_looked_for() {
    for switch in UNTRAPPED {
        let (_host, mut guests) = machines(switch);
        let guest = &mut guests[0];
        guest.start();
        guest.prepare_copies(1);
        let gpu = guest.gpu.clone();
        let done = AtomicBool::new(false);

        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    gpu.poll_doorbells();
                }
            });
            for _ in 0..200 {
                guest.copy();
            }
            let put = guest.put;
            guest.until("the end", || guest.fetched() == put);
            done.store(true, Ordering::Release);
        });
    }
}

/// A card on which a kick takes its time.
#[derive(Default)]
struct SlowKick {
    asked: AtomicBool,
    goes_on: AtomicBool,
}

impl Intercept for SlowKick {
    fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        if (bar, offset) == (Bar::Bar0, pfifo::KICK.offset().into()) {
            self.asked.store(true, Ordering::Release);
            let begin = Instant::now();
            while !self.goes_on.load(Ordering::Acquire) && begin.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        card.write(bar, offset, data);
    }
}

#[test]
fn who_looks_for_doorbells_does_not_wait_for_a_guest_that_ends_a_channel() {
    let card = Arc::new(Intercepted {
        card: soft_card(2),
        test: SlowKick::default(),
    });
    let switches = Optimisations::DOORBELL_POLL;
    let (_host, guests) = machines_on(card.clone(), switches, Arc::new(Direct));
    let guest = &guests[0];
    guest.start();

    std::thread::scope(|scope| {
        let end = scope.spawn(|| guest.set(pfifo::CHAN, 0));
        guest.until("the kick", || card.test.asked.load(Ordering::Acquire));
        assert!(!guest.gpu.poll_doorbells());
        assert!(!end.is_finished());
        card.test.goes_on.store(true, Ordering::Release);
    });
}

#[test]
fn switching_how_doorbells_come_loses_none() {
    let (host, mut guests) = machines(Optimisations::empty());
    let guest = &mut guests[0];
    let record = watched(guest);
    guest.start();
    let [polled, direct] = UNTRAPPED;
    let trapped = Optimisations::empty();
    let ways = [trapped, polled, direct, trapped, direct, polled, trapped];
    for (way, next) in ways.iter().zip(&ways[1..]) {
        let value = 0x100 + guest.put;
        assert_eq!(guest.gpu.optimisations(), *way);
        match record.leads(Bar::Bar1, VA_USERD) {
            Some(page) if *way != trapped => {
                guest.prepare(VA_VRAM, value);
                ring_through(&host, page, guest.put);
            }
            _ => guest.release(VA_VRAM, value),
        }

        guest.gpu.set_optimisations(*next);

        guest.until("the work", || guest.peek(RESULT) == value);
        let put = guest.put;
        guest.until("the end", || guest.fetched() == put);
    }
}
