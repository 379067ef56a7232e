//! Where there is no machine code to make: every program is interpreted.

use super::{
    exec::{Cx, Halt, Isa},
    program::Program,
};

/// No compiler can be made.
pub enum Compiler {}

/// No code can be made.
pub enum Code {}

/// Nothing.
#[derive(Default)]
pub struct Pages;

impl Compiler {
    /// None.
    pub fn new(_patience: u64) -> Option<Self> {
        None
    }

    /// The code of a program.
    pub fn code(&self, _program: &Program) -> Option<std::sync::Arc<Code>> {
        match *self {}
    }

    /// Code that was found before.
    pub fn again(&self, _code: &std::sync::Weak<Code>) -> Option<std::sync::Arc<Code>> {
        match *self {}
    }

    /// Makes what has become worth it.
    pub fn prepare<I: Isa>(&self, _code: &Code, _program: &Program) {
        match *self {}
    }
}

impl Code {
    /// Registers that may be read before they are written.
    pub fn read_first(&self) -> u128 {
        match *self {}
    }

    /// Executes until something has to be done about the warp.
    pub fn run<I: Isa>(&self, _isa: I, _cx: &mut Cx<'_>, _pages: &mut Pages) -> Halt {
        match *self {}
    }
}
