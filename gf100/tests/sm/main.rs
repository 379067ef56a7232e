//! Programs in Fermi machine code, assembled here, on the multiprocessors.

mod asm;
mod engines;
mod flow;
mod grid;
mod machine;
mod memory;
mod random;
mod surface;
mod texture;

/// What executes the programs here: machine code from the first instruction on.
const ENGINE: gf100::sm::Engine = gf100::sm::Engine::Jit { patience: 0 };
