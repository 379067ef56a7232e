//! Copies by every engine, in every arrangement.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use guest::copy::{Engine, Place, Query, inline_upload};
use guest::methods::copy;
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Push, Semaphore};

use crate::case::{Case, Context, LIMIT, check_channel, filled};

pub const CASES: &[Case] = &[
    Case {
        name: "ce0-sizes",
        about: "CE0 copies 4 B to 16 MiB to VRAM and back",
        seconds: 120,
        run: |context| sizes(context, Engine::Ce0),
    },
    Case {
        name: "ce1-sizes",
        about: "CE1 copies 4 B to 16 MiB to VRAM and back",
        seconds: 120,
        run: |context| sizes(context, Engine::Ce1),
    },
    Case {
        name: "m2mf-sizes",
        about: "M2MF copies 4 B to 16 MiB to VRAM and back",
        seconds: 120,
        run: |context| sizes(context, Engine::M2mf),
    },
    Case {
        name: "large",
        about: "each engine copies 64 MiB to VRAM and another brings it back",
        seconds: 300,
        run: large,
    },
    Case {
        name: "unaligned",
        about: "odd addresses and lengths copy exactly their bytes",
        seconds: 60,
        run: unaligned,
    },
    Case {
        name: "pitch",
        about: "rectangles with different pitches leave the gaps alone",
        seconds: 60,
        run: pitch,
    },
    Case {
        name: "within-vram",
        about: "VRAM to VRAM, forwards and backwards between buffers",
        seconds: 60,
        run: within_vram,
    },
    Case {
        name: "kernel-moves",
        about: "the kernel moves a buffer out of VRAM and back, with its content",
        seconds: 60,
        run: kernel_moves,
    },
    Case {
        name: "all-on-one-channel",
        about: "the three engines take turns on one channel",
        seconds: 60,
        run: all_on_one_channel,
    },
    Case {
        name: "overlapping-channels",
        about: "channels on all engines copy at the same time",
        seconds: 120,
        run: overlapping_channels,
    },
    Case {
        name: "inline",
        about: "M2MF uploads data from the stream",
        seconds: 60,
        run: inline,
    },
    Case {
        name: "remap",
        about: "copy engines permute and fill components",
        seconds: 60,
        run: remap,
    },
    Case {
        name: "query",
        about: "engines write a sequence and the time when a copy is done",
        seconds: 60,
        run: query,
    },
];

/// A channel with one engine bound.
pub fn channel_with(device: &Arc<Device>, engine: Engine) -> Result<Channel> {
    let mut channel = Channel::new(device)?;
    let mut push = Push::new();
    engine.attach(&channel, &mut push)?;
    channel.run(&push, &[], LIMIT)?;
    Ok(channel)
}

/// Copies `bytes` between the beginnings of two buffers.
fn copy_all(
    channel: &mut Channel,
    engine: Engine,
    from: &Buffer,
    to: &Buffer,
    bytes: u64,
) -> Result<()> {
    let mut push = Push::new();
    engine.linear(&mut push, from.address(), to.address(), bytes);
    channel.run(&push, &[(from, Access::Read), (to, Access::Write)], LIMIT)?;
    Ok(())
}

fn sizes(context: &Context, engine: Engine) -> Result<()> {
    const SIZES: [u64; 15] = [
        4,
        8,
        60,
        256,
        1000,
        4096,
        4100,
        32 << 10,
        65_532,
        64 << 10,
        100_000,
        128 << 10,
        1 << 20,
        (3 << 20) + 4,
        16 << 20,
    ];
    let largest = SIZES.iter().copied().max().unwrap_or_default();
    let device = context.open()?;
    let mut channel = channel_with(&device, engine)?;
    let (content, canary) = (Pattern::new(1), Pattern::new(2));
    let source = filled(&device, largest, content)?;
    let back = Buffer::new(&device, Domain::Gart, largest + 4096)?;
    let vram = Buffer::new(&device, Domain::Vram, largest)?;
    for bytes in SIZES {
        // What a copy may touch, and a little behind it, which it must not.
        let around = (bytes + 4096).next_multiple_of(8);
        canary.fill(&back.quads()?[..(around / 8) as usize]);
        copy_all(&mut channel, engine, &source, &vram, bytes)?;
        copy_all(&mut channel, engine, &vram, &back, bytes)?;
        let context = || format!("{} copies {bytes} bytes", engine.name());
        content
            .check(back.quads()?, 0, 0, bytes)
            .with_context(context)?;
        canary
            .check(back.quads()?, bytes, bytes, around - bytes)
            .with_context(context)?;
    }
    Ok(())
}

