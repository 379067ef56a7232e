//! What an access of a guest to its virtual GPU costs, from the exit to the device model and back,
//! and whether machines slow each other: `cargo bench -p vmm --bench trapped`.
//!
//! KVM's own part, the way out of the guest and back into it, is not in it.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use divan::Bencher;
use gpu_model::{Host, Layout, Settings, Slot, VirtualGpu};
use guest::hostile::{Device, Rig};
use kvm_ioctls::VcpuExit;
use mmio::Bar;
use mmio::regs::{PRAMIN, pmc, ptimer};
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

fn main() {
    divan::main();
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

#[divan::bench(threads = [1, 2])]
fn read_virtual(bencher: Bencher) {
    read(bencher, at(Bar::Bar0, pmc::INTR_HOST.offset().into()));
}

#[divan::bench(threads = [1, 2])]
fn read_unlisted(bencher: Bencher) {
    read(bencher, at(Bar::Bar0, UNLISTED));
}

#[divan::bench]
fn read_forwarded(bencher: Bencher) {
    read(bencher, at(Bar::Bar0, ptimer::TIME_0.offset().into()));
}

#[divan::bench(threads = [1, 2])]
fn write_virtual(bencher: Bencher) {
    write(bencher, at(Bar::Bar0, ptimer::NUMERATOR.offset().into()), 8);
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
    read(
        bencher,
        at(Bar::Bar1, VA_USERD + mmio::layout::userd::GP_GET),
    );
}

#[divan::bench]
fn doorbell_without_work(bencher: Bencher) {
    // The put index that the machine's one submission left.
    write(
        bencher,
        at(Bar::Bar1, VA_USERD + mmio::layout::userd::GP_PUT),
        1,
    );
}
