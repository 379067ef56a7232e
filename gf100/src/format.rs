//! Pixel formats of surfaces: how colours become bytes, and components numbers.
//!
//! Source: ENV `rnndb/g80_defs.xml` G80_SURFACE_FORMAT, G80_ZETA_FORMAT; the names say the
//! components from the least significant bit on.

/// What the bits of a component mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0 to 1.
    Unorm,
    /// -1 to 1.
    Snorm,
    /// An unsigned integer.
    Uint,
    /// A signed integer.
    Sint,
    /// A floating-point number of 32, 16, 11 or 10 bits.
    Float,
    /// 0 to 1, red, green and blue along the curve of sRGB.
    Srgb,
}

/// The layout of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Channels (0 red, 1 green, 2 blue, 3 alpha, 4 none) and their bits, from the lowest bit on.
    components: &'static [(u8, u8)],
    kind: Kind,
}

/// Red.
pub const R: u8 = 0;
/// Green.
pub const G: u8 = 1;
/// Blue.
pub const B: u8 = 2;
/// Alpha.
pub const A: u8 = 3;
/// Bits that nobody looks at.
pub const X: u8 = 4;

impl Format {
    /// The colour format with this number; `None` if the card knows none.
    pub const fn color(number: u32) -> Option<Self> {
        use Kind::{Float, Sint, Snorm, Srgb, Uint, Unorm};
        const RGBA32: &[(u8, u8)] = &[(R, 32), (G, 32), (B, 32), (A, 32)];
        const RGBX32: &[(u8, u8)] = &[(R, 32), (G, 32), (B, 32), (X, 32)];
        const RGBA16: &[(u8, u8)] = &[(R, 16), (G, 16), (B, 16), (A, 16)];
        const RGBX16: &[(u8, u8)] = &[(R, 16), (G, 16), (B, 16), (X, 16)];
        const RG32: &[(u8, u8)] = &[(R, 32), (G, 32)];
        const BGRA8: &[(u8, u8)] = &[(B, 8), (G, 8), (R, 8), (A, 8)];
        const BGRX8: &[(u8, u8)] = &[(B, 8), (G, 8), (R, 8), (X, 8)];
        const RGBA8: &[(u8, u8)] = &[(R, 8), (G, 8), (B, 8), (A, 8)];
        const RGBX8: &[(u8, u8)] = &[(R, 8), (G, 8), (B, 8), (X, 8)];
        const RGB10: &[(u8, u8)] = &[(R, 10), (G, 10), (B, 10), (A, 2)];
        const BGR10: &[(u8, u8)] = &[(B, 10), (G, 10), (R, 10), (A, 2)];
        const R11: &[(u8, u8)] = &[(R, 11), (G, 11), (B, 10)];
        const RG16: &[(u8, u8)] = &[(R, 16), (G, 16)];
        const R32: &[(u8, u8)] = &[(R, 32)];
        const B5G6R5: &[(u8, u8)] = &[(B, 5), (G, 6), (R, 5)];
        const BGR5A1: &[(u8, u8)] = &[(B, 5), (G, 5), (R, 5), (A, 1)];
        const BGR5X1: &[(u8, u8)] = &[(B, 5), (G, 5), (R, 5), (X, 1)];
        const RG8: &[(u8, u8)] = &[(R, 8), (G, 8)];
        const R16: &[(u8, u8)] = &[(R, 16)];
        const R8: &[(u8, u8)] = &[(R, 8)];
        const A8: &[(u8, u8)] = &[(A, 8)];
        let (components, kind) = match number {
            0xc0 => (RGBA32, Float),
            0xc1 => (RGBA32, Sint),
            0xc2 => (RGBA32, Uint),
            0xc3 => (RGBX32, Float),
            0xc4 => (RGBX32, Sint),
            0xc5 => (RGBX32, Uint),
            0xc6 => (RGBA16, Unorm),
            0xc7 => (RGBA16, Snorm),
            0xc8 => (RGBA16, Sint),
            0xc9 => (RGBA16, Uint),
            0xca => (RGBA16, Float),
            0xcb => (RG32, Float),
            0xcc => (RG32, Sint),
            0xcd => (RG32, Uint),
            0xce => (RGBX16, Float),
            0xcf => (BGRA8, Unorm),
            0xd0 => (BGRA8, Srgb),
            0xd1 => (RGB10, Unorm),
            0xd2 => (RGB10, Uint),
            0xd5 => (RGBA8, Unorm),
            0xd6 => (RGBA8, Srgb),
            0xd7 => (RGBA8, Snorm),
            0xd8 => (RGBA8, Sint),
            0xd9 => (RGBA8, Uint),
            0xda => (RG16, Unorm),
            0xdb => (RG16, Snorm),
            0xdc => (RG16, Sint),
            0xdd => (RG16, Uint),
            0xde => (RG16, Float),
            0xdf => (BGR10, Unorm),
            0xe0 => (R11, Float),
            0xe3 => (R32, Sint),
            0xe4 | 0xff => (R32, Uint),
            0xe5 => (R32, Float),
            0xe6 | 0xfd | 0xfe => (BGRX8, Unorm),
            0xe7 => (BGRX8, Srgb),
            0xe8 => (B5G6R5, Unorm),
            0xe9 => (BGR5A1, Unorm),
            0xea => (RG8, Unorm),
            0xeb => (RG8, Snorm),
            0xec => (RG8, Sint),
            0xed => (RG8, Uint),
            0xee => (R16, Unorm),
            0xef => (R16, Snorm),
            0xf0 => (R16, Sint),
            0xf1 => (R16, Uint),
            0xf2 => (R16, Float),
            0xf3 => (R8, Unorm),
            0xf4 => (R8, Snorm),
            0xf5 => (R8, Sint),
            0xf6 => (R8, Uint),
            0xf7 => (A8, Unorm),
            0xf8 | 0xfb | 0xfc => (BGR5X1, Unorm),
            0xf9 => (RGBX8, Unorm),
            0xfa => (RGBX8, Srgb),
            _ => return None,
        };
        Some(Self { components, kind })
    }

