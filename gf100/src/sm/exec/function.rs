//! The multi-function unit, and the argument reduction before it.
//!
//! The hardware interpolates tables that are not public; the model computes in double precision
//! and rounds once. The contract, in units in the last place of single precision:
//!
//! | function | result |
//! |---|---|
//! | `rcp` | correctly rounded |
//! | `rsq` | 0.501 ulp |
//! | `ex2`, `lg2` | 0.51 ulp |
//! | `sin`, `cos` | 0.51 ulp for arguments up to 2^20, 0.501 ulp (by the host) beyond |
//! | `rcp64h`, `rsq64h` | the high word of the result of the double whose high word the source is, rounded to nearest |
//!
//! Subnormals are numbers like others, in sources and results. The argument reduction passes its
//! source on; only this unit consumes what it yields.

use std::f64::consts::{FRAC_2_PI, LN_2};

use super::{
    Cx, Inst,
    single::{NAN, Sign, saturate},
};
use crate::sm::{
    decode::MufuFunction,
    lanes::{LANES, map},
};

#[inline(always)]
fn bits(x: f64) -> u32 {
    let x = x as f32;
    if x.is_nan() { NAN } else { x.to_bits() }
}

#[inline(always)]
pub fn rro(cx: &mut Cx<'_>, i: &Inst) {
    let sign = Sign::of(i, 1);
    cx.map_b(i, |b| sign.apply(b));
}

#[inline(always)]
pub fn mufu(cx: &mut Cx<'_>, i: &Inst, function: MufuFunction, sat: bool) {
    let sign = Sign::of(i, 0);
    let a = cx.row(i.src[0]);
    let x = map(|lane| f32::from_bits(sign.apply(a[lane])));
    let out = match function {
        MufuFunction::Rcp => map(|lane| {
            let y = 1.0 / x[lane];
            if y.is_nan() { NAN } else { y.to_bits() }
        }),
        MufuFunction::Rsq => map(|lane| bits(1.0 / f64::from(x[lane]).sqrt())),
        MufuFunction::Ex2 => map(|lane| ex2(x[lane])),
        MufuFunction::Lg2 => map(|lane| lg2(x[lane])),
        MufuFunction::Sin => sin_cos(&x, 0),
        MufuFunction::Cos => sin_cos(&x, 1),
        MufuFunction::Rcp64High => map(|lane| high(1.0 / from_high(sign.apply(a[lane])))),
        MufuFunction::Rsq64High => map(|lane| high(1.0 / from_high(sign.apply(a[lane])).sqrt())),
    };
    let out = match sat {
        true => map(|lane| saturate(out[lane])),
        false => out,
    };
    cx.write(i.dst, &out);
}

fn from_high(word: u32) -> f64 {
    f64::from_bits(u64::from(word) << 32)
}

fn high(x: f64) -> u32 {
    match x.is_nan() {
        true => 0xfff8_0000,
        // A carry out of the fraction leads to the next exponent, and at last to infinity.
        false if x.is_finite() => (x.to_bits().wrapping_add(1 << 31) >> 32) as u32,
        false => (x.to_bits() >> 32) as u32,
    }
}

/// 2^x: the integer part into the exponent, a polynomial for the rest.
#[inline(always)]
fn ex2(x: f32) -> u32 {
    // Beyond these the result is 0 or infinity anyway.
    let x = f64::from(x);
    let clamped = if x < -200.0 { -200.0 } else { x };
    let clamped = if clamped > 200.0 { 200.0 } else { clamped };
    let whole = clamped.round_ties_even();
    let rest = (clamped - whole) * LN_2;
    // exp(r) for |r| <= ln 2 / 2: the tenth power is below 1e-10.
    let mut p = 1.0 / 362_880.0;
    for n in (0..9).rev() {
        p = p * rest + FACTORIAL_INVERSE[n];
    }
    let scale = f64::from_bits(((1023.0 + whole) as i64 as u64) << 52);
    bits(if x.is_nan() { x } else { p * scale })
}

const FACTORIAL_INVERSE: [f64; 9] = [
    1.0,
    1.0,
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
];

/// log2 x: the exponent, and the series of the area tangent for the significand.
#[inline(always)]
fn lg2(x: f32) -> u32 {
    // Subnormals of single precision are normal here.
    let wide = f64::from(x);
    let raw = wide.to_bits();
    // The significand from sqrt(1/2) to sqrt(2).
    const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let offset = raw.wrapping_sub(SQRT_HALF);
    let exponent = offset as i64 >> 52;
    let m = f64::from_bits(raw.wrapping_sub((exponent as u64) << 52));
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let mut p = 1.0 / 17.0;
    for n in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * s2 + 1.0 / n;
    }
    let log = exponent as f64 + p * s * (2.0 / LN_2);
    let special = if x == 0.0 {
        f64::NEG_INFINITY
    } else if x == f32::INFINITY {
        f64::INFINITY
    } else {
        f64::NAN
    };
    bits(if x > 0.0 && x < f32::INFINITY {
        log
    } else {
        special
    })
}

