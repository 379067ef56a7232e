//! Semaphores and fences: between channels, with the CPU, and those of the kernel.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use guest::copy::Engine;
use guest::methods::{host, semaphore};
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Param, Push, Semaphore, bar};

use crate::case::{Case, Context, LIMIT, check_channel, filled, skip};

pub const CASES: &[Case] = &[
    Case {
        name: "release",
        about: "a release of 4 bytes writes 4, one of 16 also the time",
        seconds: 30,
        run: release,
    },
    Case {
        name: "acquire-equal",
        about: "an acquire waits for exactly its value",
        seconds: 30,
        run: acquire_equal,
    },
    Case {
        name: "acquire-greater",
        about: "a greater-or-equal acquire compares in wrapping arithmetic",
        seconds: 30,
        run: acquire_greater,
    },
    Case {
        name: "acquire-mask",
        about: "a mask acquire waits for a common bit",
        seconds: 30,
        run: acquire_mask,
    },
    Case {
        name: "acquire-without-switch",
        about: "a waiting channel that does not yield holds up nobody for good",
        seconds: 30,
        run: acquire_without_switch,
    },
    Case {
        name: "ping-pong",
        about: "two channels hand a token to and fro 500 times",
        seconds: 60,
        run: ping_pong,
    },
    Case {
        name: "chain",
        about: "eight channels wait for each other in a row",
        seconds: 60,
        run: chain,
    },
    Case {
        name: "release-after-copy",
        about: "a release waits for the engine, so the data are there",
        seconds: 60,
        run: release_after_copy,
    },
    Case {
        name: "cpu-prep",
        about: "a buffer is busy until its work is done, and the wait ends",
        seconds: 60,
        run: cpu_prep,
    },
    Case {
        name: "kernel-order",
        about: "the kernel orders channels that share a buffer",
        seconds: 60,
        run: kernel_order,
    },
    Case {
        name: "reference",
        about: "SET_REFERENCE arrives in the channel's USERD",
        seconds: 30,
        run: reference,
    },
    Case {
        name: "interrupts",
        about: "500 fences are each waited for by interrupt",
        seconds: 120,
        run: interrupts,
    },
];

/// How long a channel is watched to see that it waits.
const WATCH: Duration = Duration::from_millis(50);
/// Slot that a waiting channel releases when it goes on.
const DONE: u64 = 8;

/// Lets a channel wait for slot 0 with `operation` and `payload`; checks that each of `wrong`
/// leaves it waiting and that `right` lets it go on.
fn check_acquire(
    context: &Context,
    operation: u32,
    payload: u32,
    wrong: &[u32],
    right: u32,
) -> Result<()> {
    let device = context.open()?;
    let shared = Semaphore::new(&device)?;
    let mut waiter = Channel::new(&device)?;
    let mut other = Channel::new(&device)?;
    shared.set(0, wrong.first().copied().unwrap_or_default())?;
    let mut push = Push::new();
    shared.operate(&mut push, 0, payload, operation);
    shared.release(&mut push, DONE, 1);
    waiter.submit(&push, &[])?;
    for &value in wrong {
        shared.set(0, value)?;
        thread::sleep(WATCH);
        ensure!(
            shared.value(DONE)? == 0,
            "{value:#x} ends the wait for {payload:#x}"
        );
        check_channel(&mut other)?;
    }
    // The GPU releases, as another channel would.
    let mut push = Push::new();
    shared.release(&mut push, 0, right);
    other.run(&push, &[], LIMIT)?;
    shared.wait(DONE, 1, LIMIT)?;
    check_channel(&mut waiter)
}

fn release(context: &Context) -> Result<()> {
    const CANARY: u32 = 0xaaaa_aaaa;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let target = Semaphore::new(&device)?;
    for slot in 0..3 {
        for word in 0..4 {
            target.buffer().write(slot * 16 + word * 4, CANARY)?;
        }
    }
    let before = device.param(Param::PtimerTime)?;
    let mut push = Push::new();
    target.operate(
        &mut push,
        0,
        1,
        semaphore::RELEASE | semaphore::RELEASE_SIZE_4BYTE,
    );
    target.operate(&mut push, 1, 2, semaphore::RELEASE);
    target.operate(
        &mut push,
        2,
        3,
        semaphore::RELEASE | semaphore::RELEASE_WFI_DIS,
    );
    channel.run(&push, &[(target.buffer(), Access::Write)], LIMIT)?;
    let after = device.param(Param::PtimerTime)?;
    ensure!(
        target.value(0)? == 1 && target.word(0, 1)? == CANARY,
        "4-byte release"
    );
    for slot in [1, 2] {
        let (value, zero) = (target.value(slot)?, target.word(slot, 1)?);
        ensure!(
            u64::from(value) == slot + 1 && zero == 0,
            "release {slot}: {value:#x} {zero:#x}"
        );
        let time = target.time(slot)?;
        ensure!(
            (before..=after).contains(&time),
            "time {time} in {before}..{after}"
        );
    }
    ensure!(
        target.time(1)? <= target.time(2)?,
        "the later release has the earlier time"
    );
    Ok(())
}

