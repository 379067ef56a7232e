//! Decoded programs: what is decoded once and executed often.
//!
//! A program is everything that can be reached from its first instruction: branches are followed
//! while decoding and hold the index of their target. What no branch shows (targets that constants
//! hold) is appended when a warp gets there, as a new version of the program in which all indices
//! stay what they were.

use std::collections::{BTreeMap, HashMap};

use super::{
    decode::{self, Illegal, Instruction, Op, Operand, Reg, Target},
    lanes::Row,
    launch::WarpError,
    operands::{Extent, Shape},
};

/// Instructions of a program: as much as 1 MiB of code.
const MAX_INSTRUCTIONS: usize = 1 << 17;
/// Different immediates and constants of a program.
const MAX_UNIFORMS: usize = 0x7000;
/// Code is fetched in blocks of this size.
const BLOCK: u32 = 512;
/// Registers are allocated in units of this many.
const GPR_UNIT: u32 = 4;
/// Registers of a thread at most.
const MAX_GPRS: u32 = 63;

/// Rows behind the allocated registers that take what is written to register 63.
pub const SINK_ROWS: u32 = 4;
/// Uniform rows from the first on that are 0: register 63 as a source of up to 128 bits.
const ZERO_ROWS: usize = 4;

/// Where a row of 32 lanes is: in the warp's registers, or among the rows that are the same for all
/// warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef(pub u16);

impl RowRef {
    /// Set for uniform rows.
    pub const UNIFORM: u16 = 1 << 15;
    /// A row of zeros.
    pub const ZERO: Self = Self(Self::UNIFORM);
}

/// What an executable instruction does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exec {
    /// An operation.
    Op(Op),
    /// Goes on at `target`: the next instruction is elsewhere in the program.
    Jump,
    /// Traps.
    Trap(WarpError),
    /// Not decoded: the code there could not be read.
    Missing,
}

/// An instruction with its operands found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inst {
    /// What.
    pub exec: Exec,
    /// The first destination row, in the warp's registers.
    pub dst: u16,
    /// The first rows of the sources.
    pub src: [RowRef; 3],
    /// Index of the target; of missing code its byte address.
    pub target: u32,
    /// Index of the instruction after it.
    pub next: u32,
    /// The guard's predicate.
    pub guard: u8,
    /// The guard is its complement.
    pub guard_not: bool,
    /// Negated sources: bits 0-2.
    pub neg: u8,
    /// Absolute values of sources: bits 0-2.
    pub abs: u8,
    /// Writes the condition code.
    pub set_cc: bool,
    /// Lanes wait for the others.
    pub join: bool,
}

/// A value that is the same in all lanes of all warps of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Uniform {
    /// A number.
    Literal(u32),
    /// A word of a constant buffer.
    Const {
        /// Buffer.
        bank: u8,
        /// Byte offset.
        offset: u32,
    },
}

/// Reads the code segment: the bytes at an offset, or nothing if they cannot be read.
pub trait Fetch {
    /// Fills `block` from byte `offset` on; `false` if it cannot.
    fn fetch(&mut self, offset: u32, block: &mut [u8]) -> bool;
}

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Register rows of a warp without the sink.
    gprs: u32,
    insts: Vec<Inst>,
    /// Byte address of each instruction.
    addresses: Vec<u32>,
    index: HashMap<u32, u32>,
    uniforms: Vec<Uniform>,
    uniform_index: HashMap<(Uniform, bool), u16>,
    /// The code that it was decoded from, by offset.
    source: BTreeMap<u32, Box<[u8; BLOCK as usize]>>,
}

impl Program {
    /// An empty program for threads with `gpr_alloc` registers.
    pub fn new(gpr_alloc: u32) -> Self {
        Self {
            gprs: gpr_alloc
                .next_multiple_of(GPR_UNIT)
                .clamp(GPR_UNIT, MAX_GPRS),
            insts: Vec::new(),
            addresses: Vec::new(),
            index: HashMap::new(),
            uniforms: vec![Uniform::Literal(0); ZERO_ROWS],
            uniform_index: HashMap::new(),
            source: BTreeMap::new(),
        }
    }

