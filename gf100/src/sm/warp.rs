//! A warp: 32 lanes with registers, predicates and a stack of control flow.

use super::{
    lanes::{LANES, Row},
    launch::WarpError,
};

/// What an entry of the stack waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// All lanes have joined.
    Join,
    /// The other side of a branch is done.
    Diverged,
    /// All lanes have left the loop.
    Break,
    /// All lanes want the next iteration.
    Continue,
    /// All lanes have returned.
    Return,
    /// Quads are whole no more.
    Quad,
}

/// Lanes that go on at an instruction when nothing above them is left.
#[derive(Clone, Copy, Debug)]
struct Entry {
    token: Token,
    mask: u32,
    pc: u32,
}

/// The condition code: a lane mask per flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The result was 0.
    pub zero: u32,
    /// An addition carried out of bit 31; of a subtraction: there was no borrow.
    pub carry: u32,
}

/// Where lanes are, and where they will go on.
///
/// The stack holds masks of lanes that wait. A lane is in every entry of a region that it is in, so
/// that whatever ends a region finds all its lanes: one that leaves further than to the topmost
/// entry is taken out of all that it leaves behind.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Lanes that execute.
    pub active: u32,
    /// Index of the next instruction.
    pub pc: u32,
    stack: Vec<Entry>,
    /// Entries of regions that the stack has room for; the two sides of branches come on top.
    limit: usize,
    regions: usize,
}

impl Flow {
    /// `lanes` at instruction `pc`, with room for `limit` regions.
    pub fn new(lanes: u32, pc: u32, limit: usize) -> Self {
        Self {
            active: lanes,
            pc,
            stack: Vec::new(),
            limit,
            regions: 0,
        }
    }

    /// Starts over.
    pub fn reset(&mut self, lanes: u32, pc: u32) {
        self.active = lanes;
        self.pc = pc;
        self.stack.clear();
        self.regions = 0;
    }

    /// The active lanes enter a region that ends at `pc`.
    pub fn enter(&mut self, token: Token, pc: u32) -> Result<(), WarpError> {
        if self.regions >= self.limit {
            return Err(WarpError::StackError);
        }
        self.regions += 1;
        self.stack.push(Entry {
            token,
            mask: self.active,
            pc,
        });
        Ok(())
    }

    /// `lanes` of the active ones go to `target`, the others to the next instruction, afterwards.
    pub fn branch(&mut self, lanes: u32, target: u32) {
        let others = self.active & !lanes;
        if others != 0 {
            self.stack.push(Entry {
                token: Token::Diverged,
                mask: others,
                pc: self.pc,
            });
        }
        self.active = lanes;
        self.pc = target;
    }

    /// `lanes` of the active ones wait for those of their region.
    pub fn join(&mut self, lanes: u32) -> Result<(), WarpError> {
        self.active &= !lanes;
        if self.active != 0 {
            return Ok(());
        }
        match self.stack.last() {
            Some(Entry {
                token: Token::Join | Token::Diverged,
                ..
            }) => {
                self.next();
            }
            _ => return Err(WarpError::StackError),
        }
        // A region that they joined without having entered it has nothing for them.
        match self.active {
            0 => Err(WarpError::StackError),
            _ => Ok(()),
        }
    }

    /// `lanes` of the active ones leave the innermost region of this kind.
    pub fn leave(&mut self, token: Token, lanes: u32) -> Result<(), WarpError> {
        // A loop does not reach out of a function.
        let region = self
            .stack
            .iter()
            .rposition(|entry| entry.token == token || entry.token == Token::Return)
            .filter(|&at| self.stack[at].token == token);
        let Some(region) = region else {
            return Err(match token {
                Token::Return => WarpError::RetEmptyStack,
                _ => WarpError::StackError,
            });
        };
        for entry in &mut self.stack[region + 1..] {
            entry.mask &= !lanes;
        }
        self.active &= !lanes;
        if self.active == 0 {
            self.next();
        }
        Ok(())
    }