    /// Bytes of a pixel.
    pub fn bytes(&self) -> u32 {
        let bits: u32 = self
            .components
            .iter()
            .map(|&(_, bits)| u32::from(bits))
            .sum();
        bits / 8
    }

    /// The bits of the channels that `channels` has (bit 0 red); those of none are of all.
    pub fn mask(&self, channels: u32) -> u128 {
        self.gather(|channel, bits| match channel {
            X => ones(bits),
            _ if channels >> channel & 1 != 0 => ones(bits),
            _ => 0,
        })
    }

    /// The pixel of a colour: integers for integer formats, else floating-point numbers.
    pub fn pack(&self, color: [u32; 4]) -> u128 {
        self.gather(|channel, bits| match color.get(usize::from(channel)) {
            Some(&value) => pack(self.kind, channel, bits, value),
            None => 0,
        })
    }

    /// The colour of a pixel: integers of integer formats, else floating-point numbers. Alpha that
    /// is not there is 1, other channels are 0.
    pub fn unpack(&self, pixel: u128) -> [u32; 4] {
        let mut color = match self.is_integer() {
            true => [0, 0, 0, 1],
            false => [0, 0, 0, 1f32.to_bits()],
        };
        let mut at = 0;
        for &(channel, bits) in self.components {
            let value = (pixel >> at) as u32 & ones(bits);
            at += bits;
            if let Some(slot) = color.get_mut(usize::from(channel)) {
                *slot = unpack(self.kind, channel, bits, value);
            }
        }
        color
    }

    /// Its components are integers.
    pub fn is_integer(&self) -> bool {
        matches!(self.kind, Kind::Uint | Kind::Sint)
    }

    /// Puts components together.
    fn gather(&self, value: impl Fn(u8, u8) -> u32) -> u128 {
        let mut pixel = 0;
        let mut at = 0;
        for &(channel, bits) in self.components {
            pixel |= u128::from(value(channel, bits)) << at;
            at += bits;
        }
        pixel
    }
}

/// A mask of the lowest `bits` bits, at most 32.
fn ones(bits: u8) -> u32 {
    u32::MAX >> (32 - bits)
}

/// The bits of a component.
fn pack(kind: Kind, channel: u8, bits: u8, value: u32) -> u32 {
    let float = f32::from_bits(value);
    let unorm = |value: f32| {
        let max = f64::from(ones(bits));
        // A NaN becomes 0.
        (f64::from(value.clamp(0.0, 1.0)) * max).round_ties_even() as u32
    };
    match kind {
        Kind::Uint => value.min(ones(bits)),
        Kind::Sint => {
            let max = (ones(bits) >> 1) as i32;
            (value as i32).clamp(-max - 1, max) as u32 & ones(bits)
        }
        Kind::Unorm => unorm(float),
        Kind::Srgb if channel == A => unorm(float),
        Kind::Srgb => unorm(to_srgb(float)),
        Kind::Snorm => {
            let max = f64::from(ones(bits) >> 1);
            (f64::from(float.clamp(-1.0, 1.0)) * max).round_ties_even() as i32 as u32 & ones(bits)
        }
        Kind::Float => match bits {
            32 => value,
            16 => half(float, 10),
            11 => unsigned_half(float, 6),
            _ => unsigned_half(float, 5),
        },
    }
}

