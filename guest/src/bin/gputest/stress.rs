//! Much of everything.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use guest::copy::Engine;
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Param, Push, uapi};

use crate::case::{Case, Context, LIMIT, check_channel, filled, skip};
use crate::runner;
use crate::worker::{self, Job};

pub const CASES: &[Case] = &[
    Case {
        name: "channel-cycles",
        about: "channels are created, used and destroyed, one after the other",
        seconds: 600,
        run: channel_cycles,
    },
    Case {
        name: "client-cycles",
        about: "clients come and go",
        seconds: 600,
        run: client_cycles,
    },
    Case {
        name: "all-channels",
        about: "as many channels as there are, of ten clients, work at once",
        seconds: 600,
        run: all_channels,
    },
    Case {
        name: "many-buffers",
        about: "one submission uses 1000 buffers",
        seconds: 600,
        run: many_buffers,
    },
    Case {
        name: "random-copies",
        about: "random copies on random engines agree with a model",
        seconds: 600,
        run: random_copies,
    },
    Case {
        name: "two-processes",
        about: "two processes copy and check at the same time",
        seconds: 600,
        run: two_processes,
    },
    Case {
        name: "killed-clients",
        about: "clients are killed in the middle of their work",
        seconds: 600,
        run: killed_clients,
    },
    Case {
        name: "vram-pressure",
        about: "more buffers than VRAM: evicted content comes back",
        seconds: 600,
        run: vram_pressure,
    },
];

fn channel_cycles(context: &Context) -> Result<()> {
    let cycles = context.times(60, 600);
    let device = context.open()?;
    for cycle in 0..cycles {
        let mut channel = Channel::new(&device)?;
        let mut push = Push::new();
        // Every engine has its own context to bring up and down.
        if cycle % 5 == 0 {
            Engine::ALL[cycle / 5 % Engine::ALL.len()].attach(&channel, &mut push)?;
        }
        channel
            .run(&push, &[], LIMIT)
            .with_context(|| format!("cycle {cycle}"))?;
        if (cycle + 1) % 50 == 0 {
            context.progress(&format!("channel-cycles {}/{cycles}", cycle + 1));
        }
    }
    Ok(())
}

fn client_cycles(context: &Context) -> Result<()> {
    for cycle in 0..context.times(16, 80) {
        let device = context.open()?;
        let buffer = Buffer::new(&device, Domain::Any, 64 << 10)?;
        if cycle % 4 == 0 {
            check_channel(&mut Channel::new(&device)?).with_context(|| format!("cycle {cycle}"))?;
        }
        ensure!(
            !buffer.is_busy()?,
            "cycle {cycle}: an unused buffer is busy"
        );
    }
    Ok(())
}

fn all_channels(context: &Context) -> Result<()> {
    /// Linux 6.1 allows a client sixteen channels.
    const CLIENTS: usize = 10;
    let mut channels = Vec::new();
    for client in 0..CLIENTS {
        let device = context.open()?;
        for _ in 0..context.channels / CLIENTS {
            let channel = Channel::new(&device);
            channels.push(channel.with_context(|| format!("channel {}", channels.len()))?);
        }
        context.progress(&format!("all-channels {}/{CLIENTS}", client + 1));
    }
    for _ in 0..3 {
        let mut fences = Vec::new();
        for channel in &mut channels {
            fences.push(channel.post_fenced(&Push::new(), &[])?);
        }
        for (channel, fence) in channels.iter().zip(fences) {
            channel.wait(fence, LIMIT)?;
        }
    }
    Ok(())
}

