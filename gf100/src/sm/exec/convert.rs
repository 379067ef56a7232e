//! Conversions.
//!
//! To integers: saturating, NaN is 0. Of narrow types the upper bits of the register are the sign
//! or 0. To half precision: the upper half of the register is 0.

use super::{
    Cx, Inst,
    double::{self, canonical},
    single::{self, NAN, flush_if, saturate},
};
use crate::sm::{
    decode::{FloatSize, IntSize, Round},
    exact::{self, Exact},
    lanes::{LANES, map},
};

/// The one NaN of half precision.
const NAN16: u32 = 0x7fff;

/// Modifiers of a conversion between floating-point formats.
#[derive(Clone, Copy)]
pub struct FloatToFloat {
    pub to: FloatSize,
    pub from: FloatSize,
    pub round: Round,
    pub integral: bool,
    pub half: u8,
    pub ftz: bool,
    pub sat: bool,
}

#[inline(always)]
fn integral(x: f32, round: Round) -> f32 {
    match round {
        Round::Nearest => x.round_ties_even(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
        Round::Zero => x.trunc(),
    }
}

#[inline(always)]
fn integral64(x: f64, round: Round) -> f64 {
    match round {
        Round::Nearest => x.round_ties_even(),
        Round::Down => x.floor(),
        Round::Up => x.ceil(),
        Round::Zero => x.trunc(),
    }
}

/// A source of single or half precision, as single.
#[inline(always)]
fn source32(cx: &Cx<'_>, i: &Inst, from: FloatSize, half: u8, ftz: bool) -> [u32; LANES] {
    let b = cx.row(i.src[1]);
    let sign = single::Sign::of(i, 1);
    match from {
        FloatSize::F16 => {
            let shift = 16 * u32::from(half);
            map(|lane| sign.apply(exact::f16_to_f32(b[lane] >> shift & 0xffff).to_bits()))
        }
        _ => map(|lane| flush_if(ftz, sign.apply(b[lane]))),
    }
}

#[inline(always)]
fn source64(cx: &Cx<'_>, i: &Inst) -> [f64; LANES] {
    let b = cx.pair(i.src[1]);
    let sign = double::Sign::of(i, 1);
    map(|lane| sign.apply(b.get(lane)))
}

#[inline(always)]
fn to_f16(bits: u32, round: Round) -> u32 {
    let x = f32::from_bits(bits);
    match x.is_nan() {
        true => NAN16,
        false => exact::narrow(x.into(), exact::F16, round) as u32,
    }
}

#[inline(always)]
fn canonical32(bits: u32) -> u32 {
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        NAN
    } else {
        bits
    }
}

#[inline(always)]
fn saturate64(bits: u64) -> u64 {
    let x = f64::from_bits(bits);
    match x > 0.0 {
        true => x.min(1.0).to_bits(),
        false => 0,
    }
}

#[inline(always)]
pub fn float_to_float(cx: &mut Cx<'_>, i: &Inst, cvt: FloatToFloat) {
    let FloatToFloat {
        to, from, round, ..
    } = cvt;
    if to == FloatSize::F64 {
        let source = match from {
            FloatSize::F64 => source64(cx, i),
            _ => {
                let source = source32(cx, i, from, cvt.half, cvt.ftz);
                map(|lane| f32::from_bits(source[lane]).into())
            }
        };
        let out = map(|lane| {
            let x = match cvt.integral {
                true => integral64(source[lane], round),
                false => source[lane],
            };
            let bits = canonical(x.to_bits());
            if cvt.sat { saturate64(bits) } else { bits }
        });
        return cx.write_pair(i.dst, &out);
    }
    // Rounded to single precision, if it is not already.
    let single = match from {
        FloatSize::F64 => {
            let source = source64(cx, i);
            map(|lane| match round {
                _ if cvt.integral => (integral64(source[lane], round) as f32).to_bits(),
                Round::Nearest => (source[lane] as f32).to_bits(),
                round => exact::narrow(source[lane], exact::F32, round) as u32,
            })
        }
        _ => source32(cx, i, from, cvt.half, cvt.ftz),
    };
    let out = map(|lane| {
        let bits = match cvt.integral && from != FloatSize::F64 {
            true => integral(f32::from_bits(single[lane]), round).to_bits(),
            false => single[lane],
        };
        let bits = flush_if(cvt.ftz, canonical32(bits));
        if cvt.sat { saturate(bits) } else { bits }
    });
    match to {
        FloatSize::F16 => {
            let out = map(|lane| to_f16(out[lane], round));
            cx.write(i.dst, &out);
        }
        _ => cx.write(i.dst, &out),
    }
}

/// The least and the greatest number of a format that is at most 32 bits wide.
#[inline(always)]
fn limits(size: IntSize) -> (i64, i64) {
    let bits = 8u32 << size.log2;
    match size.signed {
        true => (-1 << (bits - 1), (1 << (bits - 1)) - 1),
        false => (0, (1i64 << bits) - 1),
    }
}

