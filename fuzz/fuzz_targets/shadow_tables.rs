//! A guest's page tables, in shadow, as byte scripts.

#![no_main]

#[path = "../../shadow-pt/tests/shadow/reference.rs"]
mod reference;
#[path = "../../shadow-pt/tests/shadow/rig.rs"]
mod rig;
#[path = "../../shadow-pt/tests/shadow/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|script: &[u8]| script::run(script));
