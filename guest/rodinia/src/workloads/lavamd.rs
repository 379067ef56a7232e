//! Forces between particles, cut off beyond the neighbouring boxes.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

const PER_BOX: usize = 100;
/// Work-items of a group.
const GROUP: usize = 128;
const ALPHA: f32 = 0.5;

/// A cube of boxes with particles. Those of a box are consecutive.
pub struct Lavamd {
    /// Where each box's neighbours, itself among them, begin in `neighbours`, and the end.
    first: Vec<u32>,
    neighbours: Vec<u32>,
    /// x, y, z and half the square of their length, for each particle.
    position: Vec<f32>,
    charge: Vec<f32>,
}

/// The neighbours of each box in a cube of `edge` boxes a side, as lists.
fn neighbourhood(edge: i32) -> (Vec<u32>, Vec<u32>) {
    let (mut first, mut neighbours) = (vec![0], Vec::new());
    let cube = |edge: i32| {
        (0..edge).flat_map(move |z| (0..edge).flat_map(move |y| (0..edge).map(move |x| (x, y, z))))
    };
    for (x, y, z) in cube(edge) {
        let near = cube(3).map(|(dx, dy, dz)| (x + dx - 1, y + dy - 1, z + dz - 1));
        let inside = near.filter(|(x, y, z)| [x, y, z].iter().all(|c| (0..edge).contains(*c)));
        neighbours.extend(inside.map(|(x, y, z)| ((z * edge + y) * edge + x) as u32));
        first.push(neighbours.len() as u32);
    }
    (first, neighbours)
}

impl Lavamd {
    fn new(
        edge: i32,
        mut coordinate: impl FnMut() -> f32,
        mut charge: impl FnMut() -> f32,
    ) -> Self {
        let (first, neighbours) = neighbourhood(edge);
        let particles = (first.len() - 1) * PER_BOX;
        let mut position = Vec::with_capacity(particles * 4);
        for _ in 0..particles {
            let [x, y, z] = [coordinate(), coordinate(), coordinate()];
            position.extend([x, y, z, (x * x + y * y + z * z) / 2.0]);
        }
        Self {
            first,
            neighbours,
            position,
            charge: (0..particles).map(|_| charge()).collect(),
        }
    }

    fn a2() -> f32 {
        2.0 * ALPHA * ALPHA
    }

    fn force(&self, particle: usize) -> [f32; 4] {
        let at = |particle: usize| {
            let p = &self.position[particle * 4..][..4];
            [p[0], p[1], p[2], p[3]].map(f64::from)
        };
        let home = at(particle);
        let mut sum = [0.0; 4];
        let list = &self.first[particle / PER_BOX..];
        for neighbour in &self.neighbours[list[0] as usize..list[1] as usize] {
            for j in 0..PER_BOX {
                let j = *neighbour as usize * PER_BOX + j;
                let (other, charge) = (at(j), f64::from(self.charge[j]));
                let dot: f64 = (0..3).map(|c| home[c] * other[c]).sum();
                let v = (-f64::from(Self::a2()) * (home[3] + other[3] - dot)).exp();
                for c in 0..3 {
                    sum[c] += charge * 2.0 * v * (home[c] - other[c]);
                }
                sum[3] += charge * v;
            }
        }
        sum.map(|s| s as f32)
    }
}

impl Workload for Lavamd {
    const NAME: &'static str = "lavamd";
    const ABOUT: &'static str = "forces between particles in boxes";
    const SOURCE: &'static str = include_str!("lavamd.cl");
    /// Force x, y, z and potential of each particle.
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let mut other = random.fork();
        let coordinate = || random.f32();
        Self::new(size.of([2, 6, 14]), coordinate, || other.f32())
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        let first = gpu.upload(&self.first)?;
        let neighbours = gpu.upload(&self.neighbours)?;
        let position = gpu.upload(&self.position)?;
        let charge = gpu.upload(&self.charge)?;
        let force = gpu.buffer(self.position.len())?;
        let grid = Grid::line((self.first.len() - 1) * GROUP, GROUP);
        let arguments = args![first, neighbours, position, charge, force, Self::a2()];
        gpu.launch("lavamd", grid, arguments)?;
        gpu.read(force)
    }

    fn reference(&self) -> Vec<f32> {
        (0..self.charge.len()).flat_map(|p| self.force(p)).collect()
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        close(expected, found, 1e-4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corner_of_a_cube_has_eight_boxes_around_it() {
        let (first, neighbours) = neighbourhood(3);
        assert_eq!(first[1], 8);
        assert_eq!(neighbours[..8], [0, 1, 3, 4, 9, 10, 12, 13]);
        // The one in the middle sees all of them.
        assert_eq!(first[14] - first[13], 27);
    }

    #[test]
    fn particles_at_one_place_only_add_up_their_charges() {
        let heap = Lavamd::new(1, || 0.0, || 0.5);
        assert_eq!(heap.reference()[..4], [0.0, 0.0, 0.0, 50.0]);
    }
}
