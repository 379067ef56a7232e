//! Floating-point arithmetic in any rounding mode, by integers.
//!
//! The host rounds to nearest. What the fast paths cannot ask of it goes through here: an exact
//! result first, rounded once to the format in question.

use super::decode::Round;

/// A binary floating-point format.
#[derive(Clone, Copy)]
pub struct Format {
    /// Bits of the significand, without the implicit one.
    fraction: u32,
    /// Bits of the exponent.
    exponent: u32,
}

/// Half precision.
pub const F16: Format = Format {
    fraction: 10,
    exponent: 5,
};
/// Single precision.
pub const F32: Format = Format {
    fraction: 23,
    exponent: 8,
};
/// Double precision.
pub const F64: Format = Format {
    fraction: 52,
    exponent: 11,
};

/// A number that is not 0: `mant * 2^exp`. Bit 0 of `mant` also stands for whatever is below it.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    negative: bool,
    mant: u128,
    exp: i32,
}

impl Exact {
    /// An integer that is not 0.
    pub fn from_int(negative: bool, magnitude: u64) -> Self {
        Self {
            negative,
            mant: magnitude.into(),
            exp: 0,
        }
    }

    /// A finite number that is not 0, its significand of 53 bits.
    pub fn from_f64(x: f64) -> Self {
        let bits = x.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let (mant, exp) = match (bits >> 52 & 0x7ff) as i32 {
            0 => {
                let shift = fraction.leading_zeros() - 11;
                (fraction << shift, -1074 - shift as i32)
            }
            exp => (fraction | 1 << 52, exp - 1075),
        };
        Self {
            negative: x.is_sign_negative(),
            mant: mant.into(),
            exp,
        }
    }

    /// The bits of the number nearest in the rounding's sense.
    pub fn round(self, format: Format, round: Round) -> u64 {
        let Format { fraction, exponent } = format;
        let sign = u64::from(self.negative) << (fraction + exponent);
        let max_exp = (1i32 << (exponent - 1)) - 1;
        let min_exp = 1 - max_exp;
        // The exponent of the leading one, and of the last bit that stays.
        let lead = 127 - self.mant.leading_zeros() as i32 + self.exp;
        let last = lead.max(min_exp) - fraction as i32;
        let drop = last - self.exp;
        let (kept, rest) = match drop {
            ..=0 => (self.mant << -drop.max(-127), 0),
            1..=127 => (self.mant >> drop, self.mant << (128 - drop)),
            _ => (0, 1),
        };
        const HALF: u128 = 1 << 127;
        let away = match round {
            Round::Nearest => rest > HALF || (rest == HALF && kept & 1 != 0),
            Round::Down => self.negative && rest != 0,
            Round::Up => !self.negative && rest != 0,
            Round::Zero => false,
        };
        let kept = (kept + u128::from(away)) as u64;
        let infinity = ((1u64 << exponent) - 1) << fraction;
        // Adding the exponent's field to the significand carries into it where needed.
        let biased = (lead.max(min_exp) - min_exp) as u64;
        let bits = match kept >> fraction {
            _ if lead > max_exp => infinity,
            0 => kept,
            _ => (biased << fraction) + kept,
        };
        let overflow = bits >= infinity;
        let to_infinity = match round {
            Round::Nearest => true,
            Round::Down => self.negative,
            Round::Up => !self.negative,
            Round::Zero => false,
        };
        sign | match (overflow, to_infinity) {
            (false, _) => bits,
            (true, true) => infinity,
            (true, false) => infinity - 1,
        }
    }

    /// The sum; `None` if it is 0.
    fn add(self, other: Self) -> Option<Self> {
        // As far left as an addition allows, the one with the higher scale last.
        const ROOM: u32 = 2;
        let (low, high) = match self.exp <= other.exp {
            true => (self, other),
            false => (other, self),
        };
        let distance = (high.exp - low.exp) as u32;
        let left = distance.min(high.mant.leading_zeros() - ROOM);
        let right = distance - left;
        let high_mant = high.mant << left;
        let low_mant = match right {
            0 => low.mant,
            1..=127 => low.mant >> right | u128::from(low.mant << (128 - right) != 0),
            _ => 1,
        };
        let exp = low.exp + right as i32;
        let (negative, mant) = match (high.negative == low.negative, high_mant >= low_mant) {
            (true, _) => (high.negative, high_mant + low_mant),
            (false, true) => (high.negative, high_mant - low_mant),
            (false, false) => (low.negative, low_mant - high_mant),
        };
        (mant != 0).then_some(Self {
            negative,
            mant,
            exp,
        })
    }
}

