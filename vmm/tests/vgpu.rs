//! Two machines on one software card, each driven through the registers of its virtual GPU.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use gpu_model::{
    Direct, Dispatcher, Gate, Host, Layout, Mapper, Optimisations, Piece, Protection, Settings,
    Slot, Submission, VirtualGpu,
};
use mmio::layout::pagetable::{Aperture, Pde, Pte, TablePointer};
use mmio::layout::pushbuffer::method;
use mmio::layout::{instance, userd};
use mmio::regs::{PRAMIN, pbus, pfb, pfifo, pmc};
use mmio::{Bar, RegId};
use vmm::soft_card::SoftCard;

const EACH: u64 = 64 << 20;
const RAM: u64 = 1 << 20;

/// The guest's video memory. All is in the first MiB, where PRAMIN looks after reset.
const CHANNEL: u64 = 0x1_0000;
const BAR1: u64 = 0x1_1000;
const RUNLIST: u64 = 0x1_2000;
const USERD: u64 = 0x1_3000;
const RING: u64 = 0x1_4000;
const DIRECTORY: u64 = 0x2_0000;
const TABLE: u64 = 0x4_0000;
const RESULT: u64 = 0x9_0000;

/// Virtual pages of the channel: ring, pushbuffer behind it, result in VRAM, result in RAM, and one
/// that is beyond the partition.
const VA_RING: u64 = 0x1000;
const VA_VRAM: u64 = 0x2000;
const VA_RAM: u64 = 0x3000;
const VA_FOREIGN: u64 = 0x4000;
const VA_USERD: u64 = 0x5000;

struct Pins;

impl Slot for Pins {
    fn msi(&self) {}
    fn intx(&self, _level: bool) {}
}

struct Guest {
    gpu: Arc<VirtualGpu>,
    ram: File,
    put: u32,
}

impl Guest {
    fn new(gpu: Arc<VirtualGpu>) -> Self {
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(RAM).unwrap();
        let all = Protection {
            read: true,
            write: true,
        };
        gpu.dma_map(0, RAM, all, ram.try_clone().unwrap(), 0)
            .unwrap();
        Self { gpu, ram, put: 0 }
    }

    fn set(&self, register: RegId, value: u32) {
        self.gpu.store(register.offset(), value);
    }

    fn get(&self, register: RegId) -> u32 {
        self.gpu.load(register.offset())
    }

    fn poke(&self, address: u64, value: u64) {
        let at = u64::from(PRAMIN.start) + address;
        self.gpu.write(Bar::Bar0, at, &value.to_le_bytes());
    }

    fn peek(&self, address: u64) -> u32 {
        let mut word = [0; 4];
        let at = u64::from(PRAMIN.start) + address;
        self.gpu.read(Bar::Bar0, at, &mut word);
        u32::from_le_bytes(word)
    }

    fn ram(&self, address: u64) -> u32 {
        let mut word = [0; 4];
        self.ram.read_exact_at(&mut word, address).unwrap();
        u32::from_le_bytes(word)
    }

    fn map(&self, va: u64, pte: Pte) {
        self.poke(TABLE + va / 0x1000 * 8, pte.0);
    }

