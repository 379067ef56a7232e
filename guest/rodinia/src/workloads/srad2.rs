//! Speckle-reducing anisotropic diffusion in tiles, with its statistics by the host.

use anyhow::Result;
use fastrand::Rng;

use super::diffusion;
use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload, floats},
};

const TILE: usize = 16;
const LAMBDA: f32 = 0.5;

/// A square image whose rows are a multiple of [`TILE`]; a quarter of it tells what speckle is.
pub struct Srad2 {
    n: usize,
    iterations: usize,
    image: Vec<f32>,
}

/// Speckle in the first quarter of an image with rows of `n` pixels.
fn speckle<T: Copy + Into<f64>>(image: &[T], n: usize) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for row in image.chunks_exact(n).take(n / 2) {
        for pixel in &row[..n / 2] {
            let pixel: f64 = (*pixel).into();
            sum += pixel;
            squares += pixel * pixel;
        }
    }
    diffusion::speckle(sum, squares, n / 2 * (n / 2))
}

impl Workload for Srad2 {
    const NAME: &'static str = "srad2";
    const ABOUT: &'static str = "speckle-reducing diffusion in tiles, statistics on the host";
    const SOURCE: &'static str = include_str!("srad2.cl");
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let n = size.of([128, 512, 2048]);
        let exponents = floats(random, n * n, 0.0..1.0);
        Self {
            n,
            iterations: size.of([4, 50, 100]),
            image: exponents.into_iter().map(f32::exp).collect(),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        let n = self.n;
        let image = gpu.upload(&self.image)?;
        let mut plane = || gpu.buffer::<f32>(n * n);
        let [dn, ds, dw, de, c] = [plane()?, plane()?, plane()?, plane()?, plane()?];
        let grid = Grid::plane((n, n), (TILE, TILE));
        let mut now = self.image.clone();
        for _ in 0..self.iterations {
            let (size, q0) = (n as i32, speckle(&now, n) as f32);
            gpu.launch(
                "coefficients",
                grid,
                args![image, dn, ds, dw, de, c, size, q0],
            )?;
            gpu.launch(
                "update",
                grid,
                args![image, dn, ds, dw, de, c, size, LAMBDA],
            )?;
            now = gpu.read(image)?;
        }
        Ok(now)
    }

    fn reference(&self) -> Vec<f32> {
        let mut image: Vec<f64> = self.image.iter().map(|i| f64::from(*i)).collect();
        for _ in 0..self.iterations {
            let q0 = speckle(&image, self.n);
            diffusion::step(&mut image, self.n, q0, LAMBDA.into());
        }
        image.into_iter().map(|pixel| pixel as f32).collect()
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        close(expected, found, 1e-4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speckle_is_that_of_the_first_quarter() {
        #[rustfmt::skip]
        let image = [
            1.0, 3.0, 9.0, 9.0,
            3.0, 1.0, 9.0, 9.0,
            9.0, 9.0, 9.0, 9.0,
            9.0, 9.0, 9.0, 9.0_f32,
        ];
        assert_eq!(speckle(&image, 4), 0.25);
    }
}
