//! Code of the SMs as byte scripts.

#![no_main]

#[path = "../../gf100/tests/scripts/mod.rs"]
mod scripts;

libfuzzer_sys::fuzz_target!(|script: &[u8]| scripts::code_words::run(script));
