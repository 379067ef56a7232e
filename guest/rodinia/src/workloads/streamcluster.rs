//! Facility location by local search: the device says for each point what a further centre would
//! change, the host decides.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close, exact},
    args,
    gpu::{Argument, Gpu, Grid},
    workload::{Size, Workload, floats},
};

const GROUP: usize = 256;
/// How many centres a solution should have.
const CENTRES: (usize, usize) = (6, 16);
/// Attempts to find the price of a centre that leads to such a number.
const MAX_PRICES: u32 = 6;

/// Weighted points; coordinate `d` of point `i` is at `d * count + i`.
pub struct Streamcluster {
    count: usize,
    dimensions: usize,
    coordinates: Vec<f32>,
    weight: Vec<f32>,
    /// Points to consider as centres, in that order, for each price.
    candidates: Vec<usize>,
}

/// A solution.
#[derive(Clone)]
pub struct Solution {
    /// Points that are centres.
    centres: Vec<usize>,
    /// Each point's centre, by its index in `centres`.
    centre: Vec<u32>,
    /// Each point's weighted distance to its centre.
    cost: Vec<f32>,
}

/// What another centre would change.
struct Change {
    /// A row per point: a column per centre, and one for savings.
    rows: Vec<f32>,
    /// Whether a point is nearer to the new centre than to its own.
    moves: Vec<u8>,
}

impl Streamcluster {
    fn cost(&self, point: usize, centre: usize) -> f32 {
        let distance: f32 = (0..self.dimensions)
            .map(|d| {
                let row = &self.coordinates[d * self.count..][..self.count];
                (row[point] - row[centre]).powi(2)
            })
            .sum();
        distance * self.weight[point]
    }

    /// One centre for all.
    fn start(&self) -> Solution {
        Solution {
            centres: vec![0],
            centre: vec![0; self.count],
            cost: (0..self.count).map(|point| self.cost(point, 0)).collect(),
        }
    }

    /// Searches for a solution with a good number of centres.
    fn solve(
        &self,
        mut change: impl FnMut(&Solution, usize) -> Result<Change>,
    ) -> Result<Solution> {
        let start = self.start();
        let (mut low, mut high) = (0.0, start.cost.iter().map(|c| f64::from(*c)).sum::<f64>());
        let mut solution = start.clone();
        for _ in 0..MAX_PRICES {
            let price = (low + high) / 2.0;
            solution = start.clone();
            for candidate in &self.candidates {
                if !solution.centres.contains(candidate) {
                    let change = change(&solution, *candidate)?;
                    self.open(&mut solution, *candidate, &change, price);
                }
            }
            let centres = solution.centres.len();
            if centres > CENTRES.1 {
                low = price;
            } else if centres < CENTRES.0 {
                high = price;
            } else {
                break;
            }
        }
        Ok(solution)
    }

    /// Opens a centre at `candidate` if that gains anything, and closes those that are not worth
    /// their price then.
    fn open(&self, solution: &mut Solution, candidate: usize, change: &Change, price: f64) {
        let centres = solution.centres.len();
        let mut sums = vec![0.0_f64; centres + 1];
        for row in change.rows.chunks_exact(centres + 1) {
            for (sum, change) in sums.iter_mut().zip(row) {
                *sum += f64::from(*change);
            }
        }
        let savings = sums[centres];
        let closes: Vec<bool> = sums[..centres].iter().map(|sum| *sum < price).collect();
        let closing = sums.iter().zip(&closes).filter(|(_, closes)| **closes);
        let gain = savings - price + closing.map(|(sum, _)| price - sum).sum::<f64>();
        if gain <= 0.0 {
            return;
        }
        let kept: Vec<usize> = (0..centres).filter(|k| !closes[*k]).collect();
        let new = kept.len() as u32;
        for point in 0..self.count {
            let old = solution.centre[point] as usize;
            if change.moves[point] != 0 || closes[old] {
                solution.centre[point] = new;
                solution.cost[point] = self.cost(point, candidate);
            } else {
                let index = kept.iter().position(|k| *k == old);
                solution.centre[point] = index.map_or(new, |index| index as u32);
            }
        }
        solution.centres = kept.iter().map(|k| solution.centres[*k]).collect();
        solution.centres.push(candidate);
    }

