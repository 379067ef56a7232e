//! What an access to the card costs, from the slot's side to the unit and back.

use std::sync::Arc;

use divan::{Bencher, black_box};
use gf100::{Card, Config, NoInterrupts};
use mmio::Bar;
use mmio::regs::{PRAMIN, pbus, pmc, ptimer};

fn main() {
    divan::main();
}

fn card() -> Card {
    Card::new(Config::quadro_6000(256 << 20), Arc::new(NoInterrupts)).expect("a card")
}

fn read(bencher: Bencher, offset: u64) {
    let card = card();
    bencher.bench_local(|| {
        let mut data = [0; 4];
        card.read(Bar::Bar0, black_box(offset), &mut data);
        u32::from_le_bytes(data)
    });
}

fn write(bencher: Bencher, offset: u64, value: u32) {
    let card = card();
    let data = value.to_le_bytes();
    bencher.bench_local(|| card.write(Bar::Bar0, black_box(offset), black_box(&data)));
}

#[divan::bench]
fn read_computed(bencher: Bencher) {
    read(bencher, pmc::INTR_HOST.offset().into());
}

#[divan::bench]
fn read_stored(bencher: Bencher) {
    read(bencher, pmc::BOOT_0.offset().into());
}

#[divan::bench]
fn read_unlisted(bencher: Bencher) {
    read(bencher, 0x00ab_cdec);
}

#[divan::bench]
fn read_time(bencher: Bencher) {
    read(bencher, ptimer::TIME_0.offset().into());
}

#[divan::bench]
fn write_stored(bencher: Bencher) {
    write(bencher, ptimer::NUMERATOR.offset().into(), 8);
}

#[divan::bench]
fn write_unlisted(bencher: Bencher) {
    write(bencher, 0x00ab_cdec, 1);
}

#[divan::bench]
fn write_pramin_window(bencher: Bencher) {
    write(bencher, pbus::BAR0_WINDOW.offset().into(), 1);
}

#[divan::bench]
fn read_pramin(bencher: Bencher) {
    read(bencher, u64::from(PRAMIN.start) + 0x100);
}

#[divan::bench]
fn write_pramin(bencher: Bencher) {
    write(bencher, u64::from(PRAMIN.start) + 0x100, 7);
}
