//! Messages of a vfio-user client as byte scripts.

#![no_main]

#[allow(dead_code)] // Scripts need little of it.
#[path = "../../vmm/tests/vfio_user/peer.rs"]
mod peer;
#[path = "../../vmm/tests/vfio_user/script.rs"]
mod script;

use std::panic;
use std::sync::LazyLock;

use peer::Served;

/// One card for all scripts: it has to be as new for each.
static SERVED: LazyLock<Served> = LazyLock::new(peer::serve);

/// Ends the process at a panic, as libFuzzer expects, unless it is one of the protocol's crate:
/// the server takes those for what they are, a client that is to be dropped.
fn end_at_a_panic_of_ours() {
    let say = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        let at = what.location().map_or("", |location| location.file());
        if !at.contains("vfio_user-") {
            say(what);
        }
    }));
}

libfuzzer_sys::fuzz_target!(
    init: end_at_a_panic_of_ours(),
    |data: &[u8]| script::run(&SERVED, data)
);
