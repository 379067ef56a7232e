//! A short run of every fuzz target: its seeds, and scripts that are mutated from them.

mod scripts;

use std::fs;
use std::path::Path;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Mutated scripts per target, where a script is a matter of microseconds.
const MUTANTS: usize = 2000;
/// Mutated scripts where each brings up a card with its threads.
const MUTANTS_OF_CARDS: usize = 150;

/// Mutated scripts where each runs a grid that may be endless.
const MUTANTS_OF_GRIDS: usize = 1000;

/// Runs the seeds of `target`, and as many mutants of them as are to be had quickly.
fn exercise(target: &str, mutants: usize, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let mut corpus: Vec<_> = fs::read_dir(&seeds)
        .unwrap_or_else(|error| panic!("{}: {error}", seeds.display()))
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!corpus.is_empty(), "{target} has no seeds");
    corpus.sort();
    for seed in &corpus {
        run(seed);
    }
    // The same scripts every time: a failure here can be run again.
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut below = |limit: usize| (rng.next_u64() % limit.max(1) as u64) as usize;
    for n in 0..mutants {
        let mut script = corpus[n % corpus.len()].clone();
        for _ in 0..=below(8) {
            match below(3) {
                0 if !script.is_empty() => {
                    let at = below(script.len());
                    script[at] = below(256) as u8;
                }
                1 => {
                    let at = below(script.len());
                    script.truncate(at);
                }
                _ => {
                    let at = below(script.len() + 1);
                    let new: Vec<u8> = (0..below(64)).map(|_| below(256) as u8).collect();
                    script.splice(at..at, new);
                }
            }
        }
        run(&script);
    }
}

#[test]
fn bar_accesses() {
    exercise("bar_accesses", MUTANTS, scripts::bar_accesses::run);
}

#[test]
fn code_words() {
    exercise("code_words", MUTANTS_OF_GRIDS, scripts::code_words::run);
}

#[test]
fn config_accesses() {
    exercise("config_accesses", MUTANTS, scripts::config_accesses::run);
}

#[test]
fn page_tables() {
    exercise("page_tables", MUTANTS, scripts::page_tables::run);
}

#[test]
fn rings() {
    exercise("rings", MUTANTS_OF_CARDS, scripts::rings::run);
}
