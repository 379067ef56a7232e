//! Lookups: coordinates to colours.

use super::{
    header::{Reader, Shape, Texture},
    sampler::{MipFilter, Sampler, Wrap},
};
use crate::memory::Fault;

/// Coordinates of a lookup.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// s, t, r: from 0 to 1 or in texels; a direction for a cube.
    pub coords: [f32; 3],
    /// Layer, or cube.
    pub layer: u32,
    /// Texels to go on.
    pub offset: [i32; 3],
}

/// Coordinates on a face of a cube, and the face.
#[derive(Clone, Copy)]
struct Face {
    number: u32,
    /// Axis and sign of s, of t, and the axis that the face is on.
    axes: [(usize, f32); 3],
}

impl Face {
    /// The face that a direction points to.
    ///
    /// Source: OpenGL 4.3, table 8.18.
    fn of(direction: [f32; 3]) -> Self {
        let [x, y, z] = direction.map(f32::abs);
        let axis = match (x >= y && x >= z, y >= z) {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        };
        let negative = direction[axis].is_sign_negative();
        let sign = if negative { -1.0 } else { 1.0 };
        let axes = match axis {
            0 => [(2, -sign), (1, -1.0), (0, sign)],
            1 => [(0, 1.0), (2, sign), (1, sign)],
            _ => [(0, sign), (1, -1.0), (2, sign)],
        };
        Self {
            number: 2 * axis as u32 + u32::from(negative),
            axes,
        }
    }

    /// Where a direction meets the plane of the face: from 0 to 1 if it meets the face.
    fn project(self, direction: [f32; 3]) -> [f32; 2] {
        let along = |(axis, sign): (usize, f32)| direction[axis] * sign;
        let [s, t, major] = self.axes.map(along);
        [s, t].map(|at| (at / major + 1.0) / 2.0)
    }
}

/// A filter's footprint along an axis.
type Taps = ([Option<u32>; 2], f32);

/// A lookup in a texture through a sampler.
pub struct Lookup<'a> {
    /// The texture.
    pub texture: &'a Texture,
    /// The sampler.
    pub sampler: &'a Sampler,
    /// What texels are compared with.
    pub reference: Option<f32>,
}

