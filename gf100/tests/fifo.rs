//! PFIFO from a driver's side.

mod rig;

use std::time::{Duration, Instant};

use mmio::layout::pushbuffer::{Header, IbEntry, Mode, method};
use mmio::layout::userd;
use mmio::regs::pfifo::{self, EngState, Intr, PbdmaIntr};
use mmio::regs::pmc::{self, Enable};

use rig::{DATA_VA, Rig, bind_copy, copy, incr, semaphore};

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
fn an_acquire_waits_for_another_channel() {
    for (trigger, first, last) in [
        (1, 4, 5),
        (4, 4, 6),
        (8, 2, 4),
        (0x1001, 4, 5),
        (0x1004, 4, 6),
    ] {
        let mut rig = Rig::new();
        let (mut waiter, mut other) = (rig.channel(1), rig.channel(2));
        rig.store(0x80, first);
        let mut words = semaphore(0x80, if trigger == 8 { 4 } else { 5 }, trigger);
        words.extend(semaphore(0x90, 1, 0x0100_0002));
        waiter.push(&rig, &words);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.load(0x90), 0);
        other.run(&rig, &semaphore(0x80, last, 0x0100_0002));
        rig.wait("the acquire", || rig.load(0x90) == 1);
    }
}

#[test]
fn an_acquire_sees_what_the_cpu_writes() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let mut words = semaphore(0x80, 5, 0x1004);
    words.extend(semaphore(0x90, 1, 0x0100_0002));
    channel.push(&rig, &words);
    rig.wait("the channel to wait", || {
        rig.read(pfifo::CHAN_STATE, 1) & 1 << 4 != 0
    });
    rig.store(0x80, 9);
    rig.wait("the acquire", || rig.load(0x90) == 1);
}

#[test]
fn many_blocked_channels_leave_room_for_one_that_runs() {
    let mut rig = Rig::new();
    for trigger in [1, 0x1001] {
        let mut blocked: Vec<_> = (1..8).map(|chid| rig.channel(chid)).collect();
        for channel in &mut blocked {
            let mut words = semaphore(0x80, 1, trigger);
            words.extend(semaphore(
                0x100 + 4 * u64::from(channel.chid),
                1,
                0x0100_0002,
            ));
            channel.push(&rig, &words);
        }
        let mut free = rig.channel(9);
        free.run(&rig, &semaphore(0x80, 1, 0x0100_0002));
        for channel in &mut blocked {
            channel.finish(&rig);
            assert_eq!(rig.load(0x100 + 4 * u64::from(channel.chid)), 1);
            rig.remove(channel);
        }
        rig.remove(&free);
        rig.store(0x80, 0);
    }
}

#[test]
fn an_acquire_times_out_as_configured() {
    let mut rig = Rig::new();
    let mut channel = rig.prepare(1);
    // 2000 units of 1024 ns.
    let vram = rig.card.memory().vram();
    vram.store(
        channel.instance().address + 0x30,
        1u32 << 31 | 2000 << 15 | 2,
    );
    rig.bind(&channel);
    rig.set_runlist(&[1]);
    let begin = Instant::now();
    channel.push(&rig, &semaphore(0x80, 5, 0x1001));
    let unit = rig.wait_pbdma(PbdmaIntr::SEM_TIMEOUT);
    assert!(begin.elapsed() >= Duration::from_micros(2000));
    rig.acknowledge_pbdma(unit);
    channel.finish(&rig);
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
fn a_kick_during_a_long_copy_loses_nothing() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let want = rig.pattern(0, 8 << 20);
    let mut words = bind_copy(4, 0);
    // The same copy again and again, so that kicks find it at work.
    for _ in 0..8 {
        words.extend(copy(4, 16 << 20, 0, 8192, 1024));
    }
    channel.push(&rig, &words);
    for _ in 0..50 {
        rig.kick(1);
        std::thread::sleep(Duration::from_micros(300));
    }
    channel.finish(&rig);
    assert_eq!(rig.bytes(16 << 20, want.len()), want);
}