fn many_buffers(context: &Context) -> Result<()> {
    const BYTES: u64 = 4096;
    let count = uapi::GEM_MAX_BUFFERS - 24;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let mut push = Push::new();
    Engine::Ce0.attach(&channel, &mut push)?;
    let source = filled(&device, BYTES, Pattern::new(60))?;
    let mut buffers = Vec::new();
    for _ in 0..count {
        buffers.push(Buffer::new(&device, Domain::Gart, BYTES)?);
    }
    for (index, buffer) in buffers.iter().enumerate() {
        let from = source.address() + index as u64 * 4;
        Engine::Ce0.linear(&mut push, from, buffer.address(), 4);
    }
    let used: Vec<_> = buffers
        .iter()
        .map(|buffer| (buffer, Access::Write))
        .chain([(&source, Access::Read)])
        .collect();
    channel.run(&push, &used, LIMIT)?;
    for (index, buffer) in buffers.iter().enumerate() {
        let expected = Pattern::new(60).word(index as u64 * 4);
        ensure!(
            buffer.read(0)? == expected,
            "buffer {index} has {:#x}",
            buffer.read(0)?
        );
    }
    Ok(())
}

/// A small generator, so that every run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % below
    }
}

fn random_copies(context: &Context) -> Result<()> {
    const BYTES: u64 = 64 << 10;
    const BUFFERS: u64 = 8;
    const BATCHES: u64 = 40;
    const COPIES: u64 = 25;
    let device = context.open()?;
    let mut random = Random(1);
    let mut buffers = Vec::new();
    let mut model = Vec::new();
    for index in 0..BUFFERS {
        let pattern = Pattern::new(70 + index);
        buffers.push(filled(&device, BYTES, pattern)?);
        model.push(
            (0..BYTES)
                .map(|offset| pattern.byte(offset))
                .collect::<Vec<u8>>(),
        );
    }
    let mut channels = Vec::new();
    for engine in Engine::ALL {
        let mut channel = Channel::new(&device)?;
        let mut push = Push::new();
        engine.attach(&channel, &mut push)?;
        channel.run(&push, &[], LIMIT)?;
        channels.push(channel);
    }
    let used: Vec<_> = buffers
        .iter()
        .map(|buffer| (buffer, Access::ReadWrite))
        .collect();
    for _ in 0..BATCHES {
        let lane = random.next(Engine::ALL.len() as u64) as usize;
        let mut push = Push::new();
        for _ in 0..COPIES {
            let bytes = 1 + random.next(6000);
            let (from, to) = (random.next(BUFFERS), random.next(BUFFERS - 1));
            // Never onto itself: what an overlapping copy does is not defined.
            let to = (from + 1 + to) % BUFFERS;
            let (source, target) = (random.next(BYTES - bytes), random.next(BYTES - bytes));
            Engine::ALL[lane].linear(
                &mut push,
                buffers[from as usize].address() + source,
                buffers[to as usize].address() + target,
                bytes,
            );
            let range = source as usize..(source + bytes) as usize;
            let content = model[from as usize][range].to_vec();
            let range = target as usize..(target + bytes) as usize;
            model[to as usize][range].copy_from_slice(&content);
        }
        // No wait: the kernel orders the channels by the buffers that they share.
        channels[lane].submit(&push, &used)?;
    }
    for (index, (buffer, expected)) in buffers.iter().zip(&model).enumerate() {
        buffer.wait_idle()?;
        let memory = buffer.quads()?;
        for (offset, &expected) in expected.iter().enumerate() {
            let found = guest::pattern::byte(memory, offset as u64);
            ensure!(
                found == expected,
                "buffer {index} at {offset:#x}: {found:#x}"
            );
        }
    }
    Ok(())
}

fn two_processes(context: &Context) -> Result<()> {
    let mut children = Vec::new();
    for _ in 0..2 {
        children.push(worker::start(context, Job::Copy)?);
    }
    for (index, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            bail!(
                "Process {index} ended with {}: {}",
                output.status,
                said.trim()
            );
        }
    }
    Ok(())
}

