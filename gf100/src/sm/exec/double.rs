//! Double precision. There is no flushing and no saturation.

use super::{Cx, Inst, single::compare_with};
use crate::sm::{
    decode::{Condition, Round},
    exact,
    lanes::map,
};

/// The one NaN that arithmetic yields.
pub const NAN: u64 = 0xfff8_0000_0000_0000;
const SIGN: u64 = 1 << 63;

#[inline(always)]
pub fn canonical(bits: u64) -> u64 {
    if bits & !SIGN > 0x7ff0_0000_0000_0000 {
        NAN
    } else {
        bits
    }
}

/// How the sign bits of a source change.
#[derive(Clone, Copy)]
pub struct Sign {
    keep: u64,
    flip: u64,
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
    pub fn apply(self, bits: u64) -> f64 {
        f64::from_bits(bits & self.keep ^ self.flip)
    }
}

#[inline(always)]
pub fn add(cx: &mut Cx<'_>, i: &Inst, round: Round) {
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    let (a, b) = (cx.pair(i.src[0]), cx.pair(i.src[1]));
    let out = match round {
        Round::Nearest => {
            map(|lane| canonical((sa.apply(a.get(lane)) + sb.apply(b.get(lane))).to_bits()))
        }
        round => map(|lane| {
            let (a, b) = (sa.apply(a.get(lane)), sb.apply(b.get(lane)));
            canonical(exact::fma(a, 1.0, b, exact::F64, round))
        }),
    };
    cx.write_pair(i.dst, &out);
}

#[inline(always)]
pub fn mul(cx: &mut Cx<'_>, i: &Inst, round: Round) {
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    let (a, b) = (cx.pair(i.src[0]), cx.pair(i.src[1]));
    let out = match round {
        Round::Nearest => {
            map(|lane| canonical((sa.apply(a.get(lane)) * sb.apply(b.get(lane))).to_bits()))
        }
        round => map(|lane| {
            let (a, b) = (sa.apply(a.get(lane)), sb.apply(b.get(lane)));
            // The zero that leaves a product of zeros its sign.
            let zero = f64::from_bits((a.to_bits() ^ b.to_bits()) & SIGN);
            canonical(exact::fma(a, b, zero, exact::F64, round))
        }),
    };
    cx.write_pair(i.dst, &out);
}

#[inline(always)]
pub fn fma(cx: &mut Cx<'_>, i: &Inst, round: Round) {
    let [sa, sb, sc] = [0, 1, 2].map(|n| Sign::of(i, n));
    let [a, b, c] = i.src.map(|src| cx.pair(src));
    let sources = |lane| {
        (
            sa.apply(a.get(lane)),
            sb.apply(b.get(lane)),
            sc.apply(c.get(lane)),
        )
    };
    let out = match round {
        Round::Nearest => map(|lane| {
            let (a, b, c) = sources(lane);
            canonical(a.mul_add(b, c).to_bits())
        }),
        round => map(|lane| {
            let (a, b, c) = sources(lane);
            canonical(exact::fma(a, b, c, exact::F64, round))
        }),
    };
    cx.write_pair(i.dst, &out);
}

/// As [`super::single::min_max`].
#[inline(always)]
pub fn min_max(cx: &mut Cx<'_>, i: &Inst, min: u32) {
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    let (a, b) = (cx.pair(i.src[0]), cx.pair(i.src[1]));
    let out = map(|lane| {
        let (x, y) = (sa.apply(a.get(lane)), sb.apply(b.get(lane)));
        let less = x < y || (x == y && x.is_sign_negative() && !y.is_sign_negative());
        let want_less = min & 1 << lane != 0;
        let chosen = if less == want_less { x } else { y };
        let chosen = if x.is_nan() { y } else { chosen };
        let chosen = if y.is_nan() { x } else { chosen };
        canonical(chosen.to_bits())
    });
    cx.write_pair(i.dst, &out);
}

/// Lanes where a and b compare as the condition says.
#[inline(always)]
pub fn set(cx: &Cx<'_>, i: &Inst, cond: Condition) -> u32 {
    let (sa, sb) = (Sign::of(i, 0), Sign::of(i, 1));
    let (a, b) = (cx.pair(i.src[0]), cx.pair(i.src[1]));
    compare_with(cond, |lane| (sa.apply(a.get(lane)), sb.apply(b.get(lane))))
}