fn large(context: &Context) -> Result<()> {
    const BYTES: u64 = 64 << 20;
    let device = context.open()?;
    let source = Buffer::new(&device, Domain::Gart, BYTES)?;
    let back = Buffer::new(&device, Domain::Gart, BYTES)?;
    let vram = Buffer::new(&device, Domain::Vram, BYTES)?;
    for (index, engine) in Engine::ALL.into_iter().enumerate() {
        let other = Engine::ALL[(index + 1) % Engine::ALL.len()];
        let pattern = Pattern::new(engine.class().into());
        pattern.fill(source.quads()?);
        let mut there = channel_with(&device, engine)?;
        let mut again = channel_with(&device, other)?;
        copy_all(&mut there, engine, &source, &vram, BYTES)?;
        copy_all(&mut again, other, &vram, &back, BYTES)?;
        pattern
            .check(back.quads()?, 0, 0, BYTES)
            .with_context(|| format!("{} there, {} back", engine.name(), other.name()))?;
        context.progress(&format!("large {}/3", index + 1));
    }
    Ok(())
}

fn unaligned(context: &Context) -> Result<()> {
    const BYTES: u64 = 8192;
    let device = context.open()?;
    let (content, canary) = (Pattern::new(3), Pattern::new(4));
    let source = filled(&device, BYTES, content)?;
    let target = Buffer::new(&device, Domain::Gart, BYTES)?;
    for engine in Engine::ALL {
        let mut channel = channel_with(&device, engine)?;
        for (from, to, bytes) in [
            (0, 1, 1),
            (1, 0, 3),
            (3, 5, 7),
            (13, 4090, 100),
            (255, 129, 4095),
            (4095, 1, 4097),
        ] {
            canary.fill(target.quads()?);
            let mut push = Push::new();
            engine.linear(
                &mut push,
                source.address() + from,
                target.address() + to,
                bytes,
            );
            channel.run(
                &push,
                &[(&source, Access::Read), (&target, Access::Write)],
                LIMIT,
            )?;
            let context = || format!("{}: {bytes} bytes from {from} to {to}", engine.name());
            content
                .check(target.quads()?, to, from, bytes)
                .with_context(context)?;
            canary
                .check(target.quads()?, 0, 0, to)
                .with_context(context)?;
            let end = to + bytes;
            canary
                .check(target.quads()?, end, end, BYTES - end)
                .with_context(context)?;
        }
    }
    Ok(())
}

fn pitch(context: &Context) -> Result<()> {
    const BYTES: u64 = 1 << 20;
    let device = context.open()?;
    let (content, canary) = (Pattern::new(5), Pattern::new(6));
    let source = filled(&device, BYTES, content)?;
    let vram = Buffer::new(&device, Domain::Vram, BYTES)?;
    let target = Buffer::new(&device, Domain::Gart, BYTES)?;
    for engine in Engine::ALL {
        let mut channel = channel_with(&device, engine)?;
        for (source_pitch, target_pitch, line, lines) in [
            (64u32, 256u32, 64u32, 100u32),
            (4096, 1024, 1000, 200),
            (100, 100, 4, 2047),
            (333, 777, 333, 50),
        ] {
            canary.fill(target.quads()?);
            let packed = Place::pitch(vram.address(), line);
            let mut push = Push::new();
            let from = Place::pitch(source.address(), source_pitch);
            engine.rectangle(&mut push, from, packed, line, lines, None);
            channel.run(
                &push,
                &[(&source, Access::Read), (&vram, Access::Write)],
                LIMIT,
            )?;
            let mut push = Push::new();
            let to = Place::pitch(target.address(), target_pitch);
            engine.rectangle(&mut push, packed, to, line, lines, None);
            channel.run(
                &push,
                &[(&vram, Access::Read), (&target, Access::Write)],
                LIMIT,
            )?;
            for y in 0..u64::from(lines) {
                let context = || {
                    format!(
                        "{}: line {y}, pitch {source_pitch} to {target_pitch}",
                        engine.name()
                    )
                };
                let (line, target_pitch) = (u64::from(line), u64::from(target_pitch));
                let start = y * target_pitch;
                let from = y * u64::from(source_pitch);
                content
                    .check(target.quads()?, start, from, line)
                    .with_context(context)?;
                let (gap, bytes) = (start + line, target_pitch - line);
                canary
                    .check(target.quads()?, gap, gap, bytes)
                    .with_context(context)?;
            }
        }
    }
    Ok(())
}

