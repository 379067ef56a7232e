//! LU decomposition without pivoting, in blocks.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload, floats},
};

const BLOCK: usize = 16;

/// A matrix of `n` rows; `n` is a multiple of [`BLOCK`].
pub struct Lud {
    n: usize,
    matrix: Vec<f32>,
}

impl Workload for Lud {
    const NAME: &'static str = "lud";
    const ABOUT: &'static str = "LU decomposition in blocks";
    const SOURCE: &'static str = include_str!("lud.cl");
    /// U on and above the diagonal, L below it; its own diagonal is 1.
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let n = size.of([96, 512, 2048]);
        let mut matrix = floats(random, n * n, -1.0..1.0);
        // A dominant diagonal needs no pivoting.
        for i in 0..n {
            matrix[i * n + i] += n as f32;
        }
        Self { n, matrix }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        let matrix = gpu.upload(&self.matrix)?;
        let n = self.n as u32;
        for offset in (0..self.n).step_by(BLOCK) {
            let arguments = args![matrix, n, offset as u32];
            gpu.launch("diagonal", Grid::line(BLOCK, BLOCK), arguments)?;
            let beyond = self.n - offset - BLOCK;
            if beyond > 0 {
                let grid = Grid::line(beyond * 2, BLOCK * 2);
                gpu.launch("perimeter", grid, arguments)?;
                let grid = Grid::plane((beyond, beyond), (BLOCK, BLOCK));
                gpu.launch("internal", grid, arguments)?;
            }
        }
        gpu.read(matrix)
    }

    fn reference(&self) -> Vec<f32> {
        let n = self.n;
        let mut m: Vec<f64> = self.matrix.iter().map(|x| f64::from(*x)).collect();
        for k in 0..n {
            for row in k + 1..n {
                m[row * n + k] /= m[k * n + k];
                for column in k + 1..n {
                    m[row * n + column] -= m[row * n + k] * m[k * n + column];
                }
            }
        }
        m.into_iter().map(|x| x as f32).collect()
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        close(expected, found, 1e-4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_by_two() {
        let workload = Lud {
            n: 2,
            matrix: vec![4.0, 2.0, 2.0, 3.0],
        };
        assert_eq!(workload.reference(), [4.0, 2.0, 0.5, 2.0]);
    }
}
