//! Channels and buffers: creation, mapping, submission forms.

use anyhow::{Result, ensure};
use guest::copy::Engine;
use guest::methods::{class, common, host, semaphore};
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Domain, Push, Semaphore, uapi};

use crate::case::{Case, Context, LIMIT, check_channel, filled};

pub const CASES: &[Case] = &[
    Case {
        name: "create",
        about: "a channel lives and dies",
        seconds: 30,
        run: create,
    },
    Case {
        name: "several",
        about: "eight channels of one client work at once",
        seconds: 60,
        run: several,
    },
    Case {
        name: "clients",
        about: "two clients use the same address for different memory",
        seconds: 60,
        run: clients,
    },
    Case {
        name: "gart-map",
        about: "the CPU reads what it wrote to a GART buffer",
        seconds: 30,
        run: gart_map,
    },
    Case {
        name: "vram-map",
        about: "the CPU reads what it wrote to VRAM through BAR1",
        seconds: 60,
        run: vram_map,
    },
    Case {
        name: "vram-map-coherent",
        about: "CPU through BAR1 and copy engine see each other's writes",
        seconds: 60,
        run: vram_map_coherent,
    },
    Case {
        name: "buffer-address",
        about: "buffers have distinct addresses that stay the same",
        seconds: 30,
        run: buffer_address,
    },
    Case {
        name: "method-forms",
        about: "every header form reaches the host methods",
        seconds: 30,
        run: method_forms,
    },
    Case {
        name: "segments",
        about: "512 segments of one submission run in order",
        seconds: 60,
        run: segments,
    },
    Case {
        name: "no-prefetch",
        about: "a segment without prefetch sees what the one before wrote",
        seconds: 30,
        run: no_prefetch,
    },
    Case {
        name: "ring-wrap",
        about: "submissions go on after the indirect buffer has wrapped",
        seconds: 120,
        run: ring_wrap,
    },
];

/// Words that a case touches through BAR1, where each access is a bus transaction.
const BAR1_WORDS: u64 = 16;

fn create(context: &Context) -> Result<()> {
    let device = context.open()?;
    for _ in 0..3 {
        let mut channel = Channel::new(&device)?;
        check_channel(&mut channel)?;
    }
    Ok(())
}

fn several(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(Channel::new(&device)?);
    }
    for _ in 0..4 {
        let mut fences = Vec::new();
        for channel in &mut channels {
            fences.push(channel.post_fenced(&Push::new(), &[])?);
        }
        for (channel, fence) in channels.iter().zip(fences) {
            channel.wait(fence, LIMIT)?;
        }
    }
    for channel in &mut channels {
        check_channel(channel)?;
    }
    Ok(())
}

fn clients(context: &Context) -> Result<()> {
    let first = context.open()?;
    let second = first.reopen()?;
    let (one, two) = (Semaphore::new(&first)?, Semaphore::new(&second)?);
    let mut channels = [Channel::new(&first)?, Channel::new(&second)?];
    for (channel, (semaphore, value)) in channels.iter_mut().zip([(&one, 11), (&two, 22)]) {
        let mut push = Push::new();
        semaphore.release(&mut push, 0, value);
        channel.run(&push, &[(semaphore.buffer(), Access::Write)], LIMIT)?;
    }
    ensure!(
        one.address(0) == two.address(0),
        "the clients' addresses differ"
    );
    ensure!(one.value(0)? == 11, "first client has {}", one.value(0)?);
    ensure!(two.value(0)? == 22, "second client has {}", two.value(0)?);
    Ok(())
}

fn gart_map(context: &Context) -> Result<()> {
    let pattern = Pattern::new(1);
    let buffer = filled(&context.open()?, 1 << 20, pattern)?;
    pattern.check(buffer.quads()?, 0, 0, 1 << 20)?;
    Ok(())
}