    /// Builds an address space and a channel, and lets it run.
    fn start(&self) {
        self.set(pmc::ENABLE, 0);
        self.set(pmc::ENABLE, u32::MAX);
        let table = TablePointer {
            aperture: Aperture::Vram,
            address: TABLE,
            volatile: false,
        };
        self.poke(DIRECTORY, Pde::new(None, Some(table)).0);
        self.map(VA_RING, Pte::new(Aperture::Vram, RING));
        self.map(VA_VRAM, Pte::new(Aperture::Vram, RESULT));
        self.map(VA_RAM, Pte::new(Aperture::SysCoherent, 0x8000));
        self.map(VA_FOREIGN, Pte::new(Aperture::Vram, EACH));
        self.map(VA_USERD, Pte::new(Aperture::Vram, USERD));
        for block in [CHANNEL, BAR1] {
            self.poke(block + instance::PAGE_DIR_BASE, DIRECTORY);
            self.poke(block + instance::ADDR_LIMIT, (1 << 40) - 1);
        }
        self.poke(CHANNEL + instance::USERD, USERD);
        self.poke(
            CHANNEL + instance::SIGNATURE,
            instance::SIGNATURE_VALUE.into(),
        );
        self.poke(CHANNEL + instance::GP_BASE, VA_RING | 9 << 48);
        self.set(pbus::BAR1_BLOCK, 1 << 31 | (BAR1 >> 12) as u32);
        self.set(
            pfifo::BAR1_BASE,
            pfifo::BAR1_BASE_ENABLE | (VA_USERD >> 12) as u32,
        );
        self.set(pfifo::INTR_EN, u32::MAX);
        self.set(pfifo::CHAN, pfifo::CHAN_VALID | (CHANNEL >> 12) as u32);
        self.set(pfifo::CHAN_STATE, 0x001f_0001);
        self.poke(RUNLIST, 4 << 32);
        self.set(pfifo::RUNLIST_WR, (RUNLIST >> 12) as u32);
        self.set(pfifo::RUNLIST_WR_LEN, 1);
        self.until("the runlist", || self.get(pfifo::INTR_RUNLIST) != 0);
    }

    /// Releases a semaphore at `va` with `value`.
    fn release(&mut self, va: u64, value: u32) {
        self.prepare(va, value);
        let doorbell = VA_USERD + userd::GP_PUT;
        self.gpu.write(Bar::Bar1, doorbell, &self.put.to_le_bytes());
    }

    /// Writes what releases a semaphore, without a doorbell.
    fn prepare(&mut self, va: u64, value: u32) {
        let push = 0x800 + u64::from(self.put) * 0x40;
        let header = 0x2000_0000 | 4 << 16 | u32::from(method::SEMAPHORE_ADDRESS_HIGH) >> 2;
        let words = [header, (va >> 32) as u32, va as u32, value, 0x0100_0002, 0];
        for (n, pair) in (0..).zip(words.chunks_exact(2)) {
            let wide = u64::from(pair[1]) << 32 | u64::from(pair[0]);
            self.poke(RING + push + n * 8, wide);
        }
        let entry = (VA_RING + push) | 5 << 42;
        self.poke(RING + u64::from(self.put) * 8, entry);
        self.put += 1;
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{what} did not come"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn machines(optimisations: Optimisations) -> (Host, Vec<Guest>) {
    machines_with(optimisations, Arc::new(Direct::default()))
}

fn machines_with(
    optimisations: Optimisations,
    dispatcher: Arc<dyn Dispatcher>,
) -> (Host, Vec<Guest>) {
    let vram = Layout::vram_for(2, EACH, 16 << 20).next_multiple_of(6 << 20);
    let layout = Layout::new(2, EACH, vram).unwrap();
    let card = Arc::new(SoftCard::new(gf100::Config::quadro_6000(vram)).unwrap());
    let slots: Vec<Arc<dyn Slot>> = vec![Arc::new(Pins), Arc::new(Pins)];
    let settings = Settings {
        optimisations,
        dispatcher,
        ..Settings::default()
    };
    let host = Host::new(card, layout, settings, slots).unwrap();
    let guests = host.vgpus().iter().cloned().map(Guest::new).collect();
    (host, guests)
}

fn work_of_both(optimisations: Optimisations) {
    let (_host, mut guests) = machines(optimisations);
    for guest in &guests {
        guest.start();
    }
    for (guest, value) in guests.iter_mut().zip([0x1111, 0x2222]) {
        guest.release(VA_VRAM, value);
        guest.release(VA_RAM, value + 1);
    }
    for (guest, value) in guests.iter().zip([0x1111, 0x2222]) {
        guest.until("the result in VRAM", || guest.peek(RESULT) == value);
        guest.until("the result in RAM", || guest.ram(0x8000) == value + 1);
    }
}

#[test]
fn work_of_both_machines_lands_in_their_own_memory() {
    work_of_both(Optimisations::INCREMENTAL);
}

#[test]
fn the_naive_algorithm_leads_to_the_same_memory() {
    work_of_both(Optimisations::empty());
}

#[test]
fn a_page_beyond_the_partition_is_a_fault_of_the_guilty_machine_only() {
    let (_host, mut guests) = machines(Optimisations::all());
    for guest in &guests {
        guest.start();
    }
    guests[1].poke(0, 0x7777);
    guests[0].release(VA_FOREIGN, 0xbad);
    let guilty = &guests[0];
    guilty.until("the fault", || guilty.get(pfifo::VM_FAULT_SOURCE) != 0);
    let unit = guilty.get(pfifo::VM_FAULT_SOURCE).trailing_zeros();
    let block = guilty.gpu.load(pfifo::VM_FAULT_INST.offset() + 0x10 * unit);
    assert_eq!(u64::from(block), CHANNEL >> 12);
    assert_eq!(guests[1].get(pfifo::VM_FAULT_SOURCE), 0);
    assert_eq!(guests[1].peek(0), 0x7777);
    guests[1].release(VA_VRAM, 0x3333);
    let other = &guests[1];
    other.until("the other's work", || other.peek(RESULT) == 0x3333);
}

#[test]
fn a_page_table_that_changes_counts_after_a_flush() {
    let (_host, mut guests) = machines(Optimisations::all());
    let guest = &mut guests[0];
    guest.start();
    guest.map(VA_VRAM, Pte::new(Aperture::Vram, RESULT + 0x1000));
    guest.set(pfb::VM_FLUSH_PDB, (DIRECTORY >> 8) as u32);
    guest.set(pfb::VM_FLUSH, 0x8000_0001);
    guest.release(VA_VRAM, 0x4444);
    guest.until("the result", || guest.peek(RESULT + 0x1000) == 0x4444);
    assert_eq!(guest.peek(RESULT), 0);
}

/// Keeps submissions until somebody asks for them.
#[derive(Default)]
struct Keep {
    gate: OnceLock<Weak<dyn Gate>>,
    kept: Mutex<Vec<Submission>>,
}

impl Dispatcher for Keep {
    fn attach(&self, gate: Weak<dyn Gate>) {
        assert!(self.gate.set(gate).is_ok());
    }