#[test]
fn a_channel_that_leaves_the_runlist_goes_on_when_it_comes_back() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let want = rig.pattern(0, 8 << 20);
    let mut words = bind_copy(4, 1);
    for _ in 0..4 {
        words.extend(copy(4, 16 << 20, 0, 8192, 1024));
    }
    words.extend(semaphore(0x1f0_0000, 1, 0x0100_0002));
    channel.push(&rig, &words);
    rig.set_runlist(&[]);
    assert_eq!(rig.read(pfifo::CHAN_STATE, 1) & 1 << 12, 0);
    let stopped = rig.load(0x1f0_0000);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(rig.load(0x1f0_0000), stopped);
    rig.set_runlist(&[1]);
    channel.finish(&rig);
    assert_eq!(rig.load(0x1f0_0000), 1);
    assert_eq!(rig.bytes(16 << 20, want.len()), want);
}

#[test]
fn a_channel_that_may_not_run_waits() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    rig.write(pfifo::CHAN_STATE, 1, 0x001f_0000);
    channel.push(&rig, &semaphore(0x40, 1, 0x0100_0002));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(rig.load(0x40), 0);
    rig.write(pfifo::CHAN_STATE, 1, 0x001f_0001);
    rig.wait("the channel", || rig.load(0x40) == 1);
}

#[test]
fn channels_share_an_engine_by_time_slices() {
    let mut rig = Rig::new();
    let mut channels: Vec<_> = (1..6).map(|chid| rig.channel(chid)).collect();
    let want = rig.pattern(0, 4 << 20);
    for channel in &mut channels {
        let mut words = bind_copy(4, 0);
        let to = (4 << 20) * u64::from(channel.chid);
        for _ in 0..8 {
            words.extend(copy(4, to, 0, 4096, 1024));
        }
        channel.push(&rig, &words);
    }
    // A channel with little to do does not wait until those with much are done.
    let mut quick = rig.channel(10);
    let begin = Instant::now();
    quick.run(&rig, &semaphore(0x1f0_0000, 1, 0x0100_0002));
    let quick = begin.elapsed();
    for channel in &mut channels {
        channel.finish(&rig);
        assert_eq!(
            rig.bytes((4 << 20) * u64::from(channel.chid), want.len()),
            want
        );
    }
    assert!(quick < begin.elapsed());
}

#[test]
fn a_copy_fault_is_reported_and_after_recovery_the_next_channel_works() {
    let mut rig = Rig::new();
    let (mut bad, mut good) = (rig.channel(1), rig.channel(2));
    let mut words = bind_copy(4, 0);
    words.extend(copy(4, 0x40_0000, 0x3000_0000, 4096, 1));
    bad.push(&rig, &words);
    rig.wait("the fault", || rig.read(pfifo::VM_FAULT_SOURCE, 0) != 0);
    assert_ne!(rig.read(pfifo::INTR, 0) & Intr::VM_FAULT.bits(), 0);
    assert_eq!(rig.read(pfifo::VM_FAULT_SOURCE, 0), 1 << 0x15);
    assert_eq!(
        rig.read(pfifo::VM_FAULT_INST, 0x15),
        bad.instance().to_channel_word()
    );
    let va = DATA_VA + 0x3000_0000;
    assert_eq!(rig.read(pfifo::VM_FAULT_ADDR_LOW, 0x15), va as u32);
    assert_eq!(rig.read(pfifo::VM_FAULT_ADDR_HIGH, 0x15), (va >> 32) as u32);
    // Hub client 1, a load, no table.
    assert_eq!(rig.read(pfifo::VM_FAULT_TYPE, 0x15), 0x140);
    assert_eq!(rig.read(pfifo::ENG_FAULT, 0), 1 << 4);
    assert_eq!(rig.read(pfifo::ENG_STATE, 4) & 0x1100_007f, 0x1100_0001);
    rig.write(pfifo::VM_FAULT_SOURCE, 0, 1 << 0x15);
    // The engine takes nothing from anybody until then.
    let want = rig.pattern(0, 4096);
    let mut words = bind_copy(4, 0);
    words.extend(copy(4, 0x10_0000, 0, 4096, 1));
    good.push(&rig, &words);
    std::thread::sleep(Duration::from_millis(5));
    assert_ne!(rig.bytes(0x10_0000, 4096), want);
    rig.recover(&bad, 4, Enable::CE0);
    good.finish(&rig);
    assert_eq!(rig.bytes(0x10_0000, 4096), want);
    rig.write(pfifo::CHAN, 1, 0);
    let mut again = rig.channel(1);
    again.run(&rig, &words);
}

