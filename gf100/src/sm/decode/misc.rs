//! Class 4: moves, conversions, predicates, votes and barriers.

use super::*;

fn b_only(b: Operand) -> [Source; 3] {
    [Source::ZERO, Source::new(b), Source::ZERO]
}

pub(super) fn decode(word: Word) -> Result<Instruction, Illegal> {
    let b = || source_b(word, Immediate::Integer);
    let a = Source::new(reg(word, bits::SRC_A));
    let (op, src) = match word.get(bits::OPCODE6) {
        opcode @ (0x02 | 0x03) => {
            let to = match opcode {
                0x02 => set_reg(word.is(bits::BIT5)),
                _ => set_preds(word),
            };
            let op = Op::PSet {
                a: pred_a(word),
                first: logic(word.get(bits::PSET_OP))?,
                b: PredSrc {
                    pred: Pred(word.get(bits::PRED_B) as u8),
                    not: word.is(bits::PRED_B_NOT),
                },
                combine: combine(word)?,
                to,
            };
            let set = Instruction::to_dst(word, op, [Source::ZERO; 3]);
            return match word.is(bits::SET_CC) {
                true => Err(Illegal),
                false => Ok(without_dst(set, to)),
            };
        }
        0x04..=0x07 => return convert(word),
        0x08 => (
            Op::Sel { pred: pred_c(word) },
            [a, Source::new(b()?), Source::ZERO],
        ),
        0x09 => {
            let (b, c) = sources_bc(word, Immediate::Integer);
            let mode = word.get(bits::PRMT_MODE) as u8;
            if mode > 6 {
                return Err(Illegal);
            }
            (Op::Prmt { mode }, [a, Source::new(b), Source::new(c)])
        }
        0x0a => (
            Op::Mov {
                lanes: word.get(bits::MOV_LANES) as u8,
            },
            b_only(b()?),
        ),
        0x0b => (
            Op::S2R {
                special: word.get(bits::SPECIAL) as u8,
            },
            [Source::ZERO; 3],
        ),
        0x10 if word.get(bits::CC_TEST) == bits::CC_TRUE => {
            return Ok(Instruction::bare(word, Op::Nop));
        }
        0x12 => {
            let mode = match word.get(bits::VOTE_MODE) {
                0 => VoteMode::All,
                1 => VoteMode::Any,
                2 => VoteMode::Uniform,
                _ => return Err(Illegal),
            };
            let op = Op::Vote {
                mode,
                pred: pred_a(word),
                to: Pred(word.get(bits::VOTE_PRED) as u8),
            };
            (op, [Source::ZERO; 3])
        }
        0x14 => (barrier(word)?, [Source::ZERO; 3]),
        0x15 => {
            let a = Source::with(a.at, word.is(bits::NEG_A), false);
            let b = Source::with(b()?, word.is(bits::NEG_B), false);
            (Op::Popc, [a, b, Source::ZERO])
        }
        _ => return Err(Illegal),
    };
    Ok(Instruction::to_dst(word, op, src))
}

fn barrier(word: Word) -> Result<Op, Illegal> {
    let mode = match word.get(bits::BAR_MODE) {
        0 => BarMode::Popc,
        1 => BarMode::And,
        2 => BarMode::Or,
        4 => BarMode::Arrive,
        _ => return Err(Illegal),
    };
    let id = match word.is(bits::BAR_ID_IMM) {
        true => RegOrImm::Imm(word.get(bits::BAR_ID) as u16),
        false => RegOrImm::Reg(Reg(word.get(bits::SRC_A) as u8)),
    };
    let count = match word.is(bits::BAR_COUNT_IMM) {
        true => RegOrImm::Imm(word.get(bits::BAR_COUNT) as u16),
        false => RegOrImm::Reg(Reg(word.get(bits::SRC_B) as u8)),
    };
    Ok(Op::Bar {
        mode,
        id,
        count,
        pred: pred_c(word),
        to: Pred(word.get(bits::BAR_PRED) as u8),
    })
}

fn float_size(log2: u32) -> Result<FloatSize, Illegal> {
    match log2 {
        1 => Ok(FloatSize::F16),
        2 => Ok(FloatSize::F32),
        3 => Ok(FloatSize::F64),
        _ => Err(Illegal),
    }
}

fn convert(word: Word) -> Result<Instruction, Illegal> {
    if word.is(bits::SET_CC) {
        return Err(Illegal);
    }
    let (dst, src) = (word.get(bits::CVT_DST_SIZE), word.get(bits::CVT_SRC_SIZE));
    let int = |log2: u32, signed: bits::Field| IntSize {
        log2: log2 as u8,
        signed: word.is(signed),
    };
    let round = Round::from_bits(word.get(bits::CVT_ROUND));
    let half = word.get(bits::CVT_HALF) as u8;
    let byte = word.get(bits::CVT_BYTE) as u8;
    let opcode = word.get(bits::OPCODE6);
    let op = match opcode {
        0x04 => {
            let (to, from) = (float_size(dst)?, float_size(src)?);
            let known = to == from
                || matches!(
                    (to, from),
                    (FloatSize::F16, FloatSize::F32)
                        | (FloatSize::F32, FloatSize::F16 | FloatSize::F64)
                        | (FloatSize::F64, FloatSize::F32)
                );
            if !known {
                return Err(Illegal);
            }
            Op::F2F {
                to,
                from,
                round,
                integral: word.is(bits::CVT_INTEGRAL),
                half,
                ftz: word.is(bits::CVT_FTZ),
                sat: word.is(bits::BIT5),
            }
        }
        0x05 => Op::F2I {
            to: int(dst, bits::CVT_DST_SIGNED),
            from: float_size(src)?,
            round,
            half,
            ftz: word.is(bits::CVT_FTZ),
        },
        0x06 => Op::I2F {
            to: float_size(dst)?,
            from: int(src, bits::CVT_SRC_SIGNED),
            round,
            byte,
        },
        _ if dst < 3 && src < 3 => Op::I2I {
            to: int(dst, bits::CVT_DST_SIGNED),
            from: int(src, bits::CVT_SRC_SIGNED),
            byte,
            sat: word.is(bits::BIT5),
        },
        _ => return Err(Illegal),
    };
    let kind = match (opcode, src) {
        (0x04 | 0x05, 2) => Immediate::Single,
        (0x04 | 0x05, 3) => Immediate::Double,
        _ => Immediate::Integer,
    };
    let b = Source::with(
        source_b(word, kind)?,
        word.is(bits::NEG_B),
        word.is(bits::ABS_B),
    );
    Ok(Instruction::to_dst(
        word,
        op,
        [Source::ZERO, b, Source::ZERO],
    ))
}
