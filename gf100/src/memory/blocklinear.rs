//! Tiled surfaces.
//!
//! A surface is made of blocks, a block of GOBs, a GOB of 64 bytes by 8 rows. GOBs in a block and
//! blocks in a surface are counted x first, then y, then z. Inside a GOB, 16-byte columns are
//! arranged in pairs of rows.
//!
//! Source: ENV `docs/hw/memory/g80-surface.rst` (blocks); M25 `src/nouveau/nil/copy.rs` (GOB),
//! `src/gallium/drivers/nouveau/nvc0/nvc0_resource.h` NVC0_TILE_* (mode).

/// Bytes of a GOB.
pub const GOB_BYTES: u64 = 512;
/// Bytes of a GOB's row.
pub const GOB_WIDTH: u32 = 64;
/// Rows of a GOB.
pub const GOB_HEIGHT: u32 = 8;

/// How a surface is laid out. All fields are what a guest may write; sizes are in bytes and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// log2 of a block's width in GOBs.
    pub block_width: u32,
    /// log2 of a block's height in GOBs.
    pub block_height: u32,
    /// log2 of a block's depth in GOBs.
    pub block_depth: u32,
    /// Bytes of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Layers.
    pub depth: u32,
}

impl Layout {
    /// The layout that a `TILE_MODE` method describes: log2 sizes in GOBs, 4 bits each, of which
    /// hardware knows up to 5.
    pub fn new(tile_mode: u32, width: u32, height: u32, depth: u32) -> Self {
        let field = |shift: u32| (tile_mode >> shift & 0xf).min(5);
        Self {
            block_width: field(0),
            block_height: field(4),
            block_depth: field(8),
            width,
            height,
            depth,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(&self) -> u64 {
        GOB_BYTES << (self.block_width + self.block_height + self.block_depth)
    }

    /// Blocks in a row of blocks.
    fn blocks_x(&self) -> u64 {
        u64::from(self.width.div_ceil(GOB_WIDTH << self.block_width))
    }

    /// Rows of blocks in a layer of blocks.
    fn blocks_y(&self) -> u64 {
        u64::from(self.height.div_ceil(GOB_HEIGHT << self.block_height))
    }

    /// Bytes of the surface.
    pub fn bytes(&self) -> u64 {
        let layers = u64::from(self.depth.div_ceil(1 << self.block_depth));
        self.blocks_x()
            .saturating_mul(self.blocks_y())
            .saturating_mul(layers)
            .saturating_mul(self.block_bytes())
    }

    /// Where the GOB with byte `x` of row `y` of layer `z` starts, from the start of the surface.
    /// Wraps where no surface can be.
    pub fn gob(&self, x: u32, y: u32, z: u32) -> u64 {
        let (gx, gy) = (x / GOB_WIDTH, y / GOB_HEIGHT);
        let block = u64::from(gx >> self.block_width)
            .wrapping_add(u64::from(gy >> self.block_height).wrapping_mul(self.blocks_x()))
            .wrapping_add(
                u64::from(z >> self.block_depth)
                    .wrapping_mul(self.blocks_x())
                    .wrapping_mul(self.blocks_y()),
            );
        let low = |value: u32, bits: u32| u64::from(value & ((1 << bits) - 1));
        let gob = low(gx, self.block_width)
            | low(gy, self.block_height) << self.block_width
            | low(z, self.block_depth) << (self.block_width + self.block_height);
        block
            .wrapping_mul(self.block_bytes())
            .wrapping_add(gob * GOB_BYTES)
    }

    /// Where byte `x` of row `y` of layer `z` is, from the start of the surface.
    pub fn offset(&self, x: u32, y: u32, z: u32) -> u64 {
        self.gob(x, y, z).wrapping_add(within_gob(x, y))
    }
}

/// Where byte `x` of row `y` is in its GOB; 16 bytes that start at a multiple of 16 stay together.
pub const fn within_gob(x: u32, y: u32) -> u64 {
    ((x & 0x20) << 3 | (y & 6) << 5 | (x & 0x10) << 1 | (y & 1) << 4 | (x & 15)) as u64
}
