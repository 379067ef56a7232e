//! What a guest cannot make the card do: take memory without bound.

#[allow(dead_code)] // Only one of the scripts plays here.
mod scripts;

use std::sync::Arc;

use gf100::{Card, Config, NoInterrupts};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn ten_million_random_accesses_leave_memory_bounded() {
    let vram = 64 << 20;
    let card = Card::new(Config::quadro_6000(vram), Arc::new(NoInterrupts)).unwrap();
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut script = vec![0; 1 << 20];
    let before = resident();
    let mut accesses = 0;
    while accesses < 10_000_000 {
        rng.fill_bytes(&mut script);
        accesses += scripts::bar_accesses::play(&card, &script);
        if rng.next_u32() & 1 == 0 {
            card.reset();
        }
    }
    // All video memory and every register may have been touched; nothing else may have grown.
    let bound = vram + (32 << 20) + (32 << 20);
    let grown = resident().saturating_sub(before);
    assert!(grown < bound, "grew by {grown} bytes");
}
