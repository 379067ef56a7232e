//! 32-bit instructions. Mesa has them in its division library only.

use super::*;

/// The second source: register or a constant of bank 0, 1 or 16.
fn short_b(word: Word, bank: bits::Field) -> Operand {
    short_const(word, bank, bits::SHORT_OFFSET_B, bits::SRC_B)
}

fn short_const(word: Word, bank: bits::Field, offset: bits::Field, or: bits::Field) -> Operand {
    let offset = (word.get(offset) * 4) as u16;
    match word.get(bank) {
        0 => reg(word, or),
        1 => Operand::Const { bank: 0, offset },
        2 => Operand::Const { bank: 1, offset },
        _ => Operand::Const { bank: 16, offset },
    }
}

fn short_imm(word: Word) -> Operand {
    let bits = word.get(bits::SHORT_IMM_HIGH) << 6 | word.get(bits::SHORT_IMM_LOW);
    Operand::Imm(i64::from(bits as i8) as u64)
}

const NEAREST: FloatMode = FloatMode {
    round: Round::Nearest,
    ftz: false,
    fmz: false,
    sat: false,
};

pub(super) fn decode(word: Word) -> Result<Instruction, Illegal> {
    let low = word.get(bits::SHORT_OP);
    let short = match low & 0xf {
        0x8 => misc(word, low)?,
        0x9 if low & 0x7f == 0x49 => {
            let a = Source::with(reg(word, bits::SRC_A), word.is(bits::BIT7), false);
            let b = Source::new(short_b(word, bits::SHORT_BANK));
            Instruction::to_dst(word, Op::FAdd(NEAREST), [a, b, Source::ZERO])
        }
        0xa if low & 0x3f == 0x2a => {
            let signed = word.is(bits::BIT6);
            let op = Op::IMul {
                high: false,
                signed_a: signed,
                signed_b: signed,
            };
            with_short_b(word, op, word.is(bits::BIT7))
        }
        0xc if low & 0x3f == 0x2c => {
            let op = match word.is(bits::BIT6) {
                true => AddOp::SubReverse,
                false => AddOp::Add,
            };
            let op = Op::IAdd {
                op,
                sat: false,
                carry_in: false,
            };
            with_short_b(word, op, word.is(bits::BIT7))
        }
        0xd if low & 0x1f == 0x1d => {
            let op = match (low >> 5) & 3 {
                0 => LopOp::And,
                1 => LopOp::Or,
                2 => LopOp::Xor,
                _ => LopOp::PassB,
            };
            with_short_b(word, Op::Lop(op), word.is(bits::BIT7))
        }
        0xd => {
            let signed = word.is(bits::BIT5);
            let op = Op::IMad {
                high: false,
                signed_a: signed,
                signed_b: signed,
                op: AddOp::Add,
                sat: false,
                carry_in: false,
            };
            fused(word, op, word.is(bits::JOIN))
        }
        0xe => {
            let mut fma = fused(word, Op::FFma(NEAREST), word.is(bits::BIT5));
            fma.src[0].neg = word.is(bits::JOIN);
            fma
        }
        0xf => flow(word)?,
        _ => return Err(Illegal),
    };
    Ok(Instruction {
        join: false,
        size: 4,
        ..short
    })
}

fn with_short_b(word: Word, op: Op, imm: bool) -> Instruction {
    let b = match imm {
        true => short_imm(word),
        false => short_b(word, bits::SHORT_BANK),
    };
    let src = [
        Source::new(reg(word, bits::SRC_A)),
        Source::new(b),
        Source::ZERO,
    ];
    Instruction::to_dst(word, op, src)
}

/// Multiply-add, which has no guard; the constant is the second source or the third.
fn fused(word: Word, op: Op, const_c: bool) -> Instruction {
    let bank = bits::SHORT_BANK_FMA;
    let (b, c) = match const_c {
        false => (short_b(word, bank), reg(word, bits::SHORT_SRC_C)),
        true => (
            reg(word, bits::SRC_B),
            short_const(word, bank, bits::SHORT_OFFSET_C, bits::SHORT_SRC_C),
        ),
    };
    let src = [
        Source::new(reg(word, bits::SRC_A)),
        Source::new(b),
        Source::new(c),
    ];
    Instruction {
        guard: PredSrc::TRUE,
        ..Instruction::to_dst(word, op, src)
    }
}

fn b_only(word: Word, op: Op, b: Source) -> Instruction {
    Instruction::to_dst(word, op, [Source::ZERO, b, Source::ZERO])
}