/// `a * b + c` rounded once to `format`, in which all three are representable; a NaN is any NaN.
pub fn fma(a: f64, b: f64, c: f64, format: Format, round: Round) -> u64 {
    let zero = |negative: bool| u64::from(negative) << (format.fraction + format.exponent);
    let product_negative = a.is_sign_negative() != b.is_sign_negative();
    if !(a.is_finite() && b.is_finite() && c.is_finite()) {
        let x = match a.is_finite() && b.is_finite() {
            true => c,
            false => a * b + c,
        };
        let infinity = ((1u64 << format.exponent) - 1) << format.fraction;
        return match x.is_nan() {
            true => infinity | 1 << (format.fraction - 1),
            false => zero(x.is_sign_negative()) | infinity,
        };
    }
    let product = (a != 0.0 && b != 0.0).then(|| {
        let (a, b) = (Exact::from_f64(a), Exact::from_f64(b));
        Exact {
            negative: product_negative,
            mant: a.mant * b.mant,
            exp: a.exp + b.exp,
        }
    });
    let addend = (c != 0.0).then(|| Exact::from_f64(c));
    let sum = match (product, addend) {
        (Some(product), Some(addend)) => product.add(addend),
        (None, None) if product_negative == c.is_sign_negative() => return zero(product_negative),
        (product, addend) => product.or(addend),
    };
    match sum {
        Some(sum) => sum.round(format, round),
        // Opposite signs cancelled.
        None => zero(round == Round::Down),
    }
}

/// `x` rounded to `format`; a NaN is any NaN.
pub fn narrow(x: f64, format: Format, round: Round) -> u64 {
    let negative = u64::from(x.is_sign_negative()) << (format.fraction + format.exponent);
    let infinity = ((1u64 << format.exponent) - 1) << format.fraction;
    match x {
        _ if x.is_nan() => infinity | 1 << (format.fraction - 1),
        _ if x.is_infinite() => negative | infinity,
        _ if x == 0.0 => negative,
        _ => Exact::from_f64(x).round(format, round),
    }
}

