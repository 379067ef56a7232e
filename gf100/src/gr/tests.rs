//! PGRAPH as a driver and PFIFO see it.

use mmio::layout::instance::GR_CONTEXT;
use mmio::regs::pgraph::{Intr, Trap};
use mmio::regs::{falcon, pmc};
use proptest::prelude::*;

use super::bits::macro_error;
use super::*;
use crate::memory::{FaultClient, FaultReason, HubClient, PhysAddr, Tables};
use crate::testing;

/// Where a channel's context is in its address space, and where the memory behind it is.
const CONTEXT: u64 = 0x10_0000;
const CONTEXT_VRAM: u64 = 0x80_0000;
/// Where user data is in the address space, and where the memory behind it is: 1 MiB.
const DATA: u64 = 0x4000_0000;
const DATA_VRAM: u64 = 0x100_0000;
const MIB: u64 = 1 << 20;

const M2MF: u32 = 0x9039;
const THREED: u32 = 0x9097;
const COMPUTE: u32 = 0x90c0;

struct Rig {
    shared: Arc<Shared>,
    pgraph: Pgraph,
    pause: Pause,
}

impl Rig {
    /// A PGRAPH that takes methods.
    fn new() -> Self {
        let shared = testing::shared();
        let rig = Self {
            pgraph: Pgraph::new(shared.clone()),
            shared,
            pause: Pause::default(),
        };
        rig.write(0x400500, 0x0001_0001);
        rig.write(0x40013c, u32::MAX);
        rig
    }

    fn read(&self, offset: u32) -> u32 {
        RegisterMap::gf100()
            .lookup(offset)
            .and_then(|at| self.pgraph.read(at))
            .unwrap_or_else(|| self.shared.registers.read(offset))
    }

    fn write(&self, offset: u32, value: u32) {
        let at = RegisterMap::gf100().lookup(offset);
        match at {
            Some(at) if self.pgraph.write(at, value) => {}
            Some(at) if at.register.kind == mmio::Kind::W1c => {
                self.shared.registers.clear(offset, value);
            }
            _ => self.shared.registers.write(offset, value),
        }
    }

    /// A channel with a context and a megabyte of data, all apart from other channels.
    fn channel(&self, chid: u8) -> ChannelRef {
        let apart = u64::from(chid) * 2 * MIB;
        let mut tables = Tables::new(self.shared.memory.clone(), 0x20_0000 + apart);
        let context = CONTEXT_VRAM + u64::from(chid) * MIB;
        tables.map(CONTEXT, PhysAddr::vram(context), MIB / 2, false);
        tables.map(DATA, PhysAddr::vram(DATA_VRAM + apart), MIB, true);
        let pointer = tables.instance().offset(GR_CONTEXT);
        self.shared.memory.store(pointer, CONTEXT | 4).unwrap();
        ChannelRef {
            chid,
            instance: tables.instance(),
        }
    }

    /// Video memory behind `DATA` of a channel.
    fn data(&self, channel: ChannelRef, offset: u64) -> u32 {
        let apart = u64::from(channel.chid) * 2 * MIB;
        self.shared.memory.vram().load(DATA_VRAM + apart + offset)
    }

    fn set_data(&self, channel: ChannelRef, offset: u64, value: u32) {
        let apart = u64::from(channel.chid) * 2 * MIB;
        self.shared
            .memory
            .vram()
            .store(DATA_VRAM + apart + offset, value);
    }

    fn method(&self, subchannel: u8, address: u16, data: u32) -> Result<(), Stop> {
        let method = Method {
            subchannel,
            address,
            data,
        };
        self.pgraph.method(method, &self.pause)
    }

    /// Consecutive methods, none of which stops.
    fn methods(&self, subchannel: u8, first: u16, data: &[u32]) {
        for (address, &data) in (first..).step_by(4).zip(data) {
            self.method(subchannel, address, data).unwrap();
        }
    }

    /// A current channel with M2MF on subchannel 2 and 3D on 0.
    fn current(&self) -> ChannelRef {
        let channel = self.channel(1);
        self.pgraph.switch_to(channel).unwrap();
        self.method(2, 0, M2MF).unwrap();
        self.method(0, 0, THREED).unwrap();
        channel
    }

