//! The programs of `sm`, on the interpreter.

#[path = "sm/asm.rs"]
mod asm;
#[path = "sm/flow.rs"]
mod flow;
#[path = "sm/grid.rs"]
mod grid;
#[path = "sm/machine.rs"]
mod machine;
#[path = "sm/memory.rs"]
mod memory;
#[path = "sm/random/mod.rs"]
mod random;
#[path = "sm/surface.rs"]
mod surface;
#[path = "sm/texture.rs"]
mod texture;

/// What executes the programs here.
const ENGINE: gf100::sm::Engine = gf100::sm::Engine::Interpreter;
