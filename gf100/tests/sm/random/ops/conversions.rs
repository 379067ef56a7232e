//! Conversions.

use super::super::float::{self, Mode};
use super::{Generator, Operation, cvt, integral, narrow, operation, signed};

impl Generator<'_> {
    pub(super) fn float_to_int(&mut self) -> Operation {
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

    pub(super) fn int_to_float(&mut self) -> Operation {
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

    pub(super) fn int_to_int(&mut self) -> Operation {
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

    pub(super) fn float_to_float(&mut self) -> Operation {
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
}