/// Offsets that spread over a buffer, the last word included.
fn spread(bytes: u64) -> impl Iterator<Item = u64> {
    (0..BAR1_WORDS).map(move |index| (bytes - 4) / (BAR1_WORDS - 1) / 4 * 4 * index)
}

fn vram_map(context: &Context) -> Result<()> {
    let device = context.open()?;
    for bytes in [4096, 1 << 20] {
        let pattern = Pattern::new(bytes);
        let buffer = Buffer::new(&device, Domain::Vram, bytes)?;
        for offset in spread(bytes) {
            buffer.write(offset, pattern.word(offset))?;
        }
        for offset in spread(bytes) {
            let found = buffer.read(offset)?;
            ensure!(
                found == pattern.word(offset),
                "{bytes} bytes: {found:#x} at {offset:#x}"
            );
        }
    }
    Ok(())
}

fn vram_map_coherent(context: &Context) -> Result<()> {
    const BYTES: u64 = 256 << 10;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let pattern = Pattern::new(5);
    let source = filled(&device, BYTES, pattern)?;
    let vram = Buffer::new(&device, Domain::Vram, BYTES)?;

    let mut push = Push::new();
    let engine = Engine::Ce0;
    engine.attach(&channel, &mut push)?;
    engine.linear(&mut push, source.address(), vram.address(), BYTES);
    channel.run(
        &push,
        &[(&source, Access::Read), (&vram, Access::Write)],
        LIMIT,
    )?;
    for offset in spread(BYTES) {
        let found = vram.read(offset)?;
        ensure!(
            found == pattern.word(offset),
            "CPU reads {found:#x} at {offset:#x}"
        );
        vram.write(offset, !found)?;
    }

    let mut push = Push::new();
    engine.linear(&mut push, vram.address(), source.address(), BYTES);
    channel.run(
        &push,
        &[(&vram, Access::Read), (&source, Access::Write)],
        LIMIT,
    )?;
    for offset in spread(BYTES) {
        let found = source.read(offset)?;
        ensure!(
            found == !pattern.word(offset),
            "GPU reads {found:#x} at {offset:#x}"
        );
    }
    Ok(())
}

fn buffer_address(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut buffers = Vec::new();
    for index in 0..32 {
        let domain = if index % 2 == 0 {
            Domain::Vram
        } else {
            Domain::Gart
        };
        buffers.push(Buffer::new(&device, domain, 4096 << (index % 7))?);
    }
    let mut ranges: Vec<_> = buffers.iter().map(|b| (b.address(), b.bytes())).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        ensure!(
            pair[0].0 + pair[0].1 <= pair[1].0,
            "buffers overlap at {:#x}",
            pair[1].0
        );
    }
    for buffer in &buffers {
        let info = buffer.info()?;
        ensure!(
            info.offset == buffer.address() && info.size == buffer.bytes(),
            "{info:?}"
        );
    }
    Ok(())
}

fn method_forms(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let target = Semaphore::new(&device)?;
    let release = semaphore::RELEASE | semaphore::RELEASE_SIZE_4BYTE;
    let mut push = Push::new();
    // Increasing: address, payload and trigger in one go.
    target.operate(&mut push, 0, 100, release);
    // Non-increasing: the last of three payloads stays.
    target.operate(&mut push, 1, 0, release);
    push.repeat(0, host::SEMAPHOREC, &[1, 2, 200])
        .incr(0, host::SEMAPHORED, &[release]);
    // Immediate: a payload of 13 bits.
    target.operate(&mut push, 2, 0, release);
    push.immediate(0, host::SEMAPHOREC, 0x1fff)
        .incr(0, host::SEMAPHORED, &[release]);
    // Increase once: the payload, then the trigger twice.
    target.operate(&mut push, 3, 0, release);
    push.incr_once(0, host::SEMAPHOREC, &[300, release, release]);
    // Words of zero are skipped.
    push.raw(&[0; 16]);
    target.operate(&mut push, 4, 400, release);
    channel.run(&push, &[(target.buffer(), Access::Write)], LIMIT)?;
    for (slot, expected) in [(0, 100), (1, 200), (2, 0x1fff), (3, 300), (4, 400)] {
        let found = target.value(slot)?;
        ensure!(
            found == expected,
            "slot {slot} has {found}, expected {expected}"
        );
    }
    Ok(())
}

