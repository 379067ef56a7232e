//! Copies to the device and back: `cpy` from plain memory, `pincpy` from memory that the device
//! reaches itself.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, exact},
    gpu::{Direction, Gpu},
    workload::{Size, Workload},
};

/// Numbers in a MiB.
const MIB: usize = 1 << 18;

fn numbers(size: Size, random: &mut Rng) -> Vec<u32> {
    let len = size.of([4, 64, 256]) * MIB;
    (0..len).map(|_| random.u32(..)).collect()
}

/// Through the driver's copies.
pub struct Cpy(Vec<u32>);

impl Workload for Cpy {
    const NAME: &'static str = "cpy";
    const ABOUT: &'static str = "to the device and back";
    const SOURCE: &'static str = include_str!("nop.cl");
    type Output = Vec<u32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self(numbers(size, random))
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<u32>> {
        let buffer = gpu.upload(&self.0)?;
        gpu.read(buffer)
    }

    fn reference(&self) -> Vec<u32> {
        self.0.clone()
    }

    fn compare(&self, expected: &Vec<u32>, found: &Vec<u32>) -> Agreement {
        exact(expected, found)
    }
}

/// From pinned memory, and back into other pinned memory.
pub struct Pincpy(Vec<u32>);

impl Workload for Pincpy {
    const NAME: &'static str = "pincpy";
    const ABOUT: &'static str = "to the device and back, from and to pinned memory";
    const SOURCE: &'static str = include_str!("nop.cl");
    type Output = Vec<u32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self(numbers(size, random))
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<u32>> {
        let source = gpu.pinned(self.0.len())?;
        let target = gpu.pinned(self.0.len())?;
        let buffer = gpu.buffer(self.0.len())?;
        gpu.map(source, |memory| memory.copy_from_slice(&self.0))?;
        gpu.copy(source, buffer, Direction::HostToDevice)?;
        gpu.copy(buffer, target, Direction::DeviceToHost)?;
        gpu.map(target, |memory| memory.to_vec())
    }

    fn reference(&self) -> Vec<u32> {
        self.0.clone()
    }

    fn compare(&self, expected: &Vec<u32>, found: &Vec<u32>) -> Agreement {
        exact(expected, found)
    }
}