    /// The instructions.
    pub fn insts(&self) -> &[Inst] {
        &self.insts
    }

    /// What the uniform rows hold.
    pub fn uniforms(&self) -> &[Uniform] {
        &self.uniforms
    }

    /// Register rows of a warp, the sink included.
    pub fn rows(&self) -> usize {
        (self.gprs + SINK_ROWS) as usize
    }

    /// The byte address of an instruction.
    pub fn address(&self, index: u32) -> u32 {
        self.addresses.get(index as usize).copied().unwrap_or(0)
    }

    /// The index of the instruction at a byte address, if it was decoded.
    pub fn index(&self, address: u32) -> Option<u32> {
        self.index.get(&address).copied()
    }

    /// The code at a byte address, as far as it is known.
    pub fn code(&self, address: u32) -> u64 {
        let mut bytes = [0; 8];
        for (n, byte) in bytes.iter_mut().enumerate() {
            let at = address.wrapping_add(n as u32);
            let block = self.source.get(&(at & !(BLOCK - 1)));
            *byte = block.map_or(0, |block| block[(at % BLOCK) as usize]);
        }
        u64::from_le_bytes(bytes)
    }

    /// The code is still what it was.
    pub fn is_current(&self, fetch: &mut impl Fetch) -> bool {
        let mut now = [0; BLOCK as usize];
        self.source
            .iter()
            .all(|(&offset, then)| fetch.fetch(offset, &mut now) && now == **then)
    }

    /// Decodes what can be reached from a byte address and was not decoded before.
    ///
    /// # Errors
    ///
    /// The program is as long as programs may be, or the address is misaligned.
    pub fn extend(&mut self, address: u32, fetch: &mut impl Fetch) -> Result<(), WarpError> {
        if !address.is_multiple_of(4) {
            return Err(WarpError::MisalignedPc);
        }
        if self.insts.len() + 2 > MAX_INSTRUCTIONS {
            return Err(WarpError::PcOverflow);
        }
        // A place where nothing could be read is tried again.
        if let Some(&index) = self.index.get(&address) {
            if self.insts[index as usize].exec != Exec::Missing {
                return Ok(());
            }
            self.index.remove(&address);
            self.insts[index as usize] = Inst {
                target: self.insts.len() as u32,
                next: index + 1,
                ..pseudo(Exec::Jump)
            };
        }
        let first = self.insts.len();
        let mut todo = vec![address];
        while let Some(start) = todo.pop() {
            self.decode_run(start, &mut todo, fetch);
        }
        for inst in first..self.insts.len() {
            // Every target was decoded, if only to a trap.
            if let Some(target) = static_target(&self.insts[inst])
                && let Some(&index) = self.index.get(&target)
            {
                self.insts[inst].target = index;
            }
        }
        self.optimize();
        Ok(())
    }

    /// Register rows of a warp without the sink.
    pub(super) fn gprs(&self) -> u32 {
        self.gprs
    }

    /// Puts another instruction into a place.
    pub(super) fn replace(&mut self, at: usize, inst: Inst) {
        self.insts[at] = inst;
    }

