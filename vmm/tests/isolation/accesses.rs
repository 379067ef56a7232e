//! A short run of the fuzz target `vgpu_accesses`: its seeds, and random scripts.

use std::path::Path;

use proptest::prelude::*;

use crate::script;

#[test]
fn the_seeds_of_the_fuzz_target_stay_in_their_machines() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/vgpu_accesses");
    let mut played = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        script::run(&std::fs::read(seed.unwrap().path()).unwrap());
        played += 1;
    }
    assert!(played > 0);
}

/// A step, with operands that are likely to mean something.
fn step() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        any::<u32>(),
        0u32..0x200,
        // Where the rig keeps its structures, and entries that lead somewhere.
        (0x1_0000u32..0x6_0000).prop_map(|at| at & !3),
        (0u32..0x1_0000, any::<bool>()).prop_map(|(page, huge)| {
            let beyond = if huge { 0xf000_0000 } else { 0 };
            page << 4 | 1 | beyond
        }),
    ];
    (any::<u8>(), prop::collection::vec(word, 2)).prop_map(|(operation, words)| {
        let words = words.into_iter().flat_map(u32::to_le_bytes);
        std::iter::once(operation).chain(words).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn nothing_that_two_machines_do_leads_out_of_them(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        script::run(&steps.concat());
    }
}
