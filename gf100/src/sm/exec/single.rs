//! Single precision.

use super::{Cx, Inst};
use crate::sm::{
    decode::{Condition, FloatMode, Round},
    exact,
    lanes::{map, mask_of},
};

/// The one NaN that arithmetic yields.
pub const NAN: u32 = 0x7fff_ffff;
const SIGN: u32 = 1 << 31;
const EXPONENT: u32 = 0x7f80_0000;

/// The bits of a result.
#[inline(always)]
fn bits(x: f32) -> u32 {
    if x.is_nan() { NAN } else { x.to_bits() }
}

/// A subnormal becomes 0 of its sign.
#[inline(always)]
pub fn flush(bits: u32) -> u32 {
    if bits & EXPONENT == 0 {
        bits & SIGN
    } else {
        bits
    }
}

#[inline(always)]
pub fn flush_if(ftz: bool, bits: u32) -> u32 {
    if ftz { flush(bits) } else { bits }
}

/// Clamped to 0..1; NaN is 0, and so is -0.
#[inline(always)]
pub fn saturate(bits: u32) -> u32 {
    let x = f32::from_bits(bits);
    // False for NaN.
    if x > 0.0 {
        if x < 1.0 { bits } else { 1f32.to_bits() }
    } else {
        0
    }
}

/// How the sign bits of a source change.
#[derive(Clone, Copy)]
pub struct Sign {
    keep: u32,
    flip: u32,
}

impl Sign {
    #[inline(always)]
    pub fn of(i: &Inst, source: usize) -> Self {
        Self {
            keep: if i.abs >> source & 1 != 0 { !SIGN } else { !0 },
            flip: if i.neg >> source & 1 != 0 { SIGN } else { 0 },
        }
    }

    #[inline(always)]
    pub fn apply(self, bits: u32) -> u32 {
        bits & self.keep ^ self.flip
    }
}

impl FloatMode {
    #[inline(always)]
    fn source(self, bits: u32) -> u32 {
        flush_if(self.ftz | self.fmz, bits)
    }

    #[inline(always)]
    fn result(self, result: u32) -> u32 {
        let result = if result & !SIGN > EXPONENT {
            NAN
        } else {
            result
        };
        let result = flush_if(self.ftz | self.fmz, result);
        if self.sat { saturate(result) } else { result }
    }
}

/// An operation rounded to nearest, with the modifiers that most instructions have: each set of them
/// has a loop of its own.
macro_rules! nearest {
    ($mode:expr, $function:ident($cx:expr, $i:expr)) => {
        match ($mode.ftz, $mode.sat) {
            (false, false) => $function::<false, false>($cx, $i),
            (false, true) => $function::<false, true>($cx, $i),
            (true, false) => $function::<true, false>($cx, $i),
            (true, true) => $function::<true, true>($cx, $i),
        }
    };
}

/// A result of an operation with these modifiers.
#[inline(always)]
fn finish<const FTZ: bool, const SAT: bool>(x: f32) -> u32 {
    let result = flush_if(FTZ, bits(x));
    if SAT { saturate(result) } else { result }
}

/// A source of an operation with these modifiers.
#[inline(always)]
fn source<const FTZ: bool>(bits: u32) -> f32 {
    f32::from_bits(flush_if(FTZ, bits))
}

#[inline(always)]
pub fn add(cx: &mut Cx<'_>, i: &Inst, mode: FloatMode) {
    if mode.round == Round::Nearest {
        return nearest!(mode, add_nearest(cx, i));
    }
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    cx.map_ab(i, |a, b| {
        let [a, b] = [sa.apply(a), sb.apply(b)].map(|x| f32::from_bits(mode.source(x)));
        let sum = exact::fma(a.into(), 1.0, b.into(), exact::F32, mode.round);
        mode.result(sum as u32)
    });
}

