//! What a channel is told, and what of it is refused.

use mmio::layout::pushbuffer::{Header, IbEntry, Mode, method};
use mmio::layout::userd;
use mmio::regs::pfifo::{self, Intr, PbdmaIntr};
use mmio::regs::pmc::{self};

use crate::rig::{DATA_VA, Rig, bind_copy, copy, incr, semaphore};

#[test]
fn a_fence_reaches_memory_with_its_time_and_interrupts() {
    let mut rig = Rig::new();
    rig.write(pfifo::INTR_EN, 0, !0);
    let mut channel = rig.channel(3);
    rig.write(pfifo::INTR_RUNLIST, 0, !0);
    rig.store(0x14, 0xdead);
    let mut words = vec![0; 32];
    words.extend(incr(0, 0x10, &[(DATA_VA >> 32) as u32, 0x10, 0x1234, 2, 0]));
    channel.push(&rig, &words);
    rig.wait("the fence", || rig.load(0x10) == 0x1234);
    assert_eq!(rig.load(0x14), 0);
    assert_ne!((rig.load(0x18), rig.load(0x1c)), (0, 0));
    rig.wait("the interrupt", || {
        rig.read(pmc::INTR_HOST, 0) & pmc::Intr::PFIFO.bits() != 0
    });
    assert_eq!(rig.read(pfifo::INTR, 0), Intr::ENGINE.bits());
    assert_eq!(rig.read(pfifo::ENGINE_INTR_SOURCE, 0), 1);
    assert_eq!(rig.read(pfifo::ENGINE_INTR, 0), 1);
    rig.write(pfifo::ENGINE_INTR, 0, 1);
    assert_eq!(rig.read(pmc::INTR_HOST, 0), 0);
    channel.finish(&rig);
    assert_eq!(channel.control(&rig, userd::GP_GET), 2);
    assert!(rig.line.count() > 0);
}

#[test]
fn a_copy_goes_through_each_engine() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(0);
    for engine in 0..2 {
        let want = rig.pattern(0x10_0000, 4096 * 5);
        let mut words = bind_copy(4, engine);
        words.extend(copy(4, 0x20_0000 + 3, 0x10_0000, 4096, 5));
        channel.run(&rig, &words);
        assert_eq!(rig.bytes(0x20_0003, want.len()), want);
    }
}

#[test]
fn every_form_of_header_reaches_its_methods() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let high = (DATA_VA >> 32) as u32;
    let release = |offset: u32, form: &dyn Fn(&mut Vec<u32>)| {
        let mut words = incr(0, method::SEMAPHORE_ADDRESS_HIGH, &[high, offset]);
        form(&mut words);
        words
    };
    let short = 0x0100_0002;
    // Increasing.
    channel.run(
        &rig,
        &release(0x100, &|words| {
            words.extend([Header::encode(Mode::Increasing, 7, 0x18, 2), 1, short]);
        }),
    );
    assert_eq!(rig.load(0x100), 1);
    // Non-increasing: the last sequence counts.
    channel.run(
        &rig,
        &release(0x104, &|words| {
            words.extend([Header::encode(Mode::NonIncreasing, 0, 0x18, 3), 8, 9, 2]);
            words.extend(incr(0, 0x1c, &[short]));
        }),
    );
    assert_eq!(rig.load(0x104), 2);
    // Once increasing: all but the first to the next method.
    channel.run(
        &rig,
        &release(0x108, &|words| {
            words.extend([Header::encode(Mode::IncreaseOnce, 0, 0x14, 3), 0x108, 5, 3]);
            words.extend(incr(0, 0x1c, &[short]));
        }),
    );
    assert_eq!(rig.load(0x108), 3);
    // Immediate.
    channel.run(
        &rig,
        &release(0x10c, &|words| {
            words.push(Header::encode_immediate(0, 0x18, 0x1004));
            words.extend(incr(0, 0x1c, &[short]));
        }),
    );
    assert_eq!(rig.load(0x10c), 0x1004);
    // The formats of older cards, increasing and not.
    channel.run(
        &rig,
        &release(0x110, &|words| {
            words.extend([2 << 18 | 0x18, 5, short]);
            words.extend([0x4000_0000 | 2 << 18 | 0x18, 6, 7]);
            words.extend([0x4000_0000 | 1 << 18 | 0x14, 0x114]);
            words.extend(incr(0, 0x1c, &[short]));
        }),
    );
    assert_eq!((rig.load(0x110), rig.load(0x114)), (5, 7));
    // A mask that this card is not in, and one that it is.
    channel.run(
        &rig,
        &release(0x118, &|words| {
            words.push(0x0001_0000 | 2 << 4);
            words.extend(incr(0, 0x18, &[1, short]));
            words.push(0x0001_0000 | 1 << 4);
            words.extend(incr(0, 0x14, &[0x11c, 2, short]));
        }),
    );
    assert_eq!((rig.load(0x118), rig.load(0x11c)), (0, 2));
    // The end of a segment.
    channel.run(
        &rig,
        &release(0x120, &|words| {
            words.push(0xe000_0000);
            words.extend(incr(0, 0x18, &[1, short]));
        }),
    );
    assert_eq!(rig.load(0x120), 0);
}

#[test]
fn a_command_may_continue_in_the_next_segment() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let words = semaphore(0x40, 0x77, 0x0100_0002);
    for word in &words {
        channel.push(&rig, &[*word]);
    }
    channel.finish(&rig);
    assert_eq!(rig.load(0x40), 0x77);
}