    fn interrupts(&self) -> Intr {
        Intr::from_bits_retain(self.read(0x400100))
    }

    /// What the driver's handler does at its end.
    fn acknowledge(&self, what: Intr) {
        self.write(0x400100, what.bits());
        self.write(0x400500, 0x0001_0001);
    }

    /// The register traffic by which nouveau builds the first context of all, on `channel`.
    fn golden_context(&self, channel: ChannelRef) {
        self.write(0x404170, 0x12);
        assert_eq!(self.read(0x404170) & 0x10, 0);
        self.write(0x409614, 0x70);
        self.write(0x409840, 0x8000_0000);
        self.write(0x409500, 1 << 31 | channel.instance.to_channel_word());
        self.write(0x409504, 1);
        assert_ne!(self.read(0x409800) & 1 << 31, 0);
        assert_ne!(self.read(0x409b00) & 1 << 31, 0);
        self.write(0x40448c, 0x1234);
        self.write(0x404488, 1 << 31 | THREED | 0x0d94 << 14);
        self.write(0x40448c, 0x5678);
        self.write(0x404488, 1 << 31 | COMPUTE | 0x0758 << 14);
        self.write(0x409b04, self.read(0x409b04) & !(1 << 31));
        self.write(0x409000, 0x100);
        assert_eq!(self.read(0x409b00) & 1 << 31, 0);
    }
}

#[test]
fn the_board_shows_its_units() {
    let rig = Rig::new();
    assert_eq!(rig.read(0x409604) & 0x1f, 4);
    let tpcs: Vec<_> = (0..5)
        .map(|gpc| rig.read(0x502608 + 0x8000 * gpc))
        .collect();
    assert_eq!(tpcs, [4, 4, 3, 3, 0]);
}

#[test]
fn starting_the_firmware_announces_the_context_size() {
    let rig = Rig::new();
    rig.write(falcon::FECS + 0x1c0, 0x0100_0000);
    rig.write(falcon::FECS + 0x1c4, 7);
    rig.write(falcon::FECS + 0x1c0, 0x0200_0000);
    assert_eq!(rig.read(falcon::FECS + 0x1c4), 7);
    assert_eq!(rig.read(0x409800), 0);
    rig.write(0x40910c, 0);
    rig.write(0x409100, 2);
    assert_ne!(rig.read(0x409800) & 1 << 31, 0);
    assert_eq!(rig.read(0x409804), context::SIZE);
}

#[test]
fn a_channel_starts_with_the_methods_of_the_golden_context() {
    let rig = Rig::new();
    let golden = rig.channel(0);
    rig.golden_context(golden);
    let user = rig.channel(1);
    let vram = rig.shared.memory.vram();
    let mut image = vec![0; context::SIZE as usize];
    vram.read(CONTEXT_VRAM, &mut image);
    vram.write(CONTEXT_VRAM + MIB, &image);
    // The driver's list of registers: one of a context, and one that is not a context's to set.
    vram.store(CONTEXT_VRAM + MIB, 2u32);
    vram.store(CONTEXT_VRAM + MIB + 4, (DATA >> 8) as u32);
    for (word, value) in [0x408004, 0xabcd, 0x400100, 0xff].into_iter().enumerate() {
        rig.set_data(user, word as u64 * 4, value);
    }
    rig.pgraph.switch_to(user).unwrap();
    assert_eq!(rig.read(0x408004), 0xabcd);
    assert_eq!(rig.interrupts(), Intr::empty());
    assert_eq!(vram.load::<u32>(CONTEXT_VRAM + MIB), 0);
    assert_eq!(
        rig.read(0x409b00),
        1 << 31 | user.instance.to_channel_word()
    );
    let exec = rig.pgraph.exec();
    assert_eq!(exec.peek(classes::Class::ThreeD, 0x0d94), 0x1234);
    assert_eq!(exec.peek(classes::Class::Compute, 0x0758), 0x5678);
}

