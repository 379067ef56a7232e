//! Arithmetic, logic and moves of a group of lanes, bit for bit as the interpreter has them.

use cranelift_codegen::ir::{
    InstBuilder, Value,
    condcodes::{FloatCC, IntCC},
    types::{F32X4, I32, I32X4, I64},
};

use super::{
    group::{Group, Mask},
    liveness,
    translate::{Translator, constant, field, trusted},
    vector::{NAN, ONE, SIGN, Shift},
};
use crate::sm::{
    decode::{
        Combine, FloatMode, FloatSize, Logic, MinMaxPart, MufuFunction, Op, Pred, PredSrc, Round,
        SetTo,
    },
    launch::Launch,
    program::{Exec, Inst, RowRef, Uniform},
};

/// Whether compiled code does an operation itself.
pub fn can(i: &Inst, op: &Op) -> bool {
    let nearest = |mode: FloatMode| mode.round == Round::Nearest && !mode.fmz;
    match *op {
        Op::FAdd(mode) => nearest(mode),
        Op::FMul { mode, scale } => nearest(mode) && scale == 0,
        Op::FFma(mode) => nearest(mode),
        Op::IAdd { sat, .. } | Op::IMad { sat, .. } => !sat,
        Op::IMinMax { part, .. } => part == MinMaxPart::Whole && !i.set_cc,
        Op::Shr { reverse, .. } => !reverse,
        Op::Bfe { reverse, .. } => !reverse && i.src[1].0 & RowRef::UNIFORM != 0,
        Op::Mov { lanes } => lanes & 0xf == 0xf,
        Op::S2R { special } => {
            matches!(special, 0x00 | 0x20..=0x23 | 0x25..=0x27 | 0x29..=0x2b | 0x2d..=0x2f)
        }
        Op::Mufu { function, .. } => matches!(function, MufuFunction::Rcp | MufuFunction::Rsq),
        Op::DAdd(round) | Op::DMul(round) | Op::DFma(round) => round == Round::Nearest,
        Op::F2F { to, from, .. } => to == FloatSize::F32 && from == FloatSize::F32,
        Op::F2I { to, from, .. } => to.log2 <= 2 && from == FloatSize::F32,
        Op::I2F {
            to, from, round, ..
        } => {
            let plain = i.neg | i.abs == 0;
            to == FloatSize::F32 && from.log2 <= 2 && round == Round::Nearest && plain
        }
        Op::I2I { to, from, sat, .. } => to.log2 <= 2 && from.log2 <= 2 && !sat,
        Op::FMinMax { .. }
        | Op::FSet { .. }
        | Op::DSet { .. }
        | Op::FSlct { .. }
        | Op::Rro
        | Op::IMul { .. }
        | Op::IShlAdd { .. }
        | Op::ISet { .. }
        | Op::ISlct { .. }
        | Op::Shl { .. }
        | Op::Lop(_)
        | Op::Sel { .. }
        | Op::PSet { .. }
        | Op::Nop
        | Op::Fence => true,
        _ => false,
    }
}

