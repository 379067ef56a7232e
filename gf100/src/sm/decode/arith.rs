//! Classes 0 to 3: single and double precision, long immediates, integers.

use super::*;

/// Sources a and b with their signs.
fn ab(word: Word, b: Operand) -> [Source; 3] {
    [
        Source::with(
            reg(word, bits::SRC_A),
            word.is(bits::NEG_A),
            word.is(bits::ABS_A),
        ),
        Source::with(b, word.is(bits::NEG_B), word.is(bits::ABS_B)),
        Source::ZERO,
    ]
}

fn plain(word: Word, b: Operand, c: Operand) -> [Source; 3] {
    [
        Source::new(reg(word, bits::SRC_A)),
        Source::new(b),
        Source::new(c),
    ]
}

const ZERO: Operand = Operand::Reg(Reg::ZERO);

fn round(word: Word) -> Round {
    Round::from_bits(word.get(bits::ROUND))
}

fn condition(word: Word) -> Condition {
    Condition(word.get(bits::CONDITION) as u8)
}

/// Class 0.
pub(super) fn single(word: Word) -> Result<Instruction, Illegal> {
    if word.is(bits::SET_CC) {
        return Err(Illegal);
    }
    let mode = FloatMode {
        round: round(word),
        ftz: false,
        fmz: false,
        sat: word.is(bits::BIT5),
    };
    let set = |to: SetTo| -> Result<Instruction, Illegal> {
        let op = Op::FSet {
            cond: condition(word),
            ftz: word.is(bits::FSET_FTZ),
            combine: combine(word)?,
            to,
        };
        let src = ab(word, source_b(word, Immediate::Single)?);
        Ok(without_dst(Instruction::to_dst(word, op, src), to))
    };
    match word.get(bits::FSET_OPCODE) {
        1 => return set(set_reg(word.is(bits::BIT5))),
        2 => return set(set_preds(word)),
        _ => {}
    }
    let (op, src) = match word.get(bits::OPCODE) {
        0x01 => (
            Op::FMinMax {
                min: pred_c(word),
                ftz: word.is(bits::BIT5),
            },
            ab(word, source_b(word, Immediate::Single)?),
        ),
        0x06 => {
            let (b, c) = sources_bc(word, Immediate::Single);
            let mut src = plain(word, b, c);
            src[0].neg = word.is(bits::NEG_A);
            src[2].neg = word.is(bits::NEG_B);
            let mode = FloatMode {
                ftz: word.is(bits::BIT6),
                fmz: word.is(bits::BIT7),
                ..mode
            };
            (Op::FFma(mode), src)
        }
        0x07 => {
            let (b, c) = sources_bc(word, Immediate::Single);
            let op = Op::FSlct {
                cond: condition(word),
                ftz: word.is(bits::BIT5),
            };
            (op, plain(word, b, c))
        }
        0x09 => {
            let op = Op::QuadOp {
                ops: word.get(bits::QUAD_OPS) as u8,
                source: word.get(bits::QUAD_SOURCE) as u8,
                mode: FloatMode {
                    ftz: word.is(bits::BIT5),
                    sat: false,
                    ..mode
                },
            };
            if word.get(bits::QUAD_SOURCE) > 5 {
                return Err(Illegal);
            }
            (op, plain(word, reg(word, bits::SRC_B), ZERO))
        }
        0x0a => {
            let mode = FloatMode {
                ftz: word.is(bits::BIT5),
                sat: word.is(bits::FADD_SAT),
                ..mode
            };
            (Op::FAdd(mode), ab(word, source_b(word, Immediate::Single)?))
        }
        0x0b => {
            let scale = match word.get(bits::FMUL_SCALE) {
                n @ 0..=3 => -(n as i8),
                n @ 4..=6 => 7 - n as i8,
                _ => return Err(Illegal),
            };
            let mode = FloatMode {
                ftz: word.is(bits::BIT6),
                fmz: word.is(bits::BIT7),
                ..mode
            };
            let mut src = plain(word, source_b(word, Immediate::Single)?, ZERO);
            src[0].neg = word.is(bits::FMUL_NEG);
            (Op::FMul { mode, scale }, src)
        }
        0x0c => {
            let b = Source::with(
                source_b(word, Immediate::Single)?,
                word.is(bits::NEG_B),
                word.is(bits::ABS_B),
            );
            (Op::Rro, [Source::ZERO, b, Source::ZERO])
        }
        0x19 => {
            let op = Op::Mufu {
                function: MufuFunction::from_bits(word.get(bits::MUFU_FUNCTION)),
                sat: word.is(bits::BIT5),
            };
            let a = ab(word, ZERO)[0];
            (op, [a, Source::ZERO, Source::ZERO])
        }
        _ => return Err(Illegal),
    };
    Ok(Instruction::to_dst(word, op, src))
}

