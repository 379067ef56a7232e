//! Square matrices: `madd` and `mmul` with integers, `fmadd` and `fmmul` with floats.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close, exact},
    args,
    gpu::{Element, Gpu, Grid},
    workload::{Size, Workload, floats},
};

/// Work-items of a group, each way.
const TILE: usize = 16;

/// Two matrices of `n` rows and columns.
struct Operands<T> {
    n: usize,
    a: Vec<T>,
    b: Vec<T>,
}

impl Operands<i32> {
    fn integers(n: usize, random: &mut Rng) -> Self {
        let mut matrix = || (0..n * n).map(|_| random.i32(-1000..1000)).collect();
        Self {
            n,
            a: matrix(),
            b: matrix(),
        }
    }
}

impl Operands<f32> {
    fn floats(n: usize, random: &mut Rng) -> Self {
        Self {
            n,
            a: floats(random, n * n, -1.0..1.0),
            b: floats(random, n * n, -1.0..1.0),
        }
    }
}

impl<T: Element> Operands<T> {
    fn run(&self, gpu: &mut Gpu, kernel: &str) -> Result<Vec<T>> {
        let a = gpu.upload(&self.a)?;
        let b = gpu.upload(&self.b)?;
        let c = gpu.buffer(self.n * self.n)?;
        let grid = Grid::plane((self.n, self.n), (TILE, TILE));
        gpu.launch(kernel, grid, args![a, b, c, self.n as u32])?;
        gpu.read(c)
    }

    fn add(&self, add: impl Fn(T, T) -> T) -> Vec<T> {
        self.a
            .iter()
            .zip(&self.b)
            .map(|(a, b)| add(*a, *b))
            .collect()
    }

    /// The product, with sums in a wider type.
    fn multiply<W: Default>(&self, fma: impl Fn(W, T, T) -> W, narrow: impl Fn(W) -> T) -> Vec<T> {
        let n = self.n;
        let element = |row: usize, column: usize| {
            (0..n).fold(W::default(), |sum, k| {
                fma(sum, self.a[row * n + k], self.b[k * n + column])
            })
        };
        (0..n * n).map(|i| narrow(element(i / n, i % n))).collect()
    }
}

fn wide_fma(sum: f64, a: f32, b: f32) -> f64 {
    sum + f64::from(a) * f64::from(b)
}

/// Sum of integer matrices.
pub struct Madd(Operands<i32>);

impl Workload for Madd {
    const NAME: &'static str = "madd";
    const ABOUT: &'static str = "sum of two integer matrices";
    const SOURCE: &'static str = include_str!("matrix.cl");
    type Output = Vec<i32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self(Operands::integers(size.of([256, 1024, 4096]), random))
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<i32>> {
        self.0.run(gpu, "madd")
    }

    fn reference(&self) -> Vec<i32> {
        self.0.add(i32::wrapping_add)
    }

    fn compare(&self, expected: &Vec<i32>, found: &Vec<i32>) -> Agreement {
        exact(expected, found)
    }
}

/// Product of integer matrices.
pub struct Mmul(Operands<i32>);

impl Workload for Mmul {
    const NAME: &'static str = "mmul";
    const ABOUT: &'static str = "product of two integer matrices";
    const SOURCE: &'static str = include_str!("matrix.cl");
    type Output = Vec<i32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self(Operands::integers(size.of([128, 512, 1024]), random))
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<i32>> {
        self.0.run(gpu, "mmul")
    }

    fn reference(&self) -> Vec<i32> {
        let fma = |sum: i64, a: i32, b: i32| sum + i64::from(a) * i64::from(b);
        self.0.multiply(fma, |sum| sum as i32)
    }

    fn compare(&self, expected: &Vec<i32>, found: &Vec<i32>) -> Agreement {
        exact(expected, found)
    }
}

/// Sum of float matrices.
pub struct Fmadd(Operands<f32>);

impl Workload for Fmadd {
    const NAME: &'static str = "fmadd";
    const ABOUT: &'static str = "sum of two float matrices";
    const SOURCE: &'static str = include_str!("matrix.cl");
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self(Operands::floats(size.of([256, 1024, 4096]), random))
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        self.0.run(gpu, "fmadd")
    }

    fn reference(&self) -> Vec<f32> {
        self.0.add(|a, b| a + b)
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        exact(expected, found)
    }
}

/// Product of float matrices.
pub struct Fmmul(Operands<f32>);

impl Workload for Fmmul {
    const NAME: &'static str = "fmmul";
    const ABOUT: &'static str = "product of two float matrices";
    const SOURCE: &'static str = include_str!("matrix.cl");
    type Output = Vec<f32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        Self(Operands::floats(size.of([128, 512, 1024]), random))
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<f32>> {
        self.0.run(gpu, "fmmul")
    }

    fn reference(&self) -> Vec<f32> {
        self.0.multiply(wide_fma, |sum| sum as f32)
    }

    fn compare(&self, expected: &Vec<f32>, found: &Vec<f32>) -> Agreement {
        close(expected, found, 1e-5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [i32; 4] = [1, 2, 3, 4];
    const B: [i32; 4] = [5, 6, 7, 8];

    fn operands() -> Operands<i32> {
        Operands {
            n: 2,
            a: A.to_vec(),
            b: B.to_vec(),
        }
    }

    #[test]
    fn sum_of_two_by_two() {
        assert_eq!(Madd(operands()).reference(), [6, 8, 10, 12]);
    }

    #[test]
    fn product_of_two_by_two() {
        assert_eq!(Mmul(operands()).reference(), [19, 22, 43, 50]);
    }

    #[test]
    fn product_of_floats() {
        let operands = Operands {
            n: 2,
            a: A.map(|x| x as f32 / 2.0).to_vec(),
            b: B.map(|x| x as f32).to_vec(),
        };
        assert_eq!(Fmmul(operands).reference(), [9.5, 11.0, 21.5, 25.0]);
    }
}