    fn change(&self, solution: &Solution, candidate: usize) -> Change {
        let centres = solution.centres.len();
        let mut rows = vec![0.0; self.count * (centres + 1)];
        let mut moves = vec![0; self.count];
        for (point, row) in rows.chunks_exact_mut(centres + 1).enumerate() {
            let there = self.cost(point, candidate);
            let here = solution.cost[point];
            if there < here {
                moves[point] = 1;
                row[centres] = here - there;
            } else {
                row[solution.centre[point] as usize] = there - here;
            }
        }
        Change { rows, moves }
    }
}

impl Workload for Streamcluster {
    const NAME: &'static str = "streamcluster";
    const ABOUT: &'static str = "facility location by local search";
    const SOURCE: &'static str = include_str!("streamcluster.cl");
    type Output = Solution;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let (count, dimensions, candidates) =
            size.of([(1024, 16, 16), (16_384, 64, 48), (65_536, 256, 96)]);
        Self {
            count,
            dimensions,
            coordinates: floats(random, count * dimensions, 0.0..1.0),
            weight: floats(random, count, 0.5..2.0),
            candidates: random.choose_multiple(1..count, candidates),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Solution> {
        let coordinates = gpu.upload(&self.coordinates)?;
        let weight = gpu.upload(&self.weight)?;
        let cost = gpu.buffer(self.count)?;
        let centre = gpu.buffer(self.count)?;
        let moves = gpu.buffer(self.count)?;
        // At most the first centre and all candidates, and the savings.
        let change = gpu.buffer(self.count * (self.candidates.len() + 2))?;
        self.solve(|solution, candidate| {
            let centres = solution.centres.len();
            gpu.write(cost, &solution.cost)?;
            gpu.write(centre, &solution.centre)?;
            let arguments = args![
                coordinates,
                weight,
                cost,
                centre,
                change,
                moves,
                Argument::Local(self.dimensions * size_of::<f32>()),
                self.count as u32,
                self.dimensions as u32,
                centres as u32,
                candidate as u32,
            ];
            gpu.launch("gain", Grid::line(self.count, GROUP), arguments)?;
            Ok(Change {
                rows: gpu.read_prefix(change, self.count * (centres + 1))?,
                moves: gpu.read(moves)?,
            })
        })
    }

    fn reference(&self) -> Solution {
        self.solve(|solution, candidate| Ok(self.change(solution, candidate)))
            .expect("the CPU does not fail")
    }

    fn compare(&self, expected: &Solution, found: &Solution) -> Agreement {
        exact(&expected.centres, &found.centres).and(close(&expected.cost, &found.cost, 1e-5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on a line at 0, 1, 10 and 11.
    fn line() -> Streamcluster {
        Streamcluster {
            count: 4,
            dimensions: 1,
            coordinates: vec![0.0, 1.0, 10.0, 11.0],
            weight: vec![1.0; 4],
            candidates: vec![2],
        }
    }

    #[test]
    fn centre_opens_where_it_saves_more_than_its_price() {
        let workload = line();
        let mut solution = workload.start();
        let change = workload.change(&solution, 2);
        assert_eq!(change.moves, [0, 0, 1, 1]);
        // The two on the right save 100 and 121 - 1; the two on the left would pay 100 and 80.
        assert_eq!(change.rows, [100.0, 0.0, 80.0, 0.0, 0.0, 100.0, 0.0, 120.0]);
        workload.open(&mut solution, 2, &change, 50.0);
        assert_eq!(solution.centres, [0, 2]);
        assert_eq!(solution.cost, [0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn centre_replaces_one_that_is_not_worth_its_price() {
        let workload = line();
        let mut solution = workload.start();
        let change = workload.change(&solution, 2);
        workload.open(&mut solution, 2, &change, 190.0);
        assert_eq!(solution.centres, [2]);
        assert_eq!(solution.cost, [100.0, 81.0, 0.0, 1.0]);
    }

    #[test]
    fn centre_that_costs_more_than_it_saves_stays_closed() {
        let workload = Streamcluster {
            coordinates: vec![0.0, 0.0, 2.0, 0.0],
            ..line()
        };
        let mut solution = workload.start();
        let change = workload.change(&solution, 2);
        workload.open(&mut solution, 2, &change, 4.5);
        assert_eq!(solution.centres, [0]);
    }
}
