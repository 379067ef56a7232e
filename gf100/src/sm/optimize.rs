//! Leaving out what a program does in vain.
//!
//! Mesa computes addresses of 64 bits by sequences that hold for any shift, and copies a lot. What
//! is known while decoding (literals, copies of registers, comparisons of literals) is followed
//! within each block of instructions that the same lanes execute; operands are replaced by what they
//! are copies of, results by what they are known to be. Instructions whose results are overwritten
//! before anybody looks are then passed over.
//!
//! Nothing that can trap, fault or be seen by other threads changes, and instructions keep their
//! places, so that a warp may stop anywhere and any place may be a target. Programs that are not
//! known to their end stay as they are.

use super::{
    decode::{AddOp, Combine, Logic, LopOp, Op, Pred, SetTo, Target},
    effects::{Effects, Places},
    operands::Shape,
    program::{Exec, Inst, Program, RowRef, Uniform, static_target},
};

/// Registers of a thread.
const ROWS: usize = 64;

/// What is known of registers and predicates at a place, for the lanes that are active there.
struct Facts {
    /// What a register is a copy of.
    copies: [Option<RowRef>; ROWS],
    /// Predicates by number.
    preds: [Option<bool>; 8],
}

impl Facts {
    fn nothing() -> Self {
        let mut preds = [None; 8];
        preds[7] = Some(true);
        Self {
            copies: [None; ROWS],
            preds,
        }
    }

    /// These places have new values.
    fn forget(&mut self, written: Places) {
        for (row, copy) in self.copies.iter_mut().enumerate() {
            let stale = match copy {
                Some(of) if of.0 & RowRef::UNIFORM == 0 => written.rows >> of.0 & 1 != 0,
                _ => false,
            };
            if stale || written.rows >> row & 1 != 0 {
                *copy = None;
            }
        }
        for (n, pred) in self.preds.iter_mut().enumerate() {
            if written.preds >> n & 1 != 0 {
                *pred = None;
            }
        }
    }

    /// What a row is.
    fn resolve(&self, row: RowRef) -> RowRef {
        match self.copies.get(usize::from(row.0)) {
            Some(Some(copy)) if row.0 & RowRef::UNIFORM == 0 => *copy,
            _ => row,
        }
    }
}

/// What an instruction turned out to yield.
enum Yield {
    Literal(u32),
    Copy(RowRef),
    Predicate(Pred, bool),
}

impl Program {
    /// Leaves out what is in vain.
    pub(super) fn optimize(&mut self) {
        let complete = self.insts().iter().all(|i| match i.exec {
            Exec::Missing => false,
            Exec::Op(Op::Bra { target, .. } | Op::Call { target }) => {
                matches!(target, Target::Address(_))
            }
            _ => true,
        });
        if !complete {
            return;
        }
        let mut leaders = vec![false; self.insts().len() + 1];
        for i in self.insts() {
            if static_target(i).is_some() || i.exec == Exec::Jump {
                leaders[i.target as usize] = true;
            }
        }
        let mut start = 0;
        for at in 0..self.insts().len() {
            let effects = Effects::of(&self.insts()[at], self.gprs());
            if effects.flow || leaders[at + 1] {
                self.follow_copies(start, at + 1);
                self.pass_over(start, at + 1);
                start = at + 1;
            }
        }
        self.link();
    }

    /// Replaces operands and instructions by what they are known to be.
    fn follow_copies(&mut self, start: usize, end: usize) {
        let mut facts = Facts::nothing();
        for at in start..end {
            let mut i = self.insts()[at];
            match facts.preds[usize::from(i.guard & 7)].map(|holds| holds != i.guard_not) {
                Some(true) => (i.guard, i.guard_not) = (7, false),
                Some(false) if !i.join => {
                    self.replace(at, nothing(i, self.gprs()));
                    continue;
                }
                _ => {}
            }
            let effects = Effects::of(&i, self.gprs());
            if let Exec::Op(op) = i.exec
                && !effects.crosses
            {
                let shape = Shape::of(&op);
                for (row, extent) in i.src.iter_mut().zip(shape.src) {
                    if extent.regs == 1 {
                        *row = facts.resolve(*row);
                    }
                }
            }
            let always = i.guard == 7 && !i.guard_not;
            let result = match effects.pure && always {
                true => self.result(&i),
                false => None,
            };
            let effects = Effects::of(&i, self.gprs());
            facts.forget(effects.writes);
            match result {
                Some(Yield::Predicate(pred, value)) => {
                    facts.preds[usize::from(pred.0)] = Some(value);
                }
                Some(Yield::Copy(of)) if u32::from(i.dst) < self.gprs() => {
                    i = mov(i, of);
                    if of != RowRef(i.dst) {
                        facts.copies[usize::from(i.dst)] = Some(of);
                    }
                }
                Some(Yield::Literal(value)) if u32::from(i.dst) < self.gprs() => {
                    if let Ok(row) = self.literal(value.into(), false) {
                        i = mov(i, row);
                        facts.copies[usize::from(i.dst)] = Some(row);
                    }
                }
                _ => {}
            }
            self.replace(at, i);
        }
    }