fn within_vram(context: &Context) -> Result<()> {
    const BYTES: u64 = 2 << 20;
    let device = context.open()?;
    let pattern = Pattern::new(7);
    let source = filled(&device, BYTES, pattern)?;
    let back = Buffer::new(&device, Domain::Gart, BYTES)?;
    let first = Buffer::new(&device, Domain::Vram, BYTES)?;
    let second = Buffer::new(&device, Domain::Vram, BYTES)?;
    for engine in Engine::ALL {
        let mut channel = channel_with(&device, engine)?;
        Pattern::new(0).fill(back.quads()?);
        for (from, to) in [
            (&source, &first),
            (&first, &second),
            (&second, &first),
            (&first, &back),
        ] {
            copy_all(&mut channel, engine, from, to, BYTES)?;
        }
        pattern
            .check(back.quads()?, 0, 0, BYTES)
            .context(engine.name())?;
    }
    Ok(())
}

fn kernel_moves(context: &Context) -> Result<()> {
    const BYTES: u64 = 1 << 20;
    let device = context.open()?;
    let mut channel = channel_with(&device, Engine::Ce0)?;
    let pattern = Pattern::new(9);
    let source = filled(&device, BYTES, pattern)?;
    let back = Buffer::new(&device, Domain::Gart, BYTES)?;
    let mut moved = Buffer::new(&device, Domain::Any, BYTES)?;
    copy_all(&mut channel, Engine::Ce0, &source, &moved, BYTES)?;
    for domain in [Domain::Gart, Domain::Vram] {
        moved.place(domain);
        copy_all(&mut channel, Engine::Ce0, &moved, &back, BYTES)?;
        let location = moved.location()?;
        ensure!(location == domain, "The buffer is in {location:?}");
        pattern
            .check(back.quads()?, 0, 0, BYTES)
            .with_context(|| format!("in {domain:?}"))?;
        Pattern::new(0).fill(back.quads()?);
    }
    Ok(())
}

fn all_on_one_channel(context: &Context) -> Result<()> {
    const BYTES: u64 = 300_000;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let mut push = Push::new();
    for engine in Engine::ALL {
        engine.attach(&channel, &mut push)?;
    }
    let pattern = Pattern::new(8);
    let source = filled(&device, BYTES, pattern)?;
    let buffers = [
        Buffer::new(&device, Domain::Vram, BYTES)?,
        Buffer::new(&device, Domain::Gart, BYTES)?,
        Buffer::new(&device, Domain::Vram, BYTES)?,
        Buffer::new(&device, Domain::Gart, BYTES)?,
    ];
    // Each hop by another engine: the host has to wait for one before it feeds the next.
    let mut from = &source;
    for (hop, to) in buffers.iter().enumerate() {
        let engine = Engine::ALL[hop % Engine::ALL.len()];
        engine.linear(&mut push, from.address(), to.address(), BYTES);
        from = to;
    }
    let used: Vec<_> = buffers
        .iter()
        .map(|buffer| (buffer, Access::ReadWrite))
        .chain([(&source, Access::Read)])
        .collect();
    channel.run(&push, &used, LIMIT)?;
    pattern.check(from.quads()?, 0, 0, BYTES)?;
    Ok(())
}

fn overlapping_channels(context: &Context) -> Result<()> {
    const BYTES: u64 = 1 << 20;
    const CHANNELS: usize = 9;
    const ROUNDS: u64 = 4;
    let device = context.open()?;
    let mut lanes = Vec::new();
    for index in 0..CHANNELS {
        let engine = Engine::ALL[index % Engine::ALL.len()];
        let channel = channel_with(&device, engine)?;
        let source = Buffer::new(&device, Domain::Gart, BYTES)?;
        let vram = Buffer::new(&device, Domain::Vram, BYTES)?;
        let back = Buffer::new(&device, Domain::Gart, BYTES)?;
        lanes.push((engine, channel, source, vram, back));
    }
    for round in 0..ROUNDS {
        let mut fences = Vec::new();
        for (index, (engine, channel, source, vram, back)) in lanes.iter_mut().enumerate() {
            Pattern::new(round << 8 | index as u64).fill(source.quads()?);
            let mut push = Push::new();
            engine.linear(&mut push, source.address(), vram.address(), BYTES);
            engine.linear(&mut push, vram.address(), back.address(), BYTES);
            let used = [
                (&*source, Access::Read),
                (&*vram, Access::ReadWrite),
                (&*back, Access::Write),
            ];
            fences.push(channel.post_fenced(&push, &used)?);
        }
        for (index, (engine, channel, _, _, back)) in lanes.iter().enumerate() {
            channel.wait(fences[index], LIMIT)?;
            Pattern::new(round << 8 | index as u64)
                .check(back.quads()?, 0, 0, BYTES)
                .with_context(|| format!("round {round}, channel {index}, {}", engine.name()))?;
        }
    }
    Ok(())
}

