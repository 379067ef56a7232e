//! What executes programs.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// How the multiprocessors execute programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Instruction by instruction.
    Interpreter,
    /// By machine code of the host, if the host can run it.
    Jit {
        /// How often a warp has executed each instruction of a program, on average, before code is
        /// made.
        patience: u64,
    },
}

impl Engine {
    /// Machine code for programs that have run for about as long as it takes to make it.
    pub const JIT: Self = Self::Jit { patience: 400 };
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interpreter => "interpreter",
            Self::Jit { .. } => "jit",
        })
    }
}

/// A name of no engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("The engines are interpreter and jit")]
pub struct UnknownEngine;

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        match name {
            "interpreter" => Ok(Self::Interpreter),
            "jit" => Ok(Self::JIT),
            _ => Err(UnknownEngine),
        }
    }
}
