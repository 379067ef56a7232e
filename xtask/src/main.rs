//! `cargo xtask`: everything a user or CI runs.

fn main() {}