fn inline(context: &Context) -> Result<()> {
    const BYTES: u64 = 64 << 10;
    let device = context.open()?;
    let mut channel = channel_with(&device, Engine::M2mf)?;
    let (content, canary) = (Pattern::new(13), Pattern::new(14));
    let target = filled(&device, BYTES, canary)?;
    for words in [1u64, 2, 100, 2047, 8191] {
        canary.fill(target.quads()?);
        let data: Vec<u32> = (0..words).map(|word| content.word(word * 4)).collect();
        let mut push = Push::new();
        inline_upload(&mut push, target.address(), &data);
        channel.run(&push, &[(&target, Access::Write)], LIMIT)?;
        let end = words * 4;
        let context = || format!("{words} words");
        content
            .check(target.quads()?, 0, 0, end)
            .with_context(context)?;
        canary
            .check(target.quads()?, end, end, BYTES - end)
            .with_context(context)?;
    }
    Ok(())
}

fn remap(context: &Context) -> Result<()> {
    const PIXELS: u32 = 256;
    /// Four components of one byte, x and z exchanged, w filled: selectors 2, 1, 0, constant.
    const FORMAT: u32 = copy::SELECT_CONST0 << 12 | 1 << 4 | 2 | 3 << 20 | 3 << 24;
    const FILL: u32 = 0x7f;
    let device = context.open()?;
    let content = Pattern::new(15);
    let source = filled(&device, 4096, content)?;
    let target = Buffer::new(&device, Domain::Gart, 4096)?;
    for engine in [Engine::Ce0, Engine::Ce1] {
        let mut channel = channel_with(&device, engine)?;
        Pattern::new(16).fill(target.quads()?);
        let subchannel = engine.subchannel();
        let mut push = Push::new();
        push.incr(subchannel, copy::FORMAT, &[FORMAT, FILL, 0]);
        let [from, to] = [source.address(), target.address()];
        let words = [from, to]
            .map(|address| [(address >> 32) as u32, address as u32])
            .concat();
        push.incr(subchannel, copy::SRC_ADDRESS_HIGH, &words);
        push.incr(
            subchannel,
            copy::SRC_PITCH,
            &[PIXELS * 4, PIXELS * 4, PIXELS, 1],
        );
        let exec = copy::exec::FORMAT | copy::exec::SRC_LINEAR | copy::exec::DST_LINEAR;
        push.incr(subchannel, copy::EXEC, &[exec]);
        channel.run(
            &push,
            &[(&source, Access::Read), (&target, Access::Write)],
            LIMIT,
        )?;
        for pixel in 0..u64::from(PIXELS) {
            let component = |index: u64| content.byte(pixel * 4 + index);
            let expected = [component(2), component(1), component(0), FILL as u8];
            let found = target.read(pixel * 4)?.to_le_bytes();
            ensure!(
                found == expected,
                "{}: pixel {pixel}: {found:?}",
                engine.name()
            );
        }
    }
    Ok(())
}

fn query(context: &Context) -> Result<()> {
    const BYTES: u32 = 4096;
    const CANARY: u32 = 0x5555_5555;
    let device = context.open()?;
    let source = filled(&device, BYTES.into(), Pattern::new(17))?;
    let target = Buffer::new(&device, Domain::Gart, BYTES.into())?;
    for engine in Engine::ALL {
        let mut channel = channel_with(&device, engine)?;
        for short in [false, true] {
            let report = Semaphore::new(&device)?;
            for word in 0..4 {
                report.buffer().write(word * 4, CANARY)?;
            }
            let before = device.param(guest::Param::PtimerTime)?;
            let mut push = Push::new();
            engine.rectangle(
                &mut push,
                Place::pitch(source.address(), BYTES),
                Place::pitch(target.address(), BYTES),
                BYTES,
                1,
                Some(Query {
                    address: report.address(0),
                    sequence: 77,
                    short,
                }),
            );
            let used = [
                (&source, Access::Read),
                (&target, Access::Write),
                (report.buffer(), Access::Write),
            ];
            channel.run(&push, &used, LIMIT)?;
            let after = device.param(guest::Param::PtimerTime)?;
            let name = engine.name();
            ensure!(
                report.value(0)? == 77,
                "{name}: sequence {:#x}",
                report.value(0)?
            );
            if short {
                ensure!(
                    report.word(0, 1)? == CANARY,
                    "{name}: a short query wrote more"
                );
            } else {
                let time = report.time(0)?;
                ensure!(
                    (before..=after).contains(&time),
                    "{name}: {time} in {before}..{after}"
                );
            }
        }
        check_channel(&mut channel)?;
    }
    Ok(())
}
