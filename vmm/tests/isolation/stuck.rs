//! A channel that the card does not give up: what its machine had goes to nobody until it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gpu_model::{Card, Settings};
use guest::hostile::{Device, Rig};
use mmio::Bar;
use mmio::layout::instance;
use mmio::regs::pfifo::{self, EngState};

use crate::rig::intercept::{Intercept, Intercepted};
use crate::rig::{EACH, Machines, give_ram, soft_card};

/// The engine that hangs, and the unit that faults for it.
const ENGINE: u32 = 4;
const UNIT: u32 = 0x15;
/// No channel.
const NONE: u32 = u32::MAX;

/// An engine that hangs when it is told to: it says that it works for a channel, whatever the channel
/// table says.
struct Hanging {
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

impl Intercept for Hanging {
    fn read(&self, card: &dyn Card, bar: Bar, offset: u64, data: &mut [u8]) {
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
            _ => card.read(bar, offset, data),
        }
    }

    fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        let inject = u64::from(pfifo::VM_FAULT_INJECT.offset() + 4 * ENGINE);
        let fault = (pfifo::INJECT_VALID | UNIT).to_le_bytes();
        if (bar, offset, data) == (Bar::Bar0, inject, &fault) && self.hangs() {
            let mut frozen = [0; 4];
            let freeze = pfifo::ENG_FREEZE.offset().into();
            card.read(Bar::Bar0, freeze, &mut frozen);
            self.frozen
                .store(u32::from_le_bytes(frozen), Ordering::SeqCst);
            if self.yields.load(Ordering::SeqCst) {
                self.on.store(NONE, Ordering::SeqCst);
            }
            return;
        }
        card.write(bar, offset, data);
    }
}

/// Three machines on a card with such an engine.
fn machines() -> (Machines, Arc<Intercepted<Hanging>>) {
    let card = Arc::new(Intercepted {
        card: soft_card(3),
        test: Hanging {
            on: AtomicU32::new(NONE),
            yields: AtomicBool::new(false),
            frozen: AtomicU32::new(0),
        },
    });
    let machines = Machines::on(card.clone(), 3, Settings::default());
    (machines, card)
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

    card.test.hang(machines.part(0).channels.start, true);
    machines.bars[0].0.reset();

    assert_eq!(card.test.frozen.load(Ordering::SeqCst), 1 << ENGINE);
    assert!(!card.test.hangs() && machines.bars[0].0.is_present());
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

    card.test.hang(machines.part(0).channels.start, false);
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
    card.test.on.store(NONE, Ordering::SeqCst);
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

    card.test.hang(machines.part(0).channels.start, false);
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

    card.test.on.store(NONE, Ordering::SeqCst);
    guilty.recovers().unwrap();
}
