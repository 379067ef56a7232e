//! Arithmetic and logic of integers.

use super::{Generator, Operation, operation, product, sequence, widen};
use crate::asm::{I, PT, RZ};

impl Generator<'_> {
    pub(super) fn iadd(&mut self) -> Operation {
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

    pub(super) fn imul(&mut self) -> Operation {
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

    pub(super) fn imad(&mut self) -> Operation {
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

    pub(super) fn shift(&mut self) -> Operation {
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

    pub(super) fn logic(&mut self) -> Operation {
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

    pub(super) fn bit_field(&mut self) -> Operation {
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

    pub(super) fn find_or_count(&mut self) -> Operation {
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

    pub(super) fn permute(&mut self) -> Operation {
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

    pub(super) fn iset(&mut self) -> Operation {
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

    pub(super) fn iminmax(&mut self) -> Operation {
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

    /// Sequences for 64-bit integers, with the condition code between their halves.
    pub(super) fn wide_integer(&mut self) -> Operation {
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

    pub(super) fn sad_or_scaled_add(&mut self) -> Operation {
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