fn segments(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let target = Semaphore::new(&device)?;
    let pushes: Vec<Push> = (0..uapi::GEM_MAX_PUSH as u32)
        .map(|index| {
            let mut push = Push::new();
            // Each waits for the one before, so that a wrong order would never end.
            target.operate(&mut push, 0, index, semaphore::ACQUIRE);
            target.release(&mut push, 0, index + 1);
            push
        })
        .collect();
    let list: Vec<&Push> = pushes.iter().collect();
    channel.submit_segments(&list, 0, &[(target.buffer(), Access::ReadWrite)])?;
    target.wait(0, list.len() as u32, LIMIT)?;
    check_channel(&mut channel)
}

fn no_prefetch(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let target = Semaphore::new(&device)?;
    // Commands that the GPU itself completes: the payload word is copied in before they run.
    let commands = Buffer::new(&device, Domain::Gart, 4096)?;
    let source = Buffer::new(&device, Domain::Gart, 4096)?;
    let mut late = Push::new();
    target.operate(
        &mut late,
        0,
        0xdead,
        semaphore::RELEASE | semaphore::RELEASE_SIZE_4BYTE,
    );
    for (index, &word) in late.words().iter().enumerate() {
        commands.write(index as u64 * 4, word)?;
    }
    source.write(0, 0xbeef)?;

    let mut push = Push::new();
    let engine = Engine::Ce0;
    engine.attach(&channel, &mut push)?;
    const PAYLOAD: u64 = 3 * 4;
    engine.linear(&mut push, source.address(), commands.address() + PAYLOAD, 4);
    // The release waits for the copy, so the next segment is not before it.
    target.operate(
        &mut push,
        1,
        1,
        semaphore::RELEASE | semaphore::RELEASE_SIZE_4BYTE,
    );
    target.operate(&mut push, 1, 1, semaphore::ACQUIRE);
    let used = [
        (&source, Access::Read),
        (&commands, Access::ReadWrite),
        (target.buffer(), Access::ReadWrite),
    ];
    channel.submit(&push, &used)?;
    let length = late.words().len() as u64 * 4;
    channel.submit_buffer(
        &commands,
        0,
        length | uapi::GEM_PUSHBUF_NO_PREFETCH,
        &[(target.buffer(), Access::ReadWrite)],
    )?;
    channel.finish(LIMIT)?;
    let found = target.value(0)?;
    ensure!(found == 0xbeef, "the payload is {found:#x}");
    Ok(())
}

fn ring_wrap(context: &Context) -> Result<()> {
    /// More than twice the kernel's ring of 1024 entries.
    const SUBMISSIONS: u32 = 2500;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let target = Semaphore::new(&device)?;
    let nops = [0; 8];
    channel.object(class::M2MF)?;
    let mut bind = Push::new();
    bind.incr(Engine::M2mf.subchannel(), host::SET_OBJECT, &[class::M2MF]);
    channel.submit(&bind, &[])?;
    for index in 1..=SUBMISSIONS {
        let mut push = Push::new();
        push.repeat(Engine::M2mf.subchannel(), common::NOP, &nops);
        target.operate(&mut push, 0, index - 1, semaphore::ACQUIRE);
        target.release(&mut push, 0, index);
        channel.submit(&push, &[(target.buffer(), Access::ReadWrite)])?;
        if index % 500 == 0 {
            context.progress(&format!("ring-wrap {index}/{SUBMISSIONS}"));
        }
    }
    target.wait(0, SUBMISSIONS, LIMIT)?;
    check_channel(&mut channel)
}