    /// What an instruction yields, if that is known.
    fn result(&self, i: &Inst) -> Option<Yield> {
        let Exec::Op(op) = i.exec else { return None };
        let [a, b] = [0, 1].map(|n| self.known(i.src[n]));
        let plain = i.neg | i.abs == 0;
        match op {
            Op::Mov { lanes } if lanes & 0xf == 0xf => Some(Yield::Copy(i.src[1])),
            Op::IAdd { op, sat: false, .. } => match (op, a, b) {
                (AddOp::Add, Some(0), _) => Some(Yield::Copy(i.src[1])),
                (AddOp::Add | AddOp::Sub, _, Some(0)) => Some(Yield::Copy(i.src[0])),
                (AddOp::Add, Some(a), Some(b)) => Some(Yield::Literal(a.wrapping_add(b))),
                (AddOp::Sub, Some(a), Some(b)) => Some(Yield::Literal(a.wrapping_sub(b))),
                (AddOp::SubReverse, Some(a), Some(b)) => Some(Yield::Literal(b.wrapping_sub(a))),
                _ => None,
            },
            Op::Shl { wrap } => match (a, b) {
                (Some(0), _) => Some(Yield::Literal(0)),
                (_, Some(0)) => Some(Yield::Copy(i.src[0])),
                (_, Some(32..)) if !wrap => Some(Yield::Literal(0)),
                (Some(a), Some(b)) => Some(Yield::Literal(a << (b & 31))),
                _ => None,
            },
            Op::Shr {
                signed: false,
                wrap,
                reverse: false,
            } => match (a, b) {
                (Some(0), _) => Some(Yield::Literal(0)),
                (_, Some(0)) => Some(Yield::Copy(i.src[0])),
                (_, Some(32..)) if !wrap => Some(Yield::Literal(0)),
                (Some(a), Some(b)) => Some(Yield::Literal(a >> (b & 31))),
                _ => None,
            },
            Op::Lop(op) if plain => match (op, a, b) {
                (LopOp::And, Some(0), _) | (LopOp::And, _, Some(0)) => Some(Yield::Literal(0)),
                (LopOp::And, Some(a), Some(b)) => Some(Yield::Literal(a & b)),
                (LopOp::Or | LopOp::Xor, Some(0), _) | (LopOp::PassB, ..) => {
                    Some(Yield::Copy(i.src[1]))
                }
                (LopOp::Or | LopOp::Xor, _, Some(0)) => Some(Yield::Copy(i.src[0])),
                (LopOp::Or, Some(a), Some(b)) => Some(Yield::Literal(a | b)),
                (LopOp::Xor, Some(a), Some(b)) => Some(Yield::Literal(a ^ b)),
                _ => None,
            },
            Op::ISet {
                cond,
                signed,
                combine:
                    Combine {
                        logic: Logic::And,
                        with,
                    },
                to: SetTo::Preds(pred, Pred::TRUE),
                ..
            } if with == super::decode::PredSrc::TRUE && pred != Pred::TRUE => {
                let order = match signed {
                    true => (a? as i32).cmp(&(b? as i32)),
                    false => a?.cmp(&b?),
                };
                let all = cond.0 == 0xf;
                let holds = cond.0 >> (order as i8 + 1) & 1 != 0;
                Some(Yield::Predicate(pred, all || holds))
            }
            _ => None,
        }
    }

    /// The literal that a row is.
    fn known(&self, row: RowRef) -> Option<u32> {
        match self.uniforms().get(usize::from(row.0 & !RowRef::UNIFORM)) {
            Some(Uniform::Literal(value)) if row.0 & RowRef::UNIFORM != 0 => Some(*value),
            _ => None,
        }
    }

    /// Makes nothing of what is overwritten before it is read.
    fn pass_over(&mut self, start: usize, end: usize) {
        let mut wanted = Places::ALL;
        for at in (start..end).rev() {
            let i = self.insts()[at];
            let effects = Effects::of(&i, self.gprs());
            if effects.pure && wanted.excludes(effects.writes) {
                self.replace(at, nothing(i, self.gprs()));
                continue;
            }
            if i.guard == 7 && !i.guard_not && !effects.crosses {
                wanted.rows &= !effects.writes.rows;
                wanted.preds &= !effects.writes.preds;
            }
            wanted.rows |= effects.reads.rows;
            wanted.preds |= effects.reads.preds;
        }
    }