#[test]
fn a_fetch_fault_stops_the_channel_and_no_other() {
    let mut rig = Rig::new();
    let (mut bad, mut good) = (rig.channel(1), rig.channel(2));
    bad.submit(&rig, IbEntry::new(0x20_0000_0000, 4));
    rig.wait("the fault", || {
        rig.read(pfifo::VM_FAULT_SOURCE, 0) == 1 << 7
    });
    assert_eq!(rig.read(pfifo::VM_FAULT_ADDR_HIGH, 7), 0x20);
    assert_eq!(rig.read(pfifo::VM_FAULT_TYPE, 7), 0x640);
    good.run(&rig, &semaphore(0x40, 1, 2));
    rig.remove(&bad);
    let mut again = rig.channel(1);
    again.run(&rig, &semaphore(0x44, 1, 0x0100_0002));
}

#[test]
fn an_injected_fault_takes_the_engine_from_its_channel() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let mut words = bind_copy(4, 0);
    for _ in 0..64 {
        words.extend(copy(4, 16 << 20, 0, 8192, 1024));
    }
    channel.push(&rig, &words);
    rig.wait("the engine", || {
        rig.read(pfifo::ENG_STATE, 4) & 0x1000_007f == 0x1000_0001
    });
    rig.write(pfifo::VM_FAULT_INJECT, 4, 0x100 | 0x15);
    assert_eq!(rig.read(pfifo::VM_FAULT_SOURCE, 0), 1 << 0x15);
    assert_eq!(
        rig.read(pfifo::VM_FAULT_INST, 0x15),
        channel.instance().to_channel_word()
    );
    assert_eq!(rig.read(pfifo::VM_FAULT_INJECT, 4), 0x115);
    rig.write(pfifo::VM_FAULT_SOURCE, 0, !0);
    rig.recover(&channel, 4, Enable::CE0);
    let mut next = rig.channel(2);
    let mut words = bind_copy(4, 0);
    words.extend(copy(4, 16 << 20, 0, 4096, 1));
    next.run(&rig, &words);
}

#[test]
fn frozen_engines_take_nothing_and_kicks_still_work() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    rig.write(pfifo::ENG_FREEZE, 0, !0);
    let mut words = bind_copy(4, 0);
    words.extend(semaphore(0x40, 1, 0x0100_0002));
    channel.push(&rig, &words);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(rig.load(0x40), 0);
    rig.kick(1);
    rig.write(pfifo::ENG_FREEZE, 0, 0);
    rig.wait("the engine", || rig.load(0x40) == 1);
}

/// Brings a channel to CE0 and lets the engine stop there, waiting for software.
fn stall_copy_engine(rig: &mut Rig) -> rig::Channel {
    // Start the firmware.
    for (register, value) in [(0x104014, !0u32), (0x104100, 2), (0x104048, 3)] {
        rig.card
            .write(mmio::Bar::Bar0, register, &value.to_le_bytes());
    }
    let mut channel = rig.channel(1);
    let mut words = bind_copy(4, 0);
    words.extend(incr(4, 0x308, &[0xabcd]));
    channel.push(rig, &words);
    let ce0 = pmc::Intr::CE0.bits();
    rig.wait("the stop", || rig.read(pmc::INTR_HOST, 0) & ce0 != 0);
    channel
}

