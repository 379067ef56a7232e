//! A card whose falcons are empty, as those of a card on the bus are, brought up by what a driver did.

use std::sync::Arc;

use gf100::{Config, Falcons};
use gpu_model::{BringUpError, Card, Host, HostError, Layout, Registers, Settings};
use mmio::bring_up::{Record, Recorder};
use mmio::layout::instance;
use mmio::layout::pagetable::{Aperture, Pte};
use mmio::regs::falcon::{self, offset};
use mmio::regs::{board, pbus, pgraph, pltc, pmc};
use mmio::trace::Observer;
use mmio::{Access, Bar, Direction, RegId, VmId, Width};
use vmm::soft_card::SoftCard;

use super::guest::{CHANNEL, Guest, RESULT, VA_FOREIGN, VA_VRAM, machines_as};
use super::rig::{EACH, soft_card_with, vram_of_all};

/// Firmware: what its code, and what its data are made of, by falcon.
const FECS: [u32; 2] = [0xfec5_0000, 0xfec5_8000];
const GPCCS: [u32; 2] = [0x69cc_0000, 0x69cc_8000];
const COPY: [u32; 2] = [0xc0b1_0000, 0xc0b1_8000];
const WORDS: u32 = 80;
/// A method of the 3D class, and what drivers give it in the first context.
const METHOD: u32 = 1 << 31 | 0x9097 | 0x0d94 << 14;
const OPERATORS: u32 = 0x1234_abcd;
const TENANTS: u32 = 0x5678_abcd;
/// Where a driver has memory that is not the hypervisor's.
const DRIVERS: u32 = 0x3f_f000;
/// The first context of a guest: where it has it.
const CONTEXT: u64 = 0x280_0000;
const VA_CONTEXT: u64 = 0x300_0000;

/// The operator's driver, in short, on a card of its own.
struct Driver {
    card: Arc<dyn Card>,
    recorder: Recorder,
}

impl Driver {
    fn new(card: Arc<dyn Card>) -> Self {
        let recorder = Recorder::default();
        Self { card, recorder }
    }

    fn show(&self, direction: Direction, register: u32, value: u32) {
        let access = Access {
            vm: VmId(0),
            vcpu: 0,
            bar: Bar::Bar0,
            offset: register.into(),
            width: Width::Dword,
            direction,
        };
        self.recorder.observe(&access, value.into());
    }

    fn store(&self, register: u32, value: u32) {
        self.card.store(register, value);
        self.show(Direction::Write, register, value);
    }

    fn set(&self, register: RegId, value: u32) {
        self.store(register.offset(), value);
    }

    fn load(&self, register: u32) {
        self.show(Direction::Read, register, self.card.load(register));
    }

    fn upload(&self, base: u32, [code, data]: [u32; 2]) {
        self.store(base + offset::DMEM_CTRL, falcon::AUTO_INCREMENT_WRITE);
        self.store(base + offset::IMEM_CTRL, falcon::AUTO_INCREMENT_WRITE);
        for word in 0..WORDS {
            self.store(base + offset::DMEM_DATA, data + word);
            if word % 64 == 0 {
                self.store(base + offset::IMEM_TAG, word / 64);
            }
            self.store(base + offset::IMEM_DATA, code + word);
        }
    }