#[test]
fn nvidias_firmware_answers_its_commands() {
    let rig = Rig::new();
    rig.write(0x409100, 2);
    assert_ne!(rig.read(0x409800) & 1, 0);
    for (command, reply) in [
        (0x10, context::SIZE),
        (0x16, 0x100),
        (0x25, 0x100),
        (0x30, 0x100),
    ] {
        rig.write(0x409840, u32::MAX);
        rig.write(0x409504, command);
        assert_eq!(rig.read(0x409800), reply, "command {command:#x}");
    }
    for command in [0x38, 0x39] {
        rig.write(0x409804, u32::MAX);
        rig.write(0x409504, command);
        assert_eq!(rig.read(0x409804), 1);
    }
    rig.write(0x409c24, u32::MAX);
    rig.write(0x409504, 0x77);
    assert_eq!(rig.interrupts(), Intr::CTXCTL_UP);
    assert_eq!(rig.read(0x409814), 0x77_0001);
    rig.write(0x409c20, 1);
    assert_eq!(rig.read(0x409c18), 0);
}

#[test]
fn a_context_without_memory_faults_as_the_context_switcher() {
    let rig = Rig::new();
    let channel = rig.channel(1);
    let pointer = channel.instance.offset(GR_CONTEXT);
    rig.shared.memory.store(pointer, 0u64).unwrap();
    let Err(Stop::Fault(report)) = rig.pgraph.switch_to(channel) else {
        panic!("no fault");
    };
    assert_eq!(report.client, FaultClient::Hub(HubClient::Ctxctl));
    assert_eq!(report.instance, Some(channel.instance));
    assert_eq!(rig.read(0x409b00), 0);
}

#[test]
fn each_channel_has_its_own_state() {
    let rig = Rig::new();
    let [one, two] = [rig.channel(1), rig.channel(2)];
    for (channel, value) in [(one, 11), (two, 22)] {
        rig.pgraph.switch_to(channel).unwrap();
        rig.method(0, 0, THREED).unwrap();
        rig.method(0, 0x0d94, value).unwrap();
        // Macro 3 sends 0x0d98... what its parameter is, once it comes.
        rig.methods(0, 0x114, &[0, 0x0001_0021 | 0x0365 << 14]);
        rig.methods(0, 0x11c, &[3, 0]);
    }
    for (channel, value) in [(one, 11), (two, 22)] {
        rig.pgraph.switch_to(channel).unwrap();
        assert_eq!(
            rig.pgraph.exec().peek(classes::Class::ThreeD, 0x0d94),
            value
        );
        assert_eq!(rig.read(0x404200), THREED);
        assert_eq!(rig.read(0x404204), 0);
    }
}

#[test]
fn m2mf_copies_lines_with_their_pitches() {
    let rig = Rig::new();
    let channel = rig.current();
    for word in 0..64 {
        rig.set_data(channel, word * 4, word as u32);
    }
    let [from, to] = [DATA, DATA + 0x1000];
    rig.methods(2, 0x238, &[(to >> 32) as u32, to as u32]);
    rig.methods(
        2,
        0x30c,
        &[(from >> 32) as u32, from as u32, 16, 0x20, 12, 3],
    );
    rig.method(2, 0x300, 0x100110).unwrap();
    for line in 0..3 {
        for word in 0..3 {
            let copied = rig.data(channel, 0x1000 + line * 0x20 + word * 4);
            assert_eq!(copied, (line * 4 + word) as u32);
        }
        assert_eq!(rig.data(channel, 0x1000 + line * 0x20 + 12), 0);
    }
}

#[test]
fn m2mf_takes_inline_data_and_reports() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.methods(2, 0x238, &[(DATA >> 32) as u32, DATA as u32]);
    rig.methods(2, 0x318, &[0x10, 6, 2]);
    let report = DATA + 0x100;
    rig.methods(2, 0x32c, &[(report >> 32) as u32, report as u32, 77]);
    rig.method(2, 0x300, 0x10_2111).unwrap();
    for (n, data) in [0x0403_0201, 0x6605, 0x1413_1211, 0x1615]
        .into_iter()
        .enumerate()
    {
        assert_eq!(rig.data(channel, 0x100), 0, "before word {n}");
        rig.method(2, 0x304, data).unwrap();
    }
    let words = [0, 4, 0x10, 0x14, 0x100].map(|at| rig.data(channel, at));
    assert_eq!(words, [0x0403_0201, 0x6605, 0x1413_1211, 0x1615, 77]);
    assert_eq!(rig.method(2, 0x304, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x400108), Trap::M2MF.bits());
    assert_eq!(rig.read(0x404600) & 3, 1);
}

