//! What an access to memory costs: `cargo bench -p gf100 --bench memory`.
//!
//! Loops of single accesses report items, so the time per access is the inverse of the throughput.

use std::convert::Infallible;
use std::fs::File;
use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use gf100::memory::blocklinear::{self, Layout, Rect};
use gf100::memory::{
    Access, BarId, BarWindow, Client, Flush, Memory, PhysAddr, Pramin, Privilege, Protection,
    Tables,
};

const MIB: u64 = 1 << 20;
const LEN: u64 = 16 * MIB;
const SOURCE: u64 = 16 * MIB;
const TARGET: u64 = 48 * MIB;
/// Single accesses per iteration.
const BATCH: u64 = 1024;

fn main() {
    divan::main();
}

/// A client to which both areas of video memory are mapped at their own address, at 1 GiB more in
/// small pages, and at 2 GiB a window onto system memory in small pages.
fn machine() -> (Arc<Memory>, Tables, Client) {
    let memory = Memory::new(128 * MIB).unwrap();
    let window: File = tempfile::tempfile_in("/dev/shm").unwrap();
    window.set_len(LEN).unwrap();
    memory
        .dma()
        .map(0, LEN, Protection::READ_WRITE, window, 0)
        .unwrap();
    let mut tables = Tables::new(memory.clone(), MIB);
    for area in [SOURCE, TARGET] {
        tables.map(area, PhysAddr::vram(area), LEN, true);
        tables.map(1 << 30 | area, PhysAddr::vram(area), LEN, false);
    }
    tables.map(2 << 30, PhysAddr::system(0), LEN, false);
    let mut client = Client::new(memory.clone(), Privilege::User);
    client.bind(tables.instance()).unwrap();
    for area in [SOURCE, TARGET, 2 << 30] {
        client.fill(area, LEN, 0x5a).unwrap();
    }
    (memory, tables, client)
}

#[divan::bench]
fn guard(bencher: Bencher) {
    let (memory, ..) = machine();
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| (0..BATCH).for_each(|_| drop(black_box(memory.enter()))));
}

#[divan::bench]
fn pramin_read(bencher: Bencher) {
    let (memory, ..) = machine();
    let pramin = Pramin::new(memory);
    pramin.set_window((SOURCE >> 16) as u32);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let mut word = [0; 4];
        for n in 0..BATCH {
            pramin.read(black_box(n * 4), &mut word);
            black_box(word);
        }
    });
}

#[divan::bench]
fn pramin_write(bencher: Bencher) {
    let (memory, ..) = machine();
    let pramin = Pramin::new(memory);
    pramin.set_window((SOURCE >> 16) as u32);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for n in 0..BATCH {
            pramin.write(black_box(n * 4), &black_box([1, 2, 3, 4]));
        }
    });
}

/// Virtual CPUs that use the window at once do not wait for each other.
#[divan::bench(threads = [1, 2])]
fn bar1_read(bencher: Bencher) {
    let (memory, tables, _) = machine();
    let bar = BarWindow::new(memory, BarId::Bar1);
    bar.set_control(1 << 31 | tables.instance().to_channel_word());
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        let mut word = [0; 4];
        for n in 0..BATCH {
            bar.read(SOURCE + black_box(n * 4), &mut word).unwrap();
            black_box(word);
        }
    });
}

/// The page of an address that the TLB has, under a guard that is held.
#[divan::bench(args = ["large", "small", "system"])]
fn tlb_hit(bencher: Bencher, pages: &str) {
    let (memory, _, mut client) = machine();
    let base = match pages {
        "large" => SOURCE,
        "small" => 1 << 30 | SOURCE,
        _ => 2 << 30,
    };
    let guard = memory.enter();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for n in 0..BATCH {
            // 64 pages, so that they all stay.
            let va = base + (n & 63) * 0x1000 + n * 4 % 0x1000;
            let span = client.page(&guard, black_box(va), Access::Read).unwrap();
            black_box(span.load::<u32>(0));
        }
    });
}

/// Addresses that drive each other out of the TLB.
#[divan::bench(args = ["large", "small", "system"])]
fn tlb_miss(bencher: Bencher, pages: &str) {
    let (memory, _, mut client) = machine();
    let base = match pages {
        "large" => SOURCE,
        "small" => 1 << 30 | SOURCE,
        _ => 2 << 30,
    };
    let guard = memory.enter();
    let mut n = 0;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            // Two addresses that share an entry, be it for large pages or for small.
            n = (n + 8 * MIB) % LEN;
            black_box(
                client
                    .page(&guard, black_box(base + n), Access::Read)
                    .unwrap(),
            );
        }
    });
}

