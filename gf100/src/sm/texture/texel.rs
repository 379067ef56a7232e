//! Texels: how the formats of texture headers store colours.

use crate::{
    format::{self, A, B, G, Kind, R, X},
    sm::texture::bits::{Header, tic},
};

/// How the components of a block of texels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    /// Components and their bits, from the lowest bit on.
    Plain(&'static [(u8, u8)]),
    /// Three fractions of 9 bits and an exponent of 5.
    SharedExponent,
    /// Two texels that have red and blue in common: bytes of the first's green, red, the second's
    /// green, blue.
    Pair([usize; 4]),
    /// Blocks of 4 x 4 texels, compressed.
    Compressed(Compression),
}

/// Compression of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Dxt1,
    Dxt23,
    Dxt45,
    Dxn1,
    Dxn2,
    Bc6h { signed: bool },
    Bc7,
}

/// Bytes of the largest block.
pub const MAX_BLOCK_BYTES: usize = 16;

/// The format of a texture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TexelFormat {
    storage: Storage,
    kinds: [Kind; 4],
    /// Of a block.
    bytes: u32,
}

impl Storage {
    /// Bytes of a block, up to [`MAX_BLOCK_BYTES`].
    fn block_bytes(&self) -> u32 {
        match self {
            Storage::Plain(components) => {
                let bits = components.iter().map(|&(_, bits)| u32::from(bits));
                bits.sum::<u32>() / 8
            }
            Storage::SharedExponent | Storage::Pair(_) => 4,
            Storage::Compressed(Compression::Dxt1 | Compression::Dxn1) => 8,
            Storage::Compressed(_) => 16,
        }
    }
}

impl TexelFormat {
    /// The format that a header names; `None` if there is no such format.
    ///
    /// Source: ENV `rnndb/graph/g80_texture.xml tic2_components_sizes`: names there begin at the
    /// highest bit.
    pub fn new(header: &Header) -> Option<Self> {
        const RGBA8: &[(u8, u8)] = &[(R, 8), (G, 8), (B, 8), (A, 8)];
        let storage = match tic::COMPONENTS_SIZES.of(header) {
            0x01 => Storage::Plain(&[(R, 32), (G, 32), (B, 32), (A, 32)]),
            0x02 => Storage::Plain(&[(R, 32), (G, 32), (B, 32)]),
            0x03 => Storage::Plain(&[(R, 16), (G, 16), (B, 16), (A, 16)]),
            0x04 => Storage::Plain(&[(R, 32), (G, 32)]),
            0x05 => Storage::Plain(&[(R, 32), (G, 8), (B, 24)]),
            0x07 | 0x08 => Storage::Plain(RGBA8),
            0x09 => Storage::Plain(&[(R, 10), (G, 10), (B, 10), (A, 2)]),
            0x0c => Storage::Plain(&[(R, 16), (G, 16)]),
            0x0d => Storage::Plain(&[(R, 24), (G, 8)]),
            0x0e => Storage::Plain(&[(R, 8), (G, 24)]),
            0x0f => Storage::Plain(&[(R, 32)]),
            0x10 => Storage::Compressed(Compression::Bc6h { signed: true }),
            0x11 => Storage::Compressed(Compression::Bc6h { signed: false }),
            0x12 => Storage::Plain(&[(R, 4), (G, 4), (B, 4), (A, 4)]),
            0x13 => Storage::Plain(&[(R, 1), (G, 5), (B, 5), (A, 5)]),
            0x14 => Storage::Plain(&[(R, 5), (G, 5), (B, 5), (A, 1)]),
            0x15 => Storage::Plain(&[(R, 5), (G, 6), (B, 5)]),
            0x16 => Storage::Plain(&[(R, 5), (G, 5), (B, 6)]),
            0x17 => Storage::Compressed(Compression::Bc7),
            0x18 => Storage::Plain(&[(R, 8), (G, 8)]),
            0x1b => Storage::Plain(&[(R, 16)]),
            0x1c | 0x1d => Storage::Plain(&[(R, 8)]),
            0x1e => Storage::Plain(&[(R, 4), (G, 4)]),
            0x20 => Storage::SharedExponent,
            0x21 => Storage::Plain(&[(R, 11), (G, 11), (B, 10)]),
            0x22 => Storage::Pair([1, 0, 3, 2]),
            0x23 => Storage::Pair([0, 1, 2, 3]),
            0x24 => Storage::Compressed(Compression::Dxt1),
            0x25 => Storage::Compressed(Compression::Dxt23),
            0x26 => Storage::Compressed(Compression::Dxt45),
            0x27 => Storage::Compressed(Compression::Dxn1),
            0x28 => Storage::Compressed(Compression::Dxn2),
            0x29 => Storage::Plain(&[(R, 8), (G, 24)]),
            0x2a => Storage::Plain(&[(R, 24), (X, 8)]),
            0x2b => Storage::Plain(&[(R, 24), (G, 8)]),
            0x2f => Storage::Plain(&[(R, 32)]),
            0x30 => Storage::Plain(&[(R, 32), (G, 8), (X, 24)]),
            0x3a => Storage::Plain(&[(R, 16)]),
            _ => return None,
        };
        let srgb = tic::SRGB_CONVERSION.of(header) != 0;
        let types = tic::DATA_TYPES.of(header);
        let kind = |component: usize| {
            Some(match types >> (3 * component) & 7 {
                1 | 5 => Kind::Snorm,
                2 | 6 if srgb => Kind::Srgb,
                2 | 6 => Kind::Unorm,
                3 => Kind::Sint,
                4 => Kind::Uint,
                7 => Kind::Float,
                _ => return None,
            })
        };
        let kinds = [kind(0)?, kind(1)?, kind(2)?, kind(3)?];
        Some(Self {
            storage,
            kinds,
            bytes: storage.block_bytes(),
        })
    }

