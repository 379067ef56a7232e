//! What a test case is, and what cases share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use guest::pattern::Pattern;
use guest::{Buffer, Channel, Device, Domain};

/// How long one piece of GPU work may take before a case gives up on it.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A named check.
#[derive(Debug)]
pub struct Case {
    /// Name within its group.
    pub name: &'static str,
    /// What is checked, in a few words.
    pub about: &'static str,
    /// Most seconds that the case may take.
    pub seconds: u64,
    /// The check itself.
    pub run: fn(&Context) -> Result<()>,
}

/// What a case is given.
#[derive(Debug)]
pub struct Context {
    /// The render node to use, if not the first.
    pub device: Option<PathBuf>,
    /// Whether cases that can go on for long do.
    pub large: bool,
    /// How many channels clients may have at once.
    pub channels: usize,
}

/// The reason why a case does not apply here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

impl Context {
    /// Opens the card: a client with an address space of its own.
    pub fn open(&self) -> Result<Arc<Device>> {
        Ok(match &self.device {
            Some(path) => Device::open(path)?,
            None => Device::open_any()?,
        })
    }

    /// How often a case does something: `few` times, or `many`.
    pub fn times(&self, few: usize, many: usize) -> usize {
        if self.large { many } else { few }
    }

    /// Shows that the case is alive.
    pub fn progress(&self, text: &str) {
        println!("# {text}");
    }
}

/// Leaves the case as not applicable.
pub fn skip(why: impl Into<String>) -> anyhow::Error {
    Skip(why.into()).into()
}

/// A GART buffer with a pattern.
pub fn filled(device: &Arc<Device>, bytes: u64, pattern: Pattern) -> Result<Buffer> {
    let buffer = Buffer::new(device, Domain::Gart, bytes)?;
    pattern.fill(buffer.quads()?);
    Ok(buffer)
}

/// Checks that a channel is alive by letting its host write a semaphore.
pub fn check_channel(channel: &mut Channel) -> Result<()> {
    channel.finish(LIMIT)?;
    ensure!(
        !channel.is_dead()?,
        "channel {} is dead after a fence",
        channel.id()
    );
    Ok(())
}