/// pi/2 in two parts, the first short enough for its product with a quadrant number to be exact.
const FRAC_PI_2_HIGH: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);
const FRAC_PI_2_LOW: f64 = 6.077_100_506_506_192e-11;

/// The sine, or `quadrant` quarters of a turn on.
#[inline(always)]
fn sin_cos(x: &[f32; LANES], quadrant: i64) -> [u32; LANES] {
    const LIMIT: f32 = (1 << 20) as f32;
    let out = map(|lane| {
        let x = f64::from(x[lane]);
        let turns = (x * FRAC_2_PI).round_ties_even();
        let r = (x - turns * FRAC_PI_2_HIGH) - turns * FRAC_PI_2_LOW;
        let r2 = r * r;
        // Taylor: |r| <= pi/4, the first term left out is below 1e-13.
        let mut s = 1.0 / 6_227_020_800.0;
        for c in [
            -1.0 / 39_916_800.0,
            1.0 / 362_880.0,
            -1.0 / 5_040.0,
            1.0 / 120.0,
            -1.0 / 6.0,
            1.0,
        ] {
            s = s * r2 + c;
        }
        let mut c = 1.0 / 479_001_600.0;
        for n in [
            -1.0 / 3_628_800.0,
            1.0 / 40_320.0,
            -1.0 / 720.0,
            1.0 / 24.0,
            -1.0 / 2.0,
            1.0,
        ] {
            c = c * r2 + n;
        }
        let at = i64::from(turns as i32).wrapping_add(quadrant);
        let value = if at & 1 == 0 { s * r } else { c };
        bits(if at & 2 == 0 { value } else { -value })
    });
    if x.iter().all(|x| x.abs() <= LIMIT) {
        return keep_zero(x, quadrant, out);
    }
    let out = map(|lane| match x[lane].abs() <= LIMIT {
        true => out[lane],
        false if quadrant == 0 => bits(f64::from(x[lane]).sin()),
        false => bits(f64::from(x[lane]).cos()),
    });
    keep_zero(x, quadrant, out)
}

/// The sine of -0 is -0.
#[inline(always)]
fn keep_zero(x: &[f32; LANES], quadrant: i64, out: [u32; LANES]) -> [u32; LANES] {
    map(|lane| match quadrant == 0 && x[lane] == 0.0 {
        true => x[lane].to_bits(),
        false => out[lane],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a result is from the exact one, in units of its last place.
    fn ulps(ours: u32, exact: f64) -> f64 {
        let ours = f32::from_bits(ours);
        let rounded = exact as f32;
        if rounded.is_nan() || rounded.is_infinite() {
            let same = ours == rounded || (ours.is_nan() && rounded.is_nan());
            return if same { 0.0 } else { f64::INFINITY };
        }
        let size = rounded.abs();
        let unit = f64::from(size.next_up()) - f64::from(size);
        (f64::from(ours) - exact).abs() / unit
    }

    /// Numbers of all sizes and signs, infinities and NaN among them.
    fn numbers() -> impl Iterator<Item = f32> {
        (0..=u32::MAX).step_by(10_007).map(f32::from_bits)
    }

    fn worst(ours: impl Fn(f32) -> u32, exact: impl Fn(f64) -> f64) -> f64 {
        numbers()
            .map(|x| ulps(ours(x), exact(x.into())))
            .fold(0.0, f64::max)
    }

    #[test]
    fn exponentials_and_logarithms_are_within_their_bounds() {
        assert!(worst(ex2, f64::exp2) <= 0.51);
        assert!(worst(lg2, f64::log2) <= 0.51);
    }

    #[test]
    fn sines_and_cosines_are_within_their_bounds() {
        let of = |quadrant| move |x: f32| sin_cos(&[x; LANES], quadrant)[0];
        assert!(worst(of(0), f64::sin) <= 0.51);
        assert!(worst(of(1), f64::cos) <= 0.51);
    }

    #[test]
    fn high_words_are_rounded_to_nearest() {
        assert_eq!(high(1.0), 0x3ff0_0000);
        assert_eq!(high(f64::from_bits(0x3fef_ffff_8000_0000)), 0x3ff0_0000);
        assert_eq!(high(1.0 / from_high(0x4008_0000)), 0x3fd5_5555);
        assert_eq!(high(f64::NEG_INFINITY), 0xfff0_0000);
        assert_eq!(high(f64::NAN), 0xfff8_0000);
    }
}
