//! Work without an end, for others to compete with.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use guest::{Channel, Device, Push};
use serde::Serialize;

use crate::LoadArguments;
use crate::work::Work;

/// How long one submission may take: others have their turns in between.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked whether a submission is over: the longer it takes, the less. Others are
/// under way meanwhile, and a guest that looks all the time takes a processor from its host.
const NAPS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// What a load did.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "load")]
struct Total {
    /// The engine that copied, or `kernel`.
    work: &'static str,
    /// Channels that took turns.
    channels: u8,
    /// Bytes of a copy, turns of a kernel.
    size: u64,
    /// Copies or kernels that are over.
    count: u64,
    /// How long all of them took.
    seconds: f64,
    /// By second, how many were over then.
    counts: Vec<u64>,
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
    let work = Work::new(&device, arguments)?;
    let mut contexts = (0..arguments.channels)
        .map(|_| Context::new(&device, &work, arguments.batch))
        .collect::<Result<Vec<_>>>()?;
    work.prepare(&mut contexts[0].channel, LIMIT)?;

    let mut progress = Progress::new(arguments.batch);
    let mut chance = Chance(work.size() ^ u64::from(arguments.ahead));
    let mut burst = 0;
    let end = progress.begin + Duration::from_secs(arguments.seconds);
    let most = arguments.ahead.max(1) as usize;
    let is_over = || Instant::now() >= end || arguments.until.as_ref().is_some_and(|f| f.exists());
    for turn in (0..contexts.len()).cycle() {
        if is_over() {
            break;
        }
        if arguments.burst != 0 && burst == arguments.burst {
            for context in &mut contexts {
                context.finish(0, &mut progress)?;
                context.channel.retire()?;
            }
            burst = 0;
            thread::sleep(Duration::from_millis(chance.below(arguments.sleep + 1)));
            continue;
        }
        let context = &mut contexts[turn];
        context.finish(most - 1, &mut progress)?;
        context.submit(&work)?;
        burst += 1;
    }
    for context in &mut contexts {
        context.finish(0, &mut progress)?;
    }
    let seconds = progress.begin.elapsed().as_secs_f64();
    for context in &contexts {
        context.channel.retire()?;
    }
    work.check(&mut contexts[0].channel, LIMIT)?;

    let count = progress.count();
    let Progress {
        mut times, counts, ..
    } = progress;
    times.sort_unstable_by(f64::total_cmp);
    let of_hundred = |n: usize| {
        let last = times.len().saturating_sub(1);
        times.get(last * n / 100).copied().unwrap_or(0.0)
    };
    let total = Total {
        work: work.name(),
        channels: arguments.channels,
        size: work.size(),
        count,
        seconds,
        counts,
        median_us: of_hundred(50),
        p99_us: of_hundred(99),
        max_us: of_hundred(100),
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&total)?);
        return Ok(());
    }
    let what = match &work {
        Work::Copy { .. } => format!("copies of {} KiB by {}", work.size() >> 10, work.name()),
        Work::Kernel { .. } => format!("kernels of {} turns", work.size()),
    };
    println!(
        "{count} {what} in {seconds:.1} s; a submission takes {:.0} us at the median, 99 % {:.0} us, \
         the longest {:.0} us",
        total.median_us, total.p99_us, total.max_us
    );
    Ok(())
}

/// How far it is.
struct Progress {
    begin: Instant,
    /// Copies or kernels of a submission.
    batch: u32,
    /// What submissions took, in microseconds.
    times: Vec<f64>,
    /// By second, what was over then.
    counts: Vec<u64>,
}

impl Progress {
    fn new(batch: u32) -> Self {
        Self {
            begin: Instant::now(),
            batch,
            times: Vec::new(),
            counts: Vec::new(),
        }
    }

    /// Copies or kernels that are over.
    fn count(&self) -> u64 {
        self.times.len() as u64 * u64::from(self.batch)
    }

    /// A submission that was made at `since` is over.
    fn done(&mut self, since: Instant) {
        let seconds = self.begin.elapsed().as_secs() as usize;
        let before = self.count();
        while self.counts.len() < seconds {
            self.counts.push(before);
        }
        self.times.push(since.elapsed().as_secs_f64() * 1e6);
    }
}

/// A channel and what it has been given.
struct Context {
    channel: Channel,
    push: Push,
    under_way: VecDeque<(u32, Instant)>,
}

impl Context {
    fn new(device: &Arc<Device>, work: &Work, batch: u32) -> Result<Self> {
        let mut channel = Channel::new(device)?;
        let push = work.attach(&mut channel, batch, LIMIT)?;
        Ok(Self {
            channel,
            push,
            under_way: VecDeque::new(),
        })
    }

    fn submit(&mut self, work: &Work) -> Result<()> {
        let since = Instant::now();
        let fence = self.channel.post_fenced(&self.push, &work.buffers())?;
        self.under_way.push_back((fence, since));
        Ok(())
    }

    /// Waits until at most `left` submissions are under way.
    fn finish(&mut self, left: usize, progress: &mut Progress) -> Result<()> {
        while self.under_way.len() > left
            && let Some((fence, since)) = self.under_way.pop_front()
        {
            let begin = Instant::now();
            while !self.channel.passed(fence)? {
                if begin.elapsed() > LIMIT {
                    bail!("A submission is not over after {} s", LIMIT.as_secs());
                }
                thread::sleep((since.elapsed() / 16).clamp(NAPS[0], NAPS[1]));
            }
            progress.done(since);
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
