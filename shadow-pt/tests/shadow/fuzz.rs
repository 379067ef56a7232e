//! A short run of the fuzz target: its seeds, and scripts that are mutated from them.

use std::fs;
use std::path::Path;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::script;

/// Mutated scripts.
const MUTANTS: usize = 100;

#[test]
fn shadow_tables() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/shadow_tables");
    let mut corpus: Vec<_> = fs::read_dir(&seeds)
        .unwrap_or_else(|error| panic!("{}: {error}", seeds.display()))
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!corpus.is_empty(), "there are no seeds");
    corpus.sort();
    for seed in &corpus {
        script::run(seed);
    }
    // The same scripts every time: a failure here can be run again.
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut below = |limit: usize| (rng.next_u64() % limit.max(1) as u64) as usize;
    for n in 0..MUTANTS {
        let mut script = corpus[n % corpus.len()].clone();
        for _ in 0..=below(6) {
            let at = below(script.len());
            match below(3) {
                0 if !script.is_empty() => script[at] = below(256) as u8,
                1 => {
                    let new: Vec<u8> = (0..below(32)).map(|_| below(256) as u8).collect();
                    script.splice(at..at, new);
                }
                _ => {
                    let end = script.len().min(at + below(16));
                    script.drain(at..end);
                }
            }
        }
        script::run(&script);
    }
}
