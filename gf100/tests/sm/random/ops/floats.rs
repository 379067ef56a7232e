//! Arithmetic of floating-point numbers.

use super::super::float::{self, Mode};
use super::{Generator, Operation, Thread, operation, signed};
use crate::asm::{I, PT};

impl Generator<'_> {
    pub(super) fn fadd(&mut self) -> Operation {
        let (d, a, mode) = (self.dst(), self.reg(), self.mode());
        let [neg_a, abs_a, neg_b, abs_b] = [(); 4].map(|()| self.rng.below(3) == 0);
        let i = I::new(0, 0x14).dst(d).a(a).field(55, 2, mode.round);
        let (i, b) = self.b(i, true);
        let i = i
            .field(5, 1, mode.ftz.into())
            .field(49, 1, mode.sat.into())
            .field(9, 1, neg_a.into())
            .field(7, 1, abs_a.into())
            .field(8, 1, neg_b.into())
            .field(6, 1, abs_b.into());
        operation(i, move |t| {
            let a = signed(t.reg(a), neg_a, abs_a);
            let b = signed(b.of(t), neg_b, abs_b);
            t.set(d, mode.add(a, b));
        })
    }

    pub(super) fn fmul(&mut self) -> Operation {
        let (d, a) = (self.dst(), self.reg());
        let mode = Mode {
            fmz: self.rng.below(4) == 0,
            ..self.mode()
        };
        let neg = self.rng.flip();
        let scale = if self.rng.flip() {
            0
        } else {
            self.rng.below(7) as i32 - 3
        };
        let bits = if scale > 0 { 7 - scale } else { -scale };
        let i = I::new(0, 0x16).dst(d).a(a).field(55, 2, mode.round);
        let (i, b) = self.b(i, true);
        let i = i
            .field(6, 1, mode.ftz.into())
            .field(7, 1, mode.fmz.into())
            .field(5, 1, mode.sat.into())
            .field(57, 1, neg.into())
            .field(49, 3, bits as u64);
        operation(i, move |t| {
            let a = signed(t.reg(a), neg, false);
            t.set(d, mode.mul(a, b.of(t), scale));
        })
    }

    pub(super) fn ffma(&mut self) -> Operation {
        let (d, a, c) = (self.dst(), self.reg(), self.reg());
        let mode = Mode {
            fmz: self.rng.below(4) == 0,
            ..self.mode()
        };
        let (neg_a, neg_c) = (self.rng.flip(), self.rng.flip());
        let i = I::new(0, 0x0c).dst(d).a(a).field(55, 2, mode.round);
        let (i, b) = self.b(i, true);
        let i = i
            .c(c)
            .field(6, 1, mode.ftz.into())
            .field(7, 1, mode.fmz.into())
            .field(5, 1, mode.sat.into())
            .field(9, 1, neg_a.into())
            .field(8, 1, neg_c.into());
        operation(i, move |t| {
            let a = signed(t.reg(a), neg_a, false);
            let c = signed(t.reg(c), neg_c, false);
            t.set(d, mode.fma(a, b.of(t), c));
        })
    }

    pub(super) fn fminmax(&mut self) -> Operation {
        let (d, a, b) = (self.dst(), self.reg(), self.reg());
        let (p, not) = self.pred_source();
        let ftz = self.rng.flip();
        let i = I::new(0, 0x02)
            .dst(d)
            .a(a)
            .b(b)
            .field(5, 1, ftz.into())
            .field(49, 3, p)
            .field(52, 1, not.into());
        operation(i, move |t| {
            let [x, y] = [t.reg(a), t.reg(b)].map(|x| float::flush(ftz, f32::from_bits(x)));
            let min = t.pred(p) != not;
            // The total order has -0 before 0.
            let less = x.total_cmp(&y).is_lt();
            let result = match (x.is_nan(), y.is_nan()) {
                (true, true) => f32::NAN,
                (true, false) => y,
                (false, true) => x,
                _ if less == min => x,
                _ => y,
            };
            t.set(d, float::bits(result));
        })
    }

    pub(super) fn fset(&mut self) -> Operation {
        let (a, b, ftz) = (self.reg(), self.reg(), self.rng.flip());
        let holds = move |t: &Thread, cond: u64| {
            let [x, y] = [a, b].map(|r| float::flush(ftz, f32::from_bits(t.reg(r))));
            match x.partial_cmp(&y) {
                Some(order) => cond >> (order as i8 + 1) & 1 != 0,
                None => cond >> 3 != 0,
            }
        };
        if self.rng.flip() {
            let (d, float) = (self.dst(), self.rng.flip());
            let i = I::new(0, 0x04).dst(d).a(a).b(b).field(5, 1, float.into());
            let (i, cond, with) = self.comparison(i.field(59, 1, ftz.into()));
            let one = if float { 1f32.to_bits() } else { u32::MAX };
            return operation(i, move |t| {
                let outcome = with.apply(t, holds(t, cond));
                t.set(d, if outcome { one } else { 0 });
            });
        }
        let (p, q) = (self.pred(), PT);
        let i = I::new(0, 0x08).field(17, 3, p).field(14, 3, q).a(a).b(b);
        let (i, cond, with) = self.comparison(i.field(59, 1, ftz.into()));
        operation(i, move |t| {
            let outcome = with.apply(t, holds(t, cond));
            t.set_pred(p, outcome);
        })
    }

    /// Double precision, rounded to nearest or, of sums and products, in any direction.
    pub(super) fn double(&mut self) -> Operation {
        let (d, a, b, c) = (self.even(), self.even(), self.even(), self.even());
        let (neg_a, neg_c) = (self.rng.flip(), self.rng.flip());
        let source = |t: &Thread, r: u64, neg: bool| {
            let x = f64::from_bits(t.pair(r));
            if neg { -x } else { x }
        };
        let store = move |t: &mut Thread, x: f64| {
            let nan = 0xfff8_0000_0000_0000;
            t.set_pair(d, if x.is_nan() { nan } else { x.to_bits() });
        };
        match self.rng.below(4) {
            0 => {
                let i = I::new(1, 0x12).dst(d).a(a).b(b).field(9, 1, neg_a.into());
                operation(i, move |t| {
                    let sum = source(t, a, neg_a) + source(t, b, false);
                    store(t, sum);
                })
            }
            1 => {
                let i = I::new(1, 0x14).dst(d).a(a).b(b).field(9, 1, neg_a.into());
                operation(i, move |t| {
                    let product = source(t, a, neg_a) * source(t, b, false);
                    store(t, product);
                })
            }
            2 => {
                let i = I::new(1, 0x08).dst(d).a(a).b(b).c(c);
                let i = i.field(9, 1, neg_a.into()).field(8, 1, neg_c.into());
                operation(i, move |t| {
                    let (x, y) = (source(t, a, neg_a), source(t, b, false));
                    let sum = x.mul_add(y, source(t, c, neg_c));
                    store(t, sum);
                })
            }
            _ => {
                let i = I::new(1, 0x04).dst(d).a(a).b(b);
                let (i, cond, with) = self.comparison(i);
                operation(i, move |t| {
                    let holds = match source(t, a, false).partial_cmp(&source(t, b, false)) {
                        Some(order) => cond >> (order as i8 + 1) & 1 != 0,
                        None => cond >> 3 != 0,
                    };
                    let outcome = with.apply(t, holds);
                    t.set(d, if outcome { u32::MAX } else { 0 });
                })
            }
        }
    }
}
