//! A kernel that does nothing: what a launch costs.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, exact},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

/// Bytes that no launch may change.
const WITNESS: usize = 4096;

/// Launches of nothing.
pub struct Nop {
    launches: u32,
    witness: Vec<u32>,
}

impl Workload for Nop {
    const NAME: &'static str = "nop";
    const ABOUT: &'static str = "empty kernels, one after the other";
    const SOURCE: &'static str = include_str!("nop.cl");
    type Output = Vec<u32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self {
            launches: size.of([16, 256, 4096]),
            witness: (0..WITNESS / 4).map(|_| random.u32(..)).collect(),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<u32>> {
        let witness = gpu.upload(&self.witness)?;
        for _ in 0..self.launches {
            gpu.launch("nop", Grid::line(1, 1), args![])?;
        }
        gpu.read(witness)
    }

    fn reference(&self) -> Vec<u32> {
        self.witness.clone()
    }

    fn compare(&self, expected: &Vec<u32>, found: &Vec<u32>) -> Agreement {
        exact(expected, found)
    }
}
