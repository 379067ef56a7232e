//! Random instructions with what they do to one thread, as ENV `docs/hw/graph/tesla/cuda/int.rst`,
//! the PTX ISA and IEEE 754 have it.

use super::{
    float::{self, Mode, NAN},
    rng::Rng,
};
use crate::asm::{I, PT, RZ, mov_imm};

/// First register that random programs use, and how many.
pub const FIRST: u64 = 8;
pub const REGS: usize = 24;
/// Predicates that they use.
pub const PREDS: usize = 4;

/// What a thread has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub regs: [u32; REGS],
    pub preds: [bool; PREDS],
}

impl Thread {
    pub fn reg(&self, r: u64) -> u32 {
        match r {
            RZ => 0,
            r => self.regs[(r - FIRST) as usize],
        }
    }

    fn pair(&self, r: u64) -> u64 {
        match r {
            RZ => 0,
            r => u64::from(self.reg(r + 1)) << 32 | u64::from(self.reg(r)),
        }
    }

    pub fn set(&mut self, r: u64, value: u32) {
        if r != RZ {
            self.regs[(r - FIRST) as usize] = value;
        }
    }

    fn set_pair(&mut self, r: u64, value: u64) {
        self.set(r, value as u32);
        self.set(r + 1, (value >> 32) as u32);
    }

    fn pred(&self, p: u64) -> bool {
        p == PT || self.preds[p as usize]
    }

    fn set_pred(&mut self, p: u64, value: bool) {
        if p != PT {
            self.preds[p as usize] = value;
        }
    }
}

/// What an operation does to a thread.
pub type Effect = Box<dyn Fn(&mut Thread)>;

/// An operation: instructions, and what they do.
pub struct Operation {
    pub code: Vec<I>,
    pub effect: Effect,
}

fn operation(code: I, effect: impl Fn(&mut Thread) + 'static) -> Operation {
    sequence(vec![code], effect)
}

fn sequence(code: Vec<I>, effect: impl Fn(&mut Thread) + 'static) -> Operation {
    Operation {
        code,
        effect: Box::new(effect),
    }
}

/// Where a second source comes from.
#[derive(Clone, Copy)]
enum Source {
    Reg(u64),
    Value(u32),
}

impl Source {
    fn of(self, t: &Thread) -> u32 {
        match self {
            Source::Reg(r) => t.reg(r),
            Source::Value(value) => value,
        }
    }
}

/// Words of constant buffer 0.
pub fn constants(seed: u64) -> Vec<u32> {
    let mut rng = Rng(seed ^ 0xc0);
    (0..64).map(|_| rng.word()).collect()
}

/// Makes operations.
pub struct Generator<'a> {
    pub rng: &'a mut Rng,
    pub constants: &'a [u32],
}

