//! Clusters by k-means: the device finds each point's nearest centre, the host moves the centres.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close, exact},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload, floats},
};

/// Work-items of a group.
const GROUP: usize = 256;
/// Rounds after which the clusters are taken as they are.
const MAX_ROUNDS: u32 = 20;

/// Points around centres that lie far apart, so that no point is between two clusters.
pub struct Kmeans {
    dimensions: usize,
    clusters: usize,
    points: Vec<f32>,
}

/// The clusters.
pub struct Clustering {
    membership: Vec<i32>,
    centres: Vec<f32>,
}

impl Kmeans {
    fn count(&self) -> usize {
        self.points.len() / self.dimensions
    }

    /// Lets `assign` find the members of centres until nothing changes.
    fn iterate(&self, mut assign: impl FnMut(&[f32]) -> Result<Vec<i32>>) -> Result<Clustering> {
        let mut centres = self.points[..self.clusters * self.dimensions].to_vec();
        let mut membership = vec![-1; self.count()];
        for _ in 0..MAX_ROUNDS {
            let new = assign(&centres)?;
            let settled = new == membership;
            membership = new;
            if settled {
                break;
            }
            self.centre(&membership, &mut centres);
        }
        Ok(Clustering {
            membership,
            centres,
        })
    }

    /// Moves each centre that has members to their mean.
    fn centre(&self, membership: &[i32], centres: &mut [f32]) {
        let mut sums = vec![0.0_f64; centres.len()];
        let mut counts = vec![0_u32; self.clusters];
        for (point, cluster) in self.points.chunks_exact(self.dimensions).zip(membership) {
            let cluster = *cluster as usize;
            counts[cluster] += 1;
            let sums = &mut sums[cluster * self.dimensions..][..self.dimensions];
            for (sum, feature) in sums.iter_mut().zip(point) {
                *sum += f64::from(*feature);
            }
        }
        for (at, centre) in centres.iter_mut().enumerate() {
            let count = counts[at / self.dimensions];
            if count > 0 {
                *centre = (sums[at] / f64::from(count)) as f32;
            }
        }
    }

    fn nearest(&self, point: &[f32], centres: &[f32]) -> i32 {
        let distance = |centre: &[f32]| -> f64 {
            let differences = point.iter().zip(centre).map(|(p, c)| f64::from(p - c));
            differences.map(|d| d * d).sum()
        };
        let distances = centres.chunks_exact(self.dimensions).map(distance);
        let nearest = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.map_or(-1, |(cluster, _)| cluster as i32)
    }
}

impl Workload for Kmeans {
    const NAME: &'static str = "kmeans";
    const ABOUT: &'static str = "clusters of points by k-means";
    const SOURCE: &'static str = include_str!("kmeans.cl");
    type Output = Clustering;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let (count, dimensions, clusters) =
            size.of([(4096, 8, 5), (65_536, 34, 5), (524_288, 34, 5)]);
        let hubs = floats(random, clusters * dimensions, -10.0..10.0);
        let points = (0..count).flat_map(|n| {
            let hub = &hubs[n % clusters * dimensions..][..dimensions];
            let noise = floats(random, dimensions, -1.0..1.0);
            hub.iter()
                .zip(noise)
                .map(|(h, n)| h + n)
                .collect::<Vec<_>>()
        });
        Self {
            dimensions,
            clusters,
            points: points.collect(),
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Clustering> {
        let count = self.count();
        let (n, dimensions) = (count as u32, self.dimensions as u32);
        let grid = Grid::line(count, GROUP);
        let points = gpu.upload(&self.points)?;
        let features = gpu.buffer::<f32>(self.points.len())?;
        let centres = gpu.buffer(self.clusters * self.dimensions)?;
        let membership = gpu.buffer(count)?;
        gpu.launch("transpose", grid, args![points, features, n, dimensions])?;
        self.iterate(|new| {
            gpu.write(centres, new)?;
            let clusters = self.clusters as u32;
            let arguments = args![features, centres, membership, n, dimensions, clusters];
            gpu.launch("assign", grid, arguments)?;
            gpu.read(membership)
        })
    }

    fn reference(&self) -> Clustering {
        let assign = |centres: &[f32]| {
            let points = self.points.chunks_exact(self.dimensions);
            Ok(points.map(|point| self.nearest(point, centres)).collect())
        };
        self.iterate(assign).expect("the CPU does not fail")
    }

    fn compare(&self, expected: &Clustering, found: &Clustering) -> Agreement {
        exact(&expected.membership, &found.membership).and(close(
            &expected.centres,
            &found.centres,
            1e-5,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pairs_of_points() {
        let workload = Kmeans {
            dimensions: 1,
            clusters: 2,
            points: vec![0.0, 10.0, 1.0, 12.0],
        };
        let clustering = workload.reference();
        assert_eq!(clustering.membership, [0, 1, 0, 1]);
        assert_eq!(clustering.centres, [0.5, 11.0]);
    }
}
