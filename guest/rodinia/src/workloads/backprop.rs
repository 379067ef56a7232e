//! Training step of a neural network with one hidden layer: the wide layer is the device's, the
//! narrow one and the errors are the host's.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload, floats},
};

const HIDDEN: usize = 16;
const TILE: usize = 16;
const RATE: f32 = 0.3;
const MOMENTUM: f32 = 0.3;

/// The network and what it is to learn.
pub struct Backprop {
    /// Unit 0 is the bias.
    input: Vec<f32>,
    /// To the hidden layer: a row per input.
    weights: Vec<f32>,
    previous: Vec<f32>,
    /// From the hidden layer, its bias first.
    output_weights: Vec<f32>,
    target: f32,
}

/// What the step changes, and the error before it.
pub struct Trained {
    weights: Vec<f32>,
    previous: Vec<f32>,
    output_weights: Vec<f32>,
    output_error: f32,
}

/// The host's half of the step.
struct Backwards {
    hidden_delta: Vec<f32>,
    output_weights: Vec<f32>,
    output_error: f32,
}

fn squash(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Backprop {
    fn inputs(&self) -> usize {
        self.input.len() - 1
    }

    /// From the hidden layer's sums, without bias, to the deltas that train it.
    fn backwards(&self, sums: &[f32]) -> Backwards {
        let hidden: Vec<f32> = sums
            .iter()
            .zip(&self.weights)
            .map(|(sum, bias)| squash(sum + bias))
            .collect();
        let weighted = hidden.iter().zip(&self.output_weights[1..]);
        let sum = weighted.fold(self.output_weights[0], |sum, (h, w)| sum + h * w);
        let output = squash(sum);
        let delta = output * (1.0 - output) * (self.target - output);
        let hidden_delta = hidden
            .iter()
            .zip(&self.output_weights[1..])
            .map(|(h, w)| h * (1.0 - h) * delta * w)
            .collect();
        let units = std::iter::once(1.0).chain(hidden.iter().copied());
        let output_weights = units
            .zip(&self.output_weights)
            .map(|(unit, weight)| weight + RATE * delta * unit)
            .collect();
        Backwards {
            hidden_delta,
            output_weights,
            output_error: delta.abs(),
        }
    }
}

impl Workload for Backprop {
    const NAME: &'static str = "backprop";
    const ABOUT: &'static str = "training step of a neural network";
    const SOURCE: &'static str = include_str!("backprop.cl");
    type Output = Trained;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let inputs = size.of([4096, 65_536, 1_048_576]);
        let mut input = floats(random, inputs + 1, 0.0..1.0);
        input[0] = 1.0;
        // The sums of so many inputs should not saturate.
        let scale = 2.0 / (inputs as f32).sqrt();
        Self {
            input,
            weights: floats(random, (inputs + 1) * HIDDEN, -scale..scale),
            previous: vec![0.0; (inputs + 1) * HIDDEN],
            output_weights: floats(random, HIDDEN + 1, -1.0..1.0),
            target: random.f32(),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Trained> {
        let inputs = self.inputs();
        let groups = inputs / TILE;
        let input = gpu.upload(&self.input)?;
        let weights = gpu.upload(&self.weights)?;
        let previous = gpu.upload(&self.previous)?;
        let partial = gpu.buffer(groups * HIDDEN)?;
        let grid = Grid::plane((HIDDEN, inputs), (HIDDEN, TILE));
        gpu.launch("layer_forward", grid, args![input, weights, partial])?;

        let partial = gpu.read(partial)?;
        let mut sums = vec![0.0_f32; HIDDEN];
        for group in partial.chunks_exact(HIDDEN) {
            for (sum, part) in sums.iter_mut().zip(group) {
                *sum += part;
            }
        }
        let backwards = self.backwards(&sums);

        let delta = gpu.upload(&backwards.hidden_delta)?;
        let grid = Grid::plane((HIDDEN, inputs + 1), (HIDDEN, TILE));
        let arguments = args![
            delta,
            input,
            weights,
            previous,
            RATE,
            MOMENTUM,
            inputs as u32
        ];
        gpu.launch("adjust_weights", grid, arguments)?;
        Ok(Trained {
            weights: gpu.read(weights)?,
            previous: gpu.read(previous)?,
            output_weights: backwards.output_weights,
            output_error: backwards.output_error,
        })
    }

    fn reference(&self) -> Trained {
        let mut sums = [0.0_f64; HIDDEN];
        for (row, unit) in self.weights.chunks_exact(HIDDEN).zip(&self.input).skip(1) {
            for (sum, weight) in sums.iter_mut().zip(row) {
                *sum += f64::from(weight * unit);
            }
        }
        let backwards = self.backwards(&sums.map(|sum| sum as f32));
        let previous: Vec<f32> = (0..self.weights.len())
            .map(|at| {
                let delta = backwards.hidden_delta[at % HIDDEN];
                RATE * delta * self.input[at / HIDDEN] + MOMENTUM * self.previous[at]
            })
            .collect();
        let weights = self.weights.iter().zip(&previous).map(|(w, c)| w + c);
        Trained {
            weights: weights.collect(),
            previous,
            output_weights: backwards.output_weights,
            output_error: backwards.output_error,
        }
    }

    fn compare(&self, expected: &Trained, found: &Trained) -> Agreement {
        // The order of a sum of so many products matters.
        close(&expected.weights, &found.weights, 1e-4)
            .and(close(&expected.previous, &found.previous, 1e-3))
            .and(close(&expected.output_weights, &found.output_weights, 1e-4))
            .and(close(&[expected.output_error], &[found.output_error], 1e-3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_without_weights_learns_towards_its_target() {
        let network = Backprop {
            input: vec![1.0; 3],
            weights: vec![0.0; 3 * HIDDEN],
            previous: vec![0.0; 3 * HIDDEN],
            output_weights: vec![0.0; HIDDEN + 1],
            target: 1.0,
        };
        let trained = network.reference();
        // All units are at one half: delta = 1/2 * 1/2 * (1 - 1/2).
        assert_eq!(trained.output_error, 0.125);
        assert_eq!(trained.output_weights[0], 0.3 * 0.125);
        assert_eq!(trained.output_weights[1], 0.3 * 0.125 * 0.5);
        // Nothing leads back through weights that are zero.
        assert!(trained.weights.iter().all(|w| *w == 0.0));
    }
}