#[test]
fn a_software_method_waits_for_software() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let mut words = incr(7, method::OBJECT, &[0x1f_906e]);
    words.extend(incr(7, 0x400, &[0xabcd]));
    words.extend(semaphore(0x40, 1, 0x0100_0002));
    channel.push(&rig, &words);
    for (address, data) in [(0, 0x1f_906e), (0x400, 0xabcd)] {
        let unit = rig.wait_pbdma(PbdmaIntr::SW_MTHD);
        assert_eq!(rig.read(pfifo::PBDMA_INTR_SOURCE, 0), 1 << unit);
        assert_ne!(rig.read(pfifo::INTR, 0) & Intr::PBDMA.bits(), 0);
        let addr = rig.read(pfifo::PBDMA_CACHE_ADDR, unit);
        assert_eq!((addr & 0x3ffc, addr >> 16 & 7), (address, 7));
        assert_eq!(rig.read(pfifo::PBDMA_CACHE_DATA, unit), data);
        assert_eq!(rig.read(pfifo::PBDMA_CH, unit) & 0x7f, 1);
        assert_eq!(rig.load(0x40), 0);
        rig.acknowledge_pbdma(unit);
    }
    rig.wait("the rest", || rig.load(0x40) == 1);
    assert_eq!(rig.read(pfifo::PBDMA_INTR_SOURCE, 0), 0);
}

#[test]
fn errors_of_a_ring_interrupt_and_can_be_passed() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    for (words, bits) in [
        (vec![0xc000_0000], PbdmaIntr::ILLEGAL_CMD),
        (incr(0, 0x38, &[1]), PbdmaIntr::ILLEGAL_MTHD),
        (incr(0, 0x7c, &[1]), PbdmaIntr::MTHD_UNK7C_NONZERO),
        (incr(0, 0x1c, &[0]), PbdmaIntr::ILLEGAL_SEM),
        (incr(3, 0x100, &[0]), PbdmaIntr::SW_MTHD),
    ] {
        channel.push(&rig, &words);
        let unit = rig.wait_pbdma(bits);
        rig.acknowledge_pbdma(unit);
        channel.finish(&rig);
    }
    channel.submit(&rig, IbEntry::new(DATA_VA, 0));
    let unit = rig.wait_pbdma(PbdmaIntr::IB_ENTRY_INVALID);
    rig.acknowledge_pbdma(unit);
    channel.finish(&rig);
    channel.ring(&rig, 0x40);
    let unit = rig.wait_pbdma(PbdmaIntr::IB_PUT_OVERFLOW);
    rig.acknowledge_pbdma(unit);
    channel.finish(&rig);
}

#[test]
fn a_method_that_software_leaves_in_place_is_tried_again() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    channel.push(&rig, &incr(0, 0x38, &[1]));
    for _ in 0..3 {
        let unit = rig.wait_pbdma(PbdmaIntr::ILLEGAL_MTHD);
        rig.write(pfifo::PBDMA_INTR, unit, !0);
    }
    let unit = rig.wait_pbdma(PbdmaIntr::ILLEGAL_MTHD);
    rig.acknowledge_pbdma(unit);
    channel.finish(&rig);
}

#[test]
fn a_refused_copy_method_interrupts_and_then_goes_on() {
    let mut rig = Rig::new();
    // Start the firmware.
    for (register, value) in [(0x104014, !0u32), (0x104100, 2), (0x104048, 3)] {
        rig.card
            .write(mmio::Bar::Bar0, register, &value.to_le_bytes());
    }
    let mut channel = rig.channel(1);
    let mut words = bind_copy(4, 0);
    words.extend(incr(4, 0x308, &[0xabcd]));
    words.extend(incr(4, 0x328, &[0xffff_ffff]));
    words.extend(semaphore(0x40, 1, 0x0100_0002));
    channel.push(&rig, &words);
    for (error, data) in [
        (4 << 27 | 0x308 << 14 | 1, 0xabcd),
        (4 << 27 | 0x328 << 14 | 3, !0),
    ] {
        let ce0 = pmc::Intr::CE0.bits();
        rig.wait("the interrupt", || rig.read(pmc::INTR_HOST, 0) & ce0 != 0);
        assert_eq!(rig.read(mmio::regs::pce::DISPATCH_ERROR, 0), error);
        assert_eq!(rig.read(mmio::regs::pce::DISPATCH_DATA, 0), data);
        let mut inst = [0; 4];
        rig.card.read(mmio::Bar::Bar0, 0x104050, &mut inst);
        assert_eq!(
            u32::from_le_bytes(inst) & 0x3fff_ffff,
            channel.instance().to_channel_word()
        );
        rig.card
            .write(mmio::Bar::Bar0, 0x104004, &0x40u32.to_le_bytes());
    }
    rig.wait("the rest", || rig.load(0x40) == 1);
}

#[test]
fn a_store_at_the_end_of_all_offsets_rings_no_doorbell() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    for offset in [u64::MAX - 3, u64::MAX - 1] {
        rig.card.write(mmio::Bar::Bar1, offset, &[0xff; 4]);
    }
    channel.run(&rig, &semaphore(0x40, 1, 0x0100_0002));
    assert_eq!(rig.load(0x40), 1);
}