    fn submit(&self, submission: Submission) {
        self.kept.lock().unwrap().push(submission);
    }

    fn forget(&self, chid: u32) {
        self.kept.lock().unwrap().retain(|kept| kept.chid != chid);
    }
}

#[test]
fn a_submission_waits_for_its_turn() {
    let keep = Arc::new(Keep::default());
    let (_host, mut guests) = machines_with(Optimisations::all(), keep.clone());
    let gate = keep.gate.get().unwrap().upgrade().unwrap();
    for guest in &guests {
        guest.start();
    }
    for value in [1, 2] {
        guests[0].release(VA_VRAM, value);
    }
    guests[1].release(VA_VRAM, 3);
    let kept = keep.kept.lock().unwrap().clone();
    let entries: Vec<_> = kept
        .iter()
        .map(|s| (s.vm.0, s.guest, s.first, s.put))
        .collect();
    assert_eq!(entries, [(0, 0, 0, 1), (0, 0, 1, 2), (1, 0, 0, 1)]);
    gate.ring(&kept[2]);
    guests[1].until("the other's work", || guests[1].peek(RESULT) == 3);
    assert_eq!(guests[0].peek(RESULT), 0);
    let mut put = [0; 4];
    let doorbell = VA_USERD + userd::GP_PUT;
    guests[0].gpu.read(Bar::Bar1, doorbell, &mut put);
    assert_eq!(u32::from_le_bytes(put), 2);
    gate.ring(&kept[0]);
    guests[0].until("the first work", || guests[0].peek(RESULT) == 1);
    gate.ring(&kept[1]);
    guests[0].until("the second work", || guests[0].peek(RESULT) == 2);
    guests[0].until("the end", || gate.progress(kept[1].chid) == 2);
    // A submission of a channel that is gone does nothing to the next one with its number.
    guests[0].gpu.reset();
    guests[0].start();
    gate.ring(&kept[1]);
    assert_eq!(guests[0].peek(RESULT), 0);
}

/// Remembers what may be mapped.
#[derive(Default)]
struct Record(Mutex<HashMap<Bar, Vec<Piece>>>);

impl Mapper for Record {
    fn remap(&self, bar: Bar, pieces: &[Piece]) {
        self.0.lock().unwrap().insert(bar, pieces.to_vec());
    }