#[test]
fn a_copy_that_was_paused_goes_on_after_another_channels_turn() {
    let rig = Rig::new();
    let other = rig.channel(2);
    let channel = rig.current();
    rig.set_data(channel, 0x4_fffc, 0xdead_beef);
    let [from, to] = [DATA, DATA + 0x8_0000];
    rig.methods(2, 0x238, &[(to >> 32) as u32, to as u32]);
    rig.methods(
        2,
        0x30c,
        &[(from >> 32) as u32, from as u32, 0, 0, 0x5_0000, 1],
    );
    rig.pause.ask();
    assert_eq!(rig.method(2, 0x300, 0x100110), Err(Stop::Paused));
    rig.pause.clear();
    rig.pgraph.switch_to(other).unwrap();
    rig.method(2, 0, M2MF).unwrap();
    rig.pgraph.resume(&rig.pause).unwrap();
    rig.pgraph.switch_to(channel).unwrap();
    assert_eq!(rig.data(channel, 0x8_0000 + 0x4_fffc), 0);
    rig.pgraph.resume(&rig.pause).unwrap();
    assert_eq!(rig.data(channel, 0x8_0000 + 0x4_fffc), 0xdead_beef);
}

#[test]
fn a_bad_address_is_a_fault_of_pgraph_and_the_next_method_works() {
    let rig = Rig::new();
    rig.current();
    rig.methods(2, 0x238, &[0x50, 0]);
    rig.methods(2, 0x30c, &[(DATA >> 32) as u32, DATA as u32, 0, 0, 4, 1]);
    let Err(Stop::Fault(report)) = rig.method(2, 0x300, 0x100110) else {
        panic!("no fault");
    };
    assert_eq!(report.fault.va, 0x50_0000_0000);
    assert_eq!(report.fault.reason, FaultReason::PtNotPresent);
    rig.methods(2, 0x238, &[(DATA >> 32) as u32, DATA as u32 + 0x100]);
    rig.method(2, 0x300, 0x100110).unwrap();
}

#[test]
fn unknown_classes_and_methods_stop_until_acknowledged() {
    let rig = Rig::new();
    let channel = rig.current();
    for (address, data, what) in [
        (0, 0x5039, Intr::ILLEGAL_CLASS),
        (0x1528, 1, Intr::ILLEGAL_MTHD),
    ] {
        assert_eq!(rig.method(0, address, data), Err(Stop::Trapped));
        assert!(rig.pgraph.stalled());
        assert_eq!(rig.interrupts(), what);
        assert_ne!(rig.shared.interrupts.status() & pmc::Intr::PGRAPH.bits(), 0);
        assert_eq!(rig.read(0x400704), u32::from(address));
        assert_eq!(rig.read(0x400708), data);
        assert_eq!(rig.read(0x404200), THREED);
        let instance = PhysAddr::from_channel_word(rig.read(0x409b00) & 0x0fff_ffff);
        assert_eq!(instance, Some(channel.instance));
        rig.acknowledge(what);
        assert!(!rig.pgraph.stalled());
        assert_eq!(rig.shared.interrupts.status(), 0);
    }
    assert_eq!(rig.method(5, 0x100, 0), Err(Stop::Trapped));
}

#[test]
fn an_acknowledgement_wakes_pfifo() {
    let rig = Rig::new();
    let woken = Arc::new(AtomicBool::new(false));
    let flag = woken.clone();
    rig.pgraph
        .connect(Waker::new(move || flag.store(true, Ordering::Release)));
    rig.acknowledge(Intr::empty());
    assert!(woken.load(Ordering::Acquire));
}

