//! Double precision of a group of lanes: pairs of words, which are two vectors of the host, of the
//! first two lanes and of the last two.

use cranelift_codegen::ir::{
    InstBuilder, Value,
    condcodes::FloatCC,
    types::{F64X2, I8X16},
};

use super::{alu::Emitter, frame::GROUP, group::Mask, translate::Translator, vector::SIGN};
use crate::sm::{decode::Condition, exec::DOUBLE_NAN, program::RowRef};

/// The numbers of a group.
pub type Doubles = [Value; 2];

impl Translator<'_> {
    /// Words of two vectors in an order in which those of the second count from 4.
    pub fn words(&mut self, a: Value, b: Value, order: [u8; GROUP]) -> Value {
        let [a, b] = [a, b].map(|x| self.cast(I8X16, x));
        let bytes: Vec<u8> = order.iter().flat_map(|&n| 4 * n..4 * n + 4).collect();
        let order = self.b.func.dfg.immediates.push(bytes.into());
        let words = self.b.ins().shuffle(a, b, order);
        self.bits(words)
    }

    /// Pairs of words as numbers.
    fn doubles(&mut self, low: Value, high: Value) -> Doubles {
        [[0, 4, 1, 5], [2, 6, 3, 7]].map(|order| {
            let words = self.words(low, high, order);
            self.cast(F64X2, words)
        })
    }

    /// A number in both places of a vector.
    fn splat_double(&mut self, bits: u64) -> Value {
        let bytes = [bits.to_le_bytes(), bits.to_le_bytes()].concat();
        let constant = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(F64X2, constant)
    }

    /// The square root's reciprocal of single-precision numbers, computed in double precision.
    pub fn reciprocal_root(&mut self, x: Value) -> Value {
        let one = self.splat_double(1f64.to_bits());
        let bits = self.bits(x);
        let [first, last] = [[0, 1, 0, 1], [2, 3, 2, 3]].map(|order| {
            let half = self.words(bits, bits, order);
            let half = self.float(half);
            let wide = self.b.ins().fvpromote_low(half);
            let root = self.b.ins().sqrt(wide);
            let y = self.b.ins().fdiv(one, root);
            let y = self.b.ins().fvdemote(y);
            self.bits(y)
        });
        let words = self.words(first, last, [0, 1, 4, 5]);
        self.float(words)
    }
}

impl Emitter<'_, '_, '_> {
    /// A source with absolute value and negation.
    pub fn double(&mut self, n: usize) -> Doubles {
        let row = self.i.src[n];
        let low = self.group.row(self.t, row);
        let mut high = self.group.row(self.t, RowRef(row.0 + 1));
        if self.i.abs >> n & 1 != 0 {
            let keep = self.t.splat(!SIGN);
            high = self.t.b.ins().band(high, keep);
        }
        if self.i.neg >> n & 1 != 0 {
            let sign = self.t.splat(SIGN);
            high = self.t.b.ins().bxor(high, sign);
        }
        self.t.doubles(low, high)
    }

    /// Keeps a result, with the one NaN.
    pub fn write_double(&mut self, x: Doubles) {
        let nan = self.t.splat_double(DOUBLE_NAN);
        let nan = self.t.bits(nan);
        let [first, last] = x.map(|x| {
            let is_nan = self.t.b.ins().fcmp(FloatCC::Unordered, x, x);
            let is_nan = self.t.bits(is_nan);
            let x = self.t.bits(x);
            self.t.b.ins().blendv(is_nan, nan, x)
        });
        for (n, order) in (0..).zip([[0, 2, 4, 6], [1, 3, 5, 7]]) {
            let words = self.t.words(first, last, order);
            self.group.write(self.t, self.i, self.i.dst + n, words);
        }
    }

    /// Where the first two sources compare as the condition says.
    pub fn compare_doubles(&mut self, cond: Condition) -> Mask {
        let (a, b) = (self.double(0), self.double(1));
        let [first, last] = [0, 1].map(|half| self.t.compare_floats(cond, a[half], b[half]));
        match (first, last) {
            (Mask::Some(first), Mask::Some(last)) => {
                let [first, last] = [first, last].map(|x| self.t.bits(x));
                Mask::Some(self.t.words(first, last, [0, 2, 4, 6]))
            }
            // The condition alone says so.
            (mask, _) => mask,
        }
    }
}
