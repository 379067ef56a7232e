//! The streaming multiprocessors: grids of Fermi machine code (sm_20).
//!
//! A [`Launch`] is everything that the compute class's state says about a grid;
//! [`Multiprocessors`] run it on the host's threads, until it is done, fails, or is paused.
//!
//! * [`decode`] makes operations of instruction words. A program is decoded once and kept as long
//!   as its code is the same; what it does in vain is left out then.
//! * A warp's registers are rows of 32 lanes; an operation is a loop over a row, compiled for the
//!   host's vector unit.
//! * [`texture`] is the texture unit, [`image`] what surface instructions reach.
//! * A stack of lane masks brings lanes that went different ways together again.
//!
//! # Numbers
//!
//! Arithmetic is IEEE 754 in the rounding mode of the instruction, fused multiply-add rounds once,
//! subnormals are kept unless the instruction flushes them. A NaN that comes out of arithmetic is
//! 0x7fffffff, in double precision 0xfff8000000000000, in half precision 0x7fff. Minimum and
//! maximum return the number if one operand is NaN, and take -0 for less than 0. Conversions to
//! integers saturate, and NaN becomes 0. The functions of the multi-function unit have errors,
//! which `exec/function.rs` lists.
//!
//! # Order
//!
//! Loads and stores of a warp happen in program order, those of its lanes by ascending lane;
//! atomics are atomic for the host, too. CTAs run in any order and at the same time. Constants are
//! what they were when the grid first looked, code what it was when it was first reached.

mod bits;
mod constants;
mod cta;
pub mod decode;
mod effects;
mod engine;
mod exact;
mod exec;
mod grid;
mod image;
#[cfg(target_arch = "x86_64")]
mod jit;
#[cfg(not(target_arch = "x86_64"))]
#[path = "no_jit.rs"]
mod jit;
mod lanes;
mod launch;
mod operands;
mod optimize;
mod pool;
mod program;
mod texture;
mod warp;

pub use engine::{Engine, UnknownEngine};
pub use grid::{Grid, Multiprocessors, Outcome};
pub use launch::{
    CONSTANT_BUFFERS, ConstantBuffer, Failure, HeaderTable, IMAGES, Image, Launch, LaunchError,
    SAMPLERS, TEXTURES, Temp, Trap, WarpError,
};
