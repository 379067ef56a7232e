//! Two machines on one software card, each driven through the registers of its virtual GPU.

mod bring_up;
mod deferred;
mod doorbells;
mod guest;
mod handlers;
mod notices;
#[path = "../rig/mod.rs"]
mod rig;
mod sharing;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use gpu_model::{Dispatcher, Gate, Mapper, Optimisations, Piece, Settings, Submission, Tracking};
use mmio::Bar;
use mmio::layout::pagetable::{Aperture, Pte};
use mmio::layout::userd;
use mmio::regs::{PRAMIN, pbus, pfb, pfifo};

use guest::{
    CHANNEL, DIRECTORY, Guest, RESULT, USERD, VA_FOREIGN, VA_RAM, VA_USERD, VA_VRAM, machines,
    machines_as, machines_with,
};
use rig::{EACH, soft_card};

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
    let (_host, mut guests) = machines_with(Optimisations::ALL, keep.clone());
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

/// Remembers what may be mapped, and which stores may be late.
#[derive(Default)]
struct Record(Mutex<HashMap<Bar, Vec<Piece>>>, Mutex<Vec<Range<u32>>>);

impl Mapper for Record {
    fn remap(&self, bar: Bar, pieces: &[Piece]) {
        self.0.lock().unwrap().insert(bar, pieces.to_vec());
    }

    fn defer(&self, runs: &[Range<u32>]) {
        self.1.lock().unwrap().clone_from(&runs.to_vec());
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
    flush(guest);
    assert_eq!(bar1(VA_VRAM), Some(EACH + RESULT + 0x1000));
    guest.gpu.set_optimisations(Optimisations::empty());
    assert!(record.0.lock().unwrap().values().all(Vec::is_empty));
    drop(host);
}

/// Flushes the guest's only address space.
fn flush(guest: &Guest) {
    guest.set(pfb::VM_FLUSH_PDB, (DIRECTORY >> 8) as u32);
    guest.set(pfb::VM_FLUSH, 0x8000_0001);
}

#[test]
fn page_tables_are_mapped_for_loads_only_where_stores_to_them_are_to_trap() {
    for (tracking, guarded) in [
        (Tracking::Logged, false),
        (Tracking::Trapped, true),
        (Tracking::Compared, false),
        (Tracking::Hybrid, true),
    ] {
        let settings = Settings {
            optimisations: Optimisations::ALL,
            tracking,
            ..Settings::default()
        };
        let (_host, mut guests) = machines_as(soft_card(2), settings);
        let guest = &mut guests[0];
        let record = Arc::new(Record::default());
        guest.gpu.set_mapper(Some(record.clone()));
        guest.start();
        // Quiet for long enough.
        for value in 0..8 {
            flush(guest);
            guest.release(VA_VRAM, value);
        }
        flush(guest);
        let read_only = |address| {
            let offset = u64::from(PRAMIN.start) + address;
            let pieces = record.0.lock().unwrap();
            let holds = |piece: &&Piece| (piece.offset..piece.offset + piece.len).contains(&offset);
            pieces[&Bar::Bar0]
                .iter()
                .find(holds)
                .map(|piece| piece.read_only)
        };
        assert_eq!(read_only(DIRECTORY), Some(guarded), "{tracking:?}");
        assert_eq!(read_only(RESULT), Some(false), "{tracking:?}");
        // A store that traps is followed, and so is one that does not.
        guest.map(VA_VRAM, Pte::new(Aperture::Vram, RESULT + 0x1000));
        flush(guest);
        guest.release(VA_VRAM, 0x77);
        guest.until("the result", || guest.peek(RESULT + 0x1000) == 0x77);
    }
}

#[test]
fn non_stalling_interrupt_waits_until_its_guest_listens() {
    let (_host, mut guests) = machines(Optimisations::ALL);
    let guest = &mut guests[0];
    let came = |guest: &Guest| guest.get(pfifo::INTR) & pfifo::Intr::ENGINE.bits() != 0;
    guest.start();
    guest.set(pfifo::INTR_EN, !pfifo::Intr::ENGINE.bits());
    guest.interrupt();
    guest.until("the work", || guest.fetched() == 1);
    assert!(!came(guest));
    guest.set(pfifo::INTR_EN, u32::MAX);
    guest.until("the interrupt", || came(guest));
    guest.set(pfifo::ENGINE_INTR, u32::MAX);
    guest.interrupt();
    guest.until("another one", || came(guest));
    assert!(!came(&guests[1]));
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