#[test]
fn queries_and_constants_reach_memory() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.methods(
        0,
        0x1b00,
        &[(DATA >> 32) as u32, DATA as u32, 5, 0x1000_f010],
    );
    assert_eq!(rig.data(channel, 0), 5);
    let long = DATA as u32 + 0x10;
    rig.methods(0, 0x1b00, &[(DATA >> 32) as u32, long, 6, 0x0000_5002]);
    assert_eq!((rig.data(channel, 0x10), rig.data(channel, 0x14)), (6, 0));
    assert_ne!(rig.data(channel, 0x18), 0);
    let buffer = DATA as u32 + 0x100;
    rig.methods(0, 0x2380, &[0x100, (DATA >> 32) as u32, buffer, 8]);
    rig.method(0, 0x2390, 21).unwrap();
    rig.method(0, 0x2390, 22).unwrap();
    assert_eq!(
        (rig.data(channel, 0x108), rig.data(channel, 0x10c)),
        (21, 22)
    );
}

/// Loads `code` as macro 0 of the current channel.
fn load_macro(rig: &Rig, code: &[u32]) {
    rig.method(0, 0x114, 0).unwrap();
    for &word in code {
        rig.method(0, 0x118, word).unwrap();
    }
    rig.methods(0, 0x11c, &[0, 0]);
}

/// Puts its argument and its parameter into the first two scratch registers.
const STORE_TWO: [u32; 5] = [
    0x0d00 << 14 | 1 << 26 | 0x21, // maddr 0x1d00
    0x0841,                        // send $r1
    0x0000_0301,                   // parm $r3
    0x18c1,                        // exit send $r3
    0x0000_0011,                   // nop
];

#[test]
fn a_macro_waits_for_its_parameter_across_a_switch() {
    let rig = Rig::new();
    let other = rig.channel(2);
    let channel = rig.current();
    load_macro(&rig, &STORE_TWO);
    rig.method(0, 0x3800, 31).unwrap();
    rig.pgraph.switch_to(other).unwrap();
    rig.pgraph.switch_to(channel).unwrap();
    rig.method(0, 0x3804, 32).unwrap();
    let exec = rig.pgraph.exec();
    let scratch = [0x3400, 0x3404].map(|at| exec.peek(classes::Class::ThreeD, at));
    assert_eq!(scratch, [31, 32]);
}

#[test]
fn macro_calls_with_a_wrong_number_of_parameters_trap() {
    let rig = Rig::new();
    rig.current();
    load_macro(&rig, &STORE_TWO);
    rig.method(0, 0x3800, 1).unwrap();
    assert_eq!(rig.method(0, 0x100, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x404490), macro_error::TOO_FEW_PARAMS);
    rig.write(0x404490, 0xc000_0000);
    assert_eq!(rig.read(0x404490), 0x4000_0000);
    assert_eq!(rig.method(0, 0x3804, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x404490) & 0x1f, macro_error::TOO_MANY_PARAMS);
    assert_eq!(rig.read(0x400108), Trap::MACRO.bits());
}

#[test]
fn a_macro_without_end_is_stopped() {
    let rig = Rig::new();
    rig.current();
    load_macro(&rig, &[0x27]); // bra annul to itself
    assert_eq!(rig.method(0, 0x3800, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x404490), macro_error::WATCHDOG);
    assert_eq!(rig.read(0x404494), 1 << 28);
    assert_eq!(rig.read(0x40449c), 0x27);
    rig.method(0, 0x100, 0).unwrap();
}

#[test]
fn reset_forgets_contexts_and_registers() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.method(0, 0x0d94, 1).unwrap();
    Block::reset(&rig.pgraph);
    assert!(rig.pgraph.stalled());
    assert_eq!(rig.read(0x404200), 0);
    rig.pgraph.switch_to(channel).unwrap();
    assert_eq!(rig.pgraph.exec().peek(classes::Class::ThreeD, 0x0d94), 0);
}