fn acquire_equal(context: &Context) -> Result<()> {
    let operation = semaphore::ACQUIRE | semaphore::ACQUIRE_SWITCH;
    check_acquire(context, operation, 5, &[0, 4, 6, u32::MAX], 5)
}

fn acquire_greater(context: &Context) -> Result<()> {
    let operation = semaphore::ACQ_GEQ | semaphore::ACQUIRE_SWITCH;
    check_acquire(context, operation, 5, &[0, 4, 0x8000_0005], 6)?;
    // Across the wrap: 1 is three after 0xffff_fffe.
    check_acquire(
        context,
        operation,
        0xffff_fffe,
        &[0xffff_fffd, 0x7fff_ffff],
        1,
    )
}

fn acquire_mask(context: &Context) -> Result<()> {
    let operation = semaphore::ACQ_AND | semaphore::ACQUIRE_SWITCH;
    check_acquire(
        context,
        operation,
        0x0110,
        &[0, 0x0001, 0xffff_feef],
        0x0100,
    )
}

fn acquire_without_switch(context: &Context) -> Result<()> {
    check_acquire(context, semaphore::ACQUIRE, 5, &[0, 1, 2], 5)
}

fn ping_pong(context: &Context) -> Result<()> {
    const TURNS: u32 = 500;
    let device = context.open()?;
    let shared = Semaphore::new(&device)?;
    let mut players = [Channel::new(&device)?, Channel::new(&device)?];
    for (index, player) in players.iter_mut().enumerate() {
        let mut push = Push::new();
        for turn in 0..TURNS {
            let token = turn * 2 + index as u32;
            let operation = semaphore::ACQUIRE | semaphore::ACQUIRE_SWITCH;
            shared.operate(&mut push, 0, token, operation);
            let operation = semaphore::RELEASE | semaphore::RELEASE_SIZE_4BYTE;
            shared.operate(&mut push, 0, token + 1, operation);
        }
        player.submit(&push, &[])?;
    }
    shared.wait(0, TURNS * 2, LIMIT)?;
    ensure!(shared.value(0)? == TURNS * 2, "token {}", shared.value(0)?);
    Ok(())
}

fn chain(context: &Context) -> Result<()> {
    const LENGTH: u64 = 8;
    let device = context.open()?;
    let shared = Semaphore::new(&device)?;
    let mut channels = Vec::new();
    // The last is submitted first, so that each has to wait for one behind it.
    for index in (0..LENGTH).rev() {
        let mut channel = Channel::new(&device)?;
        let mut push = Push::new();
        shared.acquire(&mut push, index, 1);
        shared.release(&mut push, index + 1, 1);
        channel.submit(&push, &[])?;
        channels.push(channel);
    }
    thread::sleep(WATCH);
    ensure!(
        shared.value(LENGTH)? == 0,
        "the chain ends before it begins"
    );
    shared.set(0, 1)?;
    shared.wait(LENGTH, 1, LIMIT)?;
    for channel in &mut channels {
        check_channel(channel)?;
    }
    Ok(())
}

fn release_after_copy(context: &Context) -> Result<()> {
    const BYTES: u64 = 8 << 20;
    let device = context.open()?;
    let shared = Semaphore::new(&device)?;
    let source = Buffer::new(&device, Domain::Gart, BYTES)?;
    let vram = Buffer::new(&device, Domain::Vram, BYTES)?;
    let target = Buffer::new(&device, Domain::Gart, BYTES)?;
    for (index, engine) in Engine::ALL.into_iter().enumerate() {
        let pattern = Pattern::new(30 + index as u64);
        pattern.fill(source.quads()?);
        Pattern::new(1).fill(target.quads()?);
        let (mut writer, mut reader) = (Channel::new(&device)?, Channel::new(&device)?);
        let mut push = Push::new();
        engine.attach(&reader, &mut push)?;
        shared.acquire(&mut push, index as u64, 1);
        engine.linear(&mut push, vram.address(), target.address(), BYTES);
        // The buffers are not declared, so that only the semaphore keeps the order.
        let read = reader.post_fenced(&push, &[])?;
        let mut push = Push::new();
        engine.attach(&writer, &mut push)?;
        engine.linear(&mut push, source.address(), vram.address(), BYTES);
        shared.release(&mut push, index as u64, 1);
        writer.run(&push, &[], LIMIT)?;
        reader.wait(read, LIMIT)?;
        pattern.check(target.quads()?, 0, 0, BYTES)?;
    }
    Ok(())
}