/// The RAM of a guest with 512 MiB behind an IOMMU, a window for each page: in the order of the
/// file, and in the worst one, in which no two windows are one.
#[divan::bench(args = ["in order", "scattered"], sample_count = 3)]
fn open_windows(bencher: Bencher, order: &str) {
    const PAGES: u64 = 0x2_0000;
    let ram: File = tempfile::tempfile_in("/dev/shm").unwrap();
    ram.set_len(PAGES << 12).unwrap();
    let place = |page: u64| match order {
        "in order" => page,
        // Odd, so that every page has its turn.
        _ => page * 0x9e37 % PAGES,
    };
    bencher
        .counter(ItemsCount::new(PAGES))
        .with_inputs(|| Memory::new(MIB).unwrap())
        .bench_local_values(|memory| {
            for page in 0..PAGES {
                let file = ram.try_clone().unwrap();
                memory
                    .dma()
                    .map(
                        page << 12,
                        0x1000,
                        Protection::READ_WRITE,
                        file,
                        place(page) << 12,
                    )
                    .unwrap();
            }
            memory
        });
}

#[divan::bench]
fn flush_all(bencher: Bencher) {
    let (memory, ..) = machine();
    bencher.bench_local(|| memory.flush(black_box(Flush::All)));
}

/// A load with its own guard.
#[divan::bench]
fn client_load(bencher: Bencher) {
    let (_, _, mut client) = machine();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for n in 0..BATCH {
            black_box(client.load::<u32>(SOURCE + black_box(n * 4)).unwrap());
        }
    });
}

#[divan::bench]
fn copy_memcpy(bencher: Bencher) {
    let from = vec![1u8; LEN as usize];
    let mut to = vec![2u8; LEN as usize];
    bencher
        .counter(BytesCount::new(LEN))
        .bench_local(|| black_box(&mut to).copy_from_slice(black_box(&from)));
}

#[divan::bench(args = ["large", "small", "from system", "to system"])]
fn copy_client(bencher: Bencher, pages: &str) {
    let (_, _, mut client) = machine();
    let (to, from) = match pages {
        "large" => (TARGET, SOURCE),
        "small" => (1 << 30 | TARGET, 1 << 30 | SOURCE),
        "from system" => (TARGET, 2 << 30),
        _ => (2 << 30, SOURCE),
    };
    bencher
        .counter(BytesCount::new(LEN))
        .bench_local(|| client.copy(to, from, LEN).unwrap());
}

/// A 1024 x 1024 surface of 4 bytes per pixel.
const LAYOUT: (Layout, Rect) = (
    Layout {
        block_width: 0,
        block_height: 4,
        block_depth: 0,
        width: 4096,
        height: 1024,
        depth: 1,
    },
    Rect {
        x: 0,
        y: 0,
        z: 0,
        width: 4096,
        height: 1024,
    },
);

/// Whole GOBs, and a rectangle that has none.
#[divan::bench(args = [0, 3])]
fn tiled_to_linear(bencher: Bencher, x: u32) {
    let (_, _, mut client) = machine();
    let (layout, mut rect) = LAYOUT;
    (rect.x, rect.width) = (x, rect.width - 2 * x);
    let mut out = vec![0; 4096 * 1024];
    bencher
        .counter(BytesCount::new(rect.width * rect.height))
        .bench_local(|| {
            client
                .read_tiled(SOURCE, &layout, rect, &mut out, 4096)
                .unwrap();
        });
}

#[divan::bench]
fn linear_to_tiled(bencher: Bencher) {
    let (_, _, mut client) = machine();
    let (layout, rect) = LAYOUT;
    let data = vec![7; 4096 * 1024];
    bencher
        .counter(BytesCount::new(data.len()))
        .bench_local(|| {
            client
                .write_tiled(SOURCE, &layout, rect, &data, 4096)
                .unwrap();
        });
}

/// Without translation.
#[divan::bench]
fn tiled_to_linear_contiguous(bencher: Bencher) {
    let (memory, ..) = machine();
    let (layout, rect) = LAYOUT;
    let mut out = vec![0; 4096 * 1024];
    bencher.counter(BytesCount::new(out.len())).bench_local(|| {
        let gob = |at| Ok::<_, Infallible>(memory.vram().span_from(SOURCE + at));
        blocklinear::to_linear(&layout, rect, &mut out, 4096, gob).unwrap();
    });
}