/// Fractions of 8 bits.
static UNORM_8: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut value = 0;
    while value < 256 {
        table[value] = (value as f64 / 255.0) as f32;
        value += 1;
    }
    table
};

/// The value of the component with these bits: an integer of integer kinds, else the bits of a
/// single-precision number.
pub fn unpack(kind: Kind, channel: u8, bits: u8, value: u32) -> u32 {
    let unorm = match bits {
        8 => UNORM_8[value as usize & 0xff],
        _ => (f64::from(value) / f64::from(ones(bits))) as f32,
    };
    let signed = (value << (32 - bits)) as i32 >> (32 - bits);
    match kind {
        Kind::Uint => value,
        Kind::Sint => signed as u32,
        Kind::Unorm => unorm.to_bits(),
        Kind::Srgb if channel == A => unorm.to_bits(),
        Kind::Srgb => from_srgb(unorm).to_bits(),
        Kind::Snorm => {
            let max = f64::from(ones(bits) >> 1);
            ((f64::from(signed) / max).max(-1.0) as f32).to_bits()
        }
        Kind::Float => match bits {
            32 => value,
            16 => widen(value, 10).to_bits(),
            11 => widen(value, 6).to_bits(),
            _ => widen(value, 5).to_bits(),
        },
    }
}

/// The number with sign, 5 bits of exponent and `mantissa` bits.
fn widen(value: u32, mantissa: u32) -> f32 {
    let (exponent, fraction) = (value >> mantissa & 31, value & ((1 << mantissa) - 1));
    let magnitude = match (exponent, fraction) {
        (31, 0) => f32::INFINITY,
        (31, _) => f32::NAN,
        (0, _) => fraction as f32 * 2f32.powi(-14 - mantissa as i32),
        _ => {
            ((1 << mantissa) + fraction) as f32 * 2f32.powi(exponent as i32 - 15 - mantissa as i32)
        }
    };
    match value >> (mantissa + 5) & 1 {
        0 => magnitude,
        _ => -magnitude,
    }
}

/// The curve of sRGB, backwards.
fn from_srgb(curved: f32) -> f32 {
    match curved {
        ..=0.040_45 => curved / 12.92,
        _ => ((curved + 0.055) / 1.055).powf(2.4),
    }
}

/// The curve of sRGB.
fn to_srgb(linear: f32) -> f32 {
    match linear {
        ..=0.003_130_8 => linear * 12.92,
        _ => 1.055 * linear.powf(1.0 / 2.4) - 0.055,
    }
}

/// A number with sign, 5 bits of exponent and `mantissa` bits, rounded to nearest, ties to even.
fn half(value: f32, mantissa: u32) -> u32 {
    let sign = value.to_bits() >> 31 << (mantissa + 5);
    sign | magnitude(value.abs(), mantissa)
}

/// The same without sign; negative numbers become 0.
fn unsigned_half(value: f32, mantissa: u32) -> u32 {
    match value {
        _ if value.is_nan() => magnitude(f32::NAN, mantissa),
        ..=0.0 => 0,
        _ => magnitude(value, mantissa),
    }
}

/// Exponent and mantissa of a number that is not negative.
fn magnitude(value: f32, mantissa: u32) -> u32 {
    let infinity = 31 << mantissa;
    if value.is_nan() {
        return infinity | 1 << (mantissa - 1);
    }
    // Scaled so that a unit is the last place of the result: of its own binade, or of the
    // smallest normal one.
    let exponent = ((value.to_bits() >> 23) as i32 - 127).max(-14);
    let units = f64::from(value) * 2f64.powi(mantissa as i32 - exponent);
    let rounded = units.round_ties_even() as u64;
    let biased = (exponent + 14) as u64;
    // The hidden bit of normal numbers, and a carry out of the mantissa, raise the exponent.
    u32::try_from((biased << mantissa).saturating_add(rounded))
        .map_or(infinity, |bits| bits.min(infinity))
}

/// The layout of depth and stencil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZetaFormat {
    /// Bytes of a pixel.
    pub bytes: u32,
    /// First bit and bits of depth; 32 bits are a floating-point number.
    depth: (u32, u8),
    /// First bit of the 8 of stencil.
    stencil: Option<u32>,
}

impl ZetaFormat {
    /// The format with this number; `None` if the card knows none.
    pub const fn new(number: u32) -> Option<Self> {
        let (bytes, depth, stencil) = match number {
            0x0a => (4, (0, 32), None),
            0x13 => (2, (0, 16), None),
            0x14 => (4, (8, 24), Some(0)),
            0x15 | 0x18 => (4, (0, 24), None),
            0x16 => (4, (0, 24), Some(24)),
            0x19 => (8, (0, 32), Some(32)),
            _ => return None,
        };
        Some(Self {
            bytes,
            depth,
            stencil,
        })
    }