/// Does an operation that compiled code [`can`] do.
pub fn emit(t: &mut Translator<'_>, group: &mut Group, i: &Inst) {
    let Exec::Op(op) = i.exec else {
        return;
    };
    let mut e = Emitter { t, group, i };
    let value = match op {
        Op::FAdd(mode) => {
            let (a, b) = (e.float(0, mode.ftz), e.float(1, mode.ftz));
            let sum = e.t.b.ins().fadd(a, b);
            e.finish(sum, mode)
        }
        Op::FMul { mode, .. } => {
            let a = e.signed_by(0, i.neg & 1 != 0);
            let b = e.source(1);
            let (a, b) = (e.flushed(a, mode.ftz), e.flushed(b, mode.ftz));
            let (a, b) = (e.t.float(a), e.t.float(b));
            let product = e.t.b.ins().fmul(a, b);
            e.finish(product, mode)
        }
        Op::FFma(mode) => {
            let a = e.signed_by(0, i.neg & 1 != 0);
            let b = e.source(1);
            let c = e.signed_by(2, i.neg & 4 != 0);
            let [a, b, c] = [a, b, c].map(|x| {
                let x = e.flushed(x, mode.ftz);
                e.t.float(x)
            });
            let sum = e.t.b.ins().fma(a, b, c);
            e.finish(sum, mode)
        }
        Op::FMinMax { min, ftz } => e.float_min_max(min, ftz),
        Op::FSet {
            cond,
            ftz,
            combine,
            to,
        } => {
            let (a, b) = (e.float(0, ftz), e.float(1, ftz));
            let lanes = e.t.compare_floats(cond, a, b);
            return e.set(lanes, combine, to);
        }
        Op::FSlct { cond, ftz } => {
            let c = e.source(2);
            let c = e.flushed(c, ftz);
            let (c, zero) = (e.t.float(c), e.t.splat(0));
            let zero = e.t.float(zero);
            let first = e.t.compare_floats(cond, c, zero);
            e.select(first)
        }
        Op::Rro => e.modified(1),
        Op::DAdd(_) => {
            let (a, b) = (e.double(0), e.double(1));
            let sum = [0, 1].map(|half| e.t.b.ins().fadd(a[half], b[half]));
            return e.write_double(sum);
        }
        Op::DMul(_) => {
            let (a, b) = (e.double(0), e.double(1));
            let product = [0, 1].map(|half| e.t.b.ins().fmul(a[half], b[half]));
            return e.write_double(product);
        }
        Op::DFma(_) => {
            let (a, b, c) = (e.double(0), e.double(1), e.double(2));
            let sum = [0, 1].map(|half| e.t.b.ins().fma(a[half], b[half], c[half]));
            return e.write_double(sum);
        }
        Op::DSet { cond, combine, to } => {
            let lanes = e.compare_doubles(cond);
            return e.set(lanes, combine, to);
        }
        Op::Mufu { function, sat } => {
            let x = e.modified(0);
            let one = e.t.splat(ONE);
            let (x, one) = (e.t.float(x), e.t.float(one));
            let y = match function {
                MufuFunction::Rsq => e.t.reciprocal_root(x),
                _ => e.t.b.ins().fdiv(one, x),
            };
            let y = e.t.canonical(y);
            if sat { e.t.saturate(y) } else { y }
        }
        Op::IAdd { op, carry_in, .. } => {
            let (a, b) = (e.source(0), e.source(1));
            e.add(op, carry_in, a, b)
        }
        Op::IMul {
            high,
            signed_a,
            signed_b,
        } => e.product(high, signed_a, signed_b),
        Op::IMad {
            high,
            signed_a,
            signed_b,
            op,
            carry_in,
            ..
        } => {
            let product = e.product(high, signed_a, signed_b);
            let c = e.source(2);
            e.add(op, carry_in, product, c)
        }
        Op::IShlAdd { shift, op } => {
            let (a, b) = (e.source(0), e.source(1));
            let shifted = e.t.shift_by(Shift::Left, a, u32::from(shift & 31));
            e.add(op, false, shifted, b)
        }
        Op::IMinMax { min, signed, .. } => {
            let (a, b) = (e.source(0), e.source(1));
            let cc = if signed {
                IntCC::SignedLessThan
            } else {
                IntCC::UnsignedLessThan
            };
            let less = e.t.b.ins().icmp(cc, a, b);
            let min = e.group.pred(e.t, min);
            // a if it is less and that is wanted, or neither.
            let other = e.t.combine(Logic::Xor, Mask::Some(less), min);
            e.t.choose(other, b, a)
        }
        Op::ISet {
            cond,
            signed,
            carry_in,
            combine,
            to,
        } => {
            let lanes = e.compare(cond, signed, carry_in);
            return e.set(lanes, combine, to);
        }
        Op::ISlct { cond, signed } => {
            let (c, zero) = (e.source(2), e.t.splat(0));
            let first = e.t.compare_integers(cond.0 & 7, signed, c, zero);
            e.select(first)
        }
        Op::Shl { wrap } => e.shift(Shift::Left, wrap),
        Op::Shr { signed, wrap, .. } => {
            e.shift(if signed { Shift::Signed } else { Shift::Right }, wrap)
        }
        Op::Lop(op) => e.logic(op),
        Op::Bfe { signed, .. } => e.field(signed),
        Op::Mov { .. } => e.source(1),
        Op::Sel { pred } => {
            let first = e.group.pred(e.t, pred);
            e.select(first)
        }
        Op::PSet {
            a,
            first,
            b,
            combine,
            to,
        } => {
            let (a, b) = (e.group.pred(e.t, a), e.group.pred(e.t, b));
            let lanes = e.t.combine(first, a, b);
            return e.set(lanes, combine, to);
        }
        Op::S2R { special } => e.special(special),
        Op::F2F {
            round,
            integral,
            ftz,
            sat,
            ..
        } => {
            let x = e.float(1, ftz);
            let x = if integral { e.t.integral(x, round) } else { x };
            let x = e.t.canonical(x);
            let x = e.flushed(x, ftz);
            if sat { e.t.saturate(x) } else { x }
        }
        Op::F2I { to, round, ftz, .. } => {
            let x = e.float(1, ftz);
            let x = e.t.integral(x, round);
            match (to.log2, to.signed) {
                (2, true) => e.t.b.ins().fcvt_to_sint_sat(I32X4, x),
                (2, false) => e.t.b.ins().fcvt_to_uint_sat(I32X4, x),
                _ => {
                    let x = e.t.b.ins().fcvt_to_sint_sat(I32X4, x);
                    e.t.clamp(x, to)
                }
            }
        }
        Op::I2F { from, byte, .. } => {
            let x = e.source(1);
            let x = e.t.part(x, from, byte);
            let x = match from.log2 == 2 && !from.signed {
                true => e.t.b.ins().fcvt_from_uint(F32X4, x),
                false => e.t.b.ins().fcvt_from_sint(F32X4, x),
            };
            e.t.bits(x)
        }
        Op::I2I { to, from, byte, .. } => {
            let x = e.source(1);
            let mut x = e.t.part(x, from, byte);
            if from.signed && i.abs >> 1 & 1 != 0 {
                x = e.t.b.ins().iabs(x);
            }
            if i.neg >> 1 & 1 != 0 {
                x = e.t.b.ins().ineg(x);
            }
            e.t.part(x, to, 0)
        }
        _ => return,
    };
    e.group.write(e.t, i, i.dst, value);
}