fn acknowledge_copy_engine(rig: &Rig) {
    rig.card
        .write(mmio::Bar::Bar0, 0x104004, &0x40u32.to_le_bytes());
}

#[test]
fn an_engine_that_does_not_switch_in_time_is_reported() {
    for register in [pfifo::CHSW_TIMEOUT, pfifo::ENG_TIMEOUT] {
        let mut rig = Rig::new();
        let mut channel = stall_copy_engine(&mut rig);
        for other in [pfifo::CHSW_TIMEOUT, pfifo::ENG_TIMEOUT] {
            rig.write(other, 0, 100);
        }
        rig.write(pfifo::KICK, 0, 1);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.read(pfifo::INTR, 0) & Intr::SCHED_ERROR.bits(), 0);
        // The channel is asked anew, with a time-out this time.
        rig.write(register, 0, pfifo::TIMEOUT_ENABLE | 100);
        rig.write(pfifo::KICK, 0, 1);
        rig.wait("the time-out", || {
            rig.read(pfifo::INTR, 0) & Intr::SCHED_ERROR.bits() != 0
        });
        let error = rig.read(pfifo::SCHED_ERROR, 0);
        assert_eq!(error, pfifo::SCHED_ERROR_CTXSW_TIMEOUT);
        let state = EngState::from_bits_retain(rig.read(pfifo::ENG_STATE, 4));
        let stuck = EngState::SWITCH | EngState::SWITCH_ACK | EngState::SWITCH_STUCK;
        assert!(state.contains(stuck | EngState::BUSY | EngState::ON_CHANNEL));
        assert_eq!(state.bits() & EngState::CHID.bits(), 1);
        assert_ne!(rig.read(pfifo::KICK, 0) & pfifo::KICK_PENDING, 0);
        // Software deals with what the engine waited for, and the switch is done.
        acknowledge_copy_engine(&rig);
        rig.wait("the switch", || {
            rig.read(pfifo::KICK, 0) & pfifo::KICK_PENDING == 0
        });
        channel.finish(&rig);
    }
}

#[test]
fn an_engine_is_used_by_the_pbdmas_that_may() {
    let mut rig = Rig::new();
    // As nouveau assigns them.
    for (engine, unit) in [(4, 2), (5, 1)] {
        rig.write(pfifo::ENG_PBDMA_MASK, engine, !(1 << unit));
    }
    let mut channel = rig.channel(1);
    for (engine, unit) in [(0, 2), (1, 1), (0, 2)] {
        let want = rig.pattern(0, 4096);
        let mut words = bind_copy(4, engine);
        words.extend(copy(4, 0x10_0000, 0, 4096, 1));
        // Stops where it is.
        words.extend(incr(0, 0x04, &[0]));
        channel.push(&rig, &words);
        assert_eq!(rig.wait_pbdma(PbdmaIntr::ILLEGAL_MTHD), unit);
        assert_eq!(rig.bytes(0x10_0000, want.len()), want);
        rig.acknowledge_pbdma(unit);
        channel.finish(&rig);
    }
    // No unit may: the channel waits, and can be kicked.
    rig.write(pfifo::ENG_PBDMA_MASK, 4, !0);
    let mut words = bind_copy(4, 0);
    words.extend(semaphore(0x20_0040, 1, 0x0100_0002));
    channel.push(&rig, &words);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(rig.load(0x20_0040), 0);
    rig.kick(1);
    rig.write(pfifo::ENG_PBDMA_MASK, 4, !1);
    rig.wait("the engine", || rig.load(0x20_0040) == 1);
}

