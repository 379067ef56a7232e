//! What a sync costs on memory of the process: `cargo bench -p shadow-pt`.
//!
//! The address space is that of a process with some buffers: eight tables of small pages and eight
//! of large. Benchmarks of entries report items, so the time per entry is the inverse of the
//! throughput.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use mmio::layout::pagetable::{
    Aperture, Geometry, LARGE_COUNT, Pde, Pte, SMALL_COUNT, TablePointer,
};
use shadow_pt::{
    AddressSpace, Algorithm, CardTables, Guarded, GuestAddress, GuestTables, PageTimes, Patience,
    RamRegion, Shadow, TablePool, Translation, Untracked, Vm, Walker, WriteTracker,
};

const MIB: u64 = 1 << 20;
/// Bytes of the guest's video memory.
const VRAM: u64 = 64 * MIB;
const DIRECTORY: u64 = MIB;
/// Tables of small pages, one after the other.
const SMALL: u64 = 2 * MIB;
/// Tables of large pages.
const LARGE: u64 = 8 * MIB;
/// Tables of either kind.
const TABLES: u64 = 8;
/// Bytes of a table of small pages.
const SMALL_BYTES: u64 = SMALL_COUNT * 8;
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Naive, Algorithm::Bulk, Algorithm::Incremental];

fn main() {
    divan::main();
}

/// The guest's video memory and the card's memory for shadow tables.
struct Memories {
    vram: Vec<u64>,
    pool: Vec<u64>,
}

impl Memories {
    fn guest(&self, at: GuestAddress, len: usize) -> &[u64] {
        match at {
            GuestAddress::Vram(address) => &self.vram[(address / 8) as usize..][..len],
            GuestAddress::Ram(address) => unreachable!("no table is in RAM at {address:#x}"),
        }
    }
}

impl GuestTables for Memories {
    fn read_word(&mut self, at: GuestAddress) -> u32 {
        let (GuestAddress::Vram(address) | GuestAddress::Ram(address)) = at;
        (self.guest(at, 1)[0] >> (address % 8 * 8)) as u32
    }

    fn read_block(&mut self, at: GuestAddress, out: &mut [u64]) {
        out.copy_from_slice(self.guest(at, out.len()));
    }
}

impl CardTables for Memories {
    fn write_word(&mut self, address: u64, word: u32) {
        let entry = &mut self.pool[(address / 8) as usize];
        let shift = address % 8 * 8;
        *entry = *entry & !(0xffff_ffff << shift) | u64::from(word) << shift;
    }

    fn write_block(&mut self, address: u64, entries: &[u64]) {
        self.pool[(address / 8) as usize..][..entries.len()].copy_from_slice(entries);
    }
}

/// A VM with one address space.
struct Machine {
    memories: Memories,
    policy: Translation,
    pool: TablePool,
    tracker: Box<dyn WriteTracker>,
    shadow: Option<Shadow>,
}

impl Machine {
    /// Its tables are full, and it is in shadow.
    fn new(tracker: Box<dyn WriteTracker>) -> Self {
        let mut machine = Self {
            memories: Memories {
                vram: vec![0; (VRAM / 8) as usize],
                pool: vec![0; (16 * MIB / 8) as usize],
            },
            policy: Translation::new(
                (128 * MIB, VRAM),
                0,
                [RamRegion {
                    start: 0,
                    len: 1 << 30,
                }],
            )
            .unwrap(),
            pool: TablePool::new(0, 16 * MIB),
            tracker,
            shadow: None,
        };
        let table = |address| {
            Some(TablePointer {
                aperture: Aperture::Vram,
                address,
                volatile: false,
            })
        };
        for n in 0..TABLES {
            let (small, large) = (SMALL + n * SMALL_BYTES, LARGE + n * LARGE_COUNT * 8);
            machine.put(DIRECTORY + n * 8, Pde::new(table(large), table(small)).0);
            for index in 0..SMALL_COUNT {
                machine.put(small + index * 8, Self::page(index));
            }
            for index in 0..LARGE_COUNT {
                machine.put(
                    large + index * 8,
                    Pte::new(Aperture::Vram, (index << 17) % VRAM).0,
                );
            }
        }
        let at = GuestAddress::Vram(DIRECTORY);
        let shadow = Shadow::new(at, &mut machine.vm()).unwrap();
        machine.shadow = Some(shadow);
        machine.sync(Algorithm::Bulk);
        machine.sync(Algorithm::Incremental);
        machine
    }

    /// A page of RAM or of video memory.
    fn page(index: u64) -> u64 {
        match index % 2 {
            0 => Pte::new(Aperture::SysCoherent, index << 12).0,
            _ => Pte::new(Aperture::Vram, (index << 12) % VRAM).0,
        }
    }

    fn put(&mut self, address: u64, entry: u64) {
        self.memories.vram[(address / 8) as usize] = entry;
    }