/// An instruction being done.
pub struct Emitter<'e, 't, 'a> {
    pub t: &'t mut Translator<'a>,
    pub group: &'e mut Group,
    pub i: &'e Inst,
}

impl Emitter<'_, '_, '_> {
    pub fn source(&mut self, n: usize) -> Value {
        self.group.source(self.t, self.i, n)
    }

    /// The number that a source is, if that is known.
    pub fn literal(&self, n: usize) -> Option<u32> {
        let row = self.i.src[n];
        let index = usize::from(row.0 & !RowRef::UNIFORM);
        match self.t.program.uniforms().get(index) {
            Some(&Uniform::Literal(value)) if row.0 & RowRef::UNIFORM != 0 => Some(value),
            _ => None,
        }
    }

    fn signed_by(&mut self, n: usize, negative: bool) -> Value {
        let x = self.source(n);
        match negative {
            true => {
                let sign = self.t.splat(SIGN);
                self.t.b.ins().bxor(x, sign)
            }
            false => x,
        }
    }

    /// A source with absolute value and negation.
    fn modified(&mut self, n: usize) -> Value {
        let mut x = self.source(n);
        if self.i.abs >> n & 1 != 0 {
            let keep = self.t.splat(!SIGN);
            x = self.t.b.ins().band(x, keep);
        }
        if self.i.neg >> n & 1 != 0 {
            let sign = self.t.splat(SIGN);
            x = self.t.b.ins().bxor(x, sign);
        }
        x
    }

    fn flushed(&mut self, x: Value, ftz: bool) -> Value {
        if ftz { self.t.flush(x) } else { x }
    }

    /// A source with its modifiers, as numbers.
    fn float(&mut self, n: usize, ftz: bool) -> Value {
        let x = self.modified(n);
        let x = self.flushed(x, ftz);
        self.t.float(x)
    }

    /// The bits of a result.
    fn finish(&mut self, x: Value, mode: FloatMode) -> Value {
        let x = self.t.canonical(x);
        let x = self.flushed(x, mode.ftz);
        if mode.sat { self.t.saturate(x) } else { x }
    }

    fn select(&mut self, first: Mask) -> Value {
        let (a, b) = (self.source(0), self.source(1));
        self.t.choose(first, a, b)
    }

    fn float_min_max(&mut self, min: PredSrc, ftz: bool) -> Value {
        let (a, b) = (self.modified(0), self.modified(1));
        let (a, b) = (self.flushed(a, ftz), self.flushed(b, ftz));
        let (x, y) = (self.t.float(a), self.t.float(b));
        let less = self.t.b.ins().fcmp(FloatCC::LessThan, x, y);
        let equal = self.t.b.ins().fcmp(FloatCC::Equal, x, y);
        // Zeros of both signs compare equal: the bits decide, of which only the sign differs.
        let negative = self.t.b.ins().icmp(IntCC::SignedLessThan, a, b);
        let zeros = self.t.b.ins().band(equal, negative);
        let less = self.t.b.ins().bor(less, zeros);
        let min = self.group.pred(self.t, min);
        let other = self.t.combine(Logic::Xor, Mask::Some(less), min);
        let chosen = self.t.choose(other, b, a);
        let x_nan = self.t.b.ins().fcmp(FloatCC::Unordered, x, x);
        let y_nan = self.t.b.ins().fcmp(FloatCC::Unordered, y, y);
        let chosen = self.t.b.ins().blendv(x_nan, b, chosen);
        let chosen = self.t.b.ins().blendv(y_nan, a, chosen);
        let both = self.t.b.ins().band(x_nan, y_nan);
        let nan = self.t.splat(NAN);
        self.t.b.ins().blendv(both, nan, chosen)
    }

    /// Leaves the outcome of a comparison where it belongs.
    fn set(&mut self, lanes: Mask, with: Combine, to: SetTo) {
        let pred = self.group.pred(self.t, with.with);
        let result = self.t.combine(with.logic, lanes, pred);
        let ones = match to {
            SetTo::Preds(first, second) => {
                let complement = self.t.not(lanes);
                let complement = self.t.combine(with.logic, complement, pred);
                let guard = self.group.guard(self.t, self.i);
                for (pred, value) in [(first, result), (second, complement)] {
                    if pred != Pred::TRUE {
                        let mask = liveness::pred(pred.0 & 7);
                        self.group.set_mask(self.t, mask, value, guard);
                    }
                }
                return;
            }
            SetTo::Mask => u32::MAX,
            SetTo::Float => ONE,
        };
        let (mask, ones) = (self.t.ones(result), self.t.splat(ones));
        let value = self.t.b.ins().band(mask, ones);
        self.group.write(self.t, self.i, self.i.dst, value);
    }

    fn special(&mut self, special: u8) -> Value {
        let launch = |t: &mut Translator<'_>, field: usize, n: u8| {
            let launch = t.b.ins().load(I64, constant(), t.frame, field!(launch));
            let at = field as i32 + 4 * i32::from(n);
            t.b.ins().load(I32, constant(), launch, at)
        };
        let value = match special {
            0x00 => {
                let first = self.t.b.ins().splat(I32X4, self.group.first);
                let own = self.t.vector([0, 1, 2, 3]);
                return self.t.b.ins().iadd(first, own);
            }
            0x20..=0x23 => {
                let tids = self
                    .t
                    .b
                    .ins()
                    .load(I64, constant(), self.t.frame, field!(tids));
                let at = self.t.b.ins().iadd(tids, self.group.at);
                let offset = 128 * i32::from(special - 0x20);
                return self.t.b.ins().load(I32X4, trusted(), at, offset);
            }
            0x25..=0x27 => {
                let cta = self
                    .t
                    .b
                    .ins()
                    .load(I64, constant(), self.t.frame, field!(cta));
                let offset = 4 * i32::from(special - 0x25);
                self.t.b.ins().load(I32, constant(), cta, offset)
            }
            0x29..=0x2b => launch(self.t, std::mem::offset_of!(Launch, block), special - 0x29),
            _ => launch(self.t, std::mem::offset_of!(Launch, grid), special - 0x2d),
        };
        self.t.b.ins().splat(I32X4, value)
    }
}