/// Class 1.
pub(super) fn double(word: Word) -> Result<Instruction, Illegal> {
    if word.is(bits::SET_CC) {
        return Err(Illegal);
    }
    let b = || source_b(word, Immediate::Double);
    let (op, src) = match word.get(bits::OPCODE) {
        0x01 => (Op::DMinMax { min: pred_c(word) }, ab(word, b()?)),
        opcode @ (0x02 | 0x03) => {
            let to = match opcode {
                0x02 => set_reg(word.is(bits::BIT5)),
                _ => set_preds(word),
            };
            let op = Op::DSet {
                cond: condition(word),
                combine: combine(word)?,
                to,
            };
            return Ok(without_dst(
                Instruction::to_dst(word, op, ab(word, b()?)),
                to,
            ));
        }
        0x04 => {
            let (b, c) = sources_bc(word, Immediate::Double);
            let mut src = plain(word, b, c);
            src[0].neg = word.is(bits::NEG_A);
            src[2].neg = word.is(bits::NEG_B);
            (Op::DFma(round(word)), src)
        }
        0x09 => (Op::DAdd(round(word)), ab(word, b()?)),
        0x0a => {
            let mut src = plain(word, b()?, ZERO);
            src[0].neg = word.is(bits::NEG_A);
            (Op::DMul(round(word)), src)
        }
        _ => return Err(Illegal),
    };
    Ok(Instruction::to_dst(word, op, src))
}

/// Class 2.
pub(super) fn long_immediate(word: Word) -> Result<Instruction, Illegal> {
    let limm = Operand::Imm(u64::from(word.get(bits::IMM32)));
    let dst = reg(word, bits::DST);
    let mode = FloatMode {
        round: Round::Nearest,
        ftz: word.is(bits::BIT6),
        fmz: word.is(bits::BIT7),
        sat: word.is(bits::BIT5),
    };
    let add_op = AddOp::from_bits(word.get(bits::ADD_OP));
    let (op, src) = match word.get(bits::OPCODE) {
        0x00 => (
            Op::IMad {
                high: word.is(bits::BIT6),
                signed_a: word.is(bits::BIT7),
                signed_b: word.is(bits::BIT5),
                op: add_op,
                sat: false,
                carry_in: false,
            },
            plain(word, limm, dst),
        ),
        0x01 => (
            Op::IAdd {
                op: add_op,
                sat: word.is(bits::BIT5),
                carry_in: word.is(bits::BIT6),
            },
            plain(word, limm, ZERO),
        ),
        0x02 => (
            Op::IMul {
                high: word.is(bits::BIT6),
                signed_a: word.is(bits::BIT7),
                signed_b: word.is(bits::BIT5),
            },
            plain(word, limm, ZERO),
        ),
        0x03 => (
            Op::Mov {
                lanes: word.get(bits::MOV_LANES) as u8,
            },
            [Source::ZERO, Source::new(limm), Source::ZERO],
        ),
        0x04 => {
            let mut src = plain(word, limm, dst);
            src[0].neg = word.is(bits::NEG_A);
            src[2].neg = word.is(bits::NEG_B);
            (Op::FFma(mode), src)
        }
        0x05 => {
            let mode = FloatMode {
                ftz: word.is(bits::BIT5),
                fmz: false,
                sat: false,
                ..mode
            };
            let mut src = plain(word, limm, ZERO);
            src[0] = ab(word, limm)[0];
            (Op::FAdd(mode), src)
        }
        0x06 => (Op::FMul { mode, scale: 0 }, plain(word, limm, ZERO)),
        0x07 => return lop(word, limm, word.is(bits::SET_CC_LIMM)),
        0x08 => (
            Op::IShlAdd {
                shift: word.get(bits::SHLADD_SHIFT) as u8,
                op: AddOp::Add,
            },
            plain(word, limm, ZERO),
        ),
        _ => return Err(Illegal),
    };
    with_cc(word, op, src, word.is(bits::SET_CC_LIMM))
}

/// Only some operations have a condition code to leave.
fn with_cc(word: Word, op: Op, src: [Source; 3], set_cc: bool) -> Result<Instruction, Illegal> {
    let can = matches!(
        op,
        Op::IAdd { .. } | Op::IMad { .. } | Op::IShlAdd { .. } | Op::IMinMax { .. } | Op::Lop(_)
    );
    match set_cc && !can {
        true => Err(Illegal),
        false => Ok(Instruction {
            set_cc,
            ..Instruction::to_dst(word, op, src)
        }),
    }
}

