//! Follows points through a film by correlation with templates, as Rodinia's `heartwall` follows
//! the wall of a heart through an ultrasound film. The film is drawn: textured squares that wander
//! before a noisy background.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close, exact},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload, floats},
};

const SIDE: i32 = 11;
/// How far a point may move from frame to frame.
const REACH: i32 = 5;
const SHIFTS: i32 = 2 * REACH + 1;
const GROUP: usize = 128;
/// Share of the old template in the new one.
const MEMORY: f32 = 0.9;

/// Distance of the points' places of rest.
const SPACING: i32 = 40;
/// How far a point may be from its place of rest.
const LEASH: i32 = 8;
/// How much it moves from frame to frame.
const STEP: i32 = 3;

/// A film of square frames.
pub struct Heartwall {
    width: i32,
    frames: Vec<Vec<f32>>,
    /// What the points look like at first.
    templates: Vec<f32>,
    /// Where they are at first: x and y of each.
    positions: Vec<i32>,
}

/// What was followed.
#[derive(Debug, Default)]
pub struct Tracks {
    /// x and y of each point behind each frame.
    positions: Vec<i32>,
    templates: Vec<f32>,
}

impl Heartwall {
    /// `edge` times `edge` points through `count` frames; the film, and where the points truly are
    /// in each frame.
    fn film(edge: i32, count: usize, random: &mut Rng) -> (Self, Vec<i32>) {
        let width = edge * SPACING;
        let points = (edge * edge) as usize;
        let rest: Vec<i32> = (0..edge * edge)
            .flat_map(|point| [point % edge, point / edge])
            .map(|at| at * SPACING + SPACING / 2)
            .collect();
        let texture = floats(random, points * (SIDE * SIDE) as usize, 0.0..1.0);
        let mut positions = rest.clone();
        let mut truth = Vec::new();
        let frames = (0..count).map(|_| {
            let mut frame = floats(random, (width * width) as usize, 0.0..1.0);
            for (at, rest) in positions.iter_mut().zip(&rest) {
                *at = (*at + random.i32(-STEP..=STEP)).clamp(rest - LEASH, rest + LEASH);
            }
            for (at, texture) in positions
                .chunks(2)
                .zip(texture.chunks((SIDE * SIDE) as usize))
            {
                for (i, pixel) in (0..).zip(texture) {
                    let (x, y) = (at[0] - SIDE / 2 + i % SIDE, at[1] - SIDE / 2 + i / SIDE);
                    frame[(y * width + x) as usize] = pixel + 0.1 * random.f32();
                }
            }
            truth.extend(&positions);
            frame
        });
        let film = Self {
            width,
            frames: frames.collect(),
            templates: texture.clone(),
            positions: rest,
        };
        (film, truth)
    }

    fn patch(&self, frame: &[f32], x: i32, y: i32) -> Vec<f32> {
        let row = |dy: i32| {
            let start = ((y + dy - SIDE / 2) * self.width + x - SIDE / 2) as usize;
            &frame[start..start + SIDE as usize]
        };
        (0..SIDE).flat_map(row).copied().collect()
    }

    /// Moves one point to where a frame is most like its template.
    fn follow(&self, frame: &[f32], position: &mut [i32], template: &mut [f32]) {
        let shifted = |shift: i32| {
            (
                position[0] + shift % SHIFTS - REACH,
                position[1] + shift / SHIFTS - REACH,
            )
        };
        let score = |shift: &i32| {
            let (x, y) = shifted(*shift);
            correlation(template, &self.patch(frame, x, y))
        };
        let best = (0..SHIFTS * SHIFTS).max_by(|a, b| score(a).total_cmp(&score(b)));
        let (x, y) = shifted(best.expect("there are shifts"));
        for (old, pixel) in template.iter_mut().zip(self.patch(frame, x, y)) {
            *old = MEMORY * *old + (1.0 - MEMORY) * pixel;
        }
        position.copy_from_slice(&[x, y]);
    }
}

/// Pearson's correlation.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let mean = |v: &[f32]| v.iter().map(|x| f64::from(*x)).sum::<f64>() / v.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut product, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x) - mean_a, f64::from(*y) - mean_b);
        product += x * y;
        square_a += x * x;
        square_b += y * y;
    }
    product / (square_a * square_b).sqrt()
}

impl Workload for Heartwall {
    const NAME: &'static str = "heartwall";
    const ABOUT: &'static str = "points followed through a film by correlation";
    const SOURCE: &'static str = include_str!("heartwall.cl");
    type Output = Tracks;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let (edge, frames) = size.of([(3, 4), (7, 20), (16, 104)]);
        Self::film(edge, frames, random).0
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Tracks> {
        let templates = gpu.upload(&self.templates)?;
        let positions = gpu.upload(&self.positions)?;
        let frame = gpu.buffer((self.width * self.width) as usize)?;
        let grid = Grid::line(self.positions.len() / 2 * GROUP, GROUP);
        let mut tracks = Tracks::default();
        for picture in &self.frames {
            gpu.write(frame, picture)?;
            gpu.launch(
                "track",
                grid,
                args![frame, templates, positions, self.width],
            )?;
            tracks.positions.extend(gpu.read(positions)?);
        }
        tracks.templates = gpu.read(templates)?;
        Ok(tracks)
    }

    fn reference(&self) -> Tracks {
        let mut positions = self.positions.clone();
        let mut tracks = Tracks {
            positions: Vec::new(),
            templates: self.templates.clone(),
        };
        for frame in &self.frames {
            let templates = tracks.templates.chunks_mut((SIDE * SIDE) as usize);
            for (position, template) in positions.chunks_mut(2).zip(templates) {
                self.follow(frame, position, template);
            }
            tracks.positions.extend(&positions);
        }
        tracks
    }

    fn compare(&self, expected: &Tracks, found: &Tracks) -> Agreement {
        exact(&expected.positions, &found.positions).and(close(
            &expected.templates,
            &found.templates,
            1e-5,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_found_where_they_were_drawn() {
        let (film, truth) = Heartwall::film(2, 3, &mut Rng::with_seed(5));
        assert_ne!(truth[..8], film.positions);
        assert_eq!(film.reference().positions, truth);
    }

    #[test]
    fn correlation_does_not_depend_on_brightness_and_contrast() {
        let agreement = correlation(&[1.0, 2.0, 4.0], &[5.0, 7.0, 11.0]);
        assert!((agreement - 1.0).abs() < 1e-12);
        assert!((correlation(&[1.0, 2.0], &[2.0, 1.0]) + 1.0).abs() < 1e-12);
    }
}