    /// `lanes` of the active ones are done for good.
    pub fn exit(&mut self, lanes: u32) {
        for entry in &mut self.stack {
            entry.mask &= !lanes;
        }
        self.active &= !lanes;
        if self.active == 0 {
            self.next();
        }
    }

    /// All lanes of quads with an active lane.
    pub fn quad_on(&mut self) -> Result<(), WarpError> {
        self.enter(Token::Quad, 0)?;
        let any = self.active | self.active >> 1;
        let any = (any | any >> 2) & 0x1111_1111;
        self.active = any * 0xf;
        Ok(())
    }

    /// The lanes before [`Flow::quad_on`].
    pub fn quad_pop(&mut self) -> Result<(), WarpError> {
        match self.stack.pop() {
            Some(entry) if entry.token == Token::Quad => {
                self.regions -= 1;
                self.active = entry.mask;
                Ok(())
            }
            _ => Err(WarpError::StackError),
        }
    }

    /// Goes on with the topmost entry that has lanes.
    fn next(&mut self) {
        while let Some(entry) = self.stack.pop() {
            self.regions -= usize::from(entry.token != Token::Diverged);
            if entry.mask != 0 {
                self.active = entry.mask;
                self.pc = entry.pc;
                return;
            }
        }
    }
}

/// A warp's registers, predicates and place in the program.
#[derive(Clone, Debug)]
pub struct Warp {
    /// Its number in the CTA.
    pub number: u32,
    /// Register rows, the sink at the end.
    pub regs: Vec<Row>,
    /// Virtual address of its local memory: a row per word, from the lowest (negative) address on.
    pub local: u64,
    /// Predicates as lane masks; the last is always true.
    pub preds: [u32; 8],
    /// The condition code.
    pub flags: Flags,
    /// Its place in the program.
    pub flow: Flow,
}

/// Regions that fit the stack on the chip.
const ON_CHIP: usize = 16;
/// Regions that fit each unit of stack memory, and the size of a unit.
const PER_UNIT: usize = 48;
const UNIT: u32 = 0x200;
/// Bytes of stack memory that count; drivers give a warp 0x800.
const MAX_CSTACK: u32 = 0x8000;

impl Warp {
    /// A warp of a CTA with its local memory at a virtual address; see [`Warp::reset`].
    ///
    /// The depth of the stack is as ENV `rnndb/graph/gf100_compute.xml WARP_CSTACK_SIZE` says, up
    /// to [`MAX_CSTACK`].
    pub fn new(number: u32, rows: usize, cstack_size: u32, local: u64) -> Self {
        let limit = ON_CHIP.max((cstack_size.min(MAX_CSTACK) / UNIT) as usize * PER_UNIT);
        Self {
            number,
            regs: vec![Row::ZERO; rows],
            local,
            preds: [0, 0, 0, 0, 0, 0, 0, u32::MAX],
            flags: Flags::default(),
            flow: Flow::new(0, 0, limit),
        }
    }

    /// The state at the start of a CTA of `threads` threads. Of the registers only those of
    /// `read_first`, a bit each, need to be zero.
    pub fn reset(&mut self, threads: u32, read_first: u128) {
        let first = self.number * LANES as u32;
        let lanes = match threads.saturating_sub(first) {
            n @ 0..32 => (1 << n) - 1,
            _ => u32::MAX,
        };
        match read_first {
            0 => {}
            u128::MAX => self.regs.fill(Row::ZERO),
            _ => {
                let rows = self.regs.iter_mut().enumerate();
                rows.filter(|(n, _)| read_first >> n & 1 != 0)
                    .for_each(|(_, row)| *row = Row::ZERO);
            }
        }
        self.preds = [0, 0, 0, 0, 0, 0, 0, u32::MAX];
        self.flags = Flags::default();
        self.flow.reset(lanes, 0);
    }
}