    /// A component is an integer.
    pub fn is_integer(&self, component: usize) -> bool {
        matches!(self.kinds[component & 3], Kind::Uint | Kind::Sint)
    }

    /// Texels of a block in x and in y.
    pub fn block_size(&self) -> (u32, u32) {
        match self.storage {
            Storage::Plain(_) | Storage::SharedExponent => (1, 1),
            Storage::Pair(_) => (2, 1),
            Storage::Compressed(_) => (4, 4),
        }
    }

    /// Bytes of a block, up to [`MAX_BLOCK_BYTES`].
    pub fn block_bytes(&self) -> u32 {
        self.bytes
    }

    /// The components of texel `x`, `y` of a block: integers of integer kinds, else bits of
    /// single-precision numbers. What is not stored is 0.
    pub fn decode(&self, block: &[u8; MAX_BLOCK_BYTES], x: u32, y: u32) -> [u32; 4] {
        match self.storage {
            Storage::Plain(components) => self.plain(components, block),
            Storage::SharedExponent => {
                let [a, b, c, d, ..] = *block;
                shared_exponent(u32::from_le_bytes([a, b, c, d]))
            }
            Storage::Pair([first, red, second, blue]) => {
                let green = if x & 1 == 0 { first } else { second };
                self.bytes([block[red], block[green], block[blue], 0])
            }
            Storage::Compressed(compression) => {
                self.compressed(compression, block, (4 * (y & 3) + (x & 3)) as usize)
            }
        }
    }

    fn plain(&self, components: &[(u8, u8)], block: &[u8; MAX_BLOCK_BYTES]) -> [u32; 4] {
        let mut out = [0; 4];
        let mut take = |&(component, bits): &(u8, u8), value: u32| {
            if let Some(out) = out.get_mut(usize::from(component)) {
                let kind = self.kinds[usize::from(component)];
                *out = format::unpack(kind, component, bits, value & (u32::MAX >> (32 - bits)));
            }
        };
        // Most are small, which shifts faster.
        if let (true, Some(low)) = (self.bytes <= 8, block.first_chunk()) {
            let mut word = u64::from_le_bytes(*low);
            for component in components {
                take(component, word as u32);
                word >>= component.1;
            }
        } else {
            let mut word = u128::from_le_bytes(*block);
            for component in components {
                take(component, word as u32);
                word >>= component.1;
            }
        }
        out
    }

    fn bytes(&self, components: [u8; 4]) -> [u32; 4] {
        [R, G, B, A].map(|component| {
            let n = usize::from(component);
            format::unpack(self.kinds[n], component, 8, components[n].into())
        })
    }