#[inline(always)]
fn add_nearest<const FTZ: bool, const SAT: bool>(cx: &mut Cx<'_>, i: &Inst) {
    if i.neg | i.abs == 0 {
        return cx.map_ab(i, |a, b| {
            finish::<FTZ, SAT>(source::<FTZ>(a) + source::<FTZ>(b))
        });
    }
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    cx.map_ab(i, |a, b| {
        finish::<FTZ, SAT>(source::<FTZ>(sa.apply(a)) + source::<FTZ>(sb.apply(b)))
    });
}

#[inline(always)]
pub fn mul(cx: &mut Cx<'_>, i: &Inst, mode: FloatMode, scale: i8) {
    if mode.round == Round::Nearest && !mode.fmz && scale == 0 {
        return nearest!(mode, mul_nearest(cx, i));
    }
    let flip = Sign::of(i, 0).flip;
    let factor = f64::from_bits(((1023 + i64::from(scale)) as u64) << 52);
    cx.map_ab(i, |a, b| {
        let [a, b] = [a ^ flip, b].map(|x| f32::from_bits(mode.source(x)));
        let zero = mode.fmz && (a == 0.0 || b == 0.0);
        // Exact in double precision; what rounds is the way back.
        let product = f64::from(a) * f64::from(b) * factor;
        let product = match mode.round {
            Round::Nearest => (product as f32).to_bits(),
            round => exact::narrow(product, exact::F32, round) as u32,
        };
        mode.result(if zero { 0 } else { product })
    });
}

#[inline(always)]
fn mul_nearest<const FTZ: bool, const SAT: bool>(cx: &mut Cx<'_>, i: &Inst) {
    let flip = Sign::of(i, 0).flip;
    cx.map_ab(i, |a, b| {
        finish::<FTZ, SAT>(source::<FTZ>(a ^ flip) * source::<FTZ>(b))
    });
}

#[inline(always)]
pub fn fma(cx: &mut Cx<'_>, i: &Inst, mode: FloatMode) {
    if mode.round == Round::Nearest && !mode.fmz {
        return nearest!(mode, fma_nearest(cx, i));
    }
    let (flip_a, flip_c) = (Sign::of(i, 0).flip, Sign::of(i, 2).flip);
    cx.map_abc(i, |a, b, c| {
        let [a, b, c] = [a ^ flip_a, b, c ^ flip_c].map(|x| f32::from_bits(mode.source(x)));
        // A product that is 0 by decree leaves the addend.
        let zero = mode.fmz && (a == 0.0 || b == 0.0);
        let a = if zero { 0.0 } else { a };
        let b = if zero { 0.0 } else { b };
        let sum = match mode.round {
            Round::Nearest => a.mul_add(b, c).to_bits(),
            round => exact::fma(a.into(), b.into(), c.into(), exact::F32, round) as u32,
        };
        mode.result(sum)
    });
}

#[inline(always)]
fn fma_nearest<const FTZ: bool, const SAT: bool>(cx: &mut Cx<'_>, i: &Inst) {
    if i.neg == 0 {
        return cx.map_abc(i, |a, b, c| {
            finish::<FTZ, SAT>(source::<FTZ>(a).mul_add(source::<FTZ>(b), source::<FTZ>(c)))
        });
    }
    let (flip_a, flip_c) = (Sign::of(i, 0).flip, Sign::of(i, 2).flip);
    cx.map_abc(i, |a, b, c| {
        let (a, b) = (source::<FTZ>(a ^ flip_a), source::<FTZ>(b));
        finish::<FTZ, SAT>(a.mul_add(b, source::<FTZ>(c ^ flip_c)))
    });
}

/// The lesser or greater of two numbers, by lane. NaN loses, and -0 is less than 0.
#[inline(always)]
pub fn min_max(cx: &mut Cx<'_>, i: &Inst, min: u32, ftz: bool) {
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    let (a, b) = (cx.row(i.src[0]), cx.row(i.src[1]));
    let out = map(|lane| {
        let (a, b) = (
            flush_if(ftz, sa.apply(a[lane])),
            flush_if(ftz, sb.apply(b[lane])),
        );
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        // Zeros of both signs compare equal: the bits decide.
        let less = x < y || (x == y && a & SIGN > b & SIGN);
        let want_less = min & 1 << lane != 0;
        let chosen = if less == want_less { a } else { b };
        let chosen = if x.is_nan() { b } else { chosen };
        let chosen = if y.is_nan() { a } else { chosen };
        if x.is_nan() && y.is_nan() {
            NAN
        } else {
            chosen
        }
    });
    cx.write(i.dst, &out);
}