    /// Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_init`, `nvkm/engine/gr/ctxgf100.c
    /// gf100_grctx_generate`, `nvkm/engine/falcon.c nvkm_falcon_init`.
    fn bring_up(&self) {
        self.set(pmc::ENABLE, 0);
        self.set(pmc::ENABLE, u32::MAX);
        for register in [pmc::BOOT_0, board::FBP_COUNT, pgraph::FECS_UNITS] {
            self.load(register.offset());
        }
        pgraph::GPC_TPCS.elements().for_each(|gpc| self.load(gpc));
        self.set(pltc::CBC_BASE, DRIVERS);

        self.set(pgraph::GPC_MMU_DEBUG_WR, DRIVERS);
        self.set(pgraph::GPC_MMU_DEBUG_RD, DRIVERS);
        self.set(pmc::CTXCTL_GATE, 0);
        self.upload(falcon::FECS, FECS);
        self.upload(falcon::GPCCS, GPCCS);
        self.set(pmc::CTXCTL_GATE, 1);
        self.store(falcon::FECS + offset::UC_CTRL, falcon::START);
        self.set(pgraph::FE_PWR_MODE, 0x12);
        self.set(pgraph::FECS_RED_SWITCH, 0x70);
        self.set(pgraph::FECS_WRCMD_DATA, 1 << 31 | DRIVERS);
        self.set(pgraph::FECS_WRCMD_CMD, pgraph::FECS_SET_CHANNEL);
        self.set(pgraph::ATTRIBUTES_GPC, 1 << 31 | DRIVERS);
        self.set(pgraph::ICMD_MODE, 1 << 31);
        self.set(pgraph::ICMD_CMD, pgraph::ICMD_GO_IDLE);
        self.set(pgraph::FE_MTHD_DATA, OPERATORS);
        self.set(pgraph::FE_MTHD, METHOD);
        self.set(pgraph::FECS_CHAN_NEXT, DRIVERS);
        self.store(falcon::FECS + offset::INTR_SET, falcon::CHANNEL_SWITCH);

        self.upload(falcon::CE1, COPY);
        self.store(falcon::CE1 + offset::UC_CTRL, falcon::START);
    }
}

/// What a driver does on a card like that of [`machines`].
fn record() -> Record {
    let driver = Driver::new(soft_card_with(2, Falcons::Empty));
    driver.bring_up();
    let text = driver.recorder.record("a test".into()).text().unwrap();
    Record::parse(text.as_bytes()).unwrap()
}

fn settings(record: Record) -> Settings {
    Settings {
        bring_up: Some(record),
        ..Settings::default()
    }
}

/// The machines on a card that has nothing but what a driver did.
fn machines() -> (Host, Vec<Guest>) {
    machines_as(soft_card_with(2, Falcons::Empty), settings(record()))
}

/// What is in the memory of a falcon behind a port.
fn memory(card: &dyn Card, base: u32, control: u32) -> Vec<u32> {
    card.store(base + control, falcon::AUTO_INCREMENT_READ);
    let data = base + control + (offset::IMEM_DATA - offset::IMEM_CTRL);
    (0..WORDS).map(|_| card.load(data)).collect()
}

fn assert_firmware_of_the_record(card: &dyn Card) {
    for (base, [code, data]) in [
        (falcon::FECS, FECS),
        (falcon::GPCCS, GPCCS),
        (falcon::CE0, COPY),
        (falcon::CE1, COPY),
    ] {
        let words = |first| (first..first + WORDS).collect::<Vec<_>>();
        assert_eq!(memory(card, base, offset::IMEM_CTRL), words(code));
        assert_eq!(memory(card, base, offset::DMEM_CTRL), words(data));
    }
}