    /// The pixel of a depth and a stencil, and its bits of depth and of stencil.
    pub fn pack(&self, depth: u32, stencil: u32) -> (u128, u128, u128) {
        let (at, bits) = self.depth;
        let value = match bits {
            32 => depth,
            _ => pack(Kind::Unorm, R, bits, depth),
        };
        let depth_mask = u128::from(ones(bits)) << at;
        let stencil_mask = self.stencil.map_or(0, |at| 0xff << at);
        let stencil = self
            .stencil
            .map_or(0, |at| u128::from(stencil & 0xff) << at);
        (u128::from(value) << at | stencil, depth_mask, stencil_mask)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(number: u32, color: [f32; 4]) -> u128 {
        Format::color(number).unwrap().pack(color.map(f32::to_bits))
    }

    #[test]
    fn components_are_counted_from_the_lowest_bit() {
        let color = [1.0, 0.0, 0.5, 0.0];
        assert_eq!(packed(0xd5, color), 0x0080_00ff);
        assert_eq!(packed(0xcf, color), 0x00ff_0080);
        assert_eq!(packed(0xe8, [0.0, 1.0, 0.0, 0.0]), 0x07e0);
        assert_eq!(packed(0xd1, [0.0, 0.0, 0.0, 1.0]), 0xc000_0000);
    }

    #[test]
    fn numbers_are_clamped_to_what_a_component_holds() {
        assert_eq!(
            packed(0xd5, [2.0, -1.0, f32::NAN, f32::INFINITY]),
            0xff00_00ff
        );
        assert_eq!(packed(0xd7, [-2.0, 1.0, 0.0, -1.0]), 0x8100_7f81);
        let integers = Format::color(0xd8).unwrap();
        assert_eq!(
            integers.pack([200, -200i32 as u32, 5, -5i32 as u32]),
            0xfb05_807f
        );
        assert_eq!(Format::color(0xf6).unwrap().pack([300, 0, 0, 0]), 0xff);
    }

    #[test]
    fn halves_round_to_nearest_even() {
        for (value, bits) in [
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.9, 0x7bff),
            (65520.0, 0x7c00),
            (f32::INFINITY, 0x7c00),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
            (6.103_515_6e-5, 0x0400),
            (5.960_464_5e-8, 0x0001),
            (2.980_232_2e-8, 0x0000),
            (0.0, 0),
        ] {
            assert_eq!(half(value, 10), bits, "{value}");
        }
        assert_eq!(packed(0xe0, [1.0, -1.0, 1.0, 0.0]), 0x3c0 | 0x1e0 << 22);
    }

    proptest! {
        #[test]
        fn a_half_is_the_nearest_of_all(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite() && value.abs() < 65504.0);
            let decode = |half: u32| f64::from(widen(half, 10));
            let half = half(value, 10);
            let error = (decode(half) - f64::from(value)).abs();
            let (sign, size) = (half & 0x8000, half & 0x7fff);
            for neighbour in [size.saturating_sub(1) | sign, (size + 1) | sign] {
                prop_assert!(error <= (decode(neighbour) - f64::from(value)).abs());
            }
        }

        #[test]
        fn a_pixel_survives_being_unpacked(number in 0xc0u32..0x100, pixel: u128) {
            if let Some(format) = Format::color(number) {
                let pixel = pixel & format.mask(15);
                let color = format.unpack(pixel);
                prop_assume!(format.is_integer() || color.iter().all(|&c| f32::from_bits(c).is_finite()));
                let again = format.pack(color);
                // Padding is 0, and the lowest signed value is that of its neighbour.
                prop_assert_eq!(format.unpack(again), color);
            }
        }

        #[test]
        fn a_mask_covers_what_its_channels_pack(number in 0xc0u32..0x100, color: [u32; 4], channels in 0u32..16) {
            if let Some(format) = Format::color(number) {
                let kept = [0, 1, 2, 3].map(|n| if channels >> n & 1 != 0 { color[n] } else { 0 });
                prop_assert_eq!(format.pack(kept) & !format.mask(channels), 0);
                prop_assert!(format.mask(15) >> (format.bytes() * 8 - 1) == 1);
            }
        }
    }

    #[test]
    fn depth_and_stencil_have_their_own_bits() {
        let format = ZetaFormat::new(0x16).unwrap();
        assert_eq!(
            format.pack(1f32.to_bits(), 0xab),
            (0xabff_ffff, 0xff_ffff, 0xff00_0000)
        );
        let format = ZetaFormat::new(0x14).unwrap();
        assert_eq!(format.pack(0, 0xab), (0xab, 0xffff_ff00, 0xff));
    }
}
