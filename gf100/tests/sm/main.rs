//! Programs in Fermi machine code, assembled here, on the multiprocessors.

mod asm;
mod flow;
mod grid;
mod machine;
mod memory;
mod random;
mod surface;
mod texture;