#[inline(always)]
pub fn float_to_int(
    cx: &mut Cx<'_>,
    i: &Inst,
    to: IntSize,
    from: FloatSize,
    round: Round,
    half: u8,
    ftz: bool,
) {
    if from == FloatSize::F64 || to.log2 == 3 {
        let source = match from {
            FloatSize::F64 => source64(cx, i),
            _ => {
                let source = source32(cx, i, from, half, ftz);
                map(|lane| f32::from_bits(source[lane]).into())
            }
        };
        if to.log2 == 3 {
            let out = map(|lane| {
                let x = integral64(source[lane], round);
                if to.signed { x as i64 as u64 } else { x as u64 }
            });
            return cx.write_pair(i.dst, &out);
        }
        let (least, greatest) = limits(to);
        let out = map(|lane| {
            let x = integral64(source[lane], round) as i64;
            x.clamp(least, greatest) as u32
        });
        return cx.write(i.dst, &out);
    }
    let source = source32(cx, i, from, half, ftz);
    let out = match (to.log2, to.signed) {
        (2, true) => map(|lane| integral(f32::from_bits(source[lane]), round) as i32 as u32),
        (2, false) => map(|lane| integral(f32::from_bits(source[lane]), round) as u32),
        _ => {
            let (least, greatest) = limits(to);
            map(|lane| {
                let x = integral(f32::from_bits(source[lane]), round) as i32;
                x.clamp(least as i32, greatest as i32) as u32
            })
        }
    };
    cx.write(i.dst, &out);
}

/// An integer source of up to 32 bits with its modifiers, widened.
#[inline(always)]
fn source_int(cx: &Cx<'_>, i: &Inst, from: IntSize, byte: u8) -> [i64; LANES] {
    let b = cx.row(i.src[1]);
    let (neg, abs) = (i.neg >> 1 & 1 != 0, i.abs >> 1 & 1 != 0);
    let shift = match from.log2 {
        0 => 8 * u32::from(byte),
        // Halves are counted in bytes.
        1 => 8 * (u32::from(byte) & 2),
        _ => 0,
    };
    let unused = 32 - (8u32 << from.log2.min(2));
    map(|lane| {
        let top = b[lane] >> shift << unused;
        let x = match from.signed {
            true => i64::from(top as i32 >> unused),
            false => i64::from(top >> unused),
        };
        let x = if abs { x.abs() } else { x };
        if neg { -x } else { x }
    })
}

#[inline(always)]
pub fn int_to_float(
    cx: &mut Cx<'_>,
    i: &Inst,
    to: FloatSize,
    from: IntSize,
    round: Round,
    byte: u8,
) {
    if from.log2 < 3 {
        if to == FloatSize::F32 && round == Round::Nearest && from.log2 == 2 && i.neg | i.abs == 0 {
            return match from.signed {
                true => cx.map_b(i, |b| (b as i32 as f32).to_bits()),
                false => cx.map_b(i, |b| (b as f32).to_bits()),
            };
        }
        let source = source_int(cx, i, from, byte);
        // Exact in double precision.
        return match to {
            FloatSize::F64 => {
                let out = map(|lane| (source[lane] as f64).to_bits());
                cx.write_pair(i.dst, &out);
            }
            FloatSize::F32 => {
                let out = map(|lane| match round {
                    Round::Nearest => (source[lane] as f64 as f32).to_bits(),
                    round => exact::narrow(source[lane] as f64, exact::F32, round) as u32,
                });
                cx.write(i.dst, &out);
            }
            FloatSize::F16 => {
                let out = map(|lane| exact::narrow(source[lane] as f64, exact::F16, round) as u32);
                cx.write(i.dst, &out);
            }
        };
    }
    let b = cx.pair(i.src[1]);
    let (neg, abs) = (i.neg >> 1 & 1 != 0, i.abs >> 1 & 1 != 0);
    let format = match to {
        FloatSize::F16 => exact::F16,
        FloatSize::F32 => exact::F32,
        FloatSize::F64 => exact::F64,
    };
    let out = map(|lane| {
        let x = b.get(lane);
        let below = from.signed && (x as i64) < 0;
        let magnitude = if below { x.wrapping_neg() } else { x };
        let negative = (below && !abs) != neg;
        match magnitude {
            0 => 0,
            _ => Exact::from_int(negative, magnitude).round(format, round),
        }
    });
    match to {
        FloatSize::F64 => cx.write_pair(i.dst, &out),
        _ => cx.write(i.dst, &map(|lane| out[lane] as u32)),
    }
}

#[inline(always)]
pub fn int_to_int(cx: &mut Cx<'_>, i: &Inst, to: IntSize, from: IntSize, byte: u8, sat: bool) {
    let source = source_int(cx, i, from, byte);
    let (least, greatest) = limits(to);
    let unused = 32 - (8u32 << to.log2.min(2));
    let out = map(|lane| match sat {
        true => source[lane].clamp(least, greatest) as u32,
        false => {
            let top = (source[lane] as u32) << unused;
            match to.signed {
                true => (top as i32 >> unused) as u32,
                false => top >> unused,
            }
        }
    });
    cx.write(i.dst, &out);
}
