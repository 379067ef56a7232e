//! What an access of a guest to its virtual GPU costs, from the exit to the device model and back,
//! and whether machines slow each other: `cargo bench -p vmm --bench trapped`.
//!
//! The first table is of single accesses. The second one is of two machines: how long an access of the
//! one takes while the other makes none, and while it makes the same one again and again, each on a
//! processor of its own. The best of many short rounds counts, which keeps what else the host does out.
//!
//! KVM's own part, the way out of the guest and back into it, is not in it.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use divan::Bencher;
use gpu_model::{Host, Layout, Settings, Slot, VirtualGpu};
use guest::hostile::{Device, Rig};
use kvm_ioctls::VcpuExit;
use mmio::layout::userd;
use mmio::regs::{PRAMIN, pmc, ptimer};
use mmio::{Bar, RegId};
use vm_device::DeviceMmio;
use vm_device::bus::{MmioAddress, MmioAddressOffset};
use vmm::bus::{AddressSpace, BusView};
use vmm::metrics::Metrics;
use vmm::soft_card::SoftCard;
use vmm::vcpu::exit::{ExitCounters, handle_exit};

/// Machines on the card.
const MACHINES: u16 = 2;
const EACH: u64 = 64 << 20;
/// Where a machine finds its BARs.
const BASES: [(Bar, u64); 3] = [
    (Bar::Bar0, 0xf000_0000),
    (Bar::Bar1, 0xd000_0000),
    (Bar::Bar3, 0xe000_0000),
];
/// The virtual page at which [`Rig`] shows a page of video memory, and its channel's control page.
const VA_RESULT: u64 = 0x2000;
const VA_USERD: u64 = 0x4000;
/// Somewhere in PGRAPH where no register is known.
const UNLISTED: u64 = 0x40_5abc;

/// Accesses of a round, and rounds.
const ROUND: u64 = 20_000;
const ROUNDS: u32 = 100;

fn main() {
    divan::main();
    // Only as a whole: with a filter, or as a test, nobody asks for this.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--bench"] {
        neighbours();
    }
}

struct Pins;

impl Slot for Pins {
    fn msi(&self) {}
    fn intx(&self, _level: bool) {}
}

/// A BAR on the memory bus.
struct OnBus(Arc<VirtualGpu>, Bar);

impl DeviceMmio for OnBus {
    fn mmio_read(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &mut [u8]) {
        self.0.read(self.1, offset, data);
    }

    fn mmio_write(&self, _base: MmioAddress, offset: MmioAddressOffset, data: &[u8]) {
        self.0.write(self.1, offset, data);
    }
}

/// The same without the bus, to set the machine up.
struct Bars(Arc<VirtualGpu>);

