//! A linear system by Gaussian elimination: forward on the device, backward on the host.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload, floats},
};

/// `a x = b` with `n` unknowns.
pub struct Gaussian {
    n: usize,
    a: Vec<f32>,
    b: Vec<f32>,
}

fn substitute_back(n: usize, a: &[f64], b: &[f64]) -> Vec<f32> {
    let mut x = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| a[row * n + k] * x[k]).sum();
        x[row] = (b[row] - known) / a[row * n + row];
    }
    x.into_iter().map(|x| x as f32).collect()
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

impl Workload for Gaussian {
    const NAME: &'static str = "gaussian";
    const ABOUT: &'static str = "linear system by Gaussian elimination";
    const SOURCE: &'static str = include_str!("gaussian.cl");
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let n = size.of([64, 384, 1536]);
        let mut a = floats(random, n * n, -1.0..1.0);
        // A dominant diagonal: no pivot is small, and errors do not grow.
        for i in 0..n {
            a[i * n + i] += n as f32;
        }
        Self {
            n,
            a,
            b: floats(random, n, -1.0..1.0),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        let n = self.n;
        let a = gpu.upload(&self.a)?;
        let b = gpu.upload(&self.b)?;
        let m = gpu.buffer::<f32>(n)?;
        for pivot in 0..n - 1 {
            let (size, at) = (n as u32, pivot as u32);
            let rows = n - 1 - pivot;
            gpu.launch("multipliers", Grid::line(rows, 64), args![a, m, size, at])?;
            let grid = Grid::plane((n - pivot, rows), (16, 4));
            gpu.launch("eliminate", grid, args![a, b, m, size, at])?;
        }
        let (a, b) = (gpu.read(a)?, gpu.read(b)?);
        Ok(substitute_back(n, &widen(&a), &widen(&b)))
    }

    fn reference(&self) -> Vec<f32> {
        let n = self.n;
        let (mut a, mut b) = (widen(&self.a), widen(&self.b));
        for pivot in 0..n {
            for row in pivot + 1..n {
                let m = a[row * n + pivot] / a[pivot * n + pivot];
                for column in pivot..n {
                    a[row * n + column] -= m * a[pivot * n + column];
                }
                b[row] -= m * b[pivot];
            }
        }
        substitute_back(n, &a, &b)
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        close(expected, found, 1e-4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equations() {
        let system = Gaussian {
            n: 2,
            a: vec![2.0, 1.0, 1.0, 3.0],
            b: vec![3.0, 5.0],
        };
        let agreement = close(&[0.8, 1.4], &system.reference(), 1e-6);
        assert!(agreement.passed(), "{agreement:?}");
    }
}
