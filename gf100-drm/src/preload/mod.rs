//! The functions of the C library by which programs reach the node.
//!
//! Each does what it would do without this library, unless it is about the node or its
//! [`tree`](crate::tree). Functions that the C library declares with a variable number of
//! arguments take the last one here whether it was given or not: on x86-64 it comes in a register,
//! and is handed on as it is.

mod files;
mod paths;
mod real;
mod threads;
mod yields;