/// What a pushbuffer may send: mostly methods that act, on subchannels that have a class.
fn any_method() -> impl Strategy<Value = Method> {
    let acting = proptest::sample::select(vec![
        0x000, 0x10c, 0x114, 0x118, 0x11c, 0x120, 0x204, 0x228, 0x22c, 0x238, 0x23c, 0x300, 0x304,
        0x30c, 0x310, 0x314, 0x31c, 0x320, 0x344, 0x1694, 0x1b0c, 0x238c, 0x2390, 0x2404, 0x2410,
        0x3800, 0x3804, 0x3808, 0x0804, 0x0808, 0x080c, 0x0810, 0x0814, 0x0ff4, 0x0ff8, 0x1538,
        0x19d0,
    ]);
    let address = prop_oneof![4 => acting, 1 => (0u16..0x1000).prop_map(|word| word * 4)];
    let class = proptest::sample::select(vec![0x902d, M2MF, THREED, COMPUTE, 0x1f906e]);
    let data = prop_oneof![
        any::<u32>(),
        0u32..0x400,
        class,
        Just(DATA as u32),
        Just(0x100110)
    ];
    (0u8..4, address, data).prop_map(|(subchannel, address, data)| Method {
        subchannel,
        address,
        data,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_stream_of_methods_is_survived(
        methods in proptest::collection::vec((any_method(), any::<bool>()), 0..200),
    ) {
        let rig = Rig::new();
        let [one, two] = [rig.channel(1), rig.channel(2)];
        for (subchannel, class) in [(0, THREED), (1, COMPUTE), (2, M2MF), (3, 0x902d)] {
            for channel in [one, two] {
                rig.pgraph.switch_to(channel).unwrap();
                rig.method(subchannel, 0, class).unwrap();
            }
        }
        // A transfer may be endless, so each is parked at once.
        rig.pause.ask();
        for (method, first) in methods {
            let channel = if first { one } else { two };
            rig.pgraph.switch_to(channel).unwrap();
            match rig.pgraph.method(method, &rig.pause) {
                Ok(()) => {}
                Err(Stop::Trapped) => rig.acknowledge(rig.interrupts()),
                Err(Stop::Fault(_) | Stop::Paused) => rig.pgraph.discard(channel),
            }
        }
    }

    #[test]
    fn a_tiled_surface_survives_a_round_trip(
        blocks in 0u32..6,
        (x, y, width, lines) in (0u32..70, 0u32..40, 1u32..80, 1u32..40),
    ) {
        let rig = Rig::new();
        let channel = rig.current();
        let size = width * lines;
        for word in 0..size.div_ceil(4) {
            rig.set_data(channel, u64::from(word) * 4, word.wrapping_mul(0x9e37_79b1));
        }
        let high = (DATA >> 32) as u32;
        let [linear, tiled, back] = [0, 0x4_0000, 0x8_0000].map(|at| DATA as u32 + at);
        let layout = [blocks << 4, 160, 80, 1, 0];
        rig.methods(2, 0x204, &layout);
        rig.methods(2, 0x220, &layout);
        rig.methods(2, 0x344, &[x, y, x, y]);
        rig.methods(2, 0x30c, &[high, linear, width, width, width, lines]);
        rig.methods(2, 0x238, &[high, tiled]);
        rig.method(2, 0x300, 0x10_0010).unwrap();
        rig.methods(2, 0x30c, &[high, tiled]);
        rig.methods(2, 0x238, &[high, back]);
        rig.method(2, 0x300, 0x10_0100).unwrap();
        let bytes = |at: u64| {
            let mut bytes = vec![0; size as usize];
            rig.shared.memory.vram().read(DATA_VRAM + 2 * MIB + at, &mut bytes);
            bytes
        };
        prop_assert_eq!(bytes(0), bytes(0x8_0000));
    }
}

#[test]
fn inline_data_goes_to_where_the_tiles_are() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.methods(2, 0x238, &[(DATA >> 32) as u32, DATA as u32]);
    rig.methods(2, 0x220, &[0x10, 128, 32, 1, 0]);
    rig.methods(2, 0x34c, &[68, 9]);
    rig.methods(2, 0x31c, &[4, 1]);
    rig.method(2, 0x300, 0x10_0011).unwrap();
    rig.method(2, 0x304, 0xcafe_f00d).unwrap();
    // The second block of two GOBs, its second GOB, row 1, byte 4.
    assert_eq!(rig.data(channel, 2 * 512 + 512 + 0x10 + 4), 0xcafe_f00d);
}

#[test]
fn bindings_are_of_their_channel_and_stage() {
    let rig = Rig::new();
    rig.current();
    rig.method(1, 0, COMPUTE).unwrap();
    rig.method(1, 0x228, 1 | 15 << 4 | 3 << 12).unwrap();
    assert_eq!(rig.method(1, 0x228, 1 | 16 << 4), Err(Stop::Trapped));
    assert_eq!(rig.interrupts(), Intr::DATA_ERROR);
    assert_eq!(rig.read(0x400110), 4);
}

/// A clear of render target 0: its seven methods, the screen, and the four components.
fn clear(rig: &Rig, target: &[u32; 7], screen: [u32; 2], color: [u32; 4]) {
    rig.methods(0, 0x0d80, &color);
    rig.methods(0, 0x0ff4, &screen);
    rig.methods(0, 0x0800, &[(DATA >> 32) as u32]);
    rig.methods(0, 0x0804, target);
    rig.method(0, 0x19d0, 0x3c).unwrap();
}

#[test]
fn a_buffer_is_filled_by_clearing_it_as_a_linear_target() {
    let rig = Rig::new();
    let channel = rig.current();
    let target = [DATA as u32 + 0x100, 0x400, 3, 0xe4, 1 << 12, 1, 0];
    clear(
        &rig,
        &target,
        [0x100 << 16, 3 << 16],
        [0xdead_beef, 0, 0, 0],
    );
    let filled: Vec<_> = (0..0x400).map(|word| rig.data(channel, word * 4)).collect();
    for (word, value) in filled.into_iter().enumerate() {
        let inside = (0x40..0x340).contains(&word);
        assert_eq!(
            value,
            if inside { 0xdead_beef } else { 0 },
            "word {word:#x}"
        );
    }
}

#[test]
fn a_clear_stays_in_its_windows_and_channels() {
    let rig = Rig::new();
    let channel = rig.current();
    for word in 0..64 {
        rig.set_data(channel, word * 4, 0x1111_1111);
    }
    rig.methods(0, 0x10f8, &[0x100]);
    rig.methods(0, 0x0e00, &[1, 2 | 4 << 16, 1 << 16]);
    rig.methods(0, 0x0d80, &[1f32.to_bits(), 0, 0, 0]);
    rig.methods(0, 0x0ff4, &[8 << 16, 8 << 16]);
    let high = (DATA >> 32) as u32;
    rig.methods(
        0,
        0x0800,
        &[high, DATA as u32, 32, 8, 0xd5, 1 << 12, 1, 0, 0],
    );
    // Red and alpha, of which only columns 2 and 3 of row 0.
    rig.method(0, 0x19d0, 0x24).unwrap();
    let row: Vec<_> = (0..8).map(|word| rig.data(channel, word * 4)).collect();
    let (old, new) = (0x1111_1111, 0x0011_11ff);
    assert_eq!(row, [old, old, new, new, old, old, old, old]);
    assert_eq!(rig.data(channel, 32), old);
}

#[test]
fn a_layer_of_a_tiled_target_is_cleared_alone() {
    let rig = Rig::new();
    let channel = rig.current();
    // Layers of one GOB: 16 pixels by 8 rows.
    let high = (DATA >> 32) as u32;
    rig.methods(0, 0x0ff4, &[16 << 16, 8 << 16]);
    rig.methods(0, 0x0d80, &[7, 0, 0, 0]);
    rig.methods(
        0,
        0x0800,
        &[high, DATA as u32, 16, 8, 0xe4, 0, 4, 512 / 4, 1],
    );
    rig.method(0, 0x19d0, 0x3c | 1 << 10).unwrap();
    for layer in 0..4 {
        let words = (0..128).map(|word| rig.data(channel, layer * 512 + word * 4));
        assert!(
            words
                .into_iter()
                .all(|word| word == if layer == 2 { 7 } else { 0 })
        );
    }
}

#[test]
fn depth_is_cleared_without_the_stencil_beside_it() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.set_data(channel, 0, 0xab00_0000);
    rig.methods(0, 0x0ff4, &[1 << 16, 1 << 16]);
    rig.methods(0, 0x0d90, &[1f32.to_bits()]);
    rig.methods(0, 0x0fe0, &[(DATA >> 32) as u32, DATA as u32, 0x16, 0, 0]);
    rig.methods(0, 0x1228, &[1, 1, 1]);
    rig.method(0, 0x1538, 1).unwrap();
    rig.method(0, 0x19d0, 1).unwrap();
    assert_eq!(rig.data(channel, 0), 0xabff_ffff);
}

