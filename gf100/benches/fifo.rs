//! What PFIFO and the copy engines cost: `cargo bench -p gf100 --bench fifo`.
//!
//! All of it goes the whole way: ring, fetch, decode, execution on the PBDMA's thread, and the
//! reference counter that says that it is done. Items are methods.

#[path = "../tests/rig/mod.rs"]
mod rig;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use mmio::layout::pushbuffer::{Header, IbEntry, Mode, method};

use rig::{Channel, DATA, DATA_VA, Rig, bind_copy, copy, incr, semaphore};

/// Words of a segment, in the shared memory.
const WORDS: u32 = 1 << 20;
const MIB: u64 = 1 << 20;

fn main() {
    divan::main();
}

fn machine() -> (Rig, Channel) {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    channel.run(&rig, &bind_copy(4, 0));
    (rig, channel)
}

/// Fills a segment with commands of `count` words for `address`.
fn segment(rig: &Rig, mode: Mode, address: u16, count: u16) -> (IbEntry, u64) {
    let vram = rig.card.memory().vram();
    let step = u32::from(count) + 1;
    for n in 0..WORDS {
        let word = match n % step {
            0 => Header::encode(mode, 4, address, count),
            _ => 0,
        };
        vram.store(DATA + 4 * u64::from(n), word);
    }
    let commands = WORDS / step;
    let entry = IbEntry::new(DATA_VA, commands * step);
    (entry, u64::from(commands) * u64::from(count))
}

fn methods(bencher: Bencher<'_, '_>, mode: Mode, address: u16, count: u16) {
    let (rig, mut channel) = machine();
    let (entry, methods) = segment(&rig, mode, address, count);
    bencher.counter(ItemsCount::new(methods)).bench_local(|| {
        channel.submit(&rig, entry);
        channel.finish(&rig);
    });
}

/// Methods of the PBDMA itself.
#[divan::bench]
fn host_methods(bencher: Bencher<'_, '_>) {
    methods(bencher, Mode::NonIncreasing, method::NOP, 0x1fff);
}

/// Methods of an engine that are state.
#[divan::bench]
fn engine_methods(bencher: Bencher<'_, '_>) {
    methods(bencher, Mode::NonIncreasing, 0x31c, 0x1fff);
}

/// The same in commands of 8, as a driver's are.
#[divan::bench]
fn engine_methods_by_eight(bencher: Bencher<'_, '_>) {
    methods(bencher, Mode::Increasing, 0x200, 7);
}

/// Words that are no methods at all.
#[divan::bench]
fn filler(bencher: Bencher<'_, '_>) {
    let (rig, mut channel) = machine();
    let vram = rig.card.memory().vram();
    vram.fill(DATA, 4 * u64::from(WORDS), 0);
    bencher.counter(ItemsCount::new(WORDS)).bench_local(|| {
        channel.submit(&rig, IbEntry::new(DATA_VA, WORDS));
        channel.finish(&rig);
    });
}

/// A doorbell, one method, and its effect.
#[divan::bench]
fn round_trip(bencher: Bencher<'_, '_>) {
    let (rig, mut channel) = machine();
    bencher.bench_local(|| channel.finish_busily(&rig));
}

/// A semaphore that one channel releases and another waits for, there and back.
#[divan::bench]
fn ping_pong(bencher: Bencher<'_, '_>) {
    let (mut rig, mut first) = machine();
    let mut second = rig.channel(2);
    let mut sequence = 0;
    bencher.bench_local(|| {
        sequence += 1;
        let mut words = semaphore(0x40, sequence, 0x1001);
        words.extend(semaphore(0x44, sequence, 0x0100_0002));
        second.push(&rig, &words);
        let mut words = semaphore(0x40, sequence, 0x0100_0002);
        words.extend(semaphore(0x44, sequence, 0x1001));
        words.extend(incr(0, method::NOP, &[0]));
        first.push(&rig, &words);
        first.finish_busily(&rig);
    });
}

/// A linear copy of 16 MiB.
#[divan::bench(min_time = std::time::Duration::from_secs(2))]
fn copy_16_mib(bencher: Bencher<'_, '_>) {
    let (rig, mut channel) = machine();
    rig.pattern(0, (16 * MIB) as usize);
    let words = copy(4, 16 * MIB, 0, 4096, 4096);
    bencher.counter(BytesCount::new(16 * MIB)).bench_local(|| {
        channel.push(&rig, &words);
        channel.finish_busily(&rig);
    });
}

/// What the host needs for as much.
#[divan::bench(min_time = std::time::Duration::from_secs(2))]
fn memcpy_16_mib(bencher: Bencher<'_, '_>) {
    let from = vec![1u8; (16 * MIB) as usize];
    let mut to = vec![2u8; (16 * MIB) as usize];
    bencher
        .counter(BytesCount::new(16 * MIB))
        .bench_local(|| divan::black_box(&mut to).copy_from_slice(divan::black_box(&from)));
}

/// A copy of 1 MiB onto a block-linear surface.
#[divan::bench]
fn copy_block_linear_1_mib(bencher: Bencher<'_, '_>) {
    let (rig, mut channel) = machine();
    let mut words = incr(4, 0x220, &[0x40, 1024, 1024, 1, 0, 0, 0]);
    words.extend(copy(4, 16 * MIB, 0, 1024, 1024));
    words.pop();
    words.push(Header::encode_immediate(4, 0x300, 0x10));
    bencher.counter(BytesCount::new(MIB)).bench_local(|| {
        channel.push(&rig, &words);
        channel.finish_busily(&rig);
    });
}