impl Lookup<'_> {
    fn is_cube(&self) -> bool {
        matches!(self.texture.shape, Shape::Cube | Shape::CubeArray)
    }

    /// Axes of a texel's place that are filtered along.
    fn dimensions(&self) -> usize {
        match self.texture.shape {
            Shape::D1 | Shape::D1Array | Shape::Buffer => 1,
            Shape::D3 => 3,
            _ => 2,
        }
    }

    /// Coordinates on the texture or on a face, and the layer, which is inside.
    fn locate(&self, place: &Place) -> ([f32; 3], u32) {
        let layers = self.texture.layers();
        if !self.is_cube() {
            return (place.coords, place.layer.min(layers - 1));
        }
        let face = Face::of(place.coords);
        let [s, t] = face.project(place.coords);
        let cube = place.layer.min(layers / 6 - 1);
        ([s, t, 0.0], 6 * cube + face.number)
    }

    /// The level of detail where coordinates change along x and y of the screen from `at` to those
    /// of the neighbours.
    pub fn lod_of(&self, at: [f32; 3], neighbours: [[f32; 3]; 2]) -> f32 {
        let differences = if self.is_cube() {
            let face = Face::of(at);
            let [s, t] = face.project(at);
            neighbours.map(|there| {
                let there = face.project(there);
                [there[0] - s, there[1] - t, 0.0]
            })
        } else {
            neighbours.map(|there| [0, 1, 2].map(|n| there[n] - at[n]))
        };
        self.lod_of_differences(differences)
    }

    /// The level of detail where coordinates change by these along x and y of the screen.
    pub fn lod_of_differences(&self, differences: [[f32; 3]; 2]) -> f32 {
        let size = self.texture.level_texels(0);
        let dimensions = self.dimensions();
        let squared = differences.map(|difference| {
            (0..dimensions)
                .map(|n| {
                    let texels = if self.texture.normalized {
                        size[n] as f32
                    } else {
                        1.0
                    };
                    (difference[n] * texels).powi(2)
                })
                .sum::<f32>()
        });
        squared[0].max(squared[1]).log2() / 2.0
    }

    /// The level of detail with bias and within all bounds.
    pub fn clamp_lod(&self, lod: f32) -> f32 {
        let lod = lod + self.sampler.lod_bias;
        let last = (self.texture.level_count() - 1) as f32;
        self.sampler
            .clamp_lod(lod)
            .max(self.texture.min_lod)
            .min(last)
    }

    /// The filtered colour.
    ///
    /// # Errors
    ///
    /// The memory cannot be read.
    pub fn sample(
        &self,
        reader: &mut Reader<'_, '_>,
        place: &Place,
        lod: f32,
    ) -> Result<[u32; 4], Fault> {
        // Whether texels are larger than pixels is decided before the texture's bounds.
        let lambda = self.sampler.clamp_lod(lod + self.sampler.lod_bias);
        let linear = match lambda > 0.0 {
            true => self.sampler.min_linear,
            false => self.sampler.mag_linear,
        };
        let linear = linear && !self.texture.is_integer();
        let lod = self.clamp_lod(lod).max(0.0);
        let last = self.texture.level_count() - 1;
        match self.sampler.mip {
            MipFilter::Linear if lambda > 0.0 && !self.texture.is_integer() => {
                let level = (lod.floor() as u32).min(last);
                let share = lod - lod.floor();
                let near = self.level(reader, place, level, linear)?;
                if share == 0.0 || level == last {
                    return Ok(near);
                }
                let far = self.level(reader, place, level + 1, linear)?;
                Ok([0, 1, 2, 3].map(|n| mix(near[n], far[n], share)))
            }
            MipFilter::None => self.level(reader, place, 0, linear),
            // Half way between two levels the finer one counts.
            _ => {
                let level = ((lod + 0.5).ceil() as u32).saturating_sub(1).min(last);
                self.level(reader, place, level, linear)
            }
        }
    }

    /// Coordinates in texels of a level.
    fn texels(&self, coords: [f32; 3], size: [u32; 3]) -> [f32; 3] {
        match self.texture.normalized {
            true => [0, 1, 2].map(|n| coords[n] * size[n] as f32),
            false => coords,
        }
    }

    /// The footprint of a filter, by axis.
    fn taps(&self, at: [f32; 3], size: [u32; 3], offset: [i32; 3], linear: bool) -> [Taps; 3] {
        let mut taps: [Taps; 3] = [([Some(0); 2], 0.0); 3];
        let axes = taps.iter_mut().take(self.dimensions());
        for (n, taps) in axes.enumerate() {
            let wrap = match self.is_cube() {
                true => Wrap::ClampToEdge,
                false => self.sampler.wrap[n],
            };
            *taps = match linear {
                true => wrap.linear(at[n], size[n], offset[n]),
                false => ([wrap.nearest(at[n], size[n], offset[n]); 2], 0.0),
            };
        }
        taps
    }

    /// The colour at a level.
    fn level(
        &self,
        reader: &mut Reader<'_, '_>,
        place: &Place,
        level: u32,
        linear: bool,
    ) -> Result<[u32; 4], Fault> {
        let (coords, layer) = self.locate(place);
        let size = self.texture.level_texels(level);
        let taps = self.taps(self.texels(coords, size), size, place.offset, linear);
        if !linear {
            let at = taps.map(|(taps, _)| taps[0]);
            return self.texel(reader, level, at, layer);
        }
        match self.dimensions() {
            1 => self.filter::<1>(reader, level, &taps, layer),
            2 => self.filter::<2>(reader, level, &taps, layer),
            _ => self.filter::<3>(reader, level, &taps, layer),
        }
    }

    /// The colour of the texels around a place of `D` dimensions.
    fn filter<const D: usize>(
        &self,
        reader: &mut Reader<'_, '_>,
        level: u32,
        taps: &[Taps; 3],
        layer: u32,
    ) -> Result<[u32; 4], Fault> {
        let mut sum = [0f32; 4];
        for corner in 0..1usize << D {
            let side = |n: usize| corner >> n & 1;
            let weight = (0..D).fold(1.0, |weight, n| match side(n) {
                0 => weight * (1.0 - taps[n].1),
                _ => weight * taps[n].1,
            });
            if weight == 0.0 {
                continue;
            }
            let at = [0, 1, 2].map(|n| if n < D { taps[n].0[side(n)] } else { Some(0) });
            let texel = self.texel(reader, level, at, layer)?;
            for (sum, component) in sum.iter_mut().zip(texel) {
                *sum += weight * f32::from_bits(component);
            }
        }
        Ok(sum.map(f32::to_bits))
    }

    /// A texel's colour, or the border's.
    fn texel(
        &self,
        reader: &mut Reader<'_, '_>,
        level: u32,
        at: [Option<u32>; 3],
        layer: u32,
    ) -> Result<[u32; 4], Fault> {
        let inside = match at {
            [Some(x), Some(y), Some(z)] => Some([x, y, z]),
            _ => None,
        };
        let Some([x, y, z]) = inside else {
            let border = self.sampler.border;
            return Ok(match self.holds(f32::from_bits(border[0])) {
                Some(outcome) => [outcome; 4],
                None => border,
            });
        };
        let z = match self.texture.shape {
            Shape::D3 => z,
            _ => layer,
        };
        let mut texel = self.texture.texel(reader, level, [x, y, z], (0, 0))?;
        let depth = self.texture.depth_component();
        if let Some(outcome) = self.holds(f32::from_bits(texel[depth])) {
            texel[depth] = outcome;
        }
        Ok(self.texture.result(texel))
    }

    /// The outcome of the comparison, if there is one to be made.
    fn holds(&self, texel: f32) -> Option<u32> {
        let compare = self.sampler.compare?;
        let outcome = compare.holds(self.reference?, texel);
        Some(if outcome { 1f32.to_bits() } else { 0 })
    }

    /// One component of the four texels that a linear filter would take, counted from the lower
    /// left one against the clock; each of `offsets`, if they are given, moves one of them, which
    /// is then the upper left of its four.
    ///
    /// # Errors
    ///
    /// The memory cannot be read.
    pub fn gather(
        &self,
        reader: &mut Reader<'_, '_>,
        place: &Place,
        component: usize,
        offsets: Option<[[i32; 2]; 4]>,
    ) -> Result<[u32; 4], Fault> {
        const CORNERS: [[usize; 2]; 4] = [[0, 1], [1, 1], [1, 0], [0, 0]];
        let (coords, layer) = self.locate(place);
        let size = self.texture.level_texels(0);
        let coords = self.texels(coords, size);
        let mut out = [0; 4];
        for (n, out) in out.iter_mut().enumerate() {
            let (offset, [i, j]) = match offsets {
                None => (place.offset, CORNERS[n]),
                Some(offsets) => ([offsets[n][0], offsets[n][1], 0], [0, 0]),
            };
            let taps = self.taps(coords, size, offset, true);
            let at = [taps[0].0[i], taps[1].0[j], taps[2].0[0]];
            *out = self.texel(reader, 0, at, layer)?[component & 3];
        }
        Ok(out)
    }
}

