//! Second processes for cases that need them.

use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use guest::copy::Engine;
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Push};

use crate::case::{Context, LIMIT};
use crate::runner;

/// What a second process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// Copies, checks, and ends.
    Copy,
    /// Copies and checks until it is killed.
    CopyForEver,
}

/// Rounds of [`Job::Copy`].
const ROUNDS: u64 = 40;

/// Starts a process that does `job`.
pub fn start(context: &Context, job: Job) -> Result<Child> {
    let name = match job {
        Job::Copy => "copy",
        Job::CopyForEver => "copy-for-ever",
    };
    runner::itself(context)
        .args(["--worker", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("Cannot start a process")
}

/// Does `job` in this process.
pub fn work(context: &Context, job: Job) -> ExitCode {
    let rounds = match job {
        Job::Copy => ROUNDS,
        Job::CopyForEver => u64::MAX,
    };
    match context
        .open()
        .and_then(|device| copy_rounds(&device, rounds))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Copies through VRAM on all engines, with content that no other process has.
pub fn copy_rounds(device: &Arc<Device>, rounds: u64) -> Result<()> {
    const BYTES: u64 = 512 << 10;
    let mut lanes = Vec::new();
    for engine in Engine::ALL {
        let mut channel = Channel::new(device)?;
        let mut push = Push::new();
        engine.attach(&channel, &mut push)?;
        channel.run(&push, &[], LIMIT)?;
        lanes.push((engine, channel));
    }
    let source = Buffer::new(device, Domain::Gart, BYTES)?;
    let vram = Buffer::new(device, Domain::Vram, BYTES)?;
    let back = Buffer::new(device, Domain::Gart, BYTES)?;
    for round in 0..rounds {
        let (engine, channel) = &mut lanes[(round % Engine::ALL.len() as u64) as usize];
        let pattern = Pattern::new(u64::from(std::process::id()) << 32 | round);
        pattern.fill(source.quads()?);
        let mut push = Push::new();
        engine.linear(&mut push, source.address(), vram.address(), BYTES);
        engine.linear(&mut push, vram.address(), back.address(), BYTES);
        let used = [
            (&source, Access::Read),
            (&vram, Access::ReadWrite),
            (&back, Access::Write),
        ];
        channel.run(&push, &used, LIMIT)?;
        pattern
            .check(back.quads()?, 0, 0, BYTES)
            .with_context(|| format!("round {round}, {}", engine.name()))?;
    }
    Ok(())
}
