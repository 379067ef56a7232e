//! Textures: what a texture header describes, and where its texels are.

use super::{
    bits::{Header, tic},
    texel::{MAX_BLOCK_BYTES, TexelFormat},
};
use crate::memory::{
    Access, Client, Fault, Guard,
    blocklinear::{GOB_BYTES, GOB_HEIGHT, Layout},
};

/// Texels of a side at most.
const MAX_SIZE: u32 = 1 << 16;
/// Texels of a buffer at most.
const MAX_BUFFER: u32 = 1 << 27;
/// log2 of a block's GOBs at most.
const MAX_BLOCK: u32 = 5;

/// Memory as the texture unit reads it.
pub struct Reader<'a, 'g> {
    /// The channel's memory.
    pub client: &'a mut Client,
    /// Holds that memory.
    pub guard: &'g Guard<'g>,
}

impl Reader<'_, '_> {
    /// The `len` bytes at an address, and zeros.
    fn block(&mut self, va: u64, len: usize) -> Result<[u8; MAX_BLOCK_BYTES], Fault> {
        let mut block = [0; MAX_BLOCK_BYTES];
        let span = self.client.page(self.guard, va, Access::Read)?;
        let done = span.copy_to(&mut block[..len]);
        if done < len {
            // Blocks of linear textures may lie across pages.
            let rest = va.wrapping_add(done as u64);
            let bytes = &mut block[done..len];
            self.client.for_each_segment(
                self.guard,
                rest,
                bytes.len(),
                Access::Read,
                |at, span| {
                    span.copy_to(&mut bytes[at..]);
                },
            )?;
        }
        Ok(block)
    }
}

/// The shape of a texture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the shapes.
pub enum Shape {
    D1,
    D2,
    D3,
    Cube,
    D1Array,
    D2Array,
    CubeArray,
    /// Texels one after the other.
    Buffer,
    /// Rows one after the other.
    Pitch,
}

/// What a component of a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// 0.
    Zero,
    /// This one of the texel.
    Of(u8),
    /// The integer 1.
    OneInt,
    /// The number 1.
    OneFloat,
}

impl Component {
    fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            n @ 2..=5 => Component::Of(n as u8 - 2),
            6 => Component::OneInt,
            7 => Component::OneFloat,
            _ => Component::Zero,
        }
    }
}

/// A level of detail.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// Where it starts, from the start of the layer.
    offset: u64,
    /// In bytes and rows of blocks.
    layout: Layout,
}

/// A texture header.
#[derive(Clone, Debug)]
pub struct Texture {
    /// Its shape.
    pub shape: Shape,
    /// Coordinates are from 0 to 1, not in texels.
    pub normalized: bool,
    /// What a result's components are.
    pub components: [Component; 4],
    /// The format.
    format: TexelFormat,
    base: u64,
    /// Bytes from row to row of a linear texture.
    pitch: u32,
    /// Texels of level 0; layers or cubes are in the depth of arrays.
    size: [u32; 3],
    /// Bytes from layer to layer.
    layer_stride: u64,
    levels: Vec<Level>,
    /// The levels that can be seen.
    view: (u32, u32),
    /// log2 of a texel's samples in x and in y.
    samples: (u32, u32),
    /// The least level of detail.
    pub min_lod: f32,
}