    fn dirty(&self, found: &mut dyn FnMut(u64, u64)) {
        for piece in self.0.lock().unwrap().values().flatten() {
            found(piece.vram, piece.len);
        }
    }
}

impl Record {
    /// Where byte `offset` of `bar` leads in the card's memory.
    fn leads(&self, bar: Bar, offset: u64) -> Option<u64> {
        let pieces = self.0.lock().unwrap();
        let piece = pieces
            .get(&bar)?
            .iter()
            .find(|piece| (piece.offset..piece.offset + piece.len).contains(&offset))?;
        Some(piece.vram + offset - piece.offset)
    }
}

#[test]
fn memory_behind_bars_can_be_mapped_but_for_watched_pages() {
    let (host, guests) = machines(Optimisations::all() - Optimisations::DOORBELL_DIRECT);
    let guest = &guests[1];
    let record = Arc::new(Record::default());
    guest.gpu.set_mapper(Some(record.clone()));
    let pramin = |address| record.leads(Bar::Bar0, u64::from(PRAMIN.start) + address);
    assert_eq!(pramin(CHANNEL), Some(EACH + CHANNEL));
    guest.start();
    assert_eq!(pramin(CHANNEL), None);
    assert_eq!(pramin(CHANNEL + 0x1000), Some(EACH + CHANNEL + 0x1000));
    guest.set(pbus::BAR0_WINDOW, (EACH >> 16) as u32);
    assert_eq!(pramin(0), None);
    guest.set(pbus::BAR0_WINDOW, 0);
    let bar1 = |va| record.leads(Bar::Bar1, va);
    assert_eq!(bar1(VA_VRAM + 8), Some(EACH + RESULT + 8));
    assert_eq!((bar1(VA_RAM), bar1(VA_FOREIGN)), (None, None));
    assert_eq!(bar1(VA_USERD), Some(EACH + USERD));
    guest.map(VA_VRAM, Pte::new(Aperture::Vram, RESULT + 0x1000));
    guest.set(pfb::VM_FLUSH_PDB, (DIRECTORY >> 8) as u32);
    guest.set(pfb::VM_FLUSH, 0x8000_0001);
    assert_eq!(bar1(VA_VRAM), Some(EACH + RESULT + 0x1000));
    guest.gpu.set_optimisations(Optimisations::empty());
    assert!(record.0.lock().unwrap().values().all(Vec::is_empty));
    drop(host);
}

#[test]
fn a_doorbell_that_nobody_traps_is_found() {
    for switch in [Optimisations::DOORBELL_POLL, Optimisations::DOORBELL_DIRECT] {
        let (host, mut guests) = machines(switch | Optimisations::LAZY_SHADOW);
        let guest = &mut guests[0];
        let record = Arc::new(Record::default());
        guest.gpu.set_mapper(Some(record.clone()));
        guest.start();
        guest.prepare(VA_VRAM, 0x77);
        let page = record.leads(Bar::Bar1, VA_USERD).unwrap();
        // What a guest's store through the mapping leaves there.
        host.card()
            .vram_write(page + userd::GP_PUT, &1u32.to_le_bytes());
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

#[test]
fn pramin_ends_with_the_partition() {
    let (_host, guests) = machines(Optimisations::all());
    guests[0].set(pbus::BAR0_WINDOW, (EACH >> 16) as u32);
    guests[0].poke(0, 0xbad);
    assert_eq!(guests[0].peek(0), u32::MAX);
    assert_eq!(guests[1].peek(0), 0);
}

#[test]
fn a_machine_that_leaves_leaves_nothing_and_disturbs_nobody() {
    let (_host, mut guests) = machines(Optimisations::all());
    for guest in &guests {
        guest.start();
    }
    guests[0].gpu.reset();
    assert_eq!(guests[0].peek(DIRECTORY), 0);
    guests[1].release(VA_VRAM, 0x5555);
    let other = &guests[1];
    other.until("the other's work", || other.peek(RESULT) == 0x5555);
    guests[0].put = 0;
    guests[0].start();
    guests[0].release(VA_VRAM, 0x6666);
    let back = &guests[0];
    back.until("work after the return", || back.peek(RESULT) == 0x6666);
}
