//! A card's memory with a program in it, and multiprocessors.

use std::sync::Arc;

use gf100::{
    engine::Pause,
    memory::{Memory, PhysAddr, Tables},
    sm::{ConstantBuffer, Engine, Launch, Multiprocessors, Outcome, Temp, Trap, WarpError},
};

const MIB: u64 = 1 << 20;
/// Where code is, in every sense of address.
pub const CODE: u64 = 16 * MIB;
/// Where data are.
pub const DATA: u64 = 32 * MIB;
const LEN: u64 = 8 * MIB;
/// Where local memory is, and how much of it there is.
pub const TEMP: Temp = Temp {
    address: DATA + 4 * MIB,
    size: 2 * MIB,
};
/// Where constant buffers are.
const CONSTANTS: u64 = DATA + 7 * MIB;

pub struct Machine {
    pub memory: Arc<Memory>,
    pub sm: Multiprocessors,
    pub launch: Launch,
}

impl Machine {
    /// A machine that will run `code`.
    pub fn new(code: &[u64]) -> Self {
        Self::on(crate::ENGINE, code)
    }

    /// A machine that will run `code` in one way or the other.
    pub fn on(engine: Engine, code: &[u64]) -> Self {
        let memory = Memory::new(64 * MIB).unwrap();
        let mut tables = Tables::new(memory.clone(), MIB);
        for area in [CODE, DATA] {
            tables.map(area, PhysAddr::vram(area), LEN, true);
        }
        let mut launch = Launch::new(tables.instance(), CODE);
        launch.temp = TEMP;
        let machine = Self {
            sm: Multiprocessors::new(memory.clone(), engine),
            memory,
            launch,
        };
        machine.load(code);
        machine
    }

    pub fn load(&self, code: &[u64]) {
        for (n, word) in code.iter().enumerate() {
            self.memory.vram().store(CODE + 8 * n as u64, *word);
        }
    }

    pub fn threads(mut self, x: u32) -> Self {
        self.launch.block = [x, 1, 1];
        self
    }

    pub fn ctas(mut self, x: u32) -> Self {
        self.launch.grid = [x, 1, 1];
        self
    }

    pub fn shared(mut self, bytes: u32) -> Self {
        self.launch.shared_size = bytes;
        self
    }

    /// Binds a constant buffer with these words; the first two of buffer 0 are the address of the
    /// data, by convention of these tests.
    pub fn bind(&mut self, bank: usize, words: &[u32]) {
        let address = CONSTANTS + bank as u64 * 0x1_0000;
        for (n, word) in words.iter().enumerate() {
            self.memory.vram().store(address + 4 * n as u64, *word);
        }
        self.launch.constants[bank] = ConstantBuffer {
            address,
            size: 4 * words.len() as u32,
        };
    }

    pub fn set(&self, offset: u64, words: &[u32]) {
        for (n, word) in words.iter().enumerate() {
            self.memory
                .vram()
                .store(DATA + offset + 4 * n as u64, *word);
        }
    }

    pub fn get(&self, offset: u64, count: usize) -> Vec<u32> {
        (0..count as u64)
            .map(|n| self.memory.vram().load(DATA + offset + 4 * n))
            .collect()
    }

    pub fn run(&self) -> Outcome {
        let mut grid = self.sm.launch(self.launch.clone()).unwrap();
        self.sm.run(&mut grid, &Pause::default())
    }

    /// Runs to the end.
    pub fn done(&self) {
        assert_eq!(self.run(), Outcome::Done);
    }

    /// Runs into a warp error.
    pub fn trap(&self) -> Trap {
        match self.run() {
            Outcome::Failed(gf100::sm::Failure::Trap(trap)) => trap,
            other => panic!("{other:?} instead of a trap"),
        }
    }

    pub fn error(&self) -> WarpError {
        self.trap().error
    }
}

/// The prologue of most tests: r0 the number of the thread in its CTA, r2 and r3 the address of
/// the data, r4 and r5 that of the thread's word.
#[macro_export]
macro_rules! prologue {
    () => {
        [
            $crate::asm::s2r(0, 0x21),
            $crate::asm::mov_imm(2, $crate::machine::DATA as u32),
            $crate::asm::mov_imm(3, 0),
            $crate::asm::shl_imm(4, 0, 2),
            $crate::asm::iadd(4, 4, 2),
            $crate::asm::mov_imm(5, 0),
        ]
    };
}

/// A program that starts with the prologue.
#[macro_export]
macro_rules! threaded {
    ($($line:expr),* $(,)?) => {{
        let mut lines = $crate::prologue!().map($crate::asm::Line::from).to_vec();
        $(lines.push($crate::asm::Line::from($line));)*
        $crate::asm::link(&lines)
    }};
}