/// Lanes where a and b compare as the condition says.
#[inline(always)]
pub fn set(cx: &Cx<'_>, i: &Inst, cond: Condition, ftz: bool) -> u32 {
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    let (a, b) = (cx.row(i.src[0]), cx.row(i.src[1]));
    let pair = |lane: usize| {
        let a = flush_if(ftz, sa.apply(a[lane]));
        let b = flush_if(ftz, sb.apply(b[lane]));
        (f32::from_bits(a), f32::from_bits(b))
    };
    compare_with(cond, pair)
}

/// As [`Condition`] says, relation by relation: a loop for each, without a branch in it.
#[inline(always)]
pub fn compare_with<T: PartialOrd + Copy>(cond: Condition, pair: impl Fn(usize) -> (T, T)) -> u32 {
    let lt = || {
        mask_of(|lane| {
            let (a, b) = pair(lane);
            a < b
        })
    };
    let eq = || {
        mask_of(|lane| {
            let (a, b) = pair(lane);
            a == b
        })
    };
    let gt = || {
        mask_of(|lane| {
            let (a, b) = pair(lane);
            a > b
        })
    };
    let le = || {
        mask_of(|lane| {
            let (a, b) = pair(lane);
            a <= b
        })
    };
    let ge = || {
        mask_of(|lane| {
            let (a, b) = pair(lane);
            a >= b
        })
    };
    let ordered = || lt() | ge();
    match cond.0 & 0xf {
        0x0 => 0,
        0x1 => lt(),
        0x2 => eq(),
        0x3 => le(),
        0x4 => gt(),
        0x5 => lt() | gt(),
        0x6 => ge(),
        0x7 => ordered(),
        0x8 => !ordered(),
        0x9 => !ge(),
        0xa => !(lt() | gt()),
        0xb => !gt(),
        0xc => !le(),
        0xd => !eq(),
        0xe => !lt(),
        _ => u32::MAX,
    }
}

/// a or b, by how c compares with 0.
#[inline(always)]
pub fn slct(cx: &mut Cx<'_>, i: &Inst, cond: Condition, ftz: bool) {
    let c = cx.row(i.src[2]);
    let first = compare_with(cond, |lane| (f32::from_bits(flush_if(ftz, c[lane])), 0f32));
    cx.select(i, first);
}

/// a of another lane of the quad, combined with b: `ops` has two bits for each lane of a quad, the
/// first lane's on top.
///
/// Source: Mesa `nv50_ir_emit_nvc0.cpp emitQUADOP`, `nv50_ir_lowering_nvc0.cpp handleManualTXD`;
/// ENV `envydis/gf100.c tabqs1, tabqop0`.
#[inline(always)]
pub fn quad_op(cx: &mut Cx<'_>, i: &Inst, ops: u8, source: u8, mode: FloatMode) {
    let (a, b) = (cx.row(i.src[0]), cx.row(i.src[1]));
    let out = map(|lane| {
        let from = match source {
            0..=3 => lane & !3 | usize::from(source),
            4 => lane ^ 1,
            _ => lane ^ 2,
        };
        let (x, y) = (mode.source(a[from]), mode.source(b[lane]));
        let (x, y) = match ops >> (6 - 2 * (lane & 3)) & 3 {
            0 => (x, y),
            1 => (x ^ SIGN, y),
            2 => (x, y ^ SIGN),
            // Moves b.
            _ => return b[lane],
        };
        let sum = exact::fma(
            f32::from_bits(x).into(),
            1.0,
            f32::from_bits(y).into(),
            exact::F32,
            mode.round,
        );
        mode.result(sum as u32)
    });
    cx.write(i.dst, &out);
}
