//! A long loop without memory: `loop` of the GPUvm paper.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, exact},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

/// Steps of a linear congruential generator, one sequence per work-item.
pub struct Loop {
    items: usize,
    steps: u32,
    seed: u32,
}

impl Workload for Loop {
    const NAME: &'static str = "loop";
    const ABOUT: &'static str = "a long loop in registers";
    const SOURCE: &'static str = include_str!("long_loop.cl");
    type Output = Vec<u32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self {
            items: size.of([2048, 16384, 65536]),
            steps: size.of([1000, 10_000, 100_000]),
            seed: random.u32(..),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<u32>> {
        let out = gpu.buffer(self.items)?;
        let grid = Grid::line(self.items, 256);
        gpu.launch("long_loop", grid, args![out, self.seed, self.steps])?;
        gpu.read(out)
    }

    fn reference(&self) -> Vec<u32> {
        // Composing the step with itself gives all the steps in their logarithm.
        let (mut factor, mut offset) = (1_u32, 0_u32);
        let (mut f, mut o) = (1_664_525_u32, 1_013_904_223_u32);
        let mut left = self.steps;
        while left > 0 {
            if left & 1 == 1 {
                (factor, offset) = (
                    f.wrapping_mul(factor),
                    f.wrapping_mul(offset).wrapping_add(o),
                );
            }
            (f, o) = (f.wrapping_mul(f), f.wrapping_mul(o).wrapping_add(o));
            left >>= 1;
        }
        (0..self.items as u32)
            .map(|item| (self.seed ^ item).wrapping_mul(factor).wrapping_add(offset))
            .collect()
    }

    fn compare(&self, expected: &Vec<u32>, found: &Vec<u32>) -> Agreement {
        exact(expected, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_steps_as_often_as_asked() {
        let by_hand = |x: u32| x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let workload = Loop {
            items: 2,
            steps: 3,
            seed: 6,
        };
        let expected = [6, 7].map(|x| by_hand(by_hand(by_hand(x))));
        assert_eq!(workload.reference(), expected);
    }
}
