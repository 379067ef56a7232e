//! Faults, engines that stop, and resets.

use std::time::Duration;

use mmio::RegId;
use mmio::layout::pushbuffer::IbEntry;
use mmio::layout::{instance, userd};
use mmio::regs::falcon::{self, offset};
use mmio::regs::pfifo::{self, EngState, Intr, PbdmaIntr};
use mmio::regs::pmc::{self, Enable};

use crate::rig::{Channel, DATA_VA, Rig, VRAM, bind_copy, copy, incr, semaphore};

/// A method that the host has not.
const ILLEGAL: u16 = 0xf8;

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
fn stall_copy_engine(rig: &mut Rig) -> Channel {
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
fn a_copy_waits_until_the_engine_has_firmware() {
    let mut rig = Rig::empty();
    let (mut first, mut second) = (rig.channel(1), rig.channel(2));
    let want = rig.pattern(0, 4096);
    let mut words = bind_copy(4, 0);
    words.extend(copy(4, 0x10_0000, 0, 4096, 1));
    first.push(&rig, &words);
    std::thread::sleep(Duration::from_millis(5));
    assert_ne!(rig.bytes(0x10_0000, 4096), want);

    // It can be taken away, as one that hangs.
    rig.reset_unit(Enable::PFIFO);
    rig.start();
    rig.set_runlist(&[]);
    rig.bind(&second);
    rig.set_runlist(&[2]);
    second.push(&rig, &words);
    for (place, value) in [
        (offset::IMEM_CTRL, falcon::AUTO_INCREMENT_WRITE),
        (offset::IMEM_DATA, 0x00f8_04bd),
        (offset::UC_CTRL, falcon::START),
    ] {
        rig.write(RegId(falcon::CE0 + place), 0, value);
    }
    second.finish(&rig);
    assert_eq!(rig.bytes(0x10_0000, 4096), want);
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
fn a_channel_that_is_kicked_leaves_behind_the_interrupt_at_hand() {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    channel.push(&rig, &incr(0, ILLEGAL, &[1, 2]));
    let unit = rig.wait_pbdma(PbdmaIntr::ILLEGAL_MTHD);
    rig.write(pfifo::KICK, 0, 1);
    assert_ne!(rig.read(pfifo::KICK, 0) & pfifo::KICK_PENDING, 0);

    rig.write(pfifo::CHAN_STATE, 1, 0);
    rig.acknowledge_pbdma(unit);
    rig.wait("the kick", || rig.read(pfifo::KICK, 0) == 1);
    assert_eq!(rig.read(pfifo::PBDMA_INTR, unit), 0);

    rig.write(pfifo::CHAN_STATE, 1, 0x001f_0001);
    let unit = rig.wait_pbdma(PbdmaIntr::ILLEGAL_MTHD);
    rig.acknowledge_pbdma(unit);
    channel.finish(&rig);
}

#[test]
fn a_channel_whose_instance_block_is_nowhere_is_reported() {
    let mut rig = Rig::new();
    let beyond = (VRAM >> 12) as u32 + 1;
    rig.write(pfifo::CHAN, 1, 3 << 30 | beyond);
    rig.write(pfifo::CHAN_STATE, 1, 0x001f_0001);
    rig.set_runlist(&[1]);

    rig.wait("the fault", || {
        rig.read(pfifo::VM_FAULT_SOURCE, 0) == 1 << 7
    });
    assert_eq!(rig.read(pfifo::VM_FAULT_INST, 7), beyond);
    // Hub client 6, a load, no channel.
    assert_eq!(rig.read(pfifo::VM_FAULT_TYPE, 7), 0x644);
}

/// A channel that runs, but whose RAMFC nobody has set up.
fn channel_without_signature(rig: &mut Rig, chid: u8) -> Channel {
    let channel = rig.prepare(chid);
    let signature = channel.instance().address + instance::SIGNATURE;
    rig.card.memory().vram().store(signature, 0u32);
    rig.bind(&channel);
    channel
}

#[test]
fn a_missing_signature_is_reported() {
    let mut rig = Rig::new();
    channel_without_signature(&mut rig, 1);
    rig.set_runlist(&[1]);
    rig.wait_pbdma(PbdmaIntr::SIG_MISMATCH);
}

#[test]
fn a_unit_shows_the_channel_without_signature_until_that_is_acknowledged() {
    let mut rig = Rig::new();
    // As many as there are units, so that the good one has none until one is free again.
    for chid in 1..4 {
        channel_without_signature(&mut rig, chid);
    }
    rig.set_runlist(&[1, 2, 3]);
    let pending = |rig: &Rig, unit| rig.read(pfifo::PBDMA_INTR, unit) != 0;
    rig.wait("the interrupts", || (0..3).all(|unit| pending(&rig, unit)));
    let mut good = rig.prepare(4);
    rig.bind(&good);
    rig.set_runlist(&[1, 2, 3, 4]);
    good.push(&rig, &semaphore(0x40, 1, 0x0100_0002));
    std::thread::sleep(Duration::from_millis(20));

    let mut shown: Vec<_> = (0..3)
        .map(|unit| rig.read(pfifo::PBDMA_CH, unit) & !pfifo::PBDMA_CH_ACTIVE)
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [1, 2, 3]);
    rig.acknowledge_pbdma(0);
    good.finish(&rig);
    assert_eq!(rig.load(0x40), 1);
}

#[test]
fn fetch_faults_of_two_channels_at_once_are_reported_one_after_the_other() {
    let mut rig = Rig::new();
    let mut bad = [rig.channel(1), rig.channel(2)];
    for channel in &mut bad {
        channel.submit(&rig, IbEntry::new(0x20_0000_0000, 4));
        rig.wait("the fetch", || channel.control(&rig, userd::GP_GET) == 1);
    }

    let mut reported = Vec::new();
    for _ in &bad {
        rig.wait("the fault", || {
            rig.read(pfifo::VM_FAULT_SOURCE, 0) == 1 << 7
        });
        reported.push(rig.read(pfifo::VM_FAULT_INST, 7));
        rig.write(pfifo::VM_FAULT_SOURCE, 0, 1 << 7);
    }
    reported.sort_unstable();
    let mut guilty = bad.map(|channel| channel.instance().to_channel_word());
    guilty.sort_unstable();
    assert_eq!(reported, guilty);
    assert_eq!(rig.read(pfifo::VM_FAULT_SOURCE, 0), 0);
}