fn lop(word: Word, b: Operand, set_cc: bool) -> Result<Instruction, Illegal> {
    if word.is(bits::BIT5) {
        // With the condition code as a source.
        return Err(Illegal);
    }
    let op = match word.get(bits::LOP_OP) {
        0 => LopOp::And,
        1 => LopOp::Or,
        2 => LopOp::Xor,
        _ => LopOp::PassB,
    };
    let mut src = plain(word, b, ZERO);
    src[0].neg = word.is(bits::NEG_A);
    src[1].neg = word.is(bits::NEG_B);
    with_cc(word, Op::Lop(op), src, set_cc)
}

/// Class 3.
pub(super) fn integer(word: Word) -> Result<Instruction, Illegal> {
    let b = || source_b(word, Immediate::Integer);
    let signed = word.is(bits::BIT5);
    let set_cc = word.is(bits::SET_CC);
    let opcode = word.get(bits::OPCODE);
    let (op, src) = match opcode {
        0x01 => {
            let part = match word.get(bits::MINMAX_PART) {
                0 => MinMaxPart::Whole,
                1 => MinMaxPart::Low,
                3 => MinMaxPart::High,
                _ => return Err(Illegal),
            };
            let op = Op::IMinMax {
                min: pred_c(word),
                signed,
                part,
            };
            (op, plain(word, b()?, ZERO))
        }
        0x02 | 0x03 => {
            let to = match opcode {
                0x02 => set_reg(word.is(bits::FLOAT_RESULT)),
                _ => set_preds(word),
            };
            let op = Op::ISet {
                cond: condition(word),
                signed,
                carry_in: word.is(bits::BIT6),
                combine: combine(word)?,
                to,
            };
            let set = with_cc(word, op, plain(word, b()?, ZERO), set_cc)?;
            return Ok(without_dst(set, to));
        }
        0x04 => {
            let (b, c) = sources_bc(word, Immediate::Integer);
            let op = Op::IMad {
                high: word.is(bits::BIT6),
                signed_a: word.is(bits::BIT7),
                signed_b: signed,
                op: AddOp::from_bits(word.get(bits::ADD_OP)),
                sat: word.is(bits::IMAD_SAT),
                carry_in: word.is(bits::IMAD_CARRY_IN),
            };
            (op, plain(word, b, c))
        }
        0x05 => {
            let (b, c) = sources_bc(word, Immediate::Integer);
            (Op::Bfi, plain(word, b, c))
        }
        0x06 => {
            let (b, c) = sources_bc(word, Immediate::Integer);
            let op = Op::ISlct {
                cond: condition(word),
                signed,
            };
            (op, plain(word, b, c))
        }
        0x07 => {
            let (b, c) = sources_bc(word, Immediate::Integer);
            (Op::ISad { signed }, plain(word, b, c))
        }
        0x08 => {
            let op = Op::IShlAdd {
                shift: word.get(bits::SHLADD_SHIFT) as u8,
                op: AddOp::from_bits(word.get(bits::SHLADD_OP)),
            };
            (op, plain(word, b()?, ZERO))
        }
        0x09 => {
            let op = Op::IAdd {
                op: AddOp::from_bits(word.get(bits::ADD_OP)),
                sat: word.is(bits::BIT5),
                carry_in: word.is(bits::BIT6),
            };
            (op, plain(word, b()?, ZERO))
        }
        0x0a => {
            let op = Op::IMul {
                high: word.is(bits::BIT6),
                signed_a: word.is(bits::BIT7),
                signed_b: signed,
            };
            (op, plain(word, b()?, ZERO))
        }
        0x0b if !word.is(bits::BIT7) => {
            let op = Op::Shr {
                signed,
                wrap: word.is(bits::BIT9),
                reverse: word.is(bits::BIT8),
            };
            (op, plain(word, b()?, ZERO))
        }
        0x0c if !word.is(bits::BIT6) => {
            let op = Op::Shl {
                wrap: word.is(bits::BIT9),
            };
            (op, plain(word, b()?, ZERO))
        }
        0x0d => return lop(word, b()?, set_cc),
        0x0e => {
            let op = Op::Bfe {
                signed,
                reverse: word.is(bits::BIT8),
            };
            (op, plain(word, b()?, ZERO))
        }
        0x0f => {
            let op = Op::Bfind {
                signed,
                shift_amount: word.is(bits::BIT6),
            };
            let b = Source::with(b()?, word.is(bits::NEG_B), false);
            (op, [Source::ZERO, b, Source::ZERO])
        }
        _ => return Err(Illegal),
    };
    with_cc(word, op, src, set_cc)
}