    /// Leads every instruction to the next that does something.
    fn link(&mut self) {
        let end = self.insts().len();
        let mut next = end as u32;
        for at in (0..end).rev() {
            let i = self.insts()[at];
            let idle = i.exec == Exec::Op(Op::Nop) && !i.join;
            self.replace(at, Inst { next, ..i });
            if !idle {
                next = at as u32;
            }
        }
    }
}

/// An instruction that does nothing, in the place of another; its result would go into the sink.
fn nothing(i: Inst, sink: u32) -> Inst {
    Inst {
        exec: Exec::Op(Op::Nop),
        dst: sink as u16,
        src: [RowRef::ZERO; 3],
        guard: 7,
        guard_not: false,
        ..i
    }
}

/// A copy of a row to where an instruction has its result.
fn mov(i: Inst, of: RowRef) -> Inst {
    Inst {
        exec: Exec::Op(Op::Mov { lanes: 0xf }),
        src: [RowRef::ZERO, of, RowRef::ZERO],
        neg: 0,
        abs: 0,
        ..i
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sm::program::Fetch;

    /// Always, and the fields of a class and an opcode.
    const fn word(class: u64, opcode: u64, dst: u64, a: u64, b: u64) -> u64 {
        class | opcode << 58 | 7 << 10 | dst << 14 | a << 20 | b << 26
    }

    const fn literal(dst: u64, value: u64) -> u64 {
        word(2, 0x06, dst, 0, value) | 0xf << 5
    }

    const fn mov(dst: u64, b: u64) -> u64 {
        word(4, 0x0a, dst, 0, b) | 0xf << 5
    }

    const EXIT: u64 = 0x8000_0000_0000_1de7;

    struct Words<'a>(&'a [u64]);

    impl Fetch for Words<'_> {
        fn fetch(&mut self, offset: u32, block: &mut [u8]) -> bool {
            let words = self.0.iter().flat_map(|word| word.to_le_bytes());
            for (to, from) in block.iter_mut().zip(words.skip(offset as usize)) {
                *to = from;
            }
            true
        }
    }

    /// What a program does, place by place; nothing where it does nothing.
    fn remains(code: &[u64]) -> Vec<Option<Op>> {
        let mut program = Program::new(16);
        program.extend(0, &mut Words(code)).unwrap();
        let op = |i: &Inst| match i.exec {
            Exec::Op(Op::Nop) => None,
            Exec::Op(op) => Some(op),
            _ => panic!("no operation"),
        };
        program.insts().iter().map(op).collect()
    }

    #[test]
    fn a_shift_by_a_literal_needs_no_case_for_large_shifts() {
        // r3:r2 = r1:r0 << 2, as Mesa has it: p0 is whether the shift is less than 32.
        let by = literal(8, 2);
        let rest = word(3, 0x12, 9, 8, 0) | 32 << 26 | 3 << 46 | 2 << 8;
        let small = word(3, 0x06, 0, 8, 0) & !(0x3f << 14)
            | 7 << 14
            | 31 << 26
            | 3 << 46
            | 3 << 55
            | 7 << 49;
        let low_part = word(3, 0x16, 4, 0, 9);
        let high_part = word(3, 0x18, 5, 1, 8);
        let guarded = |i: u64, not: u64| i & !(7 << 10) | not << 13;
        let both = guarded(word(3, 0x1a, 3, 5, 4) | 1 << 6, 0);
        let large = guarded(word(3, 0x18, 3, 0, 9), 1);
        let low = word(3, 0x18, 2, 0, 8);
        let again = [literal(8, 0), literal(9, 0), mov(4, 2), mov(5, 3)];
        let code = [by, rest, small, low_part, high_part, both, large, low];
        let code = [&code[..], &again, &[EXIT]].concat();
        let remains = remains(&code);
        assert!(remains[1].is_none(), "32 - 2 is known");
        assert!(matches!(remains[3], Some(Op::Shr { .. })));
        assert!(matches!(remains[5], Some(Op::Lop(LopOp::Or))));
        assert!(remains[6].is_none(), "2 is less than 32");
        assert_eq!(remains.iter().flatten().count(), 10);
    }

    #[test]
    fn a_block_ends_where_lanes_may_come_from_elsewhere() {
        // The branch leads back to the addition, so r1 is not known there.
        let add = word(3, 0x12, 1, 1, 0) | 1 << 26 | 3 << 46;
        let back = 0x4003_ffff_e000_01e7 & !(0x00ff_ffff << 26) | (0x00ff_fff0 << 26);
        let remains = remains(&[literal(1, 5), add, back & !(7 << 10), EXIT]);
        assert!(matches!(remains[1], Some(Op::IAdd { .. })));
    }
}
