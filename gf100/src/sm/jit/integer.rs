//! Integers of a group of lanes.

use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC};

use super::{alu::Emitter, frame::GROUP, group::Mask, liveness, vector::Shift};
use crate::sm::decode::{AddOp, Condition, Logic, LopOp};

impl Emitter<'_, '_, '_> {
    fn set_flags(&mut self, zero: Mask, carry: Mask) {
        let guard = self.group.guard(self.t, self.i);
        self.group.set_mask(self.t, liveness::ZERO, zero, guard);
        self.group.set_mask(self.t, liveness::CARRY, carry, guard);
    }

    /// The sum of the operands, complemented to be subtracted, and a carry.
    pub fn add(&mut self, op: AddOp, carry_in: bool, a: Value, b: Value) -> Value {
        let (flip_a, flip_b, carry) = match op {
            AddOp::Add => (false, false, Mask::None),
            AddOp::Sub => (false, true, Mask::All),
            AddOp::SubReverse => (true, false, Mask::All),
            AddOp::AddPlusOne => (false, false, Mask::All),
        };
        let carry = match carry_in {
            true => Mask::Some(self.group.mask(self.t, liveness::CARRY)),
            false => carry,
        };
        let x = if flip_a { self.t.b.ins().bnot(a) } else { a };
        let y = if flip_b { self.t.b.ins().bnot(b) } else { b };
        let (sum, carried) = match (op, carry) {
            // The complement and the carry are what a subtraction is.
            (AddOp::Sub, Mask::All) => {
                let carried = self.t.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, a, b);
                (self.t.b.ins().isub(a, b), carried)
            }
            (AddOp::SubReverse, Mask::All) => {
                let carried = self.t.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, b, a);
                (self.t.b.ins().isub(b, a), carried)
            }
            (_, Mask::None) => {
                let sum = self.t.b.ins().iadd(x, y);
                (sum, self.t.b.ins().icmp(IntCC::UnsignedLessThan, sum, x))
            }
            (_, carry) => {
                let half = self.t.b.ins().iadd(x, y);
                let first = self.t.b.ins().icmp(IntCC::UnsignedLessThan, half, x);
                // A lane of ones is -1.
                let ones = self.t.ones(carry);
                let sum = self.t.b.ins().isub(half, ones);
                let second = self.t.b.ins().icmp(IntCC::UnsignedLessThan, sum, half);
                (sum, self.t.b.ins().bor(first, second))
            }
        };
        if self.i.set_cc {
            let none = self.t.splat(0);
            let zero = self.t.b.ins().icmp(IntCC::Equal, sum, none);
            self.set_flags(Mask::Some(zero), Mask::Some(carried));
        }
        sum
    }

    /// The low words of the products of a and b, or the high ones.
    pub fn product(&mut self, high: bool, signed_a: bool, signed_b: bool) -> Value {
        let (a, b) = (self.source(0), self.source(1));
        if !high {
            return self.t.b.ins().imul(a, b);
        }
        let mut upper = self.t.high_product(a, b);
        // A negative operand counts 2^32 less than its bits.
        for (signed, x, y) in [(signed_a, a, b), (signed_b, b, a)] {
            if signed {
                let sign = self.t.shift_by(Shift::Signed, x, 31);
                let less = self.t.b.ins().band(sign, y);
                upper = self.t.b.ins().isub(upper, less);
            }
        }
        upper
    }

    /// Where a and b compare as the condition says; with carry-in they are the high words of numbers
    /// whose low words have been subtracted.
    pub fn compare(&mut self, cond: Condition, signed: bool, carry_in: bool) -> Mask {
        let (a, b) = (self.source(0), self.source(1));
        let cond = cond.0 & 7;
        if !carry_in {
            return self.t.compare_integers(cond, signed, a, b);
        }
        let equal = self.t.b.ins().icmp(IntCC::Equal, a, b);
        let cc = if signed {
            IntCC::SignedLessThan
        } else {
            IntCC::UnsignedLessThan
        };
        let less = self.t.b.ins().icmp(cc, a, b);
        let carry = self.group.mask(self.t, liveness::CARRY);
        let zero = self.group.mask(self.t, liveness::ZERO);
        let borrowed = self.t.b.ins().band_not(equal, carry);
        let less = self.t.b.ins().bor(less, borrowed);
        let equal = self.t.b.ins().band(equal, zero);
        let greater = self.t.b.ins().bor(less, equal);
        let greater = self.t.b.ins().bnot(greater);
        let mut result = Mask::None;
        for (bit, part) in [less, equal, greater].into_iter().enumerate() {
            if cond >> bit & 1 != 0 {
                result = self.t.combine(Logic::Or, result, Mask::Some(part));
            }
        }
        result
    }

    /// a shifted by b, by its lowest five bits or out of the word.
    pub fn shift(&mut self, way: Shift, wrap: bool) -> Value {
        let a = self.source(0);
        if let Some(by) = self.literal(1) {
            let by = match (wrap, by, way) {
                (true, by, _) => by & 31,
                (false, 32.., Shift::Signed) => 31,
                (false, 32.., _) => return self.t.splat(0),
                (false, by, _) => by,
            };
            return self.t.shift_by(way, a, by);
        }
        let b = self.source(1);
        // The host shifts all lanes by the same; a lane's own shift is its own.
        let mut shifted = self.t.splat(0);
        for lane in 0..GROUP as u8 {
            let x = self.t.b.ins().extractlane(a, lane);
            let by = self.t.b.ins().extractlane(b, lane);
            let x = self.t.shift(way, x, by);
            shifted = self.t.b.ins().insertlane(shifted, x, lane);
        }
        if wrap {
            return shifted;
        }
        let most = self.t.splat(31);
        let beyond = self.t.b.ins().icmp(IntCC::UnsignedGreaterThan, b, most);
        let all = match way {
            Shift::Signed => self.t.shift_by(Shift::Signed, a, 31),
            _ => self.t.splat(0),
        };
        self.t.b.ins().blendv(beyond, all, shifted)
    }

    /// a and b, each complemented or not, bit by bit.
    pub fn logic(&mut self, op: LopOp) -> Value {
        let [a, b] = [0, 1].map(|n| {
            let x = self.source(n);
            match self.i.neg >> n & 1 != 0 {
                true => self.t.b.ins().bnot(x),
                false => x,
            }
        });
        let value = match op {
            LopOp::And => self.t.b.ins().band(a, b),
            LopOp::Or => self.t.b.ins().bor(a, b),
            LopOp::Xor => self.t.b.ins().bxor(a, b),
            LopOp::PassB => b,
        };
        if self.i.set_cc {
            let none = self.t.splat(0);
            let zero = self.t.b.ins().icmp(IntCC::Equal, value, none);
            self.set_flags(Mask::Some(zero), Mask::None);
        }
        value
    }

    /// A field of a at a place that is the same for all lanes.
    pub fn field(&mut self, signed: bool) -> Value {
        let a = self.source(0);
        let shift = if signed { Shift::Signed } else { Shift::Right };
        let place = self.literal(1).unwrap_or(0);
        let (position, length) = (place & 0xff, (place >> 8 & 0xff).min(32));
        if length == 0 || position > 31 && !signed {
            return self.t.splat(0);
        }
        let shifted = self.t.shift_by(shift, a, position.min(31));
        let unused = 32 - length;
        match signed {
            true => {
                let top = self.t.shift_by(Shift::Left, shifted, unused);
                self.t.shift_by(Shift::Signed, top, unused)
            }
            false => {
                let ones = self.t.splat(u32::MAX >> unused);
                self.t.b.ins().band(shifted, ones)
            }
        }
    }
}
