//! Rings, methods and PFIFO's registers as byte scripts.

#![no_main]

#[path = "../../gf100/tests/scripts/mod.rs"]
mod scripts;

libfuzzer_sys::fuzz_target!(|script: &[u8]| scripts::rings::run(script));