fn cpu_prep(context: &Context) -> Result<()> {
    let device = context.open()?;
    let shared = Semaphore::new(&device)?;
    let mut channel = Channel::new(&device)?;
    let buffer = Buffer::new(&device, Domain::Gart, 4096)?;
    ensure!(!buffer.is_busy()?, "a new buffer is busy");
    let mut push = Push::new();
    shared.acquire(&mut push, 0, 1);
    channel.submit(&push, &[(&buffer, Access::Write)])?;
    ensure!(
        buffer.is_busy()?,
        "the buffer of a waiting submission is idle"
    );
    thread::scope(|scope| {
        let releaser = scope.spawn(|| {
            thread::sleep(WATCH);
            shared.set(0, 1)
        });
        let start = Instant::now();
        buffer.wait_idle()?;
        ensure!(
            start.elapsed() >= WATCH / 2,
            "the wait ended after {:?}",
            start.elapsed()
        );
        ensure!(
            start.elapsed() < LIMIT,
            "the wait took {:?}",
            start.elapsed()
        );
        releaser
            .join()
            .map_err(|_| anyhow::anyhow!("The releasing thread panicked"))??;
        ensure!(!buffer.is_busy()?, "the buffer is still busy");
        Ok(())
    })
}

fn kernel_order(context: &Context) -> Result<()> {
    const BYTES: u64 = 1 << 20;
    let device = context.open()?;
    let shared = Semaphore::new(&device)?;
    let pattern = Pattern::new(40);
    let source = filled(&device, BYTES, pattern)?;
    let vram = Buffer::new(&device, Domain::Vram, BYTES)?;
    let target = filled(&device, BYTES, Pattern::new(41))?;
    let (mut writer, mut reader) = (Channel::new(&device)?, Channel::new(&device)?);
    let mut push = Push::new();
    Engine::Ce0.attach(&writer, &mut push)?;
    shared.acquire(&mut push, 0, 1);
    Engine::Ce0.linear(&mut push, source.address(), vram.address(), BYTES);
    writer.submit(&push, &[(&source, Access::Read), (&vram, Access::Write)])?;
    let mut push = Push::new();
    Engine::Ce1.attach(&reader, &mut push)?;
    Engine::Ce1.linear(&mut push, vram.address(), target.address(), BYTES);
    thread::scope(|scope| {
        // The submission itself may wait for the writer, if the kernel chooses to.
        let releaser = scope.spawn(|| {
            thread::sleep(WATCH);
            shared.set(0, 1)
        });
        let used = [(&vram, Access::Read), (&target, Access::Write)];
        reader.run(&push, &used, LIMIT)?;
        releaser
            .join()
            .map_err(|_| anyhow::anyhow!("The releasing thread panicked"))??;
        pattern.check(target.quads()?, 0, 0, BYTES)?;
        Ok(())
    })
}

fn reference(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    for value in [1, 0x1234_5678, u32::MAX] {
        let mut push = Push::new();
        push.incr(0, host::SET_REFERENCE, &[value]);
        channel.run(&push, &[], LIMIT)?;
        let found = bar::reference_count(&channel)
            .map_err(|error| skip(format!("{:#}", anyhow::Error::from(error))))?;
        ensure!(
            found == value,
            "the counter is {found:#x}, expected {value:#x}"
        );
    }
    Ok(())
}

/// Waits for the buffer's fence; gives back whether the driver missed it.
///
/// Linux before 6.2 can: whoever signals the last fence decides under a lock that interrupts are not
/// needed any more, and stops them behind it, though another one may have begun to wait meanwhile
/// (6.1 `nvif/notify.c nvif_notify_func`, `nouveau_fence.c nouveau_fence_wait_uevent_handler`). It
/// takes a processor that the host leaves alone just there. An interrupt that the card owes is told
/// apart: the driver listens.
fn wait_for_fence(buffer: &Buffer, device: &Device) -> Result<bool> {
    let Err(error) = buffer.wait_idle() else {
        return Ok(false);
    };
    if error.errno() != Some(libc::EBUSY) || bar::listens_to_fences(device)? {
        return Err(error.into());
    }
    ensure!(!buffer.is_busy()?, "{error}, and its work is not done");
    Ok(true)
}

fn interrupts(context: &Context) -> Result<()> {
    const FENCES: u32 = 500;
    /// What [`wait_for_fence`] forgives.
    const MISSED: u32 = 2;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let buffer = Buffer::new(&device, Domain::Gart, 4096)?;
    let mut start = Instant::now();
    let mut missed = 0;
    let mut push = Push::new();
    push.raw(&[0; 4]);
    for index in 0..FENCES {
        channel.submit(&push, &[(&buffer, Access::Write)])?;
        let submitted = Instant::now();
        if wait_for_fence(&buffer, &device)? {
            missed += 1;
            context.progress(&format!("the driver did not listen to fence {index}"));
            ensure!(missed <= MISSED, "{missed} fences were missed");
            start += submitted.elapsed();
        }
        ensure!(
            start.elapsed() < LIMIT * 6,
            "{index} fences took {:?}",
            start.elapsed()
        );
    }
    Ok(())
}
