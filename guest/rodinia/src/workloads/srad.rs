//! Speckle-reducing anisotropic diffusion, with its statistics by the device.

use anyhow::Result;
use fastrand::Rng;

use super::diffusion;
use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Buffer, Gpu, Grid},
    workload::{Size, Workload, floats},
};

const GROUP: usize = 256;
const LAMBDA: f32 = 0.5;

/// A square image of bytes' range.
pub struct Srad {
    n: usize,
    iterations: usize,
    image: Vec<f32>,
}

/// Sums and sums of squares, and as many again for what they are reduced to.
struct Sums {
    from: [Buffer<f32>; 2],
    to: [Buffer<f32>; 2],
}

impl Srad {
    fn count(&self) -> usize {
        self.n * self.n
    }

    /// The image's sum and sum of squares.
    fn statistics(&self, gpu: &mut Gpu, image: Buffer<f32>, sums: &Sums) -> Result<[f32; 2]> {
        let mut count = self.count();
        let [mut from, mut to] = [sums.from, sums.to];
        let arguments = args![image, from[0], from[1], count as u32];
        gpu.launch("prepare", Grid::line(count, GROUP), arguments)?;
        while count > 1 {
            let arguments = args![from[0], from[1], to[0], to[1], count as u32];
            gpu.launch("reduce", Grid::line(count, GROUP), arguments)?;
            count = count.div_ceil(GROUP);
            (from, to) = (to, from);
        }
        Ok([
            gpu.read_prefix(from[0], 1)?[0],
            gpu.read_prefix(from[1], 1)?[0],
        ])
    }
}

impl Workload for Srad {
    const NAME: &'static str = "srad";
    const ABOUT: &'static str = "speckle-reducing diffusion, statistics on the device";
    const SOURCE: &'static str = include_str!("srad.cl");
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let n = size.of([128, 512, 2048]);
        Self {
            n,
            iterations: size.of([4, 50, 100]),
            image: floats(random, n * n, 0.0..255.0),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        let (n, count) = (self.n, self.count());
        let before: Vec<u32> = (0..n as u32).map(|i| i.saturating_sub(1)).collect();
        let behind: Vec<u32> = (0..n as u32).map(|i| (i + 1).min(n as u32 - 1)).collect();
        let image = gpu.upload(&self.image)?;
        let [north, west] = [gpu.upload(&before)?, gpu.upload(&before)?];
        let [south, east] = [gpu.upload(&behind)?, gpu.upload(&behind)?];
        let mut plane = || gpu.buffer::<f32>(count);
        let [dn, ds, dw, de, c] = [plane()?, plane()?, plane()?, plane()?, plane()?];
        let sums = Sums {
            from: [plane()?, plane()?],
            to: [plane()?, plane()?],
        };

        let grid = Grid::line(count, GROUP);
        let (width, pixels) = (n as u32, count as u32);
        gpu.launch("extract", grid, args![image, pixels])?;
        for _ in 0..self.iterations {
            let [sum, squares] = self.statistics(gpu, image, &sums)?.map(f64::from);
            let q0 = diffusion::speckle(sum, squares, count) as f32;
            let arguments = args![
                image, north, south, west, east, dn, ds, dw, de, c, width, pixels, q0
            ];
            gpu.launch("coefficients", grid, arguments)?;
            let arguments = args![image, south, east, dn, ds, dw, de, c, width, pixels, LAMBDA];
            gpu.launch("update", grid, arguments)?;
        }
        gpu.launch("compress", grid, args![image, pixels])?;
        gpu.read(image)
    }

    fn reference(&self) -> Vec<f32> {
        let extracted = self.image.iter().map(|i| (f64::from(*i) / 255.0).exp());
        let mut image: Vec<f64> = extracted.collect();
        for _ in 0..self.iterations {
            let sum = image.iter().sum();
            let squares = image.iter().map(|i| i * i).sum();
            let q0 = diffusion::speckle(sum, squares, image.len());
            diffusion::step(&mut image, self.n, q0, LAMBDA.into());
        }
        image.iter().map(|i| (i.ln() * 255.0) as f32).collect()
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        close(expected, found, 1e-4)
    }
}
