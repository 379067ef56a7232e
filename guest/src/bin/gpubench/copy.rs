//! Bandwidth and latency of the copying engines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use guest::copy::{APART, Engine};
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Push};

use crate::CopyArguments;
use crate::report::{Bandwidth, Direction, Latency, Line, Report, size};

/// Smallest copy whose bandwidth is measured; below, latency says more.
const SMALLEST: u64 = 4096;
/// Sizes grow by this factor.
const STEP: u64 = 4;
/// Words of a stream that keep it within a channel's command buffer.
const STREAM_WORDS: usize = 32 << 10;
/// How long one submission may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Rounds of each measurement that last as long as they should. The best one counts: what a busy
/// host takes away from one is not the card's.
const ROUNDS: u32 = 3;
/// Copies of a round that counts: with fewer, a submission that had to wait for a busy host is all that
/// was measured.
const ENOUGH: u64 = 8;
/// But no more than these many times as long as it should last.
const TOO_LONG: u32 = 20;
/// Operations of a round of which the latency is taken.
const SAMPLES: usize = 100;
/// The kinds of waiting.
const WAITS: [&str; 2] = ["poll", "interrupt"];

/// The buffers between which engines copy.
struct Memory {
    host: [Buffer; 2],
    device: [Buffer; 2],
}

impl Memory {
    fn new(device: &Arc<Device>, bytes: u64) -> Result<Self> {
        let host = || Buffer::new(device, Domain::Gart, bytes);
        let vram = |bytes| Buffer::new(device, Domain::Vram, bytes);
        Ok(Self {
            host: [host()?, host()?],
            device: [vram(bytes)?, vram(bytes + APART)?],
        })
    }

    fn ends(&self, direction: Direction) -> [End<'_>; 2] {
        let end = |buffer, offset| End { buffer, offset };
        let (host, device) = (&self.host, &self.device);
        match direction {
            Direction::HtoD => [end(&host[0], 0), end(&device[0], 0)],
            Direction::DtoH => [end(&device[0], 0), end(&host[1], 0)],
            Direction::DtoD => [end(&device[0], 0), end(&device[1], APART)],
        }
    }
}

/// Where a copy begins, or goes.
struct End<'a> {
    buffer: &'a Buffer,
    offset: u64,
}

impl End<'_> {
    fn address(&self) -> u64 {
        self.buffer.address() + self.offset
    }
}

/// Runs the whole benchmark and prints its results.
pub fn measure(arguments: &CopyArguments) -> Result<()> {
    let device = match &arguments.device {
        Some(path) => Device::open(path)?,
        None => Device::open_any()?,
    };
    let largest = arguments.max.max(1) << 20;
    let sizes: Vec<u64> = std::iter::successors(Some(SMALLEST), |bytes| Some(bytes * STEP))
        .take_while(|&bytes| bytes <= largest)
        .collect();
    let total = Engine::ALL.len() * Direction::ALL.len() * sizes.len()
        + (Engine::ALL.len() + 1) * WAITS.len();
    let mut report = Report::new(arguments.json);
    let mut done = 0;
    let mut progress = |report: &mut Report, what: String| {
        let line = Line::Progress { done, total, what };
        done += 1;
        report.add(line)
    };

    let memory = Memory::new(&device, largest)?;
    let content = Pattern::new(1);
    content.fill(memory.host[0].quads()?);
    for engine in Engine::ALL {
        let mut channel = attach(&device, Some(engine))?;
        check(&mut channel, engine, &memory, content, sizes[0])
            .with_context(|| format!("{} does not copy", engine.name()))?;
        for direction in Direction::ALL {
            for &bytes in &sizes {
                let name = engine.name();
                progress(&mut report, format!("{name} {direction:?} {}", size(bytes)))?;
                let time = Duration::from_millis(arguments.time);
                let (copies, elapsed) =
                    bandwidth(&mut channel, engine, memory.ends(direction), bytes, time)?;
                let mib_per_s = (copies * bytes) as f64 / f64::from(1 << 20) / elapsed;
                report.add(Line::Copy(Bandwidth {
                    engine: name,
                    direction,
                    bytes,
                    copies,
                    mib_per_s,
                }))?;
            }
        }
    }
    for engine in [None].into_iter().chain(Engine::ALL.map(Some)) {
        let mut channel = attach(&device, engine)?;
        let operation = engine.map_or("host", Engine::name);
        for wait in WAITS {
            progress(&mut report, format!("{operation} {wait} latency"))?;
            let rounds = (0..ROUNDS).map(|_| latency(&mut channel, engine, &memory, wait));
            let rounds = rounds.collect::<Result<Vec<_>>>()?;
            let median = |times: &Vec<f64>| times[times.len() / 2];
            let best = rounds
                .into_iter()
                .min_by(|a, b| median(a).total_cmp(&median(b)));
            let times = best.context("No round was measured")?;
            report.add(Line::Latency(Latency {
                operation,
                wait,
                samples: times.len(),
                median_us: times[times.len() / 2],
                p99_us: times[times.len() * 99 / 100],
            }))?;
        }
    }
    print!("{}", report.tables());
    Ok(())
}

