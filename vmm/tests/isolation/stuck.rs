//! A channel that the card does not give up: what its machine had goes to nobody until it does.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gpu_model::{Card, Protection, Settings};
use guest::hostile::{Device, Rig};
use mmio::Bar;
use mmio::layout::instance;
use mmio::regs::pfifo::{self, EngState};

use crate::rig::{EACH, Machines, give_ram};

/// The engine that hangs, and the unit that faults for it.
const ENGINE: u32 = 4;
const UNIT: u32 = 0x15;
/// No channel.
const NONE: u32 = u32::MAX;

/// A card with an engine that hangs when it is told to: it says that it works for a channel,
/// whatever the channel table says.
struct Hanging {
    card: Arc<dyn Card>,
    /// The channel, or [`NONE`].
    on: AtomicU32,
    /// A fault makes the engine let go.
    yields: AtomicBool,
    /// Engines that took no methods when the fault came.
    frozen: AtomicU32,
}

impl Hanging {
    fn hang(&self, chid: u32, yields: bool) {
        self.yields.store(yields, Ordering::SeqCst);
        self.on.store(chid, Ordering::SeqCst);
    }

    fn hangs(&self) -> bool {
        self.on.load(Ordering::SeqCst) != NONE
    }
}

impl Card for Hanging {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.card.bar_size(bar)
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        let chid = self.on.load(Ordering::SeqCst);
        let at = u64::from(pfifo::ENG_STATE.offset() + 4 * ENGINE);
        let kick = u64::from(pfifo::KICK.offset());
        match (bar, offset, chid) {
            (Bar::Bar0, offset, chid) if chid != NONE && offset == at => {
                let state = EngState::BUSY | EngState::ON_CHANNEL;
                data.copy_from_slice(&(state.bits() | chid).to_le_bytes());
            }
            (Bar::Bar0, offset, chid) if chid != NONE && offset == kick => {
                data.copy_from_slice(&(pfifo::KICK_PENDING | chid).to_le_bytes());
            }
            _ => self.card.read(bar, offset, data),
        }
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        let inject = u64::from(pfifo::VM_FAULT_INJECT.offset() + 4 * ENGINE);
        let fault = (pfifo::INJECT_VALID | UNIT).to_le_bytes();
        if (bar, offset, data) == (Bar::Bar0, inject, &fault) && self.hangs() {
            let mut frozen = [0; 4];
            let freeze = pfifo::ENG_FREEZE.offset().into();
            self.card.read(Bar::Bar0, freeze, &mut frozen);
            self.frozen
                .store(u32::from_le_bytes(frozen), Ordering::SeqCst);
            if self.yields.load(Ordering::SeqCst) {
                self.on.store(NONE, Ordering::SeqCst);
            }
            return;
        }
        self.card.write(bar, offset, data);
    }

    fn look(&self, chid: u32) {
        self.card.look(chid);
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.card.config_read(offset, data);
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        self.card.dma_map(iova, size, protection, file, offset)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        self.card.dma_unmap(iova, size);
    }

    fn wait_interrupt(&self, at_most: Duration) -> bool {
        self.card.wait_interrupt(at_most)
    }

    fn vram_read(&self, address: u64, data: &mut [u8]) -> bool {
        self.card.vram_read(address, data)
    }

    fn vram_write(&self, address: u64, data: &[u8]) -> bool {
        self.card.vram_write(address, data)
    }

    fn scrub(&self, address: u64, len: u64) -> bool {
        self.card.scrub(address, len)
    }
}

/// Machines on a card of this kind, the first two of which have started and work.
fn machines() -> (Machines, Arc<Hanging>) {
    let mut hanging = None;
    let machines = Machines::behind(Settings::default(), |card| {
        let card = Arc::new(Hanging {
            card,
            on: AtomicU32::new(NONE),
            yields: AtomicBool::new(false),
            frozen: AtomicU32::new(0),
        });
        hanging = Some(card.clone());
        card
    });
    (machines, hanging.unwrap())
}

#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The entries of the directory that the card has for the first channel of a machine.
fn directory(machines: &Machines, machine: usize) -> Vec<u8> {
    let chid = machines.part(machine).channels.start;
    let mut base = [0; 8];
    let at = machines.layout.instance(chid) + instance::PAGE_DIR_BASE;
    machines.host.card().vram_read(at, &mut base);
    let mut entries = vec![0xff; 0x1000];
    let at = u64::from_le_bytes(base) & !0xfff;
    machines.host.card().vram_read(at, &mut entries);
    entries
}

#[test]
fn a_fault_tears_a_channel_off_an_engine_that_nobody_else_gets_meanwhile() {
    let (machines, card) = machines();
    let mut guilty = Rig::new(&machines.bars[0]);
    let mut other = Rig::new(&machines.bars[1]);
    guilty.recovers().unwrap();
    other.recovers().unwrap();

    card.hang(machines.part(0).channels.start, true);
    machines.bars[0].0.reset();

    assert_eq!(card.frozen.load(Ordering::SeqCst), 1 << ENGINE);
    assert!(!card.hangs() && machines.bars[0].0.is_present());
    assert_eq!(other.get(pfifo::VM_FAULT_SOURCE), 0);
    other.works().unwrap();
    Rig::new(&machines.bars[0]).recovers().unwrap();
}

#[test]
fn a_machine_whose_channel_stays_leaves_an_absent_card_until_it_goes() {
    let (machines, card) = machines();
    let mut guilty = Rig::new(&machines.bars[0]);
    let mut other = Rig::new(&machines.bars[1]);
    guilty.recovers().unwrap();
    other.recovers().unwrap();
    let gpu = &machines.bars[0].0;

    card.hang(machines.part(0).channels.start, false);
    gpu.reset();

    assert!(!gpu.is_present());
    let mut id = [0; 4];
    gpu.config_read(0, &mut id);
    assert_eq!(id, [0xff; 4]);
    assert_eq!(machines.bars[0].load(Bar::Bar0, 0), u32::MAX);
    assert!(give_ram(gpu, 0, &[0; 0x1000]).is_err());
    assert!(directory(&machines, 0).iter().all(|byte| *byte == 0));
    other.works().unwrap();

    // What it may have written after all is not found by the next machine.
    let part = machines.part(0).vram;
    machines.host.card().vram_write(part.start, &[0x66; 0x1000]);
    card.on.store(NONE, Ordering::SeqCst);
    until("the card comes back", || gpu.is_present());
    assert!(machines.vram(0, 0, EACH).iter().all(|byte| *byte == 0));
    Rig::new(&machines.bars[0]).recovers().unwrap();
    other.works().unwrap();
}

#[test]
fn the_number_of_a_channel_that_stays_names_no_other() {
    let (machines, card) = machines();
    let mut guilty = Rig::new(&machines.bars[0]);
    guilty.recovers().unwrap();

    card.hang(machines.part(0).channels.start, false);
    guilty.set(pfifo::CHAN, 0);
    assert!(directory(&machines, 0).iter().all(|byte| *byte == 0));
    guilty.bind();

    assert_eq!(guilty.get(pfifo::CHAN) & pfifo::CHAN_VALID, 0);
    let error = guilty.get(pfifo::CHAN_TABLE_ERROR);
    assert_eq!(error, pfifo::CHAN_TABLE_ERROR_ACTIVE);
    assert_ne!(
        guilty.get(pfifo::INTR) & pfifo::Intr::CHAN_TABLE_ERROR.bits(),
        0
    );

    card.on.store(NONE, Ordering::SeqCst);
    guilty.recovers().unwrap();
}