    /// Decodes from `start` to where control cannot fall through, and notes where it may go.
    fn decode_run(&mut self, start: u32, todo: &mut Vec<u32>, fetch: &mut impl Fetch) {
        let mut pc = start;
        loop {
            if let Some(&index) = self.index.get(&pc) {
                if pc != start {
                    let jump = Inst {
                        target: index,
                        ..pseudo(Exec::Jump)
                    };
                    self.push(pc, jump);
                }
                return;
            }
            if self.insts.len() >= MAX_INSTRUCTIONS {
                self.push_at(pc, pseudo(Exec::Trap(WarpError::PcOverflow)));
                return;
            }
            let Some(word) = self.fetch_word(pc, fetch) else {
                let missing = Inst {
                    target: pc,
                    ..pseudo(Exec::Missing)
                };
                self.push_at(pc, missing);
                return;
            };
            let decoded = match pc % 4 {
                0 => decode::decode(pc, word).map_err(|Illegal| WarpError::IllegalInstrEncoding),
                _ => Err(WarpError::MisalignedPc),
            };
            let lowered = decoded.and_then(|decoded| Ok((self.lower(&decoded)?, decoded)));
            let (inst, decoded) = match lowered {
                Ok(lowered) => lowered,
                Err(error) => {
                    self.push_at(pc, pseudo(Exec::Trap(error)));
                    return;
                }
            };
            self.push_at(pc, inst);
            todo.extend(static_target(&inst));
            pc = pc.wrapping_add(decoded.size.into());
            if !falls_through(&inst) {
                return;
            }
        }
    }

    fn push(&mut self, address: u32, inst: Inst) {
        let next = self.insts.len() as u32 + 1;
        self.insts.push(Inst { next, ..inst });
        self.addresses.push(address);
    }

    fn push_at(&mut self, address: u32, inst: Inst) {
        self.index.insert(address, self.insts.len() as u32);
        self.push(address, inst);
    }

    fn fetch_word(&mut self, pc: u32, fetch: &mut impl Fetch) -> Option<u64> {
        for at in [pc, pc.wrapping_add(7)] {
            let offset = at & !(BLOCK - 1);
            if let std::collections::btree_map::Entry::Vacant(e) = self.source.entry(offset) {
                let mut block = Box::new([0; BLOCK as usize]);
                if !fetch.fetch(offset, &mut block[..]) {
                    return None;
                }
                e.insert(block);
            }
        }
        Some(self.code(pc))
    }

    /// Finds the rows of an instruction's operands.
    fn lower(&mut self, from: &Instruction) -> Result<Inst, WarpError> {
        let shape = Shape::of(&from.op);
        let dst = match from.dst {
            Reg::ZERO => self.gprs,
            reg => self.register(reg, shape.dst)?,
        };
        let mut src = [RowRef::ZERO; 3];
        let (mut neg, mut abs) = (0, 0);
        for (n, (row, source)) in src.iter_mut().zip(from.src).enumerate() {
            let extent = shape.src[n];
            let pair = extent.regs == 2;
            *row = match source.at {
                Operand::Reg(Reg::ZERO) => RowRef::ZERO,
                Operand::Reg(reg) => RowRef(self.register(reg, extent)? as u16),
                Operand::Imm(value) => self.literal(value, pair)?,
                Operand::Const { bank, offset } => self.constant(bank, offset.into(), pair)?,
            };
            neg |= u8::from(source.neg) << n;
            abs |= u8::from(source.abs) << n;
        }
        // The address of an indirect branch is a source that the encoding has elsewhere.
        if let Op::Bra { target, .. } | Op::Call { target } = from.op
            && let Target::Const { bank, offset, .. } = target
        {
            src[0] = self.constant(bank, offset.into(), false)?;
        }
        Ok(Inst {
            exec: Exec::Op(from.op),
            dst: dst as u16,
            src,
            target: 0,
            next: 0,
            guard: from.guard.pred.0,
            guard_not: from.guard.not,
            neg,
            abs,
            set_cc: from.set_cc,
            join: from.join,
        })
    }

    /// The first row of a register operand that is not register 63.
    fn register(&self, reg: Reg, extent: Extent) -> Result<u32, WarpError> {
        let first = u32::from(reg.0);
        if extent.aligned && first % extent.regs != 0 {
            return Err(WarpError::MisalignedReg);
        }
        match first + extent.regs <= self.gprs {
            true => Ok(first),
            false => Err(WarpError::OorReg),
        }
    }

