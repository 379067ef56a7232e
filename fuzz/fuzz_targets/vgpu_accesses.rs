//! Two machines on one card, as byte scripts.

#![no_main]

#[path = "../../vmm/tests/rig/mod.rs"]
mod rig;
#[path = "../../vmm/tests/isolation/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|script: &[u8]| script::run(script));
