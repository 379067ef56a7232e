//! A disk followed through a noisy film with a particle filter.

use std::f32::consts::TAU;

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

const GROUP: usize = 128;
const RADIUS: i32 = 5;
/// Brightness of the background and of the disk.
const DARK: f32 = 100.0;
const BRIGHT: f32 = 228.0;

/// The film and the particles' random numbers.
pub struct ParticleFilter {
    side: i32,
    frames: usize,
    film: Vec<u8>,
    /// Pixels of the disk, relative to its centre: x and y of each.
    disk: Vec<i32>,
    /// Where the disk was before the first frame.
    start: (f32, f32),
    state: Vec<u32>,
    /// Where each frame's marks for drawing begin: below one particle's share.
    first: Vec<f32>,
}

/// A cloud of particles.
#[derive(Clone)]
struct Particles {
    x: Vec<f32>,
    y: Vec<f32>,
    weight: Vec<f32>,
}

impl Particles {
    /// Mean of the positions by weight.
    fn estimate(&self) -> [f32; 2] {
        [&self.x, &self.y].map(|position| {
            let weighted = position.iter().zip(&self.weight);
            weighted
                .map(|(p, w)| f64::from(*p) * f64::from(*w))
                .sum::<f64>() as f32
        })
    }
}

fn disk() -> Vec<i32> {
    let offsets = (-RADIUS..=RADIUS).flat_map(|y| (-RADIUS..=RADIUS).map(move |x| [x, y]));
    offsets
        .filter(|[x, y]| x * x + y * y < RADIUS * RADIUS)
        .flatten()
        .collect()
}

fn uniform(state: &mut u32) -> f32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    ((*state >> 8) + 1) as f32 / 16_777_216.0
}

