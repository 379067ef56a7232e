//! What a workload is, and running one.

use std::{fmt, ops::Range};

use anyhow::Result;
use clap::ValueEnum;
use fastrand::Rng;
use serde::Serialize;

use crate::{
    agreement::Agreement,
    gpu::{Counts, Gpu, Phases},
};

/// How much to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Ends within seconds on the software card.
    Small,
    /// Takes up to a minute or so.
    Medium,
    /// What a graphics card is bought for.
    Large,
}

impl Size {
    /// The value for this size of those for `small`, `medium` and `large`.
    pub fn of<T: Copy>(self, values: [T; 3]) -> T {
        values[self as usize]
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of(["small", "medium", "large"]))
    }
}

/// A program for the device, its input and the result that it should have.
pub trait Workload: Sized {
    /// What it is called.
    const NAME: &'static str;
    /// What it computes, in one line.
    const ABOUT: &'static str;
    /// Its kernels in OpenCL C.
    const SOURCE: &'static str;
    /// What comes back from the device.
    type Output;

    /// Makes the input.
    fn prepare(size: Size, random: &mut Rng) -> Self;

    /// Computes on the device.
    ///
    /// # Errors
    ///
    /// When the device fails.
    fn run(&self, gpu: &mut Gpu) -> Result<Self::Output>;

    /// Computes on the CPU, in the plainest way.
    fn reference(&self) -> Self::Output;

    /// Compares what the device computed with the reference.
    fn compare(&self, expected: &Self::Output, found: &Self::Output) -> Agreement;
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// How much.
    pub size: Size,
    /// What the input is made from.
    pub seed: u64,
    /// How often, each time with a context of its own.
    pub repeat: u32,
    /// Part of the name of the device.
    pub device: String,
}

/// One run of a workload: a line with `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The workload's name.
    pub workload: &'static str,
    /// How much was computed.
    pub size: Size,
    /// What the input was made from.
    pub seed: u64,
    /// Which repetition this was, from 0.
    pub repetition: u32,
    /// `PLATFORM: DEVICE`.
    pub device: String,
    /// Where the time went.
    pub phases: Phases,
    /// What was moved and launched.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether the result is right.
    pub checked: bool,
    /// How right it is.
    #[serde(flatten)]
    pub agreement: Agreement,
}

/// A workload by name.
pub struct Entry {
    /// What it is called.
    pub name: &'static str,
    /// What it computes, in one line.
    pub about: &'static str,
    /// Runs it and hands each repetition to the closure.
    pub run: fn(&Request, Report<'_>) -> Result<()>,
}

/// Receives each run of a workload.
pub type Report<'a> = &'a mut dyn FnMut(Run) -> Result<()>;

impl Entry {
    /// That of a type.
    pub const fn of<W: Workload>() -> Self {
        Self {
            name: W::NAME,
            about: W::ABOUT,
            run: run::<W>,
        }
    }
}

fn run<W: Workload>(request: &Request, report: Report<'_>) -> Result<()> {
    let workload = W::prepare(request.size, &mut Rng::with_seed(request.seed));
    let expected = workload.reference();
    for repetition in 0..request.repeat {
        let mut gpu = Gpu::new(&request.device, W::SOURCE)?;
        let device = gpu.device().to_owned();
        let found = workload.run(&mut gpu)?;
        let (phases, counts) = gpu.close()?;
        let agreement = workload.compare(&expected, &found);
        report(Run {
            workload: W::NAME,
            size: request.size,
            seed: request.seed,
            repetition,
            device,
            phases,
            counts,
            checked: agreement.passed(),
            agreement,
        })?;
    }
    Ok(())
}

/// `len` numbers from `range`.
pub fn floats(random: &mut Rng, len: usize, range: Range<f32>) -> Vec<f32> {
    let width = range.end - range.start;
    (0..len)
        .map(|_| range.start + random.f32() * width)
        .collect()
}
