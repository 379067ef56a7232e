//! Samplers: how coordinates lead to texels, and texels to a colour.

use super::bits::{Header, tsc};

/// What becomes of a coordinate outside of the texture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// The texture repeats.
    Repeat,
    /// It repeats, every other time mirrored.
    Mirror,
    /// The texel at the edge.
    ClampToEdge,
    /// The border.
    Border,
    /// The coordinate is clamped, so that a filter takes half of the border.
    ClampOgl,
    /// Mirrored once, then as [`Wrap::ClampToEdge`].
    MirrorOnceClampToEdge,
    /// Mirrored once, then as [`Wrap::Border`].
    MirrorOnceBorder,
    /// Mirrored once, then as [`Wrap::ClampOgl`].
    MirrorOnceClampOgl,
}

impl Wrap {
    const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Wrap::Repeat,
            1 => Wrap::Mirror,
            2 => Wrap::ClampToEdge,
            3 => Wrap::Border,
            4 => Wrap::ClampOgl,
            5 => Wrap::MirrorOnceClampToEdge,
            6 => Wrap::MirrorOnceBorder,
            _ => Wrap::MirrorOnceClampOgl,
        }
    }

    /// The coordinate, in texels of `size`, brought to where a float is exact enough.
    fn fold(self, at: f32, size: f32) -> f32 {
        match self {
            // Most are inside.
            _ if (0.0..size).contains(&at) => at,
            Wrap::Repeat => at - floor(at / size) as f32 * size,
            Wrap::Mirror => {
                let at = at - floor(at / (2.0 * size)) as f32 * 2.0 * size;
                if at > size { 2.0 * size - at } else { at }
            }
            Wrap::ClampToEdge | Wrap::Border => at,
            Wrap::ClampOgl => at.clamp(0.0, size),
            Wrap::MirrorOnceClampToEdge | Wrap::MirrorOnceBorder => at.abs(),
            Wrap::MirrorOnceClampOgl => at.abs().min(size),
        }
    }

    /// The texel that the number of a texel next to the texture stands for; `None` is the border.
    fn texel(self, at: i32, size: u32) -> Option<u32> {
        let last = size.saturating_sub(1) as i32;
        let inside = (0..=last).contains(&at);
        match self {
            _ if inside => Some(at as u32),
            Wrap::Repeat => Some(at.rem_euclid(last + 1) as u32),
            Wrap::Mirror => {
                let at = at.rem_euclid((last + 1).saturating_mul(2));
                Some(at.min((last + 1).saturating_mul(2) - 1 - at) as u32)
            }
            Wrap::ClampToEdge => Some(at.clamp(0, last) as u32),
            Wrap::MirrorOnceClampToEdge => Some(mirrored(at).min(last) as u32),
            Wrap::MirrorOnceBorder | Wrap::MirrorOnceClampOgl => {
                let at = mirrored(at);
                (at <= last).then_some(at as u32)
            }
            Wrap::Border | Wrap::ClampOgl => None,
        }
    }

    /// The texel at a coordinate, in texels, `offset` texels on.
    pub fn nearest(self, at: f32, size: u32, offset: i32) -> Option<u32> {
        let at = self.fold(finite(at), size as f32);
        let mut texel = floor(at).saturating_add(offset);
        if matches!(self, Wrap::ClampOgl | Wrap::MirrorOnceClampOgl) {
            // The coordinate at the far edge is still inside.
            texel = texel.min(size as i32 - 1 + offset.max(0));
        }
        self.texel(texel, size)
    }

    /// The texels on both sides of a coordinate, in texels, `offset` texels on, and the share of
    /// the second.
    pub fn linear(self, at: f32, size: u32, offset: i32) -> ([Option<u32>; 2], f32) {
        let at = self.fold(finite(at), size as f32) - 0.5;
        let whole = floor(at);
        let first = whole.saturating_add(offset);
        let texels = [first, first.saturating_add(1)].map(|texel| self.texel(texel, size));
        (texels, at - whole as f32)
    }
}

/// Texel -1 is texel 0 once more.
fn mirrored(at: i32) -> i32 {
    if at < 0 { !at } else { at }
}

/// The integer below a number that [`finite`] let through, or that is nearer to 0. The standard
/// library calls a function for it on hosts of every age.
fn floor(at: f32) -> i32 {
    let towards_zero = at as i32;
    towards_zero - i32::from(towards_zero as f32 > at)
}

/// A coordinate that can be computed with: NaN is 0, and what is far off is nearer.
fn finite(at: f32) -> f32 {
    match at.is_nan() {
        true => 0.0,
        false => at.clamp(-1e9, 1e9),
    }
}

/// How levels of detail combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MipFilter {
    /// The first level only.
    None,
    /// The nearest level.
    Nearest,
    /// The two nearest levels.
    Linear,
}

/// How a texel compares with a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare(u32);

impl Compare {
    /// Whether the reference compares with the texel as it should. Bit 0 of the function is less,
    /// bit 1 equal, bit 2 greater; with NaN only the negation of equal is true.
    pub fn holds(self, reference: f32, texel: f32) -> bool {
        let bit = match reference.partial_cmp(&texel) {
            Some(std::cmp::Ordering::Less) => 1,
            Some(std::cmp::Ordering::Equal) => 2,
            Some(std::cmp::Ordering::Greater) => 4,
            None => return self.0 == 5 || self.0 == 7,
        };
        self.0 & bit != 0
    }
}

