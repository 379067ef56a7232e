//! Integers, bits and logic.

use super::{Cx, Inst, single::compare_with};
use crate::sm::{
    decode::{AddOp, Condition, LopOp, MinMaxPart},
    lanes::{LANES, map, mask_of},
    warp::Flags,
};

/// What an addition adds: the operands, complemented to be subtracted, and a carry.
///
/// Source: ENV `docs/hw/graph/tesla/cuda/int.rst`.
#[derive(Clone, Copy)]
struct Adder {
    flip_a: u32,
    flip_b: u32,
    carry: u32,
}

impl Adder {
    #[inline(always)]
    fn new(op: AddOp) -> Self {
        let (flip_a, flip_b, carry) = match op {
            AddOp::Add => (0, 0, 0),
            AddOp::Sub => (0, !0, 1),
            AddOp::SubReverse => (!0, 0, 1),
            AddOp::AddPlusOne => (0, 0, 1),
        };
        Self {
            flip_a,
            flip_b,
            carry,
        }
    }
}

/// Adds; `carry_in` is a lane mask that replaces the operation's own carry.
#[inline(always)]
fn add_lanes(
    cx: &mut Cx<'_>,
    i: &Inst,
    op: AddOp,
    sat: bool,
    carry_in: Option<u32>,
    a: &[u32; LANES],
    b: &[u32; LANES],
) {
    let adder = Adder::new(op);
    if !sat && !i.set_cc {
        let out = match carry_in {
            None => map(|lane| {
                (a[lane] ^ adder.flip_a)
                    .wrapping_add(b[lane] ^ adder.flip_b)
                    .wrapping_add(adder.carry)
            }),
            Some(carry) => map(|lane| {
                (a[lane] ^ adder.flip_a)
                    .wrapping_add(b[lane] ^ adder.flip_b)
                    .wrapping_add(carry >> lane & 1)
            }),
        };
        return cx.write(i.dst, &out);
    }
    let carry = match carry_in {
        Some(carry) => carry,
        None if adder.carry != 0 => u32::MAX,
        None => 0,
    };
    let sums = map(|lane| {
        let (a, b) = (a[lane] ^ adder.flip_a, b[lane] ^ adder.flip_b);
        u64::from(a) + u64::from(b) + u64::from(carry >> lane & 1)
    });
    let out = map(|lane| {
        let sum = sums[lane] as u32;
        let (x, y) = (a[lane] ^ adder.flip_a, b[lane] ^ adder.flip_b);
        // Both operands have the sign that the sum has not.
        let overflow = ((x ^ sum) & (y ^ sum)) >> 31 != 0;
        match sat && overflow {
            true => (x as i32 >> 31) as u32 ^ 0x7fff_ffff,
            false => sum,
        }
    });
    let carried = mask_of(|lane| sums[lane] >> 32 != 0);
    cx.write(i.dst, &out);
    if i.set_cc {
        cx.set_flags(&out, carried);
    }
}

impl Cx<'_> {
    /// Leaves a result's flags in the condition code.
    #[inline(always)]
    fn set_flags(&mut self, result: &[u32; LANES], carry: u32) {
        let zero = mask_of(|lane| result[lane] == 0);
        let merge = |old: u32, new: u32| old & !self.mask | new & self.mask;
        *self.flags = Flags {
            zero: merge(self.flags.zero, zero),
            carry: merge(self.flags.carry, carry),
        };
    }
}

#[inline(always)]
pub fn add(cx: &mut Cx<'_>, i: &Inst, op: AddOp, sat: bool, carry_in: bool) {
    if op == AddOp::Add && !sat && !carry_in && !i.set_cc {
        return cx.map_ab(i, u32::wrapping_add);
    }
    let carry = carry_in.then_some(cx.flags.carry);
    let (a, b) = (*cx.row(i.src[0]), *cx.row(i.src[1]));
    add_lanes(cx, i, op, sat, carry, &a, &b);
}