#[test]
fn channels_of_one_pbdma_take_turns_while_others_are_idle() {
    let mut rig = Rig::new();
    for engine in [4, 5] {
        rig.write(pfifo::ENG_PBDMA_MASK, engine, !1);
    }
    let mut channels: Vec<_> = (0..4).map(|chid| rig.channel(chid)).collect();
    let want = rig.pattern(0, 1 << 20);
    for (n, channel) in (0..).zip(&mut channels) {
        let mut words = bind_copy(4, n % 2);
        for _ in 0..16 {
            words.extend(copy(4, u64::from(n + 1) << 20, 0, 8192, 128));
        }
        channel.push(&rig, &words);
    }
    for (n, channel) in (0..).zip(&mut channels) {
        channel.finish(&rig);
        let found = rig.bytes((n + 1) << 20, want.len());
        assert!(found == want, "channel {n}");
    }
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
fn a_reset_forgets_all_channels() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let mut words = bind_copy(4, 0);
    for _ in 0..8 {
        words.extend(copy(4, 16 << 20, 0, 8192, 1024));
    }
    channel.push(&rig, &words);
    rig.reset_unit(Enable::PFIFO);
    assert_eq!(rig.read(pfifo::INTR, 0), 0);
    assert_eq!(rig.read(pfifo::CHAN, 1), 0);
    assert_eq!(rig.read(pfifo::CTRL, 0), 0);
    rig.start();
    rig.set_runlist(&[]);
    let mut channel = rig.channel(1);
    channel.run(&rig, &semaphore(0x40, 1, 0x0100_0002));
}

#[test]
fn a_missing_signature_is_reported() {
    let mut rig = Rig::new();
    let channel = rig.prepare(1);
    rig.card
        .memory()
        .vram()
        .store(channel.instance().address + 0x10, 0u32);
    rig.bind(&channel);
    rig.set_runlist(&[1]);
    rig.wait_pbdma(PbdmaIntr::SIG_MISMATCH);
}

#[test]
fn hundreds_of_channels_come_and_go() {
    let mut rig = Rig::new();
    let mut words = bind_copy(4, 1);
    words.extend(copy(4, 16 << 20, 0, 4096, 1));
    for n in 0..300u32 {
        let mut channel = rig.channel((n % 14) as u8);
        channel.run(&rig, &words);
        rig.remove(&channel);
    }
}

#[test]
fn channels_that_depend_on_each_other_never_lose_a_wake_up() {
    let mut rig = Rig::new();
    let mut kernel = rig.channel(0);
    kernel.run(&rig, &bind_copy(4, 1));
    for n in 1..400u32 {
        let mut user = rig.channel(2);
        let engine = n % 2;
        // The kernel moves something; the user waits for that, copies, and says so.
        let mut words = copy(4, 16 << 20, 0, 4096, 1 + n % 64);
        words.extend(semaphore(0x1f0_0000, n, 2));
        kernel.push(&rig, &words);
        user.push(&rig, &bind_copy(5, engine));
        let mut words = semaphore(0x1f0_0000, n, 0x1004);
        words.extend(copy(5, 24 << 20, 0, 4096, 1 + n % 16));
        words.extend(semaphore(0x1f0_0020, n, 2));
        user.push(&rig, &words);
        rig.wait("the user", || rig.load(0x1f0_0020) == n);
        rig.remove(&user);
    }
}

#[test]
fn a_channel_may_use_both_engines_in_turn() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let want = rig.pattern(0, 2 << 20);
    let mut words = bind_copy(4, 0);
    words.extend(bind_copy(5, 1));
    for n in 0..4 {
        words.extend(copy(4, (2 << 20) * (2 * n + 1), 0, 4096, 512));
        words.extend(copy(5, (2 << 20) * (2 * n + 2), 0, 4096, 512));
    }
    channel.push(&rig, &words);
    for _ in 0..20 {
        rig.kick(1);
    }
    channel.finish(&rig);
    for n in 1..9 {
        assert_eq!(rig.bytes((2 << 20) * n, want.len()), want, "copy {n}");
    }
}