impl Device for Bars {
    fn load(&self, bar: Bar, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.0.read(bar, offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn store(&self, bar: Bar, offset: u64, value: u32) {
        self.0.write(bar, offset, &value.to_le_bytes());
    }
}

/// Machines whose channels run.
struct Machines {
    _host: Host,
    spaces: Vec<Arc<AddressSpace>>,
    next: AtomicUsize,
}

impl Machines {
    fn new() -> Self {
        let vram = Layout::vram_for(MACHINES, EACH, 16 << 20).next_multiple_of(6 << 20);
        let layout = Layout::new(MACHINES, EACH, vram).unwrap();
        let card = Arc::new(SoftCard::new(gf100::Config::quadro_6000(vram)).unwrap());
        let slots = (0..MACHINES).map(|_| Arc::new(Pins) as Arc<dyn Slot>);
        let host = Host::new(card, layout, Settings::default(), slots.collect()).unwrap();
        let space = |gpu: &Arc<VirtualGpu>| {
            let bars = Bars(gpu.clone());
            Rig::new(&bars).recovers().unwrap();
            let space = AddressSpace::new();
            for (bar, base) in BASES {
                let device = Arc::new(OnBus(gpu.clone(), bar));
                space
                    .add_mmio(base, gpu.bar_size(bar).min(1 << 27), device)
                    .unwrap();
            }
            space
        };
        Self {
            spaces: host.vgpus().iter().map(space).collect(),
            _host: host,
            next: AtomicUsize::new(0),
        }
    }

    /// The next machine's processor.
    fn processor(&self) -> Processor {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.spaces.len();
        Processor {
            bus: self.spaces[number].view(),
            counters: ExitCounters::new(&Metrics::default(), 0),
        }
    }
}

struct Processor {
    bus: BusView,
    counters: ExitCounters,
}

impl Processor {
    fn read(&mut self, address: u64) -> u32 {
        let mut data = [0; 4];
        let exit = VcpuExit::MmioRead(address, &mut data);
        black_box(handle_exit(exit, &mut self.bus, &self.counters));
        u32::from_le_bytes(data)
    }

    fn write(&mut self, address: u64, value: u32) {
        let data = value.to_le_bytes();
        let exit = VcpuExit::MmioWrite(address, &data);
        black_box(handle_exit(exit, &mut self.bus, &self.counters));
    }
}

fn at(bar: Bar, offset: u64) -> u64 {
    BASES.iter().find(|(of, _)| *of == bar).unwrap().1 + offset
}

fn register(id: RegId) -> u64 {
    at(Bar::Bar0, id.offset().into())
}

thread_local! {
    static PROCESSOR: RefCell<Option<Processor>> = const { RefCell::new(None) };
}

/// Runs `access` on as many processors of different machines as there are threads.
fn on_processors(bencher: Bencher, access: impl Fn(&mut Processor) -> u32 + Sync) {
    let machines = Machines::new();
    bencher.bench(|| {
        PROCESSOR.with_borrow_mut(|processor| {
            access(processor.get_or_insert_with(|| machines.processor()))
        })
    });
    PROCESSOR.with_borrow_mut(|processor| *processor = None);
}

fn read(bencher: Bencher, address: u64) {
    on_processors(bencher, |processor| processor.read(black_box(address)));
}

fn write(bencher: Bencher, address: u64, value: u32) {
    on_processors(bencher, |processor| {
        processor.write(black_box(address), black_box(value));
        0
    });
}

/// Keeps this thread on one processor; whether that can be had.
fn stay_on(processor: usize) -> bool {
    // SAFETY: a set is plain data, and the calls write no further than its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0
    }
}

/// Nanoseconds of one access in the best round, alone and beside the other machine.
fn beside(address: u64, value: Option<u32>) -> (f64, f64) {
    let machines = Machines::new();
    let access = |processor: &mut Processor| match value {
        Some(value) => processor.write(black_box(address), black_box(value)),
        None => {
            black_box(processor.read(black_box(address)));
        }
    };
    let [mut first, mut second] = [machines.processor(), machines.processor()];
    // What the other machine does: nothing, accesses, no more at all.
    let (goes, over, made) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        Beside::default(),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(1);
            while !over.load(Ordering::Acquire) {
                if goes.load(Ordering::Acquire) {
                    (0..100).for_each(|_| access(&mut second));
                    made.0.fetch_add(100, Ordering::AcqRel);
                } else {
                    std::hint::spin_loop();
                }
            }
        });
        stay_on(0);
        let mut best = [f64::INFINITY; 2];
        for round in 0..2 * ROUNDS {
            let both = round % 2 != 0;
            goes.store(both, Ordering::Release);
            let before = made.0.load(Ordering::Acquire);
            let begin = Instant::now();
            (0..ROUND).for_each(|_| access(&mut first));
            let each = begin.elapsed().as_nanos() as f64 / ROUND as f64;
            let beside = made.0.load(Ordering::Acquire) - before;
            // The other thread had a processor, too.
            if !both || beside > ROUND / 2 {
                let best = &mut best[usize::from(both)];
                *best = best.min(each);
            }
        }
        over.store(true, Ordering::Release);
        (best[0], best[1])
    })
}

/// A count that shares no cache line with anything that is measured.
#[derive(Default)]
#[repr(align(128))]
struct Beside(AtomicU64);

fn neighbours() {
    let cases = [
        ("read_virtual", register(pmc::INTR_HOST), None),
        ("read_unlisted", at(Bar::Bar0, UNLISTED), None),
        ("write_virtual", register(ptimer::NUMERATOR), Some(8)),
        ("write_unlisted", at(Bar::Bar0, UNLISTED), Some(1)),
        ("write_bar1", at(Bar::Bar1, VA_RESULT + 8), Some(7)),
        ("doorbell", at(Bar::Bar1, VA_USERD + userd::GP_PUT), Some(1)),
    ];
    println!(
        "\n{:16} {:>9} {:>13} {:>6}",
        "two machines", "alone, ns", "beside it, ns", "ratio"
    );
    for (name, address, value) in cases {
        let (alone, both) = beside(address, value);
        println!("{name:16} {alone:9.1} {both:13.1} {:6.2}", both / alone);
    }
}

#[divan::bench(threads = [1, 2])]
fn read_virtual(bencher: Bencher) {
    read(bencher, register(pmc::INTR_HOST));
}

#[divan::bench(threads = [1, 2])]
fn read_unlisted(bencher: Bencher) {
    read(bencher, at(Bar::Bar0, UNLISTED));
}

#[divan::bench]
fn read_forwarded(bencher: Bencher) {
    read(bencher, register(ptimer::TIME_0));
}

#[divan::bench(threads = [1, 2])]
fn write_virtual(bencher: Bencher) {
    write(bencher, register(ptimer::NUMERATOR), 8);
}

#[divan::bench(threads = [1, 2])]
fn write_unlisted(bencher: Bencher) {
    write(bencher, at(Bar::Bar0, UNLISTED), 1);
}

#[divan::bench(threads = [1, 2])]
fn write_pramin(bencher: Bencher) {
    write(
        bencher,
        at(Bar::Bar0, u64::from(PRAMIN.start) + 0x9_0010),
        7,
    );
}

#[divan::bench(threads = [1, 2])]
fn write_bar1(bencher: Bencher) {
    write(bencher, at(Bar::Bar1, VA_RESULT + 8), 7);
}

#[divan::bench]
fn read_userd(bencher: Bencher) {
    read(bencher, at(Bar::Bar1, VA_USERD + userd::GP_GET));
}

#[divan::bench]
fn doorbell_without_work(bencher: Bencher) {
    // The put index that the machine's one submission left.
    write(bencher, at(Bar::Bar1, VA_USERD + userd::GP_PUT), 1);
}
