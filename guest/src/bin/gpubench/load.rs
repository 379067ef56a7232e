//! Work without an end, for others to compete with.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use guest::copy::Engine;
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Push};
use serde::Serialize;

use crate::LoadArguments;

/// How long one submission may take: others have their turns in between.
const LIMIT: Duration = Duration::from_secs(60);

/// What a load did.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "load")]
struct Total {
    engine: &'static str,
    /// Channels that took turns.
    channels: u8,
    /// Bytes of a copy.
    bytes: u64,
    /// Copies that are over.
    copies: u64,
    /// How long all of them took.
    seconds: f64,
    /// From a submission to the moment when its end was seen, microseconds.
    median_us: f64,
    p99_us: f64,
    max_us: f64,
}

/// Keeps an engine busy as the arguments say; prints what was done.
pub fn run(arguments: &LoadArguments) -> Result<()> {
    let device = match &arguments.device {
        Some(path) => Device::open(path)?,
        None => Device::open_any()?,
    };
    let Some(engine) = Engine::ALL
        .into_iter()
        .find(|engine| engine.name().eq_ignore_ascii_case(&arguments.engine))
    else {
        bail!(
            "There is no engine {:?}, only ce0, ce1 and m2mf",
            arguments.engine
        );
    };
    let bytes = arguments.kib.max(1) << 10;
    let from = Buffer::new(&device, Domain::Vram, bytes)?;
    let to = Buffer::new(&device, Domain::Vram, bytes)?;
    let check = Buffer::new(&device, Domain::Gart, 4096)?;
    let mut contexts = (0..arguments.channels)
        .map(|_| Context::new(&device, engine))
        .collect::<Result<Vec<_>>>()?;
    let pattern = Pattern::new(bytes);
    pattern.fill(check.quads()?);
    let mut upload = Push::new();
    engine.linear(
        &mut upload,
        check.address(),
        from.address(),
        4096.min(bytes),
    );
    contexts[0].channel.run(
        &upload,
        &[(&check, Access::Read), (&from, Access::Write)],
        LIMIT,
    )?;

    let mut copy = Push::new();
    engine.linear(&mut copy, from.address(), to.address(), bytes);
    let used = [(&from, Access::Read), (&to, Access::Write)];
    let mut times: Vec<f64> = Vec::new();
    let mut chance = Chance(bytes ^ u64::from(arguments.ahead));
    let mut burst = 0;
    let begin = Instant::now();
    let end = begin + Duration::from_secs(arguments.seconds);
    let most = arguments.ahead.max(1) as usize;
    for turn in (0..contexts.len()).cycle() {
        if Instant::now() >= end {
            break;
        }
        if arguments.burst != 0 && burst == arguments.burst {
            for context in &mut contexts {
                context.finish(0, &mut times)?;
                context.channel.retire()?;
            }
            burst = 0;
            thread::sleep(Duration::from_millis(chance.below(arguments.sleep + 1)));
            continue;
        }
        let context = &mut contexts[turn];
        context.finish(most - 1, &mut times)?;
        let since = Instant::now();
        let fence = context.channel.post_fenced(&copy, &used)?;
        context.under_way.push_back((fence, since));
        burst += 1;
    }
    for context in &mut contexts {
        context.finish(0, &mut times)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    for context in &contexts {
        context.channel.retire()?;
    }

    Pattern::new(0).fill(check.quads()?);
    let mut download = Push::new();
    engine.linear(
        &mut download,
        to.address(),
        check.address(),
        4096.min(bytes),
    );
    contexts[0].channel.run(
        &download,
        &[(&to, Access::Read), (&check, Access::Write)],
        LIMIT,
    )?;
    pattern.check(check.quads()?, 0, 0, 4096.min(bytes))?;

    times.sort_unstable_by(f64::total_cmp);
    let of_hundred = |n: usize| {
        let last = times.len().saturating_sub(1);
        times.get(last * n / 100).copied().unwrap_or(0.0)
    };
    let total = Total {
        engine: engine.name(),
        channels: arguments.channels,
        bytes,
        copies: times.len() as u64,
        seconds,
        median_us: of_hundred(50),
        p99_us: of_hundred(99),
        max_us: of_hundred(100),
    };
    match arguments.json {
        true => println!("{}", serde_json::to_string(&total)?),
        false => println!(
            "{} copies of {} KiB by {} in {:.1} s; median {:.0} us, 99 % {:.0} us, longest {:.0} us",
            total.copies,
            arguments.kib,
            total.engine,
            total.seconds,
            total.median_us,
            total.p99_us,
            total.max_us
        ),
    }
    Ok(())
}

/// A channel and what it has been given.
struct Context {
    channel: Channel,
    under_way: VecDeque<(u32, Instant)>,
}

impl Context {
    fn new(device: &Arc<Device>, engine: Engine) -> Result<Self> {
        let mut channel = Channel::new(device)?;
        let mut attach = Push::new();
        engine.attach(&channel, &mut attach)?;
        channel.run(&attach, &[], LIMIT)?;
        Ok(Self {
            channel,
            under_way: VecDeque::new(),
        })
    }

    /// Waits until at most `left` submissions are under way; their times, in microseconds, go to
    /// `times`.
    fn finish(&mut self, left: usize, times: &mut Vec<f64>) -> Result<()> {
        while self.under_way.len() > left
            && let Some((fence, since)) = self.under_way.pop_front()
        {
            self.channel.wait(fence, LIMIT)?;
            times.push(since.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    }
}

/// Chance that repeats itself: Marsaglia's xorshift64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