fn killed_clients(context: &Context) -> Result<()> {
    /// A client that goes leaves the kernel to wait for the work of each of its channels.
    const GRACE: Duration = Duration::from_secs(60);
    let mut random = Random(2);
    let device = context.open()?;
    for round in 0..context.times(5, 20) {
        let mut child = worker::start(context, Job::CopyForEver)?;
        thread::sleep(Duration::from_millis(200 + random.next(300)));
        if let Some(status) = child.try_wait()? {
            bail!("The client of round {round} ended by itself with {status}");
        }
        ensure!(
            runner::end(&mut child, GRACE),
            "The client of round {round} cannot be killed"
        );
        check_channel(&mut Channel::new(&device)?).with_context(|| format!("round {round}"))?;
    }
    worker::copy_rounds(&device, 3)
}

fn vram_pressure(context: &Context) -> Result<()> {
    const BYTES: u64 = 8 << 20;
    const CHUNK: u64 = 64 << 10;
    /// VRAM above this is not filled: the testbed keeps it in memory.
    const SENSIBLE: u64 = 2 << 30;
    let device = context.open()?;
    let vram = device.param(Param::VramSize)?;
    if vram > SENSIBLE {
        return Err(skip(format!(
            "{} MiB of VRAM are too much to fill",
            vram >> 20
        )));
    }
    let excess = (vram / 8).max(64 << 20);
    let free = available_memory().unwrap_or_default();
    if free < excess * 2 {
        return Err(skip(format!(
            "{} MiB of memory cannot take what is evicted",
            free >> 20
        )));
    }
    let count = (vram + excess) / BYTES;
    let mut channel = Channel::new(&device)?;
    let mut push = Push::new();
    Engine::Ce0.attach(&channel, &mut push)?;
    channel.run(&push, &[], LIMIT)?;
    let staging = Buffer::new(&device, Domain::Gart, CHUNK)?;
    // Beginning, middle and end of each buffer carry content of their own.
    let places = [0, BYTES / 2 + 12_345 / 8 * 8, BYTES - CHUNK];
    let mut buffers = Vec::new();
    for index in 0..count {
        let buffer = Buffer::new(&device, Domain::Vram, BYTES)
            .with_context(|| format!("buffer {index} of {count}"))?;
        for (place, offset) in places.into_iter().enumerate() {
            Pattern::new(index * 8 + place as u64).fill(staging.quads()?);
            let mut push = Push::new();
            Engine::Ce0.linear(
                &mut push,
                staging.address(),
                buffer.address() + offset,
                CHUNK,
            );
            let used = [(&staging, Access::Read), (&buffer, Access::Write)];
            channel.run(&push, &used, LIMIT)?;
        }
        buffers.push(buffer);
        if (index + 1) % 32 == 0 {
            context.progress(&format!("vram-pressure: filled {}/{count}", index + 1));
        }
    }
    check_back(&device, &mut channel, &buffers, &places, CHUNK, context)
}

fn check_back(
    device: &Arc<Device>,
    channel: &mut Channel,
    buffers: &[Buffer],
    places: &[u64],
    chunk: u64,
    context: &Context,
) -> Result<()> {
    let back = Buffer::new(device, Domain::Gart, chunk)?;
    for (index, buffer) in buffers.iter().enumerate() {
        for (place, offset) in places.iter().enumerate() {
            let mut push = Push::new();
            Engine::Ce0.linear(&mut push, buffer.address() + offset, back.address(), chunk);
            channel.run(
                &push,
                &[(buffer, Access::Read), (&back, Access::Write)],
                LIMIT,
            )?;
            Pattern::new(index as u64 * 8 + place as u64)
                .check(back.quads()?, 0, 0, chunk)
                .with_context(|| format!("buffer {index} at {offset:#x}"))?;
        }
        if (index + 1) % 32 == 0 {
            context.progress(&format!(
                "vram-pressure: checked {}/{}",
                index + 1,
                buffers.len()
            ));
        }
    }
    Ok(())
}

/// Memory that the guest can still hand out, in bytes.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib << 10)
}