/// A sampler header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// By axis.
    pub wrap: [Wrap; 3],
    /// Comparison with a reference.
    pub compare: Option<Compare>,
    /// Filter where a texel is larger than a pixel.
    pub mag_linear: bool,
    /// Filter where it is smaller.
    pub min_linear: bool,
    /// Filter between levels.
    pub mip: MipFilter,
    /// Added to the level of detail.
    pub lod_bias: f32,
    /// The least level of detail.
    pub min_lod: f32,
    /// The greatest one.
    pub max_lod: f32,
    /// The border's colour as the result has it: numbers or integers.
    pub border: [u32; 4],
}

impl Sampler {
    /// Decodes a header.
    pub fn new(header: &Header) -> Self {
        let wrap = |field: super::bits::Field| Wrap::from_bits(field.of(header));
        let compare = Compare(tsc::DEPTH_COMPARE_FUNC.of(header));
        let border = &header[tsc::BORDER_COLOR..];
        Self {
            wrap: [
                wrap(tsc::ADDRESS_U),
                wrap(tsc::ADDRESS_V),
                wrap(tsc::ADDRESS_P),
            ],
            compare: (tsc::DEPTH_COMPARE.of(header) != 0).then_some(compare),
            mag_linear: tsc::MAG_FILTER.of(header) == tsc::FILTER_LINEAR,
            min_linear: tsc::MIN_FILTER.of(header) == tsc::FILTER_LINEAR,
            mip: match tsc::MIP_FILTER.of(header) {
                tsc::MIP_FILTER_NEAREST => MipFilter::Nearest,
                tsc::MIP_FILTER_LINEAR => MipFilter::Linear,
                _ => MipFilter::None,
            },
            lod_bias: tsc::MIP_LOD_BIAS.signed_fixed(header),
            min_lod: tsc::MIN_LOD_CLAMP.fixed(header),
            max_lod: tsc::MAX_LOD_CLAMP.fixed(header),
            border: [border[0], border[1], border[2], border[3]],
        }
    }

    /// The level of detail within the sampler's bounds.
    pub fn clamp_lod(&self, lod: f32) -> f32 {
        // Of crossed bounds the upper wins; NaN is the lower.
        lod.max(self.min_lod).min(self.max_lod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texels -5 to 8 of a texture of 4.
    fn texels(wrap: Wrap) -> Vec<i32> {
        (-5..9)
            .map(|at| {
                let texel = wrap.nearest(at as f32 + 0.5, 4, 0);
                texel.map_or(-1, |texel| texel as i32)
            })
            .collect()
    }

    #[test]
    fn texels_outside_are_found_as_the_mode_says() {
        let cases = [
            (Wrap::Repeat, [3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0]),
            (Wrap::Mirror, [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]),
            (
                Wrap::ClampToEdge,
                [0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3],
            ),
            (
                Wrap::Border,
                [-1, -1, -1, -1, -1, 0, 1, 2, 3, -1, -1, -1, -1, -1],
            ),
            (Wrap::ClampOgl, [0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3]),
            (
                Wrap::MirrorOnceClampToEdge,
                [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3],
            ),
            (
                Wrap::MirrorOnceBorder,
                [-1, 3, 2, 1, 0, 0, 1, 2, 3, -1, -1, -1, -1, -1],
            ),
        ];
        for (wrap, expected) in cases {
            assert_eq!(texels(wrap), expected, "{wrap:?}");
        }
    }

    #[test]
    fn a_filter_at_the_edge_takes_what_the_mode_says() {
        assert_eq!(Wrap::Repeat.linear(0.0, 4, 0), ([Some(3), Some(0)], 0.5));
        assert_eq!(Wrap::Repeat.linear(4.0, 4, 0), ([Some(3), Some(0)], 0.5));
        assert_eq!(Wrap::Mirror.linear(0.0, 4, 0), ([Some(0), Some(0)], 0.5));
        assert_eq!(
            Wrap::ClampToEdge.linear(9.0, 4, 0),
            ([Some(3), Some(3)], 0.5)
        );
        assert_eq!(Wrap::ClampOgl.linear(9.0, 4, 0), ([Some(3), None], 0.5));
        assert_eq!(Wrap::Border.linear(9.0, 4, 0), ([None, None], 0.5));
    }

    #[test]
    fn any_coordinate_has_texels_inside() {
        for bits in (0..=u32::MAX).step_by(1 << 16) {
            let at = f32::from_bits(bits);
            for wrap in (0..8).map(Wrap::from_bits) {
                for size in [1, 3, 64] {
                    for offset in [-8, 0, 7] {
                        let nearest = wrap.nearest(at, size, offset);
                        let (both, share) = wrap.linear(at, size, offset);
                        assert!(nearest.is_none_or(|texel| texel < size), "{wrap:?} {at}");
                        assert!(both.iter().all(|texel| texel.is_none_or(|n| n < size)));
                        assert!((0.0..=1.0).contains(&share));
                    }
                }
            }
        }
    }
}