#[test]
fn a_condition_that_does_not_hold_stops_a_clear() {
    let rig = Rig::new();
    let channel = rig.current();
    let at = DATA as u32 + 0x1000;
    rig.methods(0, 0x1550, &[(DATA >> 32) as u32, at, 4]);
    let target = [DATA as u32, 0x100, 1, 0xe4, 1 << 12, 1, 0];
    clear(&rig, &target, [1 << 16, 1 << 16], [5, 0, 0, 0]);
    assert_eq!(rig.data(channel, 0), 0);
    rig.set_data(channel, 0x1010, 1);
    clear(&rig, &target, [1 << 16, 1 << 16], [5, 0, 0, 0]);
    assert_eq!(rig.data(channel, 0), 5);
}

#[test]
fn a_clear_of_an_unknown_format_is_a_data_error() {
    let rig = Rig::new();
    rig.current();
    rig.method(0, 0x0810, 0x42).unwrap();
    assert_eq!(rig.method(0, 0x19d0, 0x3c), Err(Stop::Trapped));
    assert_eq!(rig.read(0x400110), 5);
}

/// A blit from one linear surface to another: format, pitch, width, height and place of each.
fn blit(rig: &Rig, from: [u32; 5], to: [u32; 5], rect: [u32; 4], step: [u32; 4], src: [u32; 4]) {
    rig.method(3, 0, 0x902d).unwrap();
    rig.method(3, 0x2ac, 3).unwrap();
    for (first, [format, pitch, width, height, place]) in [(0x200, to), (0x230, from)] {
        rig.methods(3, first, &[format, 1]);
        let address = [(DATA >> 32) as u32, DATA as u32 + place];
        rig.methods(
            3,
            first + 0x14,
            &[pitch, width, height, address[0], address[1]],
        );
    }
    rig.methods(3, 0x8b0, &rect);
    rig.methods(3, 0x8c0, &step);
    rig.methods(3, 0x8d0, &src);
}