impl Texture {
    /// Decodes a header; `None` if it describes nothing.
    pub fn new(header: &Header) -> Option<Self> {
        let pitch_linear = tic::LAYOUT_PITCH.of(header) != 0;
        let shape = match tic::TEXTURE_TYPE.of(header) {
            0 => Shape::D1,
            // Only textures without levels may be linear.
            1 | 7 if pitch_linear => Shape::Pitch,
            1 | 7 => Shape::D2,
            2 => Shape::D3,
            3 => Shape::Cube,
            4 => Shape::D1Array,
            5 => Shape::D2Array,
            6 => Shape::Buffer,
            8 => Shape::CubeArray,
            _ => return None,
        };
        let format = TexelFormat::new(header)?;
        let width = tic::WIDTH.of(header);
        let height = tic::HEIGHT.of(header) | tic::HEIGHT_MSB.of(header) << 16;
        let depth = tic::DEPTH.of(header) | tic::DEPTH_MSB.of(header) << 12;
        let size = match shape {
            Shape::Buffer => [width.min(MAX_BUFFER), 1, 1],
            _ => [width, height, depth].map(|n| n.clamp(1, MAX_SIZE)),
        };
        let samples = match tic::MULTI_SAMPLE_COUNT.of(header) {
            1 | 5 => (1, 0),
            2 | 8 | 9 => (1, 1),
            3 | 4 | 10 | 11 => (2, 1),
            6 => (2, 2),
            _ => (0, 0),
        };
        let sources = tic::SOURCES.of(header);
        let component = |n: u32| Component::from_bits(sources >> (3 * n));
        let last = tic::MAX_MIP_LEVEL.of(header);
        let view = match shape {
            Shape::Buffer | Shape::Pitch => (0, 0),
            _ => {
                let first = tic::RES_VIEW_MIN_MIP_LEVEL.of(header).min(last);
                let end = tic::RES_VIEW_MAX_MIP_LEVEL.of(header).min(last);
                (first, end.max(first))
            }
        };
        let mut texture = Self {
            shape,
            normalized: tic::NORMALIZED_COORDS.of(header) != 0,
            components: [component(0), component(1), component(2), component(3)],
            format,
            base: u64::from(tic::OFFSET_UPPER.of(header)) << 32
                | u64::from(tic::OFFSET_LOWER.of(header)),
            pitch: tic::PITCH.of(header),
            size,
            layer_stride: 0,
            levels: Vec::new(),
            view,
            samples,
            min_lod: tic::MIN_LOD_CLAMP.fixed(header),
        };
        if !matches!(shape, Shape::Buffer | Shape::Pitch) {
            let block = [
                tic::GOBS_PER_BLOCK_WIDTH,
                tic::GOBS_PER_BLOCK_HEIGHT,
                tic::GOBS_PER_BLOCK_DEPTH,
            ];
            texture.lay_out(block.map(|log2| log2.of(header).min(MAX_BLOCK)), last);
        }
        Some(texture)
    }

    /// Finds the levels. Each is tiled like the first, in blocks that are no larger than it needs.
    ///
    /// Source: M25 `nvc0/nvc0_miptree.c nvc0_miptree_init_layout_tiled`.
    fn lay_out(&mut self, block: [u32; 3], last: u32) {
        let (block_x, block_y) = self.format.block_size();
        let mut total = 0;
        for level in 0..=last {
            let [width, height, depth] = self.level_size(level);
            let width = (width << self.samples.0).div_ceil(block_x);
            let rows = (height << self.samples.1).div_ceil(block_y);
            let depth = if self.shape == Shape::D3 { depth } else { 1 };
            let log2 = |n: u32| n.next_power_of_two().trailing_zeros();
            let layout = Layout {
                block_width: block[0],
                block_height: block[1].min(log2(rows.div_ceil(GOB_HEIGHT))),
                block_depth: block[2].min(log2(depth)),
                width: width * self.format.block_bytes(),
                height: rows,
                depth,
            };
            let offset = total;
            total += layout.bytes();
            self.levels.push(Level { offset, layout });
        }
        let tile = GOB_BYTES
            << self.levels.first().map_or(0, |level| {
                let layout = &level.layout;
                layout.block_width + layout.block_height + layout.block_depth
            });
        self.layer_stride = total.next_multiple_of(tile);
    }

    /// Texels of a level, counted from the largest that there is.
    fn level_size(&self, level: u32) -> [u32; 3] {
        let [width, height, depth] = self.size;
        let minify = |n: u32| (n >> level.min(31)).max(1);
        match self.shape {
            Shape::Buffer => self.size,
            Shape::D3 => [minify(width), minify(height), minify(depth)],
            _ => [minify(width), minify(height), depth],
        }
    }

    /// Levels that can be seen.
    pub fn level_count(&self) -> u32 {
        self.view.1 - self.view.0 + 1
    }

    /// Texels of a level, counted from the first that can be seen; with layers or cubes of arrays.
    pub fn level_texels(&self, level: u32) -> [u32; 3] {
        self.level_size(self.view.0 + level.min(self.level_count() - 1))
    }

    /// Layers of an array, faces of cubes counted each; 1 of what is none.
    pub fn layers(&self) -> u32 {
        match self.shape {
            Shape::D1Array | Shape::D2Array => self.size[2],
            Shape::Cube => 6,
            Shape::CubeArray => 6 * self.size[2],
            _ => 1,
        }
    }

    /// Samples of a texel.
    pub fn sample_count(&self) -> u32 {
        1 << (self.samples.0 + self.samples.1)
    }

    /// Results are integers, which cannot be filtered.
    pub fn is_integer(&self) -> bool {
        self.components.iter().any(|component| match component {
            Component::Of(n) => self.format.is_integer((*n).into()),
            _ => false,
        })
    }

    /// The component that a comparison looks at.
    pub fn depth_component(&self) -> usize {
        match self.components[0] {
            Component::Of(n) => n.into(),
            _ => 0,
        }
    }

