//! Class 7: control flow.

use super::*;

/// The byte address that a relative target names.
fn relative(pc: u32, word: Word) -> u32 {
    pc.wrapping_add(8)
        .wrapping_add_signed(word.signed(bits::FLOW_TARGET))
}

/// A target from a constant, absolute or relative to the next instruction.
fn indirect(pc: u32, word: Word, absolute: bool) -> Target {
    let Operand::Const { bank, offset } = constant(word) else {
        unreachable!("a constant is a constant");
    };
    Target::Const {
        bank,
        offset,
        base: (!absolute).then(|| pc.wrapping_add(8)),
    }
}

pub(super) fn decode(pc: u32, word: Word) -> Result<Instruction, Illegal> {
    let opcode = word.get(bits::OPCODE);
    let target = |absolute: bool| match (word.is(bits::FLOW_INDIRECT), absolute) {
        (true, _) => indirect(pc, word, absolute),
        (false, true) => Target::Address(word.get(bits::FLOW_ABS_TARGET)),
        (false, false) => Target::Address(relative(pc, word)),
    };
    let direct = || match word.is(bits::FLOW_INDIRECT) {
        true => Err(Illegal),
        false => Ok(relative(pc, word)),
    };
    let op = match opcode {
        0x00 | 0x08 => Op::Bra {
            target: target(opcode == 0x00),
            uniform: word.is(bits::FLOW_UNIFORM),
        },
        0x02 | 0x0a => Op::Call {
            target: target(opcode == 0x02),
        },
        0x0c => Op::PushJoin { target: direct()? },
        0x0d => Op::PushBreak { target: direct()? },
        0x0e => Op::PushContinue { target: direct()? },
        0x0f => Op::PushReturn { target: direct()? },
        0x10 => Op::Exit,
        0x12 => Op::Return,
        // Kills the pixel; there is none, so the thread.
        0x13 => Op::Exit,
        0x15 => Op::Break,
        0x16 => Op::Continue,
        0x18 => Op::QuadOn,
        0x19 => Op::QuadPop,
        _ => return Err(Illegal),
    };
    // Only these have a guard and test the condition code.
    let conditional = matches!(
        op,
        Op::Bra { .. } | Op::Exit | Op::Return | Op::Break | Op::Continue
    );
    if conditional && word.get(bits::CC_TEST) != bits::CC_TRUE {
        return Err(Illegal);
    }
    let mut flow = Instruction::bare(word, op);
    // Bit 4 belongs to no flow instruction.
    flow.join = false;
    if !conditional {
        flow.guard = PredSrc::TRUE;
    }
    Ok(flow)
}
