//! What an instruction reads and writes, and whether that is all it does.

use super::{
    decode::{Op, Pred, PredSrc, RegOrImm, SetTo},
    operands::{Extent, Shape},
    program::{Exec, Inst, RowRef},
};

/// Rows and predicates, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Rows of the warp's registers.
    pub rows: u128,
    /// Predicates.
    pub preds: u8,
}

impl Places {
    /// Everything.
    pub const ALL: Self = Self {
        rows: u128::MAX,
        preds: u8::MAX,
    };

    /// None of `others` is among these.
    pub fn excludes(self, others: Self) -> bool {
        self.rows & others.rows == 0 && self.preds & others.preds == 0
    }

    fn row(first: u16, extent: Extent) -> u128 {
        ((1u128 << extent.regs) - 1) << first
    }

    fn pred(&mut self, pred: Pred) {
        // The last is always true and takes what nobody wants.
        if pred != Pred::TRUE {
            self.preds |= 1 << (pred.0 & 7);
        }
    }

    fn register(&mut self, operand: RegOrImm) {
        if let RegOrImm::Reg(reg) = operand
            && reg.0 < 64
        {
            self.rows |= 1 << reg.0;
        }
    }
}

/// What an instruction does, as far as others can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effects {
    /// What it reads.
    pub reads: Places,
    /// What it writes in the lanes that execute it.
    pub writes: Places,
    /// It has no other effect, and cannot trap.
    pub pure: bool,
    /// It looks at other lanes than those that execute it, or at other lanes' values.
    pub crosses: bool,
    /// Lanes may come, go, or wait after it.
    pub flow: bool,
}

impl Effects {
    /// Of an instruction; `rows` are those of a warp without the sink.
    pub fn of(i: &Inst, rows: u32) -> Self {
        let Exec::Op(op) = i.exec else {
            return Self {
                reads: Places::ALL,
                writes: Places::ALL,
                flow: true,
                ..Self::default()
            };
        };
        let shape = Shape::of(&op);
        let mut effects = Self {
            pure: true,
            ..Self::default()
        };
        for (row, extent) in i.src.into_iter().zip(shape.src) {
            if row.0 & RowRef::UNIFORM == 0 {
                effects.reads.rows |= Places::row(row.0, extent);
            }
        }
        effects.reads.pred(Pred(i.guard));
        effects.writes.rows = Places::row(i.dst, shape.dst);
        effects.by_operation(&op);
        effects.flow |= i.join;
        effects.pure &= !i.join && !i.set_cc;
        // What goes into the sink is gone.
        effects.writes.rows &= (1 << rows) - 1;
        effects
    }

    fn reads_pred(&mut self, source: PredSrc) {
        self.reads.pred(source.pred);
    }

    fn sets(&mut self, to: SetTo) {
        if let SetTo::Preds(first, second) = to {
            self.writes.rows = 0;
            self.writes.pred(first);
            self.writes.pred(second);
        }
    }

    /// Everything that the operands do not show.
    fn by_operation(&mut self, op: &Op) {
        match *op {
            Op::FAdd(_)
            | Op::FMul { .. }
            | Op::FFma(_)
            | Op::FSlct { .. }
            | Op::Rro
            | Op::Mufu { .. }
            | Op::DAdd(_)
            | Op::DMul(_)
            | Op::DFma(_)
            | Op::IMul { .. }
            | Op::ISad { .. }
            | Op::IShlAdd { .. }
            | Op::ISlct { .. }
            | Op::Shr { .. }
            | Op::Shl { .. }
            | Op::Lop(_)
            | Op::Bfe { .. }
            | Op::Bfi
            | Op::Bfind { .. }
            | Op::Popc
            | Op::Prmt { .. }
            | Op::F2F { .. }
            | Op::F2I { .. }
            | Op::I2F { .. }
            | Op::I2I { .. } => {}
            // The condition code is nobody's to follow.
            Op::IAdd { carry_in, .. } | Op::IMad { carry_in, .. } => self.pure &= !carry_in,
            Op::IMinMax { min, part, .. } => {
                self.reads_pred(min);
                self.pure &= part == super::decode::MinMaxPart::Whole;
            }
            Op::FMinMax { min, .. } | Op::DMinMax { min } => self.reads_pred(min),
            Op::FSet { combine, to, .. } | Op::DSet { combine, to, .. } => {
                self.reads_pred(combine.with);
                self.sets(to);
            }
            Op::ISet {
                combine,
                to,
                carry_in,
                ..
            } => {
                self.reads_pred(combine.with);
                self.sets(to);
                self.pure &= !carry_in;
            }
            Op::PSet {
                a, b, combine, to, ..
            } => {
                for source in [a, b, combine.with] {
                    self.reads_pred(source);
                }
                self.sets(to);
            }
            Op::Sel { pred } => self.reads_pred(pred),
            Op::Mov { lanes } => self.crosses = lanes & 0xf != 0xf,
            Op::QuadOp { .. } => self.crosses = true,
            Op::Vote { pred, to, .. } => {
                self.reads_pred(pred);
                self.writes.pred(to);
                self.crosses = true;
            }
            Op::Bar {
                id,
                count,
                pred,
                to,
                ..
            } => {
                self.reads.register(id);
                self.reads.register(count);
                self.reads_pred(pred);
                self.writes.pred(to);
                (self.pure, self.flow) = (false, true);
            }
            Op::LdLock { locked, .. } => {
                self.writes.pred(locked);
                self.pure = false;
            }
            Op::SuLd { surface, .. }
            | Op::SuSt { surface, .. }
            | Op::SuStFormatted { surface, .. } => {
                self.reads.register(surface.slot);
                self.pure = false;
            }
            Op::SuLea {
                surface, outside, ..
            } => {
                self.reads.register(surface.slot);
                self.writes.pred(outside);
                self.pure = false;
            }
            Op::Tex(_) => (self.pure, self.crosses) = (false, true),
            Op::S2R { .. }
            | Op::Nop
            | Op::LdGlobal { .. }
            | Op::StGlobal { .. }
            | Op::Ld { .. }
            | Op::St { .. }
            | Op::StUnlock { .. }
            | Op::Ldc { .. }
            | Op::Atom { .. }
            | Op::Fence
            | Op::TexQuery { .. } => self.pure = false,
            Op::Bra { .. }
            | Op::Call { .. }
            | Op::PushJoin { .. }
            | Op::PushBreak { .. }
            | Op::PushContinue { .. }
            | Op::PushReturn { .. }
            | Op::Break
            | Op::Continue
            | Op::Return
            | Op::Exit
            | Op::QuadOn
            | Op::QuadPop => (self.pure, self.flow) = (false, true),
        }
    }
}