/// The number that `bits` of half precision stand for.
#[inline(always)]
pub fn f16_to_f32(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    // Exponent and fraction in place; the scale corrects the bias, for subnormals, too.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((254 - 15) << 23);
    let special = 0x7f80_0000 | magnitude << 13;
    let magnitude = match magnitude >= 0x7c00 {
        true => special,
        false => scaled.to_bits(),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUNDS: [Round; 4] = [Round::Nearest, Round::Down, Round::Up, Round::Zero];

    /// What the host's own unit makes of it in that mode, with exceptions masked.
    #[cfg(target_arch = "x86_64")]
    fn on_host(round: Round, op: &str, a: f64, b: f64) -> (f64, f32) {
        use std::arch::asm;
        let mode: u32 = 0x1f80 | (round as u32) << 13;
        let normal: u32 = 0x1f80;
        let (mut wide, mut single) = (a, a as f32);
        let b32 = b as f32;
        // SAFETY: only these registers change; the mode is back to the default at the end.
        unsafe {
            match op {
                "add" => asm!(
                    "ldmxcsr [{mode}]", "addsd {wide}, {b}", "addss {single}, {b32}",
                    "ldmxcsr [{normal}]",
                    mode = in(reg) &mode, normal = in(reg) &normal, b = in(xmm_reg) b,
                    b32 = in(xmm_reg) b32, wide = inout(xmm_reg) wide,
                    single = inout(xmm_reg) single,
                ),
                _ => asm!(
                    "ldmxcsr [{mode}]", "mulsd {wide}, {b}", "mulss {single}, {b32}",
                    "ldmxcsr [{normal}]",
                    mode = in(reg) &mode, normal = in(reg) &normal, b = in(xmm_reg) b,
                    b32 = in(xmm_reg) b32, wide = inout(xmm_reg) wide,
                    single = inout(xmm_reg) single,
                ),
            }
        }
        (wide, single)
    }

    fn same64(bits: u64, host: f64) -> bool {
        bits == host.to_bits() || (host.is_nan() && f64::from_bits(bits).is_nan())
    }

    fn same32(bits: u64, host: f32) -> bool {
        bits == u64::from(host.to_bits()) || (host.is_nan() && f32::from_bits(bits as u32).is_nan())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        #[cfg(target_arch = "x86_64")]
        fn sums_and_products_round_as_the_host_does(
            a in any::<u64>(), b in any::<u64>(), near in 0i64..120, small in any::<bool>(),
        ) {
            // Independent exponents seldom meet; keep half of the pairs close.
            let b = match small {
                true => (a & 0x7ff << 52).wrapping_sub((near as u64).wrapping_sub(60) << 52) & 0x7ff << 52
                    | b & !(0x7ff << 52),
                false => b,
            };
            let (x, y) = (f64::from_bits(a), f64::from_bits(b));
            let (x32, y32) = (
                f64::from(f32::from_bits(a as u32)),
                f64::from(f32::from_bits(b as u32)),
            );
            for round in ROUNDS {
                prop_assert!(same64(fma(x, 1.0, y, F64, round), on_host(round, "add", x, y).0));
                let minus_zero = if x.is_sign_negative() != y.is_sign_negative() { -0.0 } else { 0.0 };
                prop_assert!(
                    same64(fma(x, y, minus_zero, F64, round), on_host(round, "mul", x, y).0)
                );
                prop_assert!(same32(fma(x32, 1.0, y32, F32, round), on_host(round, "add", x32, y32).1));
                let minus_zero =
                    if x32.is_sign_negative() != y32.is_sign_negative() { -0.0 } else { 0.0 };
                prop_assert!(
                    same32(fma(x32, y32, minus_zero, F32, round), on_host(round, "mul", x32, y32).1)
                );
            }
        }

        #[test]
        fn a_fused_product_and_sum_is_the_hosts(
            a in any::<u64>(), b in any::<u64>(), c in any::<u64>(), near in 0u64..240,
        ) {
            let product = (a >> 52 & 0x7ff) + (b >> 52 & 0x7ff);
            let exponent = (product + 120).wrapping_sub(1023 + near) & 0x7ff;
            for c in [c, c & !(0x7ff << 52) | exponent << 52] {
                let [x, y, z] = [a, b, c].map(f64::from_bits);
                prop_assert!(same64(fma(x, y, z, F64, Round::Nearest), x.mul_add(y, z)));
                let [x, y, z] = [a, b, c].map(|n| f32::from_bits(n as u32));
                let ours = fma(x.into(), y.into(), z.into(), F32, Round::Nearest);
                prop_assert!(same32(ours, x.mul_add(y, z)));
            }
        }

        #[test]
        fn narrowing_to_nearest_is_the_hosts(a in any::<u64>(), exponent in 0x360u64..0x490) {
            for bits in [a, a & !(0x7ff << 52) | exponent << 52] {
                let x = f64::from_bits(bits);
                prop_assert!(same32(narrow(x, F32, Round::Nearest), x as f32));
            }
        }

        #[test]
        fn an_integer_rounds_as_the_host_converts(n in any::<u64>(), shift in 0u32..64) {
            let n = n >> shift | 1;
            let exact = Exact::from_int(false, n);
            prop_assert_eq!(exact.round(F32, Round::Nearest), u64::from((n as f32).to_bits()));
            prop_assert_eq!(exact.round(F64, Round::Nearest), (n as f64).to_bits());
        }
    }

    #[test]
    fn every_half_survives_the_way_to_single_and_back() {
        for bits in 0..0x1_0000u32 {
            let x = f16_to_f32(bits);
            if !x.is_nan() {
                assert_eq!(narrow(x.into(), F16, Round::Nearest), u64::from(bits));
                assert_eq!(narrow(x.into(), F16, Round::Up), u64::from(bits));
            } else {
                assert!(bits & 0x7c00 == 0x7c00 && bits & 0x3ff != 0);
            }
        }
    }

    #[test]
    fn directed_overflow_stops_at_the_greatest_number() {
        assert_eq!(narrow(1e6, F16, Round::Zero), 0x7bff);
        assert_eq!(narrow(1e6, F16, Round::Nearest), 0x7c00);
        assert_eq!(narrow(-1e6, F16, Round::Up), 0xfbff);
        assert_eq!(narrow(-1e6, F16, Round::Down), 0xfc00);
        assert_eq!(narrow(1e-30, F16, Round::Up), 1);
        assert_eq!(narrow(1e-300, F16, Round::Nearest), 0);
    }
}