/// A texel by its place, as it is; what is outside is 0.
///
/// # Errors
///
/// The memory cannot be read.
pub fn fetch(
    texture: &Texture,
    reader: &mut Reader<'_, '_>,
    at: [i32; 3],
    layer: u32,
    level: u32,
    sample: u32,
) -> Result<[u32; 4], Fault> {
    let size = texture.level_texels(level);
    let inside = (0..3).all(|n| match (texture.shape, n) {
        (Shape::D3, _) | (_, 0 | 1) => (0..size[n] as i32).contains(&at[n]),
        _ => layer < texture.layers(),
    });
    let sample = texture.sample_offset(sample);
    let (true, Some(sample)) = (inside && level < texture.level_count(), sample) else {
        return Ok([0; 4]);
    };
    let z = match texture.shape {
        Shape::D3 => at[2],
        _ => layer as i32,
    };
    let at = [at[0], at[1], z].map(|n| n as u32);
    Ok(texture.result(texture.texel(reader, level, at, sample)?))
}

/// What a query for dimensions yields: width, height, depth, and levels. Layers of an array come
/// after its sides.
pub fn dimensions(texture: &Texture, level: u32) -> [u32; 4] {
    let [width, height, depth] = texture.level_texels(level);
    let [height, depth] = match texture.shape {
        Shape::D1Array => [depth, 1],
        _ => [height, depth],
    };
    [width, height, depth, texture.level_count()]
}

fn mix(a: u32, b: u32, share: f32) -> u32 {
    let (a, b) = (f32::from_bits(a), f32::from_bits(b));
    (a + (b - a) * share).to_bits()
}
