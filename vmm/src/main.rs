//! The `gpuvm` command.

fn main() {}
