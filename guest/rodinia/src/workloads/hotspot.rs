//! Temperatures on a chip from the power of its parts.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload, floats},
};

const TILE: usize = 16;
/// Time steps of a launch.
const STEPS: usize = 2;

const CHIP: f32 = 0.016;
const THICKNESS: f32 = 0.0005;
const SPECIFIC_HEAT: f32 = 1.75e6;
const CONDUCTIVITY: f32 = 100.0;
/// Largest change of temperature that a step may bring, which sets its length.
const PRECISION: f32 = 0.001;
const MAX_POWER: f32 = 3.0e6;
const AMBIENT: f32 = 80.0;

/// The chip in `n` times `n` cells.
pub struct Hotspot {
    n: usize,
    /// A multiple of [`STEPS`].
    iterations: usize,
    power: Vec<f32>,
    temperature: Vec<f32>,
}

/// Factors of a step.
struct Factors {
    step_over_capacity: f32,
    rx: f32,
    ry: f32,
    rz: f32,
}

impl Hotspot {
    fn factors(&self) -> Factors {
        let cell = CHIP / self.n as f32;
        let capacity = 0.5 * SPECIFIC_HEAT * THICKNESS * cell * cell;
        let step = PRECISION / (MAX_POWER / (0.5 * THICKNESS * SPECIFIC_HEAT));
        let sideways = 2.0 * CONDUCTIVITY * THICKNESS;
        Factors {
            step_over_capacity: step / capacity,
            rx: sideways,
            ry: sideways,
            rz: CONDUCTIVITY * cell * cell / THICKNESS,
        }
    }
}

impl Workload for Hotspot {
    const NAME: &'static str = "hotspot";
    const ABOUT: &'static str = "temperatures on a chip";
    const SOURCE: &'static str = include_str!("hotspot.cl");
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let n = size.of([128, 512, 1024]);
        Self {
            n,
            iterations: size.of([8, 60, 1000]),
            power: floats(random, n * n, 0.0..0.02),
            temperature: floats(random, n * n, 320.0..345.0),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        let power = gpu.upload(&self.power)?;
        let mut from = gpu.upload(&self.temperature)?;
        let mut to = gpu.buffer(self.n * self.n)?;
        let groups = self.n.div_ceil(TILE - 2 * STEPS);
        let grid = Grid::plane((groups * TILE, groups * TILE), (TILE, TILE));
        let f = self.factors();
        let (n, steps) = (self.n as i32, STEPS as i32);
        for _ in 0..self.iterations / STEPS {
            let arguments = args![
                power,
                from,
                to,
                n,
                n,
                steps,
                f.step_over_capacity,
                f.rx,
                f.ry,
                f.rz,
                AMBIENT
            ];
            gpu.launch("hotspot", grid, arguments)?;
            (from, to) = (to, from);
        }
        gpu.read(from)
    }

    fn reference(&self) -> Vec<f32> {
        let (n, f) = (self.n, self.factors());
        let mut now = self.temperature.clone();
        for _ in 0..self.iterations {
            let cell = |at: usize| {
                let (x, y, here) = (at % n, at / n, now[at]);
                let west = now[y * n + x.saturating_sub(1)];
                let east = now[y * n + (x + 1).min(n - 1)];
                let north = now[y.saturating_sub(1) * n + x];
                let south = now[(y + 1).min(n - 1) * n + x];
                let flow = self.power[at]
                    + (south + north - 2.0 * here) * f.ry
                    + (east + west - 2.0 * here) * f.rx
                    + (AMBIENT - here) * f.rz;
                here + f.step_over_capacity * flow
            };
            now = (0..n * n).map(cell).collect();
        }
        now
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        close(expected, found, 1e-5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_chip_without_power_cools_by_the_vertical_flow_alone() {
        let chip = Hotspot {
            n: 2,
            iterations: 1,
            power: vec![0.0; 4],
            temperature: vec![100.0; 4],
        };
        let f = chip.factors();
        let expected = 100.0 - f.step_over_capacity * f.rz * 20.0;
        assert!(expected < 100.0);
        let agreement = close(&[expected; 4], &chip.reference(), 1e-7);
        assert!(agreement.passed(), "{agreement:?}");
    }

    #[test]
    fn heat_flows_from_the_hot_cell_to_its_neighbours() {
        let chip = Hotspot {
            n: 3,
            iterations: 1,
            power: vec![0.0; 9],
            temperature: vec![80.0, 80.0, 80.0, 80.0, 90.0, 80.0, 80.0, 80.0, 80.0],
        };
        let after = chip.reference();
        assert!(after[4] < 90.0 && after[1] > 80.0);
        assert_eq!(after[0], 80.0);
    }
}