impl Generator<'_> {
    fn reg(&mut self) -> u64 {
        match self.rng.below(16) {
            0 => RZ,
            _ => FIRST + self.rng.below(REGS as u64),
        }
    }

    fn dst(&mut self) -> u64 {
        FIRST + self.rng.below(REGS as u64)
    }

    fn even(&mut self) -> u64 {
        FIRST + 2 * self.rng.below(REGS as u64 / 2)
    }

    fn pred(&mut self) -> u64 {
        self.rng.below(PREDS as u64)
    }

    /// A predicate to be combined with, and whether it is complemented.
    fn pred_source(&mut self) -> (u64, bool) {
        let p = if self.rng.flip() { PT } else { self.pred() };
        (p, self.rng.below(4) == 0)
    }

    /// A second source: a register, a constant or 20 bits, which are the lowest or, of a number,
    /// the highest.
    fn b(&mut self, i: I, float: bool) -> (I, Source) {
        match self.rng.below(4) {
            0 => {
                let n = self.rng.below(self.constants.len() as u64);
                (
                    i.constant(0, 4 * n),
                    Source::Value(self.constants[n as usize]),
                )
            }
            1 => {
                let bits = self.rng.word();
                match float {
                    true => (
                        i.imm(u64::from(bits >> 12)),
                        Source::Value(bits & 0xffff_f000),
                    ),
                    false => {
                        let value = (bits << 12) as i32 >> 12;
                        (i.imm(value as u64), Source::Value(value as u32))
                    }
                }
            }
            _ => {
                let r = self.reg();
                (i.b(r), Source::Reg(r))
            }
        }
    }

    fn mode(&mut self) -> Mode {
        let round = if self.rng.flip() {
            0
        } else {
            self.rng.below(4)
        };
        Mode {
            round,
            ftz: self.rng.below(3) == 0,
            fmz: false,
            sat: self.rng.below(4) == 0,
        }
    }

    /// Any operation.
    pub fn operation(&mut self) -> Operation {
        match self.rng.below(32) {
            0 | 1 => self.fadd(),
            2 => self.fmul(),
            3 | 4 => self.ffma(),
            5 => self.fminmax(),
            6 => self.fset(),
            7 | 8 => self.iadd(),
            9 => self.imul(),
            10 | 11 => self.imad(),
            12 => self.shift(),
            13 => self.logic(),
            14 => self.bit_field(),
            15 => self.find_or_count(),
            16 => self.permute(),
            17 => self.iset(),
            18 => self.iminmax(),
            19 => self.select(),
            20 => self.float_to_int(),
            21 => self.int_to_float(),
            22 => self.int_to_int(),
            23 => self.float_to_float(),
            24 => self.wide_integer(),
            25 => self.double(),
            26 => self.predicates(),
            27 => self.sad_or_scaled_add(),
            _ => self.mov(),
        }
    }

    /// Copies and literals, of which much follows.
    fn mov(&mut self) -> Operation {
        let d = self.dst();
        if self.rng.flip() {
            let value = match self.rng.flip() {
                true => self.rng.below(40) as u32,
                false => self.rng.word(),
            };
            return operation(mov_imm(d, value), move |t| t.set(d, value));
        }
        let i = I::new(4, 0x0a).dst(d).field(5, 4, 0xf);
        let (i, b) = self.b(i, false);
        operation(i, move |t| t.set(d, b.of(t)))
    }

    fn fadd(&mut self) -> Operation {
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

    fn fmul(&mut self) -> Operation {
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

    fn ffma(&mut self) -> Operation {
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

    fn fminmax(&mut self) -> Operation {
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

    /// A comparison's condition, and how its outcome is combined; the outcome for less, equal,
    /// greater, unordered.
    fn comparison(&mut self, i: I) -> (I, u64, Combine) {
        let cond = self.rng.below(16);
        let (p, not) = self.pred_source();
        let logic = self.rng.below(3);
        let i = i
            .field(55, 4, cond)
            .field(53, 2, logic)
            .field(49, 3, p)
            .field(52, 1, not.into());
        (i, cond, Combine { p, not, logic })
    }

    fn fset(&mut self) -> Operation {
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

    fn iadd(&mut self) -> Operation {
        let (d, a, op) = (self.dst(), self.reg(), self.rng.below(4));
        let sat = self.rng.below(4) == 0;
        let i = I::new(3, 0x12)
            .dst(d)
            .a(a)
            .field(8, 2, op)
            .field(5, 1, sat.into());
        let (i, b) = self.b(i, false);
        operation(i, move |t| {
            let (a, b) = (i64::from(t.reg(a) as i32), i64::from(b.of(t) as i32));
            let sum = match op {
                0 => a + b,
                1 => a - b,
                2 => b - a,
                _ => a + b + 1,
            };
            t.set(
                d,
                match sat {
                    true => sum.clamp(i32::MIN.into(), i32::MAX.into()) as u32,
                    false => sum as u32,
                },
            );
        })
    }

    fn imul(&mut self) -> Operation {
        let (d, a) = (self.dst(), self.reg());
        let [high, signed_a, signed_b] = [(); 3].map(|()| self.rng.flip());
        let i = I::new(3, 0x14)
            .dst(d)
            .a(a)
            .field(6, 1, high.into())
            .field(7, 1, signed_a.into())
            .field(5, 1, signed_b.into());
        let (i, b) = self.b(i, false);
        operation(i, move |t| {
            let product = product(widen(t.reg(a), signed_a), widen(b.of(t), signed_b));
            t.set(d, (product >> if high { 32 } else { 0 }) as u32);
        })
    }

    fn imad(&mut self) -> Operation {
        let (d, a, c) = (self.dst(), self.reg(), self.reg());
        let op = self.rng.below(3);
        let [high, signed_a, signed_b] = [(); 3].map(|()| self.rng.below(3) == 0);
        let i = I::new(3, 0x08)
            .dst(d)
            .a(a)
            .field(8, 2, op)
            .field(6, 1, high.into())
            .field(7, 1, signed_a.into())
            .field(5, 1, signed_b.into());
        let (i, b) = self.b(i, false);
        operation(i.c(c), move |t| {
            let product = product(widen(t.reg(a), signed_a), widen(b.of(t), signed_b));
            let product = (product >> if high { 32 } else { 0 }) as u32;
            let c = t.reg(c);
            t.set(
                d,
                match op {
                    0 => product.wrapping_add(c),
                    1 => product.wrapping_sub(c),
                    _ => c.wrapping_sub(product),
                },
            );
        })
    }

    fn shift(&mut self) -> Operation {
        let (d, a, wrap) = (self.dst(), self.reg(), self.rng.flip());
        let (left, signed) = (self.rng.flip(), self.rng.flip());
        let opcode = if left { 0x18 } else { 0x16 };
        let i = I::new(3, opcode).dst(d).a(a).field(9, 1, wrap.into());
        let i = i.field(5, 1, (signed && !left).into());
        let (i, b) = self.b(i, false);
        operation(i, move |t| {
            let by = if wrap { b.of(t) % 32 } else { b.of(t).min(32) };
            let a = i64::from(t.reg(a) as i32);
            let unsigned = a & 0xffff_ffff;
            t.set(
                d,
                match (left, signed) {
                    (true, _) => (unsigned << by) as u32,
                    (false, true) => (a >> by) as u32,
                    (false, false) => (unsigned >> by) as u32,
                },
            );
        })
    }

    fn logic(&mut self) -> Operation {
        let (d, a, op) = (self.dst(), self.reg(), self.rng.below(4));
        let (not_a, not_b) = (self.rng.flip(), self.rng.flip());
        let i = I::new(3, 0x1a)
            .dst(d)
            .a(a)
            .field(6, 2, op)
            .field(9, 1, not_a.into())
            .field(8, 1, not_b.into());
        let (i, b) = self.b(i, false);
        operation(i, move |t| {
            let a = if not_a { !t.reg(a) } else { t.reg(a) };
            let b = if not_b { !b.of(t) } else { b.of(t) };
            t.set(d, [a & b, a | b, a ^ b, b][op as usize]);
        })
    }

    fn bit_field(&mut self) -> Operation {
        let (d, a, c) = (self.dst(), self.reg(), self.reg());
        let mut size = || match self.rng.flip() {
            true => self.rng.pick(&[0, 1, 8, 31, 32, 33]),
            false => self.rng.below(34),
        };
        let (position, length) = (size(), size());
        let field = position | length << 8;
        if self.rng.flip() {
            let (signed, reverse) = (self.rng.flip(), self.rng.flip());
            let i = I::new(3, 0x1c).dst(d).a(a).imm(field);
            let i = i.field(5, 1, signed.into()).field(8, 1, reverse.into());
            return operation(i, move |t| {
                let a = if reverse {
                    t.reg(a).reverse_bits()
                } else {
                    t.reg(a)
                };
                // The PTX ISA's bfe.
                let bit = |n: u64| u32::from(n < 32 && a >> n & 1 != 0);
                let sign = match signed && length > 0 {
                    true => bit((position + length - 1).min(31)),
                    false => 0,
                };
                let value = (0..32).fold(0, |value, n| {
                    let inside = n < length && position + n <= 31;
                    value | (if inside { bit(position + n) } else { sign }) << n
                });
                t.set(d, value);
            });
        }
        let i = I::new(3, 0x0a).dst(d).a(a).imm(field).c(c);
        operation(i, move |t| {
            let (a, c) = (t.reg(a), t.reg(c));
            let value = (0..32).fold(0, |value, n| {
                let inside = n >= position && n < position + length;
                let from = if inside { a >> (n - position) } else { c >> n };
                value | (from & 1) << n
            });
            t.set(d, value);
        })
    }

    fn find_or_count(&mut self) -> Operation {
        let (d, a, b) = (self.dst(), self.reg(), self.reg());
        let not = self.rng.flip();
        let complement = move |x: u32| if not { !x } else { x };
        if self.rng.flip() {
            let i = I::new(4, 0x15).dst(d).a(a).b(b).field(9, 1, not.into());
            return operation(i, move |t| {
                let both = complement(t.reg(a)) & t.reg(b);
                t.set(d, (0..32).map(|n| both >> n & 1).sum());
            });
        }
        let (signed, amount) = (self.rng.flip(), self.rng.flip());
        let i = I::new(3, 0x1e)
            .dst(d)
            .b(b)
            .field(5, 1, signed.into())
            .field(6, 1, amount.into())
            .field(8, 1, not.into());
        operation(i, move |t| {
            let x = complement(t.reg(b));
            let x = if signed && x >> 31 != 0 { !x } else { x };
            let highest = (0..32).rev().find(|n| x >> n & 1 != 0);
            t.set(
                d,
                match (highest, amount) {
                    (None, _) => u32::MAX,
                    (Some(n), true) => 31 - n,
                    (Some(n), false) => n,
                },
            );
        })
    }

    fn permute(&mut self) -> Operation {
        let (d, a, c) = (self.dst(), self.reg(), self.reg());
        let i = I::new(4, 0x09).dst(d).a(a);
        let (i, b) = self.b(i, false);
        operation(i.c(c), move |t| {
            let bytes = [t.reg(a).to_le_bytes(), t.reg(c).to_le_bytes()].concat();
            let selector = b.of(t);
            let out = [0, 1, 2, 3].map(|n| {
                let nibble = selector >> (4 * n) & 0xf;
                let byte = bytes[nibble as usize & 7];
                match nibble & 8 {
                    0 => byte,
                    _ => (byte as i8 >> 7) as u8,
                }
            });
            t.set(d, u32::from_le_bytes(out));
        })
    }

    fn iset(&mut self) -> Operation {
        let (a, signed) = (self.reg(), self.rng.flip());
        let preds = self.rng.flip();
        let (d, p, float) = (self.dst(), self.pred(), self.rng.flip());
        let i = match preds {
            true => I::new(3, 0x06).field(17, 3, p).field(14, 3, PT),
            false => I::new(3, 0x04).dst(d).field(7, 1, float.into()),
        };
        let (i, b) = self.b(i.a(a).field(5, 1, signed.into()), false);
        let (i, cond, with) = self.comparison(i);
        operation(i, move |t| {
            let order = widen(t.reg(a), signed).cmp(&widen(b.of(t), signed));
            let outcome = with.apply(t, cond >> (order as i8 + 1) & 1 != 0);
            let one = if float { 1f32.to_bits() } else { u32::MAX };
            match preds {
                true => t.set_pred(p, outcome),
                false => t.set(d, if outcome { one } else { 0 }),
            }
        })
    }

    fn iminmax(&mut self) -> Operation {
        let (d, a, signed) = (self.dst(), self.reg(), self.rng.flip());
        let (p, not) = self.pred_source();
        let i = I::new(3, 0x02)
            .dst(d)
            .a(a)
            .field(5, 1, signed.into())
            .field(49, 3, p)
            .field(52, 1, not.into());
        let (i, b) = self.b(i, false);
        operation(i, move |t| {
            let (a, b) = (widen(t.reg(a), signed), widen(b.of(t), signed));
            let min = t.pred(p) != not;
            t.set(d, if min { a.min(b) } else { a.max(b) } as u32);
        })
    }

    fn select(&mut self) -> Operation {
        let (d, a, b, c) = (self.dst(), self.reg(), self.reg(), self.reg());
        if self.rng.flip() {
            let (p, not) = self.pred_source();
            let i = I::new(4, 0x08).dst(d).a(a).b(b);
            let i = i.field(49, 3, p).field(52, 1, not.into());
            return operation(i, move |t| {
                let first = t.pred(p) != not;
                t.set(d, if first { t.reg(a) } else { t.reg(b) });
            });
        }
        let (cond, signed) = (self.rng.below(8), self.rng.flip());
        let i = I::new(3, 0x0c).dst(d).a(a).b(b).c(c);
        let i = i.field(55, 4, cond).field(5, 1, signed.into());
        operation(i, move |t| {
            let order = widen(t.reg(c), signed).cmp(&0);
            let first = cond >> (order as i8 + 1) & 1 != 0;
            t.set(d, if first { t.reg(a) } else { t.reg(b) });
        })
    }

    fn float_to_int(&mut self) -> Operation {
        let (d, b) = (self.dst(), self.reg());
        let (size, signed, round) = (self.rng.below(3), self.rng.flip(), self.rng.below(4));
        let (neg, abs) = (self.rng.below(3) == 0, self.rng.below(3) == 0);
        let i = cvt(0x05, d, b, size, 2)
            .field(7, 1, signed.into())
            .field(49, 2, round)
            .field(8, 1, neg.into())
            .field(6, 1, abs.into());
        operation(i, move |t| {
            let x = f64::from(f32::from_bits(self::signed(t.reg(b), neg, abs)));
            let x = integral(x, round);
            let bits = 8 << size;
            let (least, most) = match signed {
                true => (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1),
                false => (0, (1i64 << bits) - 1),
            };
            // A comparison with NaN is false.
            let value = if x >= most as f64 {
                most
            } else if x > least as f64 {
                x as i64
            } else if x.is_nan() {
                0
            } else {
                least
            };
            t.set(d, value as u32);
        })
    }

    fn int_to_float(&mut self) -> Operation {
        let (d, b) = (self.dst(), self.reg());
        let (size, signed) = (self.rng.below(3), self.rng.flip());
        let round = self.rng.below(4);
        let byte = match size {
            0 => self.rng.below(4),
            1 => 2 * self.rng.below(2),
            _ => 0,
        };
        let i = cvt(0x06, d, b, 2, size)
            .field(9, 1, signed.into())
            .field(49, 2, round)
            .field(55, 2, byte);
        operation(i, move |t| {
            let value = narrow(t.reg(b) >> (8 * byte), size, signed) as f64;
            let mode = Mode {
                round,
                ftz: false,
                fmz: false,
                sat: false,
            };
            // Both halves are exact in single precision, so that their sum is rounded once.
            let high = (value / 65536.0).trunc() * 65536.0;
            let [high, low] = [high, value - high].map(|x| (x as f32).to_bits());
            t.set(
                d,
                match value == 0.0 {
                    true => 0,
                    false => mode.add(high, low),
                },
            );
        })
    }

    fn int_to_int(&mut self) -> Operation {
        let (d, b) = (self.dst(), self.reg());
        let (to, from) = (self.rng.below(3), self.rng.below(3));
        let [to_signed, from_signed, sat] = [(); 3].map(|()| self.rng.flip());
        let byte = match from {
            0 => self.rng.below(4),
            1 => 2 * self.rng.below(2),
            _ => 0,
        };
        let (neg, abs) = (self.rng.below(3) == 0, self.rng.below(3) == 0);
        let i = cvt(0x07, d, b, to, from)
            .field(7, 1, to_signed.into())
            .field(9, 1, from_signed.into())
            .field(5, 1, sat.into())
            .field(8, 1, neg.into())
            .field(6, 1, abs.into())
            .field(55, 2, byte);
        operation(i, move |t| {
            let value = narrow(t.reg(b) >> (8 * byte), from, from_signed);
            let value = if abs { value.abs() } else { value };
            let value = if neg { -value } else { value };
            let bits = 8 << to;
            let (least, most) = match to_signed {
                true => (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1),
                false => (0, (1i64 << bits) - 1),
            };
            t.set(
                d,
                match sat {
                    true => value.clamp(least, most) as u32,
                    false => narrow(value as u32, to, to_signed) as u32,
                },
            );
        })
    }

    fn float_to_float(&mut self) -> Operation {
        let (d, b) = (self.dst(), self.reg());
        let (neg, abs, sat) = (self.rng.flip(), self.rng.flip(), self.rng.flip());
        let round = self.rng.below(4);
        let i = cvt(0x04, d, b, 2, 2)
            .bit(7)
            .field(49, 2, round)
            .field(5, 1, sat.into())
            .field(8, 1, neg.into())
            .field(6, 1, abs.into());
        operation(i, move |t| {
            let x = f64::from(f32::from_bits(signed(t.reg(b), neg, abs)));
            let x = integral(x, round) as f32;
            t.set(
                d,
                match sat {
                    true if x > 0.0 => x.min(1.0).to_bits(),
                    true => 0,
                    false => float::bits(x),
                },
            );
        })
    }

    /// Sequences for 64-bit integers, with the condition code between their halves.
    fn wide_integer(&mut self) -> Operation {
        let (d, a, b) = (self.even(), self.even(), self.even());
        let half = |opcode: u64, n: u64| I::new(3, opcode).dst(d + n).a(a + n).b(b + n);
        match self.rng.below(3) {
            0 => {
                let sub = self.rng.flip();
                let part = |n| half(0x12, n).field(8, 2, sub.into());
                let code = vec![part(0).bit(48), part(1).bit(6)];
                sequence(code, move |t| {
                    let (a, b) = (t.pair(a), t.pair(b));
                    t.set_pair(
                        d,
                        if sub {
                            a.wrapping_sub(b)
                        } else {
                            a.wrapping_add(b)
                        },
                    );
                })
            }
            1 => {
                let (p, signed) = (self.pred(), self.rng.flip());
                let low = half(0x12, 0).dst(RZ).field(8, 2, 1).bit(48);
                let high = I::new(3, 0x06)
                    .field(17, 3, p)
                    .field(14, 3, PT)
                    .a(a + 1)
                    .b(b + 1)
                    .field(5, 1, signed.into())
                    .bit(6);
                let cond = 1 + self.rng.below(6);
                let high = high.field(55, 4, cond).field(49, 3, PT);
                sequence(vec![low, high], move |t| {
                    let order = match signed {
                        true => (t.pair(a) as i64).cmp(&(t.pair(b) as i64)),
                        false => t.pair(a).cmp(&t.pair(b)),
                    };
                    t.set_pred(p, cond >> (order as i8 + 1) & 1 != 0);
                })
            }
            _ => {
                let (signed, max) = (self.rng.flip(), self.rng.flip());
                let part = |n: u64, kind: u64| {
                    half(0x02, n)
                        .field(6, 2, kind)
                        .field(5, 1, signed.into())
                        .field(49, 3, PT)
                        .field(52, 1, max.into())
                };
                let code = vec![part(1, 3).bit(48), part(0, 1)];
                sequence(code, move |t| {
                    let (x, y) = (t.pair(a), t.pair(b));
                    let less = match signed {
                        true => (x as i64) < y as i64,
                        false => x < y,
                    };
                    t.set_pair(d, if less != max { x } else { y });
                })
            }
        }
    }

    /// Double precision, rounded to nearest or, of sums and products, in any direction.
    fn double(&mut self) -> Operation {
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

    fn predicates(&mut self) -> Operation {
        let (p, q) = (self.pred(), PT);
        let (a, not_a) = self.pred_source();
        let (b, not_b) = self.pred_source();
        let first = self.rng.below(3);
        let i = I::new(4, 0x03)
            .field(17, 3, p)
            .field(14, 3, q)
            .field(20, 3, a)
            .field(23, 1, not_a.into())
            .field(26, 3, b)
            .field(29, 1, not_b.into())
            .field(30, 2, first);
        let (c, not) = self.pred_source();
        let logic = self.rng.below(3);
        let i = i
            .field(49, 3, c)
            .field(52, 1, not.into())
            .field(53, 2, logic);
        operation(i, move |t| {
            let both = combined(first, t.pred(a) != not_a, t.pred(b) != not_b);
            let outcome = combined(logic, both, t.pred(c) != not);
            t.set_pred(p, outcome);
        })
    }

    fn sad_or_scaled_add(&mut self) -> Operation {
        let (d, a, b, c) = (self.dst(), self.reg(), self.reg(), self.reg());
        if self.rng.flip() {
            let signed = self.rng.flip();
            let i = I::new(3, 0x0e).dst(d).a(a).b(b).c(c);
            return operation(i.field(5, 1, signed.into()), move |t| {
                let distance = (widen(t.reg(a), signed) - widen(t.reg(b), signed)).abs();
                t.set(d, (distance as u32).wrapping_add(t.reg(c)));
            });
        }
        let (shift, op) = (self.rng.below(32), self.rng.below(3));
        let i = I::new(3, 0x10).dst(d).a(a).b(b);
        let i = i.field(5, 5, shift).field(55, 2, op);
        operation(i, move |t| {
            let (shifted, b) = (t.reg(a) << shift, t.reg(b));
            t.set(
                d,
                match op {
                    0 => shifted.wrapping_add(b),
                    1 => shifted.wrapping_sub(b),
                    _ => b.wrapping_sub(shifted),
                },
            );
        })
    }
}

/// How a comparison's outcome is combined with a predicate.
#[derive(Clone, Copy)]
struct Combine {
    p: u64,
    not: bool,
    logic: u64,
}

impl Combine {
    fn apply(self, t: &Thread, outcome: bool) -> bool {
        combined(self.logic, outcome, t.pred(self.p) != self.not)
    }
}

fn combined(logic: u64, a: bool, b: bool) -> bool {
    [a && b, a || b, a != b][logic as usize]
}

/// A conversion: opcode and log2 of the bytes of both sides.
fn cvt(opcode: u64, d: u64, b: u64, to: u64, from: u64) -> I {
    I::new(4, opcode)
        .dst(d)
        .b(b)
        .field(20, 2, to)
        .field(23, 2, from)
}

/// The bits of a number with its sign changed; the absolute value comes first.
fn signed(bits: u32, neg: bool, abs: bool) -> u32 {
    let x = f32::from_bits(bits);
    // NaN has a sign, too, and arithmetic hides it.
    if x.is_nan() {
        return NAN;
    }
    let x = if abs { x.abs() } else { x };
    if neg { (-x).to_bits() } else { x.to_bits() }
}

fn widen(x: u32, signed: bool) -> i64 {
    match signed {
        true => i64::from(x as i32),
        false => i64::from(x),
    }
}

/// The low 64 bits of a product.
fn product(a: i64, b: i64) -> u64 {
    (i128::from(a) * i128::from(b)) as u64
}

/// The low `8 << size` bits as a number.
fn narrow(x: u32, size: u64, signed: bool) -> i64 {
    let bits = 8u32 << size;
    let x = i64::from(x) & ((1 << bits) - 1);
    match signed && x >> (bits - 1) != 0 {
        true => x - (1 << bits),
        false => x,
    }
}

fn integral(x: f64, round: u64) -> f64 {
    match round {
        0 => x.round_ties_even(),
        1 => x.floor(),
        2 => x.ceil(),
        _ => x.trunc(),
    }
}