fn refusal(card: Arc<dyn Card>, settings: Settings) -> BringUpError {
    let layout = Layout::new(2, EACH, vram_of_all(2)).unwrap();
    match Host::new(card, layout, settings, Vec::new()) {
        Err(HostError::BringUp(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it came up"),
    }
}

#[test]
fn card_without_firmware_is_refused() {
    let error = refusal(soft_card_with(2, Falcons::Empty), Settings::default());

    assert_eq!(error, BringUpError::ContextSwitcher { recorded: false });
    assert!(error.wants_record());
}

#[test]
fn record_of_another_card_is_refused() {
    let config = Config {
        tpcs: vec![4, 4, 4],
        ..Config::quadro_6000(vram_of_all(2))
    };
    let error = refusal(Arc::new(SoftCard::new(config).unwrap()), settings(record()));

    let BringUpError::OtherCard { register, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(register, pgraph::FECS_UNITS);
}

#[test]
fn record_brings_up_all_engines_with_memory_of_the_hypervisors() {
    let (host, mut guests) = machines();
    let card = host.card();

    assert_firmware_of_the_record(&**card);
    assert_eq!(card.get(pltc::CBC_BASE), 0);
    for register in [pgraph::GPC_MMU_DEBUG_WR, pgraph::GPC_MMU_DEBUG_RD] {
        let address = u64::from(card.get(register)) << 8;
        assert!(address >= 2 * EACH, "{address:#x}");
    }
    assert_eq!(card.get(pgraph::ATTRIBUTES_GPC) >> 28, 8);
    for guest in &mut guests {
        guest.start();
        guest.prepare_copies(1);
        guest.copy();
        guest.release(VA_VRAM, 0x77);
        guest.until("the end of a copy", || guest.peek(RESULT) == 0x77);
    }
}

/// Has the guest's driver make a first context at `va`.
fn first_context(guest: &Guest, va: u64) {
    guest.poke(CHANNEL + instance::GR_CONTEXT, va | instance::CONTEXT_VALID);
    let word = pgraph::FECS_CHAN_VALID | (CHANNEL >> 12) as u32;
    guest.set(pgraph::FECS_WRCMD_DATA, word);
    guest.set(pgraph::FECS_WRCMD_CMD, pgraph::FECS_SET_CHANNEL);
    guest.set(pgraph::FE_MTHD_DATA, TENANTS);
    guest.set(pgraph::FE_MTHD, METHOD);
    guest.set(pgraph::FECS_CHAN_NEXT, word & !pgraph::FECS_CHAN_VALID);
    let switch = RegId(falcon::FECS + offset::INTR_SET);
    guest.set(switch, falcon::CHANNEL_SWITCH);
    assert_eq!(guest.get(pgraph::FECS_CHAN) & pgraph::FECS_CHAN_VALID, 0);
}

#[test]
fn each_guest_gets_the_first_context_of_the_record_and_nobody_elses_memory() {
    let (_host, guests) = machines();
    let guest = &guests[0];
    guest.start();
    let size = u64::from(guest.gpu.load(pgraph::FECS_SCRATCH.offset() + 4));
    assert_eq!(size, 0);
    guest.set(RegId(falcon::FECS + offset::UC_CTRL), falcon::START);
    let size = u64::from(guest.gpu.load(pgraph::FECS_SCRATCH.offset() + 4));
    for page in (0..size).step_by(0x1000) {
        guest.map(VA_CONTEXT + page, Pte::new(Aperture::Vram, CONTEXT + page));
    }

    first_context(guest, VA_CONTEXT);

    guest.set(pbus::BAR0_WINDOW, (CONTEXT >> 16) as u32);
    let context: Vec<u32> = (0..size).step_by(4).map(|at| guest.peek(at)).collect();
    assert!(context.contains(&OPERATORS));
    assert!(!context.contains(&TENANTS));
    guest.set(pbus::BAR0_WINDOW, 0);

    first_context(guest, VA_FOREIGN);

    let others: Vec<u32> = (0..0x1000)
        .step_by(4)
        .map(|at| guests[1].peek(at))
        .collect();
    assert!(others.iter().all(|word| *word == 0));
}

#[test]
fn what_a_guest_loads_into_its_falcons_stays_in_its_own() {
    let (host, guests) = machines();
    let guest = &guests[1];
    for base in [falcon::FECS, falcon::GPCCS, falcon::CE0, falcon::CE1] {
        for port in [offset::IMEM_CTRL, offset::DMEM_CTRL] {
            guest.set(RegId(base + port), falcon::AUTO_INCREMENT_WRITE);
            for word in 0..WORDS {
                guest.set(RegId(base + port + 4), !word);
            }
        }
        guest.set(RegId(base + offset::UC_CTRL), falcon::START);
    }

    assert_firmware_of_the_record(&**host.card());
    let own = RegId(falcon::FECS + offset::IMEM_CTRL);
    guest.set(own, falcon::AUTO_INCREMENT_READ);
    assert_eq!(guest.get(RegId(falcon::FECS + offset::IMEM_DATA)), u32::MAX);
}