    /// Texel `at` of a compressed block, by rows.
    fn compressed(&self, compression: Compression, block: &[u8; 16], at: usize) -> [u32; 4] {
        let signed = self.kinds[0] == Kind::Snorm;
        let rgba = |decode: fn(&[u8], &mut [u8], usize)| {
            let mut texels = [0; 64];
            decode(block, &mut texels, 16);
            self.bytes([0, 1, 2, 3].map(|n| texels[4 * at + n]))
        };
        match compression {
            Compression::Dxt1 => rgba(bcdec_rs::bc1),
            Compression::Dxt23 => rgba(bcdec_rs::bc2),
            Compression::Dxt45 => rgba(bcdec_rs::bc3),
            Compression::Bc7 => rgba(bcdec_rs::bc7),
            Compression::Dxn1 => {
                let mut texels = [0.0; 16];
                bcdec_rs::bc4_float(block, &mut texels, 4, signed);
                [texels[at].to_bits(), 0, 0, 0]
            }
            Compression::Dxn2 => {
                let mut texels = [0.0; 32];
                bcdec_rs::bc5_float(block, &mut texels, 8, signed);
                [texels[2 * at].to_bits(), texels[2 * at + 1].to_bits(), 0, 0]
            }
            Compression::Bc6h { signed } => {
                let mut texels = [0.0; 48];
                bcdec_rs::bc6h_float(block, &mut texels, 12, signed);
                let [r, g, b] = [0, 1, 2].map(|n| texels[3 * at + n].to_bits());
                [r, g, b, 0]
            }
        }
    }
}

/// Fractions of 9 bits from bit 0 on, scaled by the exponent in bits 27-31.
fn shared_exponent(word: u32) -> [u32; 4] {
    let scale = 2f32.powi((word >> 27) as i32 - 15 - 9);
    let component = |shift: u32| ((word >> shift & 0x1ff) as f32 * scale).to_bits();
    [component(0), component(9), component(18), 0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with a format and the same type for all components.
    fn header(sizes: u32, ty: u32) -> Header {
        [sizes | (ty * 0o1111) << 6, 0, 0, 0, 0, 0, 0, 0]
    }

    fn decode(sizes: u32, ty: u32, bytes: &[u8]) -> [u32; 4] {
        let mut block = [0; MAX_BLOCK_BYTES];
        block[..bytes.len()].copy_from_slice(bytes);
        TexelFormat::new(&header(sizes, ty))
            .unwrap()
            .decode(&block, 0, 0)
    }

    const UNORM: u32 = 2;
    const SINT: u32 = 3;
    const FLOAT: u32 = 7;

    #[test]
    fn red_is_in_the_lowest_bits() {
        let floats = |c: [u32; 4]| c.map(f32::from_bits);
        assert_eq!(
            floats(decode(0x08, UNORM, &[255, 0, 51, 255])),
            [1.0, 0.0, 0.2, 1.0]
        );
        assert_eq!(
            floats(decode(0x15, UNORM, &[0x1f, 0x00])),
            [1.0, 0.0, 0.0, 0.0]
        );
        assert_eq!(
            floats(decode(0x03, FLOAT, &[0, 0x3c, 0, 0xc0, 0, 0, 0, 0x38])),
            [1.0, -2.0, 0.0, 0.5]
        );
        assert_eq!(decode(0x0c, SINT, &[0xff, 0xff, 2, 0]), [u32::MAX, 2, 0, 0]);
    }

    #[test]
    fn a_shared_exponent_scales_three_fractions() {
        // 256 * 2^(16 - 24) = 1.
        let word = 256u32 | 128 << 9 | 16 << 27;
        let [r, g, b, _] = decode(0x20, FLOAT, &word.to_le_bytes()).map(f32::from_bits);
        assert_eq!([r, g, b], [1.0, 0.5, 0.0]);
    }

    #[test]
    fn stencil_is_the_second_component_of_depth_and_stencil() {
        let format = TexelFormat::new(&[0x2b | 2 << 6 | 4 << 9 | 4 << 12 | 4 << 15; 8]).unwrap();
        let mut block = [0; MAX_BLOCK_BYTES];
        block[..4].copy_from_slice(&[0xff, 0xff, 0xff, 0x12]);
        assert_eq!(format.decode(&block, 0, 0)[..2], [1f32.to_bits(), 0x12]);
    }

    proptest! {
        #[test]
        fn any_bytes_of_any_format_decode(
            word: u32, block: [u8; MAX_BLOCK_BYTES], x in 0u32..8, y in 0u32..8,
        ) {
            if let Some(format) = TexelFormat::new(&[word, 0, 0, 0, 0, 0, 0, 0]) {
                format.decode(&block, x, y);
                prop_assert!((1..=16).contains(&format.block_bytes()));
            }
        }
    }
}