#[test]
fn a_blit_copies_a_rectangle_and_changes_its_format() {
    let rig = Rig::new();
    let channel = rig.current();
    for word in 0..16 {
        rig.set_data(channel, word * 4, 0x0102_0300 + word as u32);
    }
    let from = [0xd5, 16, 4, 4, 0];
    let to = [0xcf, 16, 4, 4, 0x1000];
    blit(&rig, from, to, [1, 2, 2, 1], [0, 1, 0, 1], [0, 2, 0, 1]);
    let row: Vec<_> = (8..12)
        .map(|word| rig.data(channel, 0x1000 + word * 4))
        .collect();
    assert_eq!(row, [0, 0x0106_0302, 0x0107_0302, 0]);
}

#[test]
fn a_blit_scales_by_the_nearest_pixel_or_by_weight() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.shared
        .memory
        .vram()
        .write(DATA_VRAM + 2 * MIB, &[0, 100, 200]);
    let from = [0xf3, 16, 3, 1, 0];
    let to = [0xf3, 16, 6, 1, 0x1000];
    let half = [1 << 31, 0, 0, 1];
    blit(&rig, from, to, [0, 0, 6, 1], half, [0; 4]);
    assert_eq!(
        rig.data(channel, 0x1000),
        u32::from_le_bytes([0, 0, 100, 100])
    );
    rig.method(3, 0x88c, 0x10).unwrap();
    blit(&rig, from, to, [0, 0, 6, 1], half, [0; 4]);
    assert_eq!(
        rig.data(channel, 0x1000),
        u32::from_le_bytes([0, 25, 75, 125])
    );
    assert_eq!(
        rig.data(channel, 0x1004) & 0xffff,
        u32::from_le_bytes([175, 200, 0, 0])
    );
}
