//! The nearest of many places: distances by the device, the choice by the host.

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, close},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

/// How many places to find.
const NEAREST: usize = 10;

/// Places as latitude and longitude, and where to search.
pub struct Nn {
    places: Vec<f32>,
    latitude: f32,
    longitude: f32,
}

/// Distances of all places, and those of the nearest, in order.
pub struct Nearest {
    distances: Vec<f32>,
    nearest: Vec<f32>,
}

impl Nearest {
    fn of(distances: Vec<f32>) -> Self {
        let mut order: Vec<usize> = (0..distances.len()).collect();
        let by_distance = |a: &usize, b: &usize| distances[*a].total_cmp(&distances[*b]);
        if order.len() > NEAREST {
            order.select_nth_unstable_by(NEAREST, by_distance);
            order.truncate(NEAREST);
        }
        order.sort_by(by_distance);
        let nearest = order.iter().map(|place| distances[*place]).collect();
        Self { distances, nearest }
    }
}

impl Workload for Nn {
    const NAME: &'static str = "nn";
    const ABOUT: &'static str = "nearest of many places";
    const SOURCE: &'static str = include_str!("nn.cl");
    type Output = Nearest;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let count = size.of([42_764, 1_048_576, 8_388_608]);
        let mut place = || [random.f32() * 180.0 - 90.0, random.f32() * 360.0 - 180.0];
        let [latitude, longitude] = place();
        Self {
            places: (0..count).flat_map(|_| place()).collect(),
            latitude,
            longitude,
        }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Nearest> {
        let count = self.places.len() / 2;
        let places = gpu.upload(&self.places)?;
        let distance = gpu.buffer(count)?;
        let arguments = args![
            places,
            distance,
            count as u32,
            self.latitude,
            self.longitude
        ];
        gpu.launch("distances", Grid::line(count, 256), arguments)?;
        Ok(Nearest::of(gpu.read(distance)?))
    }

    fn reference(&self) -> Nearest {
        let distance = |place: &[f32]| {
            let [x, y] = [self.latitude - place[0], self.longitude - place[1]].map(f64::from);
            x.hypot(y) as f32
        };
        Nearest::of(self.places.chunks_exact(2).map(distance).collect())
    }

    fn compare(&self, expected: &Nearest, found: &Nearest) -> Agreement {
        close(&expected.distances, &found.distances, 1e-6).and(close(
            &expected.nearest,
            &found.nearest,
            1e-6,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_places() {
        let workload = Nn {
            places: vec![3.0, 4.0, 0.0, 1.0, -6.0, 8.0],
            latitude: 0.0,
            longitude: 0.0,
        };
        let nearest = workload.reference();
        assert_eq!(nearest.distances, [5.0, 1.0, 10.0]);
        assert_eq!(nearest.nearest, [1.0, 5.0, 10.0]);
    }
}