fn attach(device: &Arc<Device>, engine: Option<Engine>) -> Result<Channel> {
    let mut channel = Channel::new(device)?;
    let mut push = Push::new();
    if let Some(engine) = engine {
        engine.attach(&channel, &mut push)?;
    }
    channel.run(&push, &[], LIMIT)?;
    Ok(channel)
}

/// A figure only counts for an engine that copies at all.
fn check(
    channel: &mut Channel,
    engine: Engine,
    memory: &Memory,
    content: Pattern,
    bytes: u64,
) -> Result<()> {
    Pattern::new(0).fill(memory.host[1].quads()?);
    for direction in [Direction::HtoD, Direction::DtoH] {
        let [from, to] = memory.ends(direction);
        let mut push = Push::new();
        engine.linear(&mut push, from.address(), to.address(), bytes);
        let used = [(from.buffer, Access::Read), (to.buffer, Access::Write)];
        channel.run(&push, &used, LIMIT)?;
    }
    content.check(memory.host[1].quads()?, 0, 0, bytes)?;
    Ok(())
}

/// Copies again and again, in rounds of about `time` each; the number of copies in the best round
/// and the seconds that it took.
fn bandwidth(
    channel: &mut Channel,
    engine: Engine,
    [from, to]: [End<'_>; 2],
    bytes: u64,
    time: Duration,
) -> Result<(u64, f64)> {
    let mut one = Push::new();
    engine.linear(&mut one, from.address(), to.address(), bytes);
    let most = (STREAM_WORDS / one.words().len()) as u64;
    let (mut copies, mut rounds) = (1, 0);
    let mut best = (1, f64::INFINITY);
    while rounds < ROUNDS {
        let mut push = Push::new();
        for _ in 0..copies {
            push.raw(one.words());
        }
        let start = Instant::now();
        let used = [(from.buffer, Access::Read), (to.buffer, Access::Write)];
        let fence = channel.post_fenced(&push, &used)?;
        channel.wait(fence, LIMIT)?;
        let elapsed = start.elapsed();
        channel.retire()?;
        let counts =
            (elapsed >= time && copies >= ENOUGH) || elapsed >= TOO_LONG * time || copies == most;
        rounds += u32::from(counts);
        // Never trust the first few microseconds.
        let seconds = elapsed.as_secs_f64().max(1e-6);
        if copies as f64 / seconds > best.0 as f64 / best.1 {
            best = (copies, seconds);
        }
        // Aim a little beyond the time, with what the guest does when nobody takes its processor.
        let wanted = time.as_secs_f64() * 1.2 * best.0 as f64 / best.1;
        let least = if counts { copies } else { 2 * copies };
        copies = (wanted as u64).clamp(least, 16 * copies).clamp(1, most);
    }
    Ok(best)
}

/// Times of a round of small operations in microseconds, sorted.
fn latency(
    channel: &mut Channel,
    engine: Option<Engine>,
    memory: &Memory,
    wait: &str,
) -> Result<Vec<f64>> {
    let [from, to] = memory.ends(Direction::HtoD);
    let mut push = Push::new();
    match engine {
        Some(engine) => engine.linear(&mut push, from.address(), to.address(), 4),
        None => _ = push.raw(&[0]),
    }
    let used = [(from.buffer, Access::Read), (to.buffer, Access::Write)];
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let start = Instant::now();
        if wait == WAITS[0] {
            let fence = channel.post_fenced(&push, &used)?;
            channel.wait(fence, LIMIT)?;
        } else {
            channel.submit(&push, &used)?;
            to.buffer.wait_idle()?;
        }
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    // The buffers go on to other channels, so their last fence has to be in order.
    channel.run(&push, &used, LIMIT)?;
    ensure!(!channel.is_dead()?, "The channel died under measurement");
    times.sort_unstable_by(f64::total_cmp);
    Ok(times)
}
