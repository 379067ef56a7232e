//! From instruction words to operations.
//!
//! Everything that Mesa's GF100 emitter produces for a compute shader decodes, long and short, and
//! what the ISA has beside it where it costs nothing. Bits that no instruction of a class uses are
//! not looked at, as on hardware; an operation that is not known is [`Illegal`], which traps when
//! it is executed.

mod arith;
mod flow;
mod memory;
mod misc;
mod op;
mod operand;
mod short;

use super::bits::{self, Word};

pub use op::*;
pub use operand::*;

/// A word that is no instruction the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal;

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instruction {
    /// What it does.
    pub op: Op,
    /// Lanes where this is false sit it out.
    pub guard: PredSrc,
    /// Destination.
    pub dst: Reg,
    /// Sources a, b, c.
    pub src: [Source; 3],
    /// Writes the condition code.
    pub set_cc: bool,
    /// Lanes that execute it then wait for the others of the region.
    pub join: bool,
    /// Bytes: 4 or 8.
    pub size: u8,
}

impl Instruction {
    /// An operation without operands.
    fn bare(word: Word, op: Op) -> Self {
        Self {
            op,
            guard: guard(word),
            dst: Reg::ZERO,
            src: [Source::ZERO; 3],
            set_cc: false,
            join: word.is(bits::JOIN),
            size: 8,
        }
    }

    /// An operation with a destination.
    fn to_dst(word: Word, op: Op, src: [Source; 3]) -> Self {
        Self {
            dst: Reg(word.get(bits::DST) as u8),
            src,
            ..Self::bare(word, op)
        }
    }
}

/// Decodes the instruction at byte address `pc` of its code segment; `word` holds the 8 bytes from
/// there.
///
/// # Errors
///
/// Nothing that is known.
pub fn decode(pc: u32, word: u64) -> Result<Instruction, Illegal> {
    if word & 8 != 0 {
        return short::decode(Word(word & 0xffff_ffff));
    }
    let word = Word(word);
    match word.get(bits::CLASS) {
        0 => arith::single(word),
        1 => arith::double(word),
        2 => arith::long_immediate(word),
        3 => arith::integer(word),
        4 => misc::decode(word),
        5 => memory::decode(word),
        6 => memory::decode_const_and_texture(word),
        _ => flow::decode(pc, word),
    }
}

/// The predicate that guards the instruction.
fn guard(word: Word) -> PredSrc {
    PredSrc {
        pred: Pred(word.get(bits::GUARD) as u8),
        not: word.is(bits::GUARD_NOT),
    }
}

fn reg(word: Word, field: bits::Field) -> Operand {
    Operand::Reg(Reg(word.get(field) as u8))
}

fn constant(word: Word) -> Operand {
    Operand::Const {
        bank: (word.get(bits::CONST_BANK) | word.get(bits::CONST_BANK_HIGH) << 4) as u8,
        offset: (word.get(bits::CONST_OFFSET) & !3) as u16,
    }
}

/// What a 20-bit immediate stands for.
#[derive(Clone, Copy)]
enum Immediate {
    /// The high bits of a float.
    Single,
    /// The high bits of a double.
    Double,
    /// A sign-extended number.
    Integer,
}

fn immediate(word: Word, kind: Immediate) -> Operand {
    let bits = u64::from(word.get(bits::IMM20));
    Operand::Imm(match kind {
        Immediate::Single => bits << 12,
        Immediate::Double => bits << 44,
        Immediate::Integer => i64::from(word.signed(bits::IMM20)) as u64,
    })
}

/// The second source of an instruction that has no third.
fn source_b(word: Word, kind: Immediate) -> Result<Operand, Illegal> {
    match word.get(bits::SOURCE) {
        bits::SOURCE_REG => Ok(reg(word, bits::SRC_B)),
        bits::SOURCE_CONST => Ok(constant(word)),
        bits::SOURCE_IMM => Ok(immediate(word, kind)),
        _ => Err(Illegal),
    }
}

/// The second and third source: one of them may be a constant.
fn sources_bc(word: Word, kind: Immediate) -> (Operand, Operand) {
    let c = reg(word, bits::SRC_C);
    match word.get(bits::SOURCE) {
        bits::SOURCE_REG => (reg(word, bits::SRC_B), c),
        bits::SOURCE_CONST => (constant(word), c),
        bits::SOURCE_CONST_C => (c, constant(word)),
        _ => (immediate(word, kind), c),
    }
}

fn pred_c(word: Word) -> PredSrc {
    PredSrc {
        pred: Pred(word.get(bits::PRED_C) as u8),
        not: word.is(bits::PRED_C_NOT),
    }
}

fn pred_a(word: Word) -> PredSrc {
    PredSrc {
        pred: Pred(word.get(bits::PRED_A) as u8),
        not: word.is(bits::PRED_A_NOT),
    }
}

fn logic(bits: u32) -> Result<Logic, Illegal> {
    match bits {
        0 => Ok(Logic::And),
        1 => Ok(Logic::Or),
        2 => Ok(Logic::Xor),
        _ => Err(Illegal),
    }
}

fn combine(word: Word) -> Result<Combine, Illegal> {
    Ok(Combine {
        logic: logic(word.get(bits::LOGIC))?,
        with: pred_c(word),
    })
}

/// The two predicates that a comparison writes.
fn set_preds(word: Word) -> SetTo {
    SetTo::Preds(
        Pred(word.get(bits::PRED_DST) as u8),
        Pred(word.get(bits::PRED_DST2) as u8),
    )
}

fn set_reg(float: bool) -> SetTo {
    match float {
        true => SetTo::Float,
        false => SetTo::Mask,
    }
}

/// The destination register field holds predicates.
fn without_dst(instruction: Instruction, to: SetTo) -> Instruction {
    match to {
        SetTo::Preds(..) => Instruction {
            dst: Reg::ZERO,
            ..instruction
        },
        _ => instruction,
    }
}

#[cfg(test)]
mod tests;
