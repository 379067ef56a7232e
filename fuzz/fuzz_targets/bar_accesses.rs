//! Accesses to the BARs as byte scripts.

#![no_main]

#[path = "../../gf100/tests/scripts/mod.rs"]
mod scripts;

libfuzzer_sys::fuzz_target!(|script: &[u8]| scripts::bar_accesses::run(script));
