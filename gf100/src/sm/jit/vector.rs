//! What the host computes for a group of lanes.

use cranelift_codegen::ir::{
    Endianness, InstBuilder, MemFlagsData, Type, Value,
    condcodes::{FloatCC, IntCC},
    types::{F32X4, I32, I32X4},
};

use super::{frame::GROUP, group::Mask, translate::Translator};
use crate::sm::decode::{Condition, IntSize, Round};

/// The sign of a number.
pub const SIGN: u32 = 1 << 31;
/// The bits of its exponent.
const EXPONENT: u32 = 0x7f80_0000;
/// The one NaN that arithmetic yields.
pub const NAN: u32 = 0x7fff_ffff;
/// 1.
pub const ONE: u32 = 1f32.to_bits();

/// Which way a shift goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    Left,
    Right,
    Signed,
}

impl Translator<'_> {
    /// All lanes of a group with the same value.
    pub fn splat(&mut self, value: u32) -> Value {
        self.vector([value; GROUP])
    }

    /// A constant for each lane of a group.
    pub fn vector(&mut self, values: [u32; GROUP]) -> Value {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let constant = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(I32X4, constant)
    }

    pub fn cast(&mut self, to: Type, x: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(to, flags, x)
    }

    /// Bits as numbers.
    pub fn float(&mut self, x: Value) -> Value {
        self.cast(F32X4, x)
    }

    /// Numbers as bits.
    pub fn bits(&mut self, x: Value) -> Value {
        self.cast(I32X4, x)
    }

    /// The bits of numbers, with the one NaN.
    pub fn canonical(&mut self, x: Value) -> Value {
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, x, x);
        let (x, nan) = (self.bits(x), self.splat(NAN));
        self.b.ins().blendv(is_nan, nan, x)
    }

    /// A subnormal becomes 0 of its sign.
    pub fn flush(&mut self, x: Value) -> Value {
        let (exponent, sign) = (self.splat(EXPONENT), self.splat(SIGN));
        let exponent = self.b.ins().band(x, exponent);
        let none = self.splat(0);
        let small = self.b.ins().icmp(IntCC::Equal, exponent, none);
        let zero = self.b.ins().band(x, sign);
        self.b.ins().blendv(small, zero, x)
    }

    /// Clamped to 0..1; NaN is 0, and so is -0.
    pub fn saturate(&mut self, x: Value) -> Value {
        let (zero, one) = (self.splat(0), self.splat(ONE));
        let (number, nothing, limit) = (self.float(x), self.float(zero), self.float(one));
        let positive = self.b.ins().fcmp(FloatCC::GreaterThan, number, nothing);
        let below = self.b.ins().fcmp(FloatCC::LessThan, number, limit);
        let clamped = self.b.ins().blendv(below, x, one);
        self.b.ins().band(positive, clamped)
    }

    pub fn integral(&mut self, x: Value, round: Round) -> Value {
        match round {
            Round::Nearest => self.b.ins().nearest(x),
            Round::Down => self.b.ins().floor(x),
            Round::Up => self.b.ins().ceil(x),
            Round::Zero => self.b.ins().trunc(x),
        }
    }

    /// Where numbers compare as the condition says.
    pub fn compare_floats(&mut self, cond: Condition, a: Value, b: Value) -> Mask {
        let cc = match cond.0 & 0xf {
            0x0 => return Mask::None,
            0x1 => FloatCC::LessThan,
            0x2 => FloatCC::Equal,
            0x3 => FloatCC::LessThanOrEqual,
            0x4 => FloatCC::GreaterThan,
            0x6 => FloatCC::GreaterThanOrEqual,
            0x7 => FloatCC::Ordered,
            0x8 => FloatCC::Unordered,
            0x9 => FloatCC::UnorderedOrLessThan,
            0xb => FloatCC::UnorderedOrLessThanOrEqual,
            0xc => FloatCC::UnorderedOrGreaterThan,
            0xd => FloatCC::NotEqual,
            0xe => FloatCC::UnorderedOrGreaterThanOrEqual,
            0xf => return Mask::All,
            // The host's comparisons have no such kind.
            cond => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, a, b);
                let greater = self.b.ins().fcmp(FloatCC::GreaterThan, a, b);
                let differ = self.b.ins().bor(less, greater);
                return Mask::Some(match cond {
                    0x5 => differ,
                    _ => self.b.ins().bnot(differ),
                });
            }
        };
        Mask::Some(self.b.ins().fcmp(cc, a, b))
    }

    /// Where integers compare as bits 0-2 of the condition say.
    pub fn compare_integers(&mut self, cond: u8, signed: bool, a: Value, b: Value) -> Mask {
        let cc = match (cond, signed) {
            (0, _) => return Mask::None,
            (1, true) => IntCC::SignedLessThan,
            (1, false) => IntCC::UnsignedLessThan,
            (2, _) => IntCC::Equal,
            (3, true) => IntCC::SignedLessThanOrEqual,
            (3, false) => IntCC::UnsignedLessThanOrEqual,
            (4, true) => IntCC::SignedGreaterThan,
            (4, false) => IntCC::UnsignedGreaterThan,
            (5, _) => IntCC::NotEqual,
            (6, true) => IntCC::SignedGreaterThanOrEqual,
            (6, false) => IntCC::UnsignedGreaterThanOrEqual,
            _ => return Mask::All,
        };
        Mask::Some(self.b.ins().icmp(cc, a, b))
    }

    /// A shift of all lanes, or of one, by the low five bits of a number.
    pub fn shift(&mut self, way: Shift, x: Value, by: Value) -> Value {
        match way {
            Shift::Left => self.b.ins().ishl(x, by),
            Shift::Right => self.b.ins().ushr(x, by),
            Shift::Signed => self.b.ins().sshr(x, by),
        }
    }

    pub fn shift_by(&mut self, way: Shift, x: Value, by: u32) -> Value {
        let by = self.b.ins().iconst(I32, i64::from(by));
        self.shift(way, x, by)
    }

    /// The lowest part of a register, or for bytes and halves the one that begins at `byte`, widened.
    pub fn part(&mut self, x: Value, size: IntSize, byte: u8) -> Value {
        let from = match size.log2 {
            0 => 8 * u32::from(byte & 3),
            // Halves are counted in bytes.
            1 => 8 * u32::from(byte & 2),
            _ => return x,
        };
        let unused = 32 - (8 << size.log2);
        let way = if size.signed {
            Shift::Signed
        } else {
            Shift::Right
        };
        let top = self.shift_by(Shift::Left, x, unused - from);
        self.shift_by(way, top, unused)
    }

    /// Numbers within what a byte or a half holds.
    pub fn clamp(&mut self, x: Value, size: IntSize) -> Value {
        let bits = 8u32 << size.log2;
        let (least, greatest) = match size.signed {
            true => (-1i32 << (bits - 1), (1i32 << (bits - 1)) - 1),
            false => (0, (1i32 << bits) - 1),
        };
        let (least, greatest) = (self.splat(least as u32), self.splat(greatest as u32));
        let x = self.b.ins().smax(x, least);
        self.b.ins().smin(x, greatest)
    }

    /// The high words of unsigned products.
    pub fn high_product(&mut self, a: Value, b: Value) -> Value {
        let (a_low, b_low) = (self.b.ins().uwiden_low(a), self.b.ins().uwiden_low(b));
        let (a_high, b_high) = (self.b.ins().uwiden_high(a), self.b.ins().uwiden_high(b));
        let low = self.b.ins().imul(a_low, b_low);
        let high = self.b.ins().imul(a_high, b_high);
        self.words(low, high, [1, 3, 5, 7])
    }
}