/// Nibble 8: moves, conversions and functions.
fn misc(word: Word, low: u32) -> Result<Instruction, Illegal> {
    let cvt_b = Source::with(
        reg(word, bits::SRC_B),
        word.is(bits::SHORT_CVT_NEG),
        word.is(bits::SHORT_CVT_ABS),
    );
    let round = Round::from_bits(word.get(bits::SHORT_CVT_ROUND));
    let int32 = IntSize {
        log2: 2,
        signed: word.is(bits::SHORT_CVT_SIGNED),
    };
    if low & 0x1ff == 0x018 {
        let code = word.get(bits::SHORT_CVT_ROUND);
        let op = Op::I2I {
            to: IntSize {
                log2: 1 + (code >> 1) as u8,
                signed: code & 1 != 0,
            },
            from: IntSize {
                log2: 1 + u8::from(word.is(bits::SHORT_CVT_SIGNED)),
                signed: word.is(bits::BIT9),
            },
            byte: 0,
            sat: false,
        };
        return Ok(b_only(word, op, cvt_b));
    }
    Ok(match low {
        0x118 => {
            let imm = Operand::Imm(i64::from(word.signed(bits::SHORT_IMM12)) as u64);
            b_only(word, Op::Mov { lanes: 0xf }, Source::new(imm))
        }
        0x318 => {
            let imm = Operand::Imm(u64::from(word.get(bits::SHORT_IMM12)) << 20);
            b_only(word, Op::Mov { lanes: 0xf }, Source::new(imm))
        }
        0x028 | 0x128 | 0x228 | 0x328 => {
            let bank = bits::SHORT_BANK;
            let b = short_const(word, bank, bits::SHORT_OFFSET_A, bits::SRC_A);
            b_only(word, Op::Mov { lanes: 0xf }, Source::new(b))
        }
        0x088 | 0x288 => {
            let op = match low {
                0x088 => Op::I2F {
                    to: FloatSize::F32,
                    from: int32,
                    round,
                    byte: 0,
                },
                _ => Op::F2I {
                    to: int32,
                    from: FloatSize::F32,
                    round,
                    half: 0,
                    ftz: false,
                },
            };
            b_only(word, op, cvt_b)
        }
        0x098 | 0x298 => {
            let op = Op::F2F {
                to: FloatSize::F32,
                from: FloatSize::F32,
                round,
                integral: low == 0x298,
                half: 0,
                ftz: false,
                sat: word.is(bits::SHORT_CVT_SAT),
            };
            b_only(word, op, cvt_b)
        }
        0x0a8 | 0x1a8 | 0x2a8 | 0x3a8 => {
            let op = Op::FMul {
                mode: NEAREST,
                scale: 0,
            };
            with_short_b(word, op, false)
        }
        0x208 => {
            let count = Operand::Imm(u64::from(word.get(bits::SHORT_SHIFT)));
            let op = match word.get(bits::SHORT_HIGH) >> 4 {
                0 => Op::Shl { wrap: false },
                _ => Op::Shr {
                    signed: true,
                    wrap: false,
                    reverse: false,
                },
            };
            let a = Source::new(reg(word, bits::SRC_A));
            Instruction::to_dst(word, op, [a, Source::new(count), Source::ZERO])
        }
        0x008 => special(word)?,
        _ => return Err(Illegal),
    })
}

fn special(word: Word) -> Result<Instruction, Illegal> {
    let a = Source::new(reg(word, bits::SRC_A));
    Ok(match word.get(bits::SHORT_HIGH) {
        0x00 => Instruction::bare(word, Op::Nop),
        0x08 | 0x09 => {
            let op = Op::S2R {
                special: word.get(bits::SHORT_SPECIAL) as u8,
            };
            Instruction::to_dst(word, op, [Source::ZERO; 3])
        }
        0x0e => b_only(word, Op::Rro, a),
        // Bit 30 is a modifier.
        0x10..=0x13 | 0x18..=0x1b => {
            let op = Op::Mufu {
                function: MufuFunction::from_bits(word.get(bits::SHORT_MUFU_FUNCTION)),
                sat: false,
            };
            let a = Source::with(a.at, false, word.is(bits::SHORT_ABS));
            Instruction::to_dst(word, op, [a, Source::ZERO, Source::ZERO])
        }
        _ => return Err(Illegal),
    })
}

/// Nibble f: control flow, of which Mesa has the return.
fn flow(word: Word) -> Result<Instruction, Illegal> {
    if !word.is(bits::JOIN) || word.get(bits::CC_TEST) != bits::CC_TRUE {
        return Err(Illegal);
    }
    let op = match word.get(bits::SHORT_HIGH) {
        0x11 => Op::Exit,
        0x12 => Op::Return,
        _ => return Err(Illegal),
    };
    Ok(Instruction::bare(word, op))
}