#[inline(always)]
fn product(high: bool, signed_a: bool, signed_b: bool, a: u32, b: u32) -> u32 {
    if !high {
        return a.wrapping_mul(b);
    }
    let unsigned = ((u64::from(a) * u64::from(b)) >> 32) as u32;
    // A negative operand counts 2^32 less than its bits.
    let less_a = if signed_a {
        (a as i32 >> 31) as u32 & b
    } else {
        0
    };
    let less_b = if signed_b {
        (b as i32 >> 31) as u32 & a
    } else {
        0
    };
    unsigned.wrapping_sub(less_a).wrapping_sub(less_b)
}

#[inline(always)]
pub fn mul(cx: &mut Cx<'_>, i: &Inst, high: bool, signed_a: bool, signed_b: bool) {
    match high {
        false => cx.map_ab(i, u32::wrapping_mul),
        true => cx.map_ab(i, |a, b| product(true, signed_a, signed_b, a, b)),
    }
}

/// How a multiplication is followed by an addition.
#[derive(Clone, Copy)]
pub struct Mad {
    pub high: bool,
    pub signed_a: bool,
    pub signed_b: bool,
    pub op: AddOp,
    pub sat: bool,
    pub carry_in: bool,
}

#[inline(always)]
pub fn mad(cx: &mut Cx<'_>, i: &Inst, mad: Mad) {
    let plain = mad.op == AddOp::Add && !mad.sat && !mad.carry_in && !i.set_cc;
    if plain && !mad.high {
        return cx.map_abc(i, |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    }
    let (a, b, c) = (cx.row(i.src[0]), cx.row(i.src[1]), *cx.row(i.src[2]));
    let products = map(|lane| product(mad.high, mad.signed_a, mad.signed_b, a[lane], b[lane]));
    let carry = mad.carry_in.then_some(cx.flags.carry);
    add_lanes(cx, i, mad.op, mad.sat, carry, &products, &c);
}

#[inline(always)]
pub fn shl_add(cx: &mut Cx<'_>, i: &Inst, shift: u8, op: AddOp) {
    let (a, b) = (cx.row(i.src[0]), *cx.row(i.src[1]));
    let shifted = map(|lane| a[lane] << (shift & 31));
    add_lanes(cx, i, op, false, None, &shifted, &b);
}

#[inline(always)]
pub fn sad(cx: &mut Cx<'_>, i: &Inst, signed: bool) {
    match signed {
        true => cx.map_abc(i, |a, b, c| (a as i32).abs_diff(b as i32).wrapping_add(c)),
        false => cx.map_abc(i, |a, b, c| a.abs_diff(b).wrapping_add(c)),
    }
}

/// What makes an unsigned comparison of signed numbers right.
#[inline(always)]
fn bias(signed: bool) -> u32 {
    if signed { 1 << 31 } else { 0 }
}

/// The lesser or greater. Of 64-bit numbers the high words come first and leave the outcome in the
/// condition code, the low words follow.
#[inline(always)]
pub fn min_max(cx: &mut Cx<'_>, i: &Inst, min: u32, signed: bool, part: MinMaxPart) {
    // The high word has the sign.
    let bias = bias(signed && part != MinMaxPart::Low);
    let (a, b) = (*cx.row(i.src[0]), *cx.row(i.src[1]));
    let mut less = mask_of(|lane| a[lane] ^ bias < b[lane] ^ bias);
    if part == MinMaxPart::Low {
        less = cx.flags.zero & less | !cx.flags.zero & cx.flags.carry;
    }
    let first = !(less ^ min);
    let out = map(|lane| {
        if first & 1 << lane != 0 {
            a[lane]
        } else {
            b[lane]
        }
    });
    cx.write(i.dst, &out);
    if i.set_cc {
        let equal = mask_of(|lane| a[lane] == b[lane]);
        let merge = |old: u32, new: u32| old & !cx.mask | new & cx.mask;
        *cx.flags = Flags {
            zero: merge(cx.flags.zero, equal),
            carry: merge(cx.flags.carry, less),
        };
    }
}

/// Lanes where a and b compare as the condition says. With carry-in a and b are the high words of
/// numbers whose low words have been subtracted.
#[inline(always)]
pub fn set(cx: &Cx<'_>, i: &Inst, cond: Condition, signed: bool, carry_in: bool) -> u32 {
    let bias = bias(signed);
    let (a, b) = (cx.row(i.src[0]), cx.row(i.src[1]));
    // Bit 3, unordered, never happens to integers; all four together are true nevertheless.
    let ordered = Condition(if cond.0 == 0xf { 7 } else { cond.0 & 7 });
    if !carry_in {
        return match ordered.0 {
            7 => u32::MAX,
            _ => compare_with(ordered, |lane| (a[lane] ^ bias, b[lane] ^ bias)),
        };
    }
    let equal = mask_of(|lane| a[lane] == b[lane]);
    let less = mask_of(|lane| a[lane] ^ bias < b[lane] ^ bias) | equal & !cx.flags.carry;
    let equal = equal & cx.flags.zero;
    let greater = !(less | equal);
    let part = |bit: u8, mask: u32| if ordered.0 >> bit & 1 != 0 { mask } else { 0 };
    part(0, less) | part(1, equal) | part(2, greater)
}

/// a or b, by how c compares with 0.
#[inline(always)]
pub fn slct(cx: &mut Cx<'_>, i: &Inst, cond: Condition, signed: bool) {
    let bias = bias(signed);
    let c = cx.row(i.src[2]);
    let first = match cond.0 & 7 {
        7 => u32::MAX,
        cond => compare_with(Condition(cond), |lane| (c[lane] ^ bias, bias)),
    };
    cx.select(i, first);
}

#[inline(always)]
pub fn shl(cx: &mut Cx<'_>, i: &Inst, wrap: bool) {
    match wrap {
        true => cx.map_ab(i, |a, b| a << (b & 31)),
        false => cx.map_ab(i, |a, b| {
            let shifted = a << (b & 31);
            if b > 31 { 0 } else { shifted }
        }),
    }
}

#[inline(always)]
pub fn shr(cx: &mut Cx<'_>, i: &Inst, signed: bool, wrap: bool, reverse: bool) {
    if reverse {
        return cx.map_ab(i, |a, b| shift_right(a.reverse_bits(), b, signed, wrap));
    }
    match signed {
        true => cx.map_ab(i, |a, b| shift_right(a, b, true, wrap)),
        false => cx.map_ab(i, |a, b| shift_right(a, b, false, wrap)),
    }
}

#[inline(always)]
fn shift_right(a: u32, b: u32, signed: bool, wrap: bool) -> u32 {
    let by = b & 31;
    let shifted = if signed {
        (a as i32 >> by) as u32
    } else {
        a >> by
    };
    let all = if signed { (a as i32 >> 31) as u32 } else { 0 };
    if !wrap && b > 31 { all } else { shifted }
}

#[inline(always)]
pub fn lop(cx: &mut Cx<'_>, i: &Inst, op: LopOp) {
    let flip = |n: u8| if i.neg >> n & 1 != 0 { !0u32 } else { 0 };
    let (fa, fb) = (flip(0), flip(1));
    match op {
        LopOp::And => cx.map_ab(i, |a, b| (a ^ fa) & (b ^ fb)),
        LopOp::Or => cx.map_ab(i, |a, b| (a ^ fa) | (b ^ fb)),
        LopOp::Xor => cx.map_ab(i, |a, b| a ^ fa ^ b ^ fb),
        LopOp::PassB => cx.map_ab(i, |_, b| b ^ fb),
    }
    if i.set_cc {
        let result = cx.regs[usize::from(i.dst)].0;
        cx.set_flags(&result, 0);
    }
}

/// A field of a: position in bits 0-7 of b, length in bits 8-15.
#[inline(always)]
pub fn bfe(cx: &mut Cx<'_>, i: &Inst, signed: bool, reverse: bool) {
    cx.map_ab(i, |a, b| {
        let a = if reverse { a.reverse_bits() } else { a };
        let (position, length) = (b & 0xff, b >> 8 & 0xff);
        // What is beyond bit 31 reads as the sign, or as 0.
        let wide = if signed {
            i64::from(a as i32) as u64
        } else {
            u64::from(a)
        };
        let shifted = if position > 31 {
            (wide as i64 >> 32) as u64
        } else {
            (wide as i64 >> (position & 31)) as u64
        };
        let unused = 64 - length.min(32);
        let field = if length == 0 {
            0
        } else if signed {
            (((shifted << (unused & 63)) as i64) >> (unused & 63)) as u64
        } else {
            shifted << (unused & 63) >> (unused & 63)
        };
        field as u32
    });
}

/// c with the low bits of a in the field that b describes.
#[inline(always)]
pub fn bfi(cx: &mut Cx<'_>, i: &Inst) {
    cx.map_abc(i, |a, b, c| {
        let (position, length) = (b & 0xff, b >> 8 & 0xff);
        let ones = ((1u64 << length.min(32)) - 1) << (position & 31);
        let ones = if position > 31 { 0 } else { ones as u32 };
        let shifted = a << (position & 31);
        c & !ones | shifted & ones
    });
}

#[inline(always)]
pub fn bfind(cx: &mut Cx<'_>, i: &Inst, signed: bool, shift_amount: bool) {
    let flip = if i.neg >> 1 & 1 != 0 { !0u32 } else { 0 };
    cx.map_b(i, |b| {
        let b = b ^ flip;
        // The highest bit that differs from the sign.
        let b = if signed {
            b ^ (b as i32 >> 31) as u32
        } else {
            b
        };
        let zeros = b.leading_zeros();
        match (b == 0, shift_amount) {
            (true, _) => u32::MAX,
            (false, true) => zeros,
            (false, false) => 31 - zeros,
        }
    });
}

#[inline(always)]
pub fn popc(cx: &mut Cx<'_>, i: &Inst) {
    let flip = |n: u8| if i.neg >> n & 1 != 0 { !0u32 } else { 0 };
    let (fa, fb) = (flip(0), flip(1));
    cx.map_ab(i, |a, b| ((a ^ fa) & (b ^ fb)).count_ones());
}

/// Bytes of c:a, chosen by b.
///
/// Source: the PTX ISA's `prmt`, of which this is the machine's form.
#[inline(always)]
pub fn prmt(cx: &mut Cx<'_>, i: &Inst, mode: u8) {
    cx.map_abc(i, |a, b, c| {
        let pool = u64::from(c) << 32 | u64::from(a);
        let n = b & 3;
        let byte = |n: u32| (pool >> (8 * (n & 7))) as u32 & 0xff;
        let mut out = 0;
        for k in 0..4u32 {
            let chosen = match mode {
                0 => {
                    let selector = b >> (4 * k) & 0xf;
                    let chosen = byte(selector);
                    // The byte's sign, all over.
                    if selector & 8 != 0 {
                        if chosen & 0x80 != 0 { 0xff } else { 0 }
                    } else {
                        chosen
                    }
                }
                // Forward and backward from byte n.
                1 => byte(n + k),
                2 => byte(n.wrapping_sub(k)),
                // Byte n everywhere.
                3 => byte(n),
                // Clamped from the left and from the right.
                4 => byte(n.max(k)),
                5 => byte(n.min(k)),
                // Half n & 1 twice.
                _ => byte((n & 1) * 2 + (k & 1)),
            };
            out |= chosen << (8 * k);
        }
        out
    });
}
