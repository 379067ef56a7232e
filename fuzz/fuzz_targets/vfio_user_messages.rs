//! Messages of a vfio-user client as byte scripts.

#![no_main]

#[path = "../../vmm/tests/vfio_user/peer.rs"]
mod peer;
#[path = "../../vmm/tests/vfio_user/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|data: &[u8]| script::run(data));