fn normal(state: &mut u32) -> f32 {
    let (u, v) = (uniform(state), uniform(state));
    (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
}

impl ParticleFilter {
    /// A film of `frames` frames in which the disk moves by (1, -1) a frame.
    fn film(side: i32, frames: usize, particles: usize, random: &mut Rng) -> Self {
        let disk = disk();
        let start = (side / 4, side * 3 / 4);
        let noise = |random: &mut Rng| random.f32() * 60.0 - 30.0;
        let film = (1..=frames as i32).flat_map(|frame| {
            let mut picture = vec![DARK; (side * side) as usize];
            for offset in disk.chunks_exact(2) {
                let (x, y) = (start.0 + frame + offset[0], start.1 - frame + offset[1]);
                picture[(y * side + x) as usize] = BRIGHT;
            }
            let noisy = picture.into_iter().map(|pixel| pixel + noise(random));
            noisy
                .map(|pixel| pixel.clamp(0.0, 255.0) as u8)
                .collect::<Vec<_>>()
        });
        Self {
            side,
            frames,
            film: film.collect(),
            start: (start.0 as f32, start.1 as f32),
            state: (0..particles).map(|_| random.u32(..)).collect(),
            first: (0..frames)
                .map(|_| random.f32() / particles as f32)
                .collect(),
            disk,
        }
    }

    fn particles(&self) -> Particles {
        let n = self.state.len();
        Particles {
            x: vec![self.start.0; n],
            y: vec![self.start.1; n],
            weight: vec![1.0 / n as f32; n],
        }
    }

    /// How much better the disk fits at (x, y) than the background.
    fn fit(&self, frame: usize, x: f32, y: f32) -> f32 {
        let picture = &self.film[frame * (self.side * self.side) as usize..];
        let at = |position: f32, offset: i32| {
            ((position + 0.5).floor() as i32 + offset).clamp(0, self.side - 1)
        };
        let terms = self.disk.chunks_exact(2).map(|offset| {
            let (x, y) = (at(x, offset[0]), at(y, offset[1]));
            let pixel = f32::from(picture[(y * self.side + x) as usize]);
            (pixel - DARK).powi(2) - (pixel - BRIGHT).powi(2)
        });
        terms.sum::<f32>() / (self.disk.len() / 2) as f32 / 2000.0
    }
}

impl Workload for ParticleFilter {
    const NAME: &'static str = "particlefilter";
    const ABOUT: &'static str = "a disk followed with a particle filter";
    const SOURCE: &'static str = include_str!("particlefilter.cl");
    /// x and y of the disk in each frame.
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let (side, frames, particles) =
            size.of([(64, 4, 1000), (128, 10, 10_000), (128, 20, 40_000)]);
        Self::film(side, frames, particles, random)
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        let count = self.state.len();
        let groups = count.div_ceil(GROUP);
        let mut particles = self.particles();
        let film = gpu.upload(&self.film)?;
        let disk = gpu.upload(&self.disk)?;
        let (mut x, mut y) = (gpu.upload(&particles.x)?, gpu.upload(&particles.y)?);
        let (mut new_x, mut new_y) = (gpu.buffer(count)?, gpu.buffer(count)?);
        let weight = gpu.upload(&particles.weight)?;
        let state = gpu.upload(&self.state)?;
        let partial = gpu.buffer::<f32>(groups)?;
        let cumulative = gpu.buffer::<f32>(count)?;

        let (one, all) = (Grid::line(1, 1), Grid::line(count, GROUP));
        let (n, disk_size) = (count as u32, self.disk.len() as i32 / 2);
        let mut estimates = Vec::new();
        for frame in 0..self.frames {
            let (side, number) = (self.side, frame as i32);
            let arguments = args![
                film, disk, x, y, weight, state, partial, n, disk_size, side, number
            ];
            gpu.launch("likelihood", all, arguments)?;
            gpu.launch("total", one, args![partial, groups as u32])?;
            gpu.launch("normalise", all, args![weight, partial, n])?;
            particles = Particles {
                x: gpu.read(x)?,
                y: gpu.read(y)?,
                weight: gpu.read(weight)?,
            };
            estimates.extend(particles.estimate());
            gpu.launch("cumulate", one, args![weight, cumulative, n])?;
            let arguments = args![cumulative, x, y, new_x, new_y, weight, n, self.first[frame]];
            gpu.launch("resample", all, arguments)?;
            (x, new_x) = (new_x, x);
            (y, new_y) = (new_y, y);
        }
        Ok(estimates)
    }

    fn reference(&self) -> Vec<f32> {
        let count = self.state.len();
        let mut state = self.state.clone();
        let mut particles = self.particles();
        let mut estimates = Vec::new();
        for frame in 0..self.frames {
            for (i, state) in state.iter_mut().enumerate() {
                particles.x[i] += 1.0 + 2.0 * normal(state);
                particles.y[i] += -1.0 + 2.0 * normal(state);
                particles.weight[i] *= self.fit(frame, particles.x[i], particles.y[i]).exp();
            }
            let total: f32 = particles.weight.iter().sum();
            particles
                .weight
                .iter_mut()
                .for_each(|weight| *weight /= total);
            estimates.extend(particles.estimate());

            let old = particles.clone();
            let (mut chosen, mut cumulative) = (0, old.weight[0]);
            for i in 0..count {
                let mark = self.first[frame] + i as f32 / count as f32;
                while chosen < count - 1 && cumulative < mark {
                    chosen += 1;
                    cumulative += old.weight[chosen];
                }
                particles.x[i] = old.x[chosen];
                particles.y[i] = old.y[chosen];
                particles.weight[i] = 1.0 / count as f32;
            }
        }
        estimates
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        // A rounding can move a mark to the next particle; of a thousand, few do.
        close(expected, found, 2e-3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_the_disk() {
        let film = ParticleFilter::film(64, 4, 1000, &mut Rng::with_seed(9));
        let estimates = film.reference();
        for (frame, estimate) in (1..).zip(estimates.chunks(2)) {
            let truth = [16 + frame, 48 - frame];
            for (estimate, truth) in estimate.iter().zip(truth) {
                assert!((estimate - truth as f32).abs() < 1.0, "{estimates:?}");
            }
        }
    }

    #[test]
    fn weighted_mean_of_two_particles() {
        let particles = Particles {
            x: vec![1.0, 3.0],
            y: vec![0.0, 4.0],
            weight: vec![0.25, 0.75],
        };
        assert_eq!(particles.estimate(), [2.5, 3.0]);
    }
}
