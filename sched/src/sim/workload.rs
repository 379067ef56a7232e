//! What machines do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::random::Random;
use crate::account::Engine;
use crate::{MICROSECOND, MILLISECOND, Nanos};

/// A length of time between two others, all equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The shortest.
    pub least: Nanos,
    /// The longest.
    pub most: Nanos,
}

impl Span {
    /// Always the same length.
    pub const fn exactly(length: Nanos) -> Self {
        Self {
            least: length,
            most: length,
        }
    }

    /// Any length from `least` to `most`.
    pub const fn between(least: Nanos, most: Nanos) -> Self {
        Self { least, most }
    }

    fn draw(self, random: &mut Random) -> Nanos {
        let width = self.most.saturating_sub(self.least) + 1;
        self.least + random.next() % width
    }
}

/// What one machine does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// When it begins.
    pub begin: Nanos,
    /// The length of a kernel.
    pub kernel: Span,
    /// Time on the processor between the end of a kernel and the next launch that waited for it.
    pub think: Span,
    /// Launches that may be under way at a time.
    pub ahead: u32,
    /// After so many launches it sleeps; 0 is never.
    pub burst: u32,
    /// How long it sleeps, from the last end.
    pub sleep: Span,
    /// Every so many launches a copy follows; 0 is never.
    pub copy_every: u32,
    /// The length of a copy.
    pub copy: Span,
}

impl Workload {
    /// Kernels of one length, `ahead` under way at a time.
    pub const fn kernels(kernel: Span, think: Span, ahead: u32) -> Self {
        let nothing = Span::exactly(0);
        Self {
            begin: 0,
            kernel,
            think,
            ahead,
            burst: 0,
            sleep: nothing,
            copy_every: 0,
            copy: nothing,
        }
    }
}

/// Who does what among several machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// Everyone launches kernels of 2 ms.
    Equal,
    /// Everyone launches kernels of a length of its own, 0.5 to 16 ms.
    Unlike,
    /// Every other machine waits for its kernels of 1 ms; the rest keeps 20 ms ahead.
    ShortLong,
    /// Random sleep, then 1024 launches: Vasilas, *Virtualization of accelerators* (vPHI), Athens
    /// 2015.
    Bursty,
    /// Kernels of 2 ms, each followed by a copy of 1 ms.
    Copies,
}

/// A name that is no mix's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("There is no workload {0:?}, only equal, unlike, short-long, bursty and copies")]
pub struct UnknownMix(pub String);

impl Mix {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Equal,
        Self::Unlike,
        Self::ShortLong,
        Self::Bursty,
        Self::Copies,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Unlike => "unlike",
            Self::ShortLong => "short-long",
            Self::Bursty => "bursty",
            Self::Copies => "copies",
        }
    }

    /// What machine `vm` does.
    pub fn workload(self, vm: usize) -> Workload {
        let launch = Span::between(5 * MICROSECOND, 15 * MICROSECOND);
        match self {
            Self::Equal => Workload::kernels(Span::exactly(2 * MILLISECOND), launch, 4),
            Self::Unlike => {
                let length = (MILLISECOND / 2) << (vm % 6);
                Workload::kernels(Span::between(length * 9 / 10, length * 11 / 10), launch, 4)
            }
            Self::ShortLong if vm.is_multiple_of(2) => {
                Workload::kernels(Span::exactly(MILLISECOND), launch, 1)
            }
            Self::ShortLong => Workload::kernels(Span::exactly(20 * MILLISECOND), launch, 2),
            Self::Bursty => Workload {
                burst: 1024,
                sleep: Span::between(0, 500 * MILLISECOND),
                ..Workload::kernels(Span::exactly(200 * MICROSECOND), launch, 16)
            },
            Self::Copies => Workload {
                copy_every: 1,
                copy: Span::exactly(MILLISECOND),
                ..Workload::kernels(Span::exactly(2 * MILLISECOND), launch, 4)
            },
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mix {
    type Err = UnknownMix;

    fn from_str(name: &str) -> Result<Self, UnknownMix> {
        let known = Self::ALL.into_iter().find(|mix| mix.name() == name);
        known.ok_or_else(|| UnknownMix(name.to_owned()))
    }
}

/// A launch or a copy.
pub(super) struct Job {
    pub engine: Engine,
    pub put: u32,
    pub length: Nanos,
}

/// A machine at work.
pub(super) struct Client {
    workload: Workload,
    random: Random,
    /// Value of GP_PUT of each channel.
    puts: [u32; 2],
    launched: u32,
    under_way: u32,
    /// Copies that are due.
    copies: u32,
    sleeping: bool,
}

impl Client {
    pub(super) fn new(workload: Workload, random: Random) -> Self {
        Self {
            workload,
            random,
            puts: [0; 2],
            launched: 0,
            under_way: 0,
            copies: 0,
            sleeping: false,
        }
    }

    /// When it makes its first launch.
    pub(super) fn begin(&mut self) -> Nanos {
        self.workload.begin + self.workload.think.draw(&mut self.random)
    }

    /// Makes a launch, unless enough is under way.
    pub(super) fn submit(&mut self, _now: Nanos) -> Option<Job> {
        if self.under_way >= self.workload.ahead.max(1) {
            return None;
        }
        self.sleeping = false;
        self.under_way += 1;
        let copy = self.copies > 0;
        let (engine, span) = match copy {
            true => (Engine::Copy, self.workload.copy),
            false => (Engine::Compute, self.workload.kernel),
        };
        if copy {
            self.copies -= 1;
        } else {
            self.launched += 1;
            let every = self.workload.copy_every;
            if every != 0 && self.launched.is_multiple_of(every) {
                self.copies += 1;
            }
        }
        let put = &mut self.puts[engine.index()];
        *put = put.wrapping_add(1);
        Some(Job {
            engine,
            put: *put,
            length: span.draw(&mut self.random).max(1),
        })
    }

    fn burst_is_over(&self) -> bool {
        self.workload.burst != 0 && self.launched >= self.workload.burst
    }

    /// When the next launch comes that waits for no other, after one was made.
    pub(super) fn next_arrival(&mut self, now: Nanos) -> Option<Nanos> {
        let room = self.under_way < self.workload.ahead.max(1);
        (room && !self.burst_is_over()).then(|| now + self.workload.think.draw(&mut self.random))
    }

    /// When the launch comes that waited for one that is over.
    pub(super) fn finished(&mut self, now: Nanos) -> Option<Nanos> {
        self.under_way -= 1;
        if !self.burst_is_over() {
            return Some(now + self.workload.think.draw(&mut self.random));
        }
        if self.under_way > 0 || self.sleeping {
            return None;
        }
        self.sleeping = true;
        self.launched = 0;
        Some(now + self.workload.sleep.draw(&mut self.random))
    }
}