    /// The components of the texel at `x`, `y`, `z` (a layer of arrays) of a level, which are
    /// inside. Sample 0 of a texel with several is `(0, 0)`.
    ///
    /// # Errors
    ///
    /// The memory cannot be read.
    pub fn texel(
        &self,
        reader: &mut Reader<'_, '_>,
        level: u32,
        [x, y, z]: [u32; 3],
        sample: (u32, u32),
    ) -> Result<[u32; 4], Fault> {
        let x = x << self.samples.0 | sample.0;
        let y = y << self.samples.1 | sample.1;
        let bytes = self.format.block_bytes();
        let (block_x, block_y) = self.format.block_size();
        let (column, row) = (x / block_x * bytes, y / block_y);
        let level = self.levels.get((self.view.0 + level) as usize);
        let offset = match level {
            None => u64::from(row) * u64::from(self.pitch) + u64::from(column),
            Some(Level { offset, layout }) if self.shape == Shape::D3 => {
                offset + layout.offset(column, row, z)
            }
            Some(Level { offset, layout }) => {
                let layer = u64::from(z) * self.layer_stride;
                layer + offset + layout.offset(column, row, 0)
            }
        };
        let block = reader.block(self.base.wrapping_add(offset), bytes as usize)?;
        Ok(self.format.decode(&block, x % block_x, y % block_y))
    }

    /// Where a sample of a texel is stored, in x and y from its first; `None` if there is no such
    /// sample.
    ///
    /// Source: M25 `nvc0/nvc0_context.h NVC0_CB_AUX_MS_INFO`, `nvc0_screen.c`.
    pub fn sample_offset(&self, sample: u32) -> Option<(u32, u32)> {
        const OFFSETS: [(u32, u32); 8] = [
            (0, 0),
            (1, 0),
            (0, 1),
            (1, 1),
            (2, 0),
            (3, 0),
            (2, 1),
            (3, 1),
        ];
        let (x, y) = self.samples;
        OFFSETS
            .get(sample as usize)
            .copied()
            .filter(|at| at.0 < 1 << x && at.1 < 1 << y)
    }

    /// A result's components from those of a texel.
    pub fn result(&self, texel: [u32; 4]) -> [u32; 4] {
        let mut result = [0; 4];
        for (out, component) in result.iter_mut().zip(self.components) {
            *out = match component {
                Component::Zero => 0,
                Component::Of(n) => texel[usize::from(n) & 3],
                Component::OneInt => 1,
                Component::OneFloat => 1f32.to_bits(),
            };
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of 8-bit red: type, width, height, depth, blocks 4 GOBs high and 2 deep, 8 levels.
    fn header(ty: u32, [width, height, depth]: [u32; 3]) -> Header {
        [
            0x1d | 2 << 6 | 2 << 9 | 2 << 12 | 2 << 15 | 2 << 18,
            0,
            ty << 14 | 2 << 22 | 1 << 25 | 1 << 31,
            0,
            1 << 31 | width,
            7 << 28 | depth << 16 | height,
            0,
            7 << 4,
        ]
    }

    #[test]
    fn levels_follow_each_other_in_blocks_that_fit_them() {
        let texture = Texture::new(&header(1, [100, 40, 1])).unwrap();
        let blocks: Vec<_> = texture
            .levels
            .iter()
            .map(|level| (level.offset, level.layout.block_height))
            .collect();
        // 2 x 2 blocks of 2 KiB, 1 x 1 of 2 KiB, then of 1 KiB and of single GOBs.
        assert_eq!(
            blocks[..5],
            [(0, 2), (0x2000, 2), (0x2800, 1), (0x2c00, 0), (0x2e00, 0)]
        );
        assert_eq!(texture.layer_stride, 0x3800);
    }

    #[test]
    fn a_view_counts_levels_from_its_first() {
        let mut header = header(2, [64, 32, 16]);
        header[7] = 4 << 4 | 2;
        let texture = Texture::new(&header).unwrap();
        assert_eq!(texture.level_count(), 3);
        assert_eq!(texture.level_texels(0), [16, 8, 4]);
        assert_eq!(texture.level_texels(9), [4, 2, 1]);
    }

    #[test]
    fn any_header_is_decoded() {
        let mut seed = 1u64;
        for _ in 0..10_000 {
            let header: Header = std::array::from_fn(|_| {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (seed >> 32) as u32
            });
            if let Some(texture) = Texture::new(&header) {
                assert!(texture.level_count() >= 1);
                assert!(texture.level_texels(0).iter().all(|&n| n >= 1));
            }
        }
    }
}
