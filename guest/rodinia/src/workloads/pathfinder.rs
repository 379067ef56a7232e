//! The cheapest way down a grid, by dynamic programming.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, exact},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

const GROUP: usize = 256;
/// Rows of a launch.
const ROWS: usize = 8;

/// What each cell costs, row by row.
pub struct Pathfinder {
    columns: usize,
    wall: Vec<i32>,
}

impl Workload for Pathfinder {
    const NAME: &'static str = "pathfinder";
    const ABOUT: &'static str = "cheapest way down a grid";
    const SOURCE: &'static str = include_str!("pathfinder.cl");
    /// Cost of the cheapest way to each cell of the last row.
    type Output = Vec<i32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let (columns, rows) = size.of([(10_000, 41), (100_000, 201), (400_000, 501)]);
        Self {
            columns,
            wall: (0..columns * rows).map(|_| random.i32(0..10)).collect(),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<i32>> {
        let (first, rest) = self.wall.split_at(self.columns);
        let mut from = gpu.upload(first)?;
        let wall = gpu.upload(rest)?;
        let mut to = gpu.buffer(self.columns)?;
        let rows = rest.len() / self.columns;
        for first in (0..rows).step_by(ROWS) {
            let some = ROWS.min(rows - first);
            let groups = self.columns.div_ceil(GROUP - 2 * some);
            let grid = Grid::line(groups * GROUP, GROUP);
            let (columns, first, some) = (self.columns as i32, first as i32, some as i32);
            gpu.launch(
                "pathfinder",
                grid,
                args![wall, from, to, columns, first, some],
            )?;
            (from, to) = (to, from);
        }
        gpu.read(from)
    }

    fn reference(&self) -> Vec<i32> {
        let mut rows = self.wall.chunks_exact(self.columns);
        let mut cost = rows.next().unwrap_or_default().to_vec();
        for row in rows {
            let cheapest = |x: usize| {
                let around = x.saturating_sub(1)..(x + 2).min(self.columns);
                cost[around].iter().min().copied().unwrap_or(0)
            };
            cost = row
                .iter()
                .enumerate()
                .map(|(x, c)| cheapest(x) + c)
                .collect();
        }
        cost
    }

    fn compare(&self, expected: &Vec<i32>, found: &Vec<i32>) -> Agreement {
        exact(expected, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_rows() {
        let workload = Pathfinder {
            columns: 3,
            wall: vec![1, 5, 9, 4, 1, 1, 0, 9, 2],
        };
        assert_eq!(workload.reference(), [2, 11, 4]);
    }
}
