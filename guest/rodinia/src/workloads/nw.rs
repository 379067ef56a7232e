//! Global alignment of two sequences by Needleman and Wunsch.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, exact},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

const BLOCK: usize = 16;
/// Letters of a sequence.
const ALPHABET: usize = 24;
const PENALTY: i32 = 10;

/// Two sequences of `n` letters, a multiple of [`BLOCK`], as the similarity of each pair of letters.
pub struct Nw {
    n: usize,
    similarity: Vec<i32>,
}

impl Nw {
    /// Scores of which only those of aligning with nothing are known.
    fn borders(&self) -> Vec<i32> {
        let stride = self.n + 1;
        let mut score = vec![0; stride * stride];
        for i in 1..stride {
            score[i] = -(i as i32) * PENALTY;
            score[i * stride] = score[i];
        }
        score
    }
}

impl Workload for Nw {
    const NAME: &'static str = "nw";
    const ABOUT: &'static str = "alignment of two sequences";
    const SOURCE: &'static str = include_str!("nw.cl");
    /// Best score of aligning each prefix of the one with each prefix of the other.
    type Output = Vec<i32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let n = size.of([256, 1024, 4096]);
        // Every letter is most similar to itself.
        let mut table = vec![0; ALPHABET * ALPHABET];
        for a in 0..ALPHABET {
            table[a * ALPHABET + a] = random.i32(4..12);
            for b in 0..a {
                table[a * ALPHABET + b] = random.i32(-4..4);
                table[b * ALPHABET + a] = table[a * ALPHABET + b];
            }
        }
        let mut sequence = || -> Vec<usize> { (0..n).map(|_| random.usize(..ALPHABET)).collect() };
        let (rows, columns) = (sequence(), sequence());
        let pairs = rows
            .iter()
            .flat_map(|row| columns.iter().map(move |column| (row, column)));
        Self {
            n,
            similarity: pairs.map(|(a, b)| table[a * ALPHABET + b]).collect(),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<i32>> {
        let similarity = gpu.upload(&self.similarity)?;
        let score = gpu.upload(&self.borders())?;
        let blocks = self.n / BLOCK;
        for diagonal in 0..2 * blocks - 1 {
            let left = (diagonal + 1).saturating_sub(blocks);
            let low = diagonal - left;
            let grid = Grid::line((low + 1 - left) * BLOCK, BLOCK);
            let (n, left, low) = (self.n as i32, left as i32, low as i32);
            gpu.launch(
                "align",
                grid,
                args![similarity, score, n, PENALTY, left, low],
            )?;
        }
        gpu.read(score)
    }

    fn reference(&self) -> Vec<i32> {
        let (n, stride) = (self.n, self.n + 1);
        let mut score = self.borders();
        for y in 0..n {
            for x in 0..n {
                let both = score[y * stride + x] + self.similarity[y * n + x];
                let one = score[(y + 1) * stride + x].max(score[y * stride + x + 1]) - PENALTY;
                score[(y + 1) * stride + x + 1] = both.max(one);
            }
        }
        score
    }

    fn compare(&self, expected: &Vec<i32>, found: &Vec<i32>) -> Agreement {
        exact(expected, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_each() {
        let workload = Nw {
            n: 2,
            similarity: vec![5, -1, -2, 6],
        };
        #[rustfmt::skip]
        let expected = [
              0, -10, -20,
            -10,   5,  -5,
            -20,  -5,  11,
        ];
        assert_eq!(workload.reference(), expected);
    }
}
