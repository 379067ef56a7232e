//! Channels that wait, take turns and share engines.

use std::time::{Duration, Instant};

use mmio::layout::pushbuffer::method;
use mmio::layout::userd;
use mmio::regs::pfifo::{self, PbdmaIntr};

use crate::rig::{Channel, Rig, bind_copy, copy, incr, semaphore};

/// What a channel's reference counter shows behind its work.
const DONE: u32 = 0xd0_0e00;

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

/// A card whose channel 1 waits for the CPU to store at least 5 at 0x80; then it stores 1 at 0x90.
fn waiting_for_the_cpu() -> Rig {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    let mut words = semaphore(0x80, 5, 0x1004);
    words.extend(semaphore(0x90, 1, 0x0100_0002));
    channel.push(&rig, &words);
    rig.wait("the channel to wait", || {
        rig.read(pfifo::CHAN_STATE, 1) & 1 << 4 != 0
    });
    rig
}

#[test]
fn an_acquire_sees_what_the_cpu_writes() {
    let rig = waiting_for_the_cpu();
    rig.store(0x80, 9);
    rig.wait("the acquire", || rig.load(0x90) == 1);
}

#[test]
fn a_channel_that_may_run_again_sees_what_the_cpu_wrote_meanwhile() {
    let rig = waiting_for_the_cpu();
    rig.write(pfifo::CHAN_STATE, 1, 0);
    rig.kick(1);
    // Until the scheduler has nothing to look at.
    std::thread::sleep(Duration::from_millis(20));
    rig.store(0x80, 9);
    rig.write(pfifo::CHAN_STATE, 1, 0x001f_0001);
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
    // Slow enough for the copies to be under way when the quick channel is done.
    let mut rig = Rig::slow(100);
    let mut channels: Vec<_> = (1..6).map(|chid| rig.channel(chid)).collect();
    let want = rig.pattern(0, 4 << 20);
    for channel in &mut channels {
        let mut words = bind_copy(4, 0);
        let to = (4 << 20) * u64::from(channel.chid);
        for _ in 0..8 {
            words.extend(copy(4, to, 0, 4096, 1024));
        }
        words.extend(incr(0, method::REF_CNT, &[DONE]));
        channel.push(&rig, &words);
    }
    // A channel with little to do does not wait until those with much are done.
    let mut quick = rig.channel(10);
    quick.run(&rig, &semaphore(0x1f0_0000, 1, 0x0100_0002));
    let done = |channel: &Channel| channel.control(&rig, userd::REF_CNT) == DONE;
    assert!(!channels.iter().all(done));
    for channel in &mut channels {
        channel.finish(&rig);
        assert_eq!(
            rig.bytes((4 << 20) * u64::from(channel.chid), want.len()),
            want
        );
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

#[test]
fn channels_with_endless_work_take_turns_on_an_engine_of_one_pbdma() {
    let mut rig = Rig::slow(10_000);
    rig.write(pfifo::ENG_PBDMA_MASK, 4, !(1 << 2));
    let mut channels = [1, 2].map(|chid| rig.channel(chid));
    // Copies of 2 ms.
    const COPIES: u32 = 150;
    for channel in &mut channels {
        let base = 0x10_0000 * u64::from(channel.chid);
        let mut words = bind_copy(4, 0);
        for n in 1..=COPIES {
            words.extend(copy(4, base, 0, 4096, 4));
            words.extend(semaphore(base + 0x8_0000, n, 0x0100_0002));
        }
        channel.push(&rig, &words);
    }
    // Each has a part of what the other one has had meanwhile, until one of them is done.
    let mut before = [0; 2];
    for round in [COPIES / 3, 2 * COPIES / 3] {
        let done = || [1, 2].map(|chid: u64| rig.load(0x10_0000 * chid + 0x8_0000));
        rig.wait("one of them to go on", || {
            done().iter().any(|n| *n >= round)
        });
        let now = done();
        assert!(
            now.iter().zip(before).all(|(now, before)| *now > before),
            "{before:?}, then {now:?} of {COPIES}"
        );
        before = now;
    }
    for channel in &mut channels {
        channel.finish(&rig);
    }
}
