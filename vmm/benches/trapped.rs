//! What an access of a guest to its virtual GPU costs, from the exit to the device model and back,
//! and whether machines slow each other: `cargo bench -p vmm --bench trapped`.
//!
//! The first table is of single accesses. What the software card itself takes for a doorbell is in it
//! as well, as hardware would take none of this process's time for it.
//!
//! The second one is of two machines: how long an access of the one takes while the other makes none,
//! and while it makes the same one again and again, each on a processor of its own; and beside a
//! machine of another card, with which it shares nothing but the host. The best of many short rounds
//! counts, which keeps what else the host does out.
//!
//! KVM's own part, the way out of the guest and back into it, is not in it.

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use divan::Bencher;
use gpu_model::{Layout, Settings, VirtualGpu};
use guest::hostile::Rig;
use kvm_ioctls::VcpuExit;
use mmio::layout::userd;
use mmio::regs::{PRAMIN, pmc, ptimer};
use mmio::{Bar, RegId};
use vm_device::DeviceMmio;
use vm_device::bus::{MmioAddress, MmioAddressOffset};
use vmm::bus::{AddressSpace, BusView};
use vmm::metrics::Metrics;
use vmm::vcpu::exit::{ExitCounters, handle_exit};

use rig::Bars;

/// Machines on the card.
const MACHINES: u16 = 2;
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

/// Accesses of a sample: one takes less than a look at the clock.
const SAMPLE: u32 = 1000;
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

/// Machines whose channels run.
struct Machines {
    all: rig::Machines,
    spaces: Vec<Arc<AddressSpace>>,
    next: AtomicUsize,
}

impl Machines {
    fn new() -> Self {
        let all = rig::Machines::new(MACHINES, Settings::default());
        let space = |bars: &Bars| {
            Rig::new(bars).recovers().unwrap();
            let space = AddressSpace::new();
            for (bar, base) in BASES {
                let device = Arc::new(OnBus(bars.0.clone(), bar));
                space
                    .add_mmio(base, bars.0.bar_size(bar).min(1 << 27), device)
                    .unwrap();
            }
            space
        };
        Self {
            spaces: all.bars.iter().map(space).collect(),
            all,
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

/// Nanoseconds of one access of a machine in the best round: alone, beside another machine of its
/// card, and beside a stranger.
fn beside(address: u64, value: Option<u32>) -> [f64; 3] {
    let (machines, strangers) = (Machines::new(), Machines::new());
    let access = |processor: &mut Processor| match value {
        Some(value) => processor.write(black_box(address), black_box(value)),
        None => {
            black_box(processor.read(black_box(address)));
        }
    };
    let mut first = machines.processor();
    let mut others = [machines.processor(), strangers.processor()];
    // Who accesses beside it, if anybody does; whether it is over; what was accessed.
    let (goes, over, made) = (
        AtomicUsize::new(0),
        AtomicBool::new(false),
        Beside::default(),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(1);
            while !over.load(Ordering::Acquire) {
                match goes.load(Ordering::Acquire) {
                    0 => std::hint::spin_loop(),
                    other => {
                        (0..100).for_each(|_| access(&mut others[other - 1]));
                        made.0.fetch_add(100, Ordering::AcqRel);
                    }
                }
            }
        });
        stay_on(0);
        let mut best = [f64::INFINITY; 3];
        for round in 0..3 * ROUNDS {
            let other = round as usize % 3;
            goes.store(other, Ordering::Release);
            let before = made.0.load(Ordering::Acquire);
            let begin = Instant::now();
            (0..ROUND).for_each(|_| access(&mut first));
            let each = begin.elapsed().as_nanos() as f64 / ROUND as f64;
            let beside = made.0.load(Ordering::Acquire) - before;
            // The other thread had a processor, too.
            if other == 0 || beside > ROUND / 2 {
                best[other] = best[other].min(each);
            }
        }
        over.store(true, Ordering::Release);
        best
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
        "\n{:16} {:>9} {:>13} {:>22} {:>6}",
        "two machines", "alone, ns", "beside it, ns", "beside a stranger, ns", "ratio"
    );
    for (name, address, value) in cases {
        let [alone, other, stranger] = beside(address, value);
        // A doorbell ends in the card's PFIFO, which takes one at a time: there may be no round in which
        // both machines had their turns.
        let shown = |value: f64| match value.is_finite() {
            true => format!("{value:.1}"),
            false => "-".into(),
        };
        let ratio = match other.is_finite() && stranger.is_finite() {
            true => format!("{:.2}", other / stranger),
            false => "-".into(),
        };
        let [alone, other, stranger] = [alone, other, stranger].map(shown);
        println!("{name:16} {alone:>9} {other:>13} {stranger:>22} {ratio:>6}");
    }
}

#[divan::bench(threads = [1, 2], sample_size = SAMPLE)]
fn read_virtual(bencher: Bencher) {
    read(bencher, register(pmc::INTR_HOST));
}

#[divan::bench(threads = [1, 2], sample_size = SAMPLE)]
fn read_unlisted(bencher: Bencher) {
    read(bencher, at(Bar::Bar0, UNLISTED));
}

#[divan::bench(sample_size = SAMPLE)]
fn read_forwarded(bencher: Bencher) {
    read(bencher, register(ptimer::TIME_0));
}

#[divan::bench(threads = [1, 2], sample_size = SAMPLE)]
fn write_virtual(bencher: Bencher) {
    write(bencher, register(ptimer::NUMERATOR), 8);
}

#[divan::bench(threads = [1, 2], sample_size = SAMPLE)]
fn write_unlisted(bencher: Bencher) {
    write(bencher, at(Bar::Bar0, UNLISTED), 1);
}

#[divan::bench(threads = [1, 2], sample_size = SAMPLE)]
fn write_pramin(bencher: Bencher) {
    write(
        bencher,
        at(Bar::Bar0, u64::from(PRAMIN.start) + 0x9_0010),
        7,
    );
}

#[divan::bench(threads = [1, 2], sample_size = SAMPLE)]
fn write_bar1(bencher: Bencher) {
    write(bencher, at(Bar::Bar1, VA_RESULT + 8), 7);
}

#[divan::bench(sample_size = SAMPLE)]
fn read_userd(bencher: Bencher) {
    read(bencher, at(Bar::Bar1, VA_USERD + userd::GP_GET));
}

/// The put index that the machine's one submission left.
const PUT: u32 = 1;

#[divan::bench(sample_size = SAMPLE)]
fn doorbell_without_work(bencher: Bencher) {
    write(bencher, at(Bar::Bar1, VA_USERD + userd::GP_PUT), PUT);
}

/// The same store to the card, which nobody shares.
#[divan::bench(sample_size = SAMPLE)]
fn card_doorbell(bencher: Bencher) {
    let Machines { all, .. } = Machines::new();
    let chid = all.part(0).channels.start;
    let doorbell = Layout::control_page(chid) + userd::GP_PUT;
    let card = all.host.card();
    let put = PUT.to_le_bytes();
    bencher.bench(|| card.write(Bar::Bar1, black_box(doorbell), black_box(&put)));
}