    fn vm(&mut self) -> Vm<'_, Memories> {
        Vm {
            memory: &mut self.memories,
            policy: &self.policy,
            geometry: Geometry::default(),
            pool: &mut self.pool,
            tracker: &*self.tracker,
        }
    }

    /// The tracker decides, and that is in force.
    fn settle(&self) {
        if let Some(round) = self.tracker.settle() {
            self.tracker.in_force(round);
        }
    }

    fn sync(&mut self, algorithm: Algorithm) {
        let mut shadow = self.shadow.take().unwrap();
        let (report, retired) = shadow.sync(algorithm, &mut self.vm());
        black_box(report);
        self.pool.release(retired);
        self.shadow = Some(shadow);
    }
}

/// Nothing changed since the last sync.
#[divan::bench(args = ALGORITHMS)]
fn nothing_changed(bencher: Bencher, algorithm: Algorithm) {
    let mut machine = Machine::new(Box::new(PageTimes::new(VRAM)));
    bencher.bench_local(|| machine.sync(algorithm));
}

/// The ways to know what a guest stored.
const WAYS: [&str; 4] = ["marks", "strict", "hybrid", "compare"];

/// A tracker of that way, whose pages are on the side where they belong when most are quiet.
fn tracked(way: &str) -> Machine {
    let tracker: Box<dyn WriteTracker> = match way {
        "marks" => Box::new(PageTimes::new(VRAM)),
        "strict" => Box::new(Guarded::new(VRAM, Patience::STRICT)),
        "hybrid" => Box::new(Guarded::new(VRAM, Patience::HYBRID)),
        _ => Box::new(Untracked),
    };
    let mut machine = Machine::new(tracker);
    for _ in 0..8 {
        machine.settle();
        machine.sync(Algorithm::Incremental);
    }
    machine
}

/// Nothing changed: what each tracker takes to say so.
#[divan::bench(args = WAYS)]
fn nothing_changed_by_tracker(bencher: Bencher, way: &str) {
    let mut machine = tracked(way);
    bencher.bench_local(|| machine.sync(Algorithm::Incremental));
}

/// Sixteen entries of one page changed, and the decision of the tracker that follows a flush.
#[divan::bench(args = WAYS)]
fn changed_by_tracker(bencher: Bencher, way: &str) {
    let mut machine = tracked(way);
    let mut kind = 0;
    bencher.counter(ItemsCount::new(16_u64)).bench_local(|| {
        kind ^= 0xfe;
        for index in 0..16 {
            let at = SMALL + index * 8;
            machine.put(at, Pte(Machine::page(index)).with_kind(kind).0);
            // A store that traps is marked by itself.
            machine.tracker.mark(at, 8);
        }
        machine.sync(Algorithm::Incremental);
        machine.settle();
    });
}

/// Nothing changed, but only reading can tell.
#[divan::bench]
fn nothing_changed_untracked(bencher: Bencher) {
    let mut machine = Machine::new(Box::new(Untracked));
    let bytes = 0x1_0000 + TABLES * (SMALL_BYTES + LARGE_COUNT * 8);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| machine.sync(Algorithm::Incremental));
}

/// As many entries in a row changed, as when a buffer is mapped or unmapped.
#[divan::bench(args = [1, 16, 256, 4096, 32768])]
fn changed_in_a_row(bencher: Bencher, count: u64) {
    changed(bencher, count, 1);
}

/// Every other entry changed.
#[divan::bench(args = [16, 256, 4096])]
fn changed_apart(bencher: Bencher, count: u64) {
    changed(bencher, count, 2);
}

fn changed(bencher: Bencher, count: u64, step: u64) {
    let mut machine = Machine::new(Box::new(PageTimes::new(VRAM)));
    // What the guest does is a small part of what is measured: it copies one of two versions.
    let start = (SMALL / 8) as usize;
    let range = start..start + (count * step) as usize;
    let old = machine.memories.vram[range.clone()].to_vec();
    let mut new = old.clone();
    for entry in new.iter_mut().step_by(step as usize) {
        *entry = Pte(*entry).with_kind(0xfe).0;
    }
    let mut versions = [new, old];
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        machine.memories.vram[range.clone()].copy_from_slice(&versions[0]);
        versions.swap(0, 1);
        machine.tracker.mark(SMALL, count * step * 8);
        machine.sync(Algorithm::Incremental);
    });
}

/// All tables made anew.
#[divan::bench]
fn rebuild(bencher: Bencher) {
    let mut machine = Machine::new(Box::new(PageTimes::new(VRAM)));
    let bytes = 0x1_0000 + TABLES * (SMALL_BYTES + LARGE_COUNT * 8);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| machine.sync(Algorithm::Bulk));
}

/// A CPU's access through a BAR, in pages of which the walker remembers all or none.
#[divan::bench(args = [64, 4096])]
fn walk(bencher: Bencher, pages: u64) {
    let mut machine = Machine::new(Box::new(Untracked));
    let space = AddressSpace {
        directory: GuestAddress::Vram(DIRECTORY),
        limit: (1 << 40) - 1,
        geometry: Geometry::default(),
    };
    let mut walker = Walker::new(space);
    bencher.counter(ItemsCount::new(pages)).bench_local(|| {
        for page in 0..pages {
            let va = black_box(page << 12);
            let _ = black_box(walker.resolve(&mut machine.memories, &machine.policy, va));
        }
    });
}