    pub(super) fn literal(&mut self, value: u64, pair: bool) -> Result<RowRef, WarpError> {
        let low = Uniform::Literal(value as u32);
        match (value, pair) {
            (0, _) => Ok(RowRef::ZERO),
            (_, false) => self.uniform(low, None),
            // The low word alone does not tell pairs apart.
            (_, true) => {
                let high = Uniform::Literal((value >> 32) as u32);
                if value as u32 == 0 {
                    return self.uniform_pair(high, low, high);
                }
                self.push_uniforms(&[low, high])
            }
        }
    }

    fn constant(&mut self, bank: u8, offset: u32, pair: bool) -> Result<RowRef, WarpError> {
        let low = Uniform::Const { bank, offset };
        let high = Uniform::Const {
            bank,
            offset: offset + 4,
        };
        match pair {
            false => self.uniform(low, None),
            true => self.uniform_pair(low, low, high),
        }
    }

    fn uniform_pair(
        &mut self,
        key: Uniform,
        low: Uniform,
        high: Uniform,
    ) -> Result<RowRef, WarpError> {
        self.uniform(key, Some([low, high]))
    }

    /// The row of a uniform, or of the pair that `key` names.
    fn uniform(&mut self, key: Uniform, pair: Option<[Uniform; 2]>) -> Result<RowRef, WarpError> {
        let full_key = (key, pair.is_some());
        if let Some(&row) = self.uniform_index.get(&full_key) {
            return Ok(RowRef(row));
        }
        let row = match pair {
            Some(pair) => self.push_uniforms(&pair)?,
            None => self.push_uniforms(&[key])?,
        };
        self.uniform_index.insert(full_key, row.0);
        Ok(row)
    }

    fn push_uniforms(&mut self, rows: &[Uniform]) -> Result<RowRef, WarpError> {
        let first = self.uniforms.len();
        if first + rows.len() > MAX_UNIFORMS {
            return Err(WarpError::PcOverflow);
        }
        self.uniforms.extend_from_slice(rows);
        Ok(RowRef(RowRef::UNIFORM | first as u16))
    }
}

fn pseudo(exec: Exec) -> Inst {
    Inst {
        exec,
        dst: 0,
        src: [RowRef::ZERO; 3],
        target: 0,
        next: 0,
        guard: 7,
        guard_not: false,
        neg: 0,
        abs: 0,
        set_cc: false,
        join: false,
    }
}

/// The byte address that the instruction names.
pub(super) fn static_target(inst: &Inst) -> Option<u32> {
    match inst.exec {
        Exec::Op(
            Op::Bra {
                target: Target::Address(target),
                ..
            }
            | Op::Call {
                target: Target::Address(target),
            }
            | Op::PushJoin { target }
            | Op::PushBreak { target }
            | Op::PushContinue { target }
            | Op::PushReturn { target },
        ) => Some(target),
        _ => None,
    }
}

/// Control may go on behind the instruction.
fn falls_through(inst: &Inst) -> bool {
    let always = inst.guard == 7 && !inst.guard_not;
    match inst.exec {
        Exec::Op(Op::Bra { .. } | Op::Break | Op::Continue | Op::Return | Op::Exit) => !always,
        Exec::Op(_) => !(always && inst.join),
        _ => false,
    }
}

/// The rows of a program's uniforms; `constant` reads words of constant buffers.
///
/// # Errors
///
/// The first of `constant`.
pub fn uniform_rows<E>(
    uniforms: &[Uniform],
    mut constant: impl FnMut(u8, u32) -> Result<u32, E>,
) -> Result<Vec<Row>, E> {
    uniforms
        .iter()
        .map(|uniform| {
            Ok(Row::splat(match *uniform {
                Uniform::Literal(value) => value,
                Uniform::Const { bank, offset } => constant(bank, offset)?,
            }))
        })
        .collect()
}
