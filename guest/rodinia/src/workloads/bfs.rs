//! Breadth-first search in a random graph.

use std::collections::VecDeque;

use anyhow::Result;
use fastrand::Rng;

use crate::{
    agreement::{Agreement, exact},
    args,
    gpu::{Gpu, Grid},
    workload::{Size, Workload},
};

/// Work-items of a group.
const GROUP: usize = 256;

/// A graph as lists of neighbours, searched from its first node.
pub struct Bfs {
    /// Where each node's neighbours begin in `edges`, and the end.
    first: Vec<u32>,
    edges: Vec<u32>,
}

impl Bfs {
    fn nodes(&self) -> usize {
        self.first.len() - 1
    }
}

impl Workload for Bfs {
    const NAME: &'static str = "bfs";
    const ABOUT: &'static str = "breadth-first search in a random graph";
    const SOURCE: &'static str = include_str!("bfs.cl");
    /// Steps from the first node; -1 for a node out of reach.
    type Output = Vec<i32>;

    fn prepare(size: Size, random: &mut Rng) -> Self {
        let nodes = size.of([4096_u32, 131_072, 1_048_576]);
        let mut first = vec![0];
        let mut edges = Vec::new();
        for _ in 0..nodes {
            for _ in 0..random.u32(1..=6) {
                edges.push(random.u32(..nodes));
            }
            first.push(edges.len() as u32);
        }
        Self { first, edges }
    }

    fn run(&self, gpu: &mut Gpu) -> Result<Vec<i32>> {
        let nodes = self.nodes();
        let mut only_first = vec![0_u8; nodes];
        only_first[0] = 1;
        let mut costs = vec![-1; nodes];
        costs[0] = 0;
        let first = gpu.upload(&self.first)?;
        let edges = gpu.upload(&self.edges)?;
        let frontier = gpu.upload(&only_first)?;
        let visited = gpu.upload(&only_first)?;
        let next = gpu.upload(&vec![0_u8; nodes])?;
        let cost = gpu.upload(&costs)?;
        let again = gpu.buffer(1)?;

        let grid = Grid::line(nodes, GROUP);
        let n = nodes as u32;
        loop {
            gpu.write(again, &[0_i32])?;
            let arguments = args![first, edges, frontier, next, visited, cost, n];
            gpu.launch("expand", grid, arguments)?;
            gpu.launch("advance", grid, args![frontier, next, visited, again, n])?;
            if gpu.read(again)? == [0] {
                return gpu.read(cost);
            }
        }
    }

    fn reference(&self) -> Vec<i32> {
        let mut cost = vec![-1; self.nodes()];
        cost[0] = 0;
        let mut queue = VecDeque::from([0]);
        while let Some(node) = queue.pop_front() {
            let neighbours = self.first[node] as usize..self.first[node + 1] as usize;
            for neighbour in self.edges[neighbours].iter().map(|e| *e as usize) {
                if cost[neighbour] < 0 {
                    cost[neighbour] = cost[node] + 1;
                    queue.push_back(neighbour);
                }
            }
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
    fn triangle_with_a_tail_and_an_island() {
        // 0 -> 1, 0 -> 2, 1 -> 2, 2 -> 3; 4 -> 0.
        let graph = Bfs {
            first: vec![0, 2, 3, 4, 4, 5],
            edges: vec![1, 2, 2, 3, 0],
        };
        assert_eq!(graph.reference(), [0, 1, 1, 2, -1]);
    }
}
