//! Block-linear addresses of GF100.
//!
//! A GOB is 64 bytes by 8 lines; a block is one GOB wide and a power of two of GOBs high and
//! deep; blocks fill the surface in x, then y, then z. Sources: the surface arithmetic of
//! `nvkm/engine/ce/fuc/com.fuc` (`cmd_exec_set_surface_tiled`) and Mesa `nvc0_resource.h`
//! (`NVC0_TILE_*`). The order inside a GOB is the one published for Tegra X1.

/// Bytes of a GOB's line.
pub const GOB_WIDTH: u32 = 64;
/// Lines of a GOB.
pub const GOB_HEIGHT: u32 = 8;
/// Bytes of a GOB.
pub const GOB_BYTES: u64 = 512;
/// Bytes that stay together inside a GOB.
pub const SECTOR_BYTES: u64 = 16;

/// A block-linear surface; widths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Slices.
    pub depth: u32,
    /// Logarithm of a block's height in GOBs.
    pub log2_height: u32,
    /// Logarithm of a block's depth in GOBs.
    pub log2_depth: u32,
}

impl Layout {
    /// The layout as the engines' tile mode: height in bits 7:4, depth in 11:8.
    pub fn tile_mode(&self) -> u32 {
        self.log2_height << 4 | self.log2_depth << 8
    }

    fn block_bytes(&self) -> u64 {
        GOB_BYTES << self.log2_height << self.log2_depth
    }

    fn blocks_x(&self) -> u64 {
        u64::from(self.width.div_ceil(GOB_WIDTH))
    }

    fn blocks_y(&self) -> u64 {
        u64::from(self.height.div_ceil(GOB_HEIGHT << self.log2_height))
    }

    fn blocks_z(&self) -> u64 {
        u64::from(self.depth.div_ceil(1 << self.log2_depth))
    }

    /// Bytes of the whole surface.
    pub fn bytes(&self) -> u64 {
        self.blocks_x() * self.blocks_y() * self.blocks_z() * self.block_bytes()
    }

    /// Offset of the GOB that holds byte `x` of line `y` in slice `z`.
    pub fn gob(&self, x: u32, y: u32, z: u32) -> u64 {
        let gob_y = y / GOB_HEIGHT;
        let block = (u64::from(z >> self.log2_depth) * self.blocks_y()
            + u64::from(gob_y >> self.log2_height))
            * self.blocks_x()
            + u64::from(x / GOB_WIDTH);
        let slice = u64::from(z & ((1 << self.log2_depth) - 1));
        let row = u64::from(gob_y & ((1 << self.log2_height) - 1));
        block * self.block_bytes() + ((slice << self.log2_height) + row) * GOB_BYTES
    }

    /// Offset of byte `x` of line `y` in slice `z`.
    pub fn offset(&self, x: u32, y: u32, z: u32) -> u64 {
        self.gob(x, y, z) + in_gob(x % GOB_WIDTH, y % GOB_HEIGHT)
    }
}

/// Offset inside a GOB of byte `x` of line `y`.
fn in_gob(x: u32, y: u32) -> u64 {
    u64::from((x & 0x20) << 3 | (y & 6) << 5 | (x & 0x10) << 1 | (y & 1) << 4 | x & 0xf)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes of a surface in the order of memory, by walking blocks, GOBs and sectors.
    fn in_memory_order(layout: &Layout) -> Vec<(u32, u32, u32)> {
        let (block_y, block_z) = (8 << layout.log2_height, 1 << layout.log2_depth);
        let mut bytes = Vec::new();
        for z0 in (0..layout.depth).step_by(block_z as usize) {
            for y0 in (0..layout.height).step_by(block_y as usize) {
                for x0 in (0..layout.width).step_by(64) {
                    for z in z0..z0 + block_z {
                        for gob_y in (y0..y0 + block_y).step_by(8) {
                            gob_in_memory_order(x0, gob_y, z, &mut bytes);
                        }
                    }
                }
            }
        }
        bytes
    }

    /// A GOB is two halves of 32 bytes by 8 lines; a half four pairs of lines; a pair two
    /// columns of 16 bytes; a column two sectors.
    fn gob_in_memory_order(x0: u32, y0: u32, z: u32, bytes: &mut Vec<(u32, u32, u32)>) {
        for half in 0..2 {
            for pair in 0..4 {
                for column in 0..2 {
                    for line in 0..2 {
                        for byte in 0..16 {
                            let x = x0 + half * 32 + column * 16 + byte;
                            bytes.push((x, y0 + pair * 2 + line, z));
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn offset_is_the_rank_in_memory_order(
            width in 1u32..200, height in 1u32..80, depth in 1u32..5,
            log2_height in 0u32..4, log2_depth in 0u32..3,
        ) {
            let layout = Layout { width, height, depth, log2_height, log2_depth };
            let bytes = in_memory_order(&layout);
            prop_assert_eq!(layout.bytes(), bytes.len() as u64);
            for (rank, &(x, y, z)) in bytes.iter().enumerate() {
                prop_assert_eq!(layout.offset(x, y, z), rank as u64);
            }
        }
    }

    #[test]
    fn second_gob_row_of_a_block_follows_the_first() {
        let layout = Layout {
            width: 128,
            height: 16,
            depth: 1,
            log2_height: 1,
            log2_depth: 0,
        };
        assert_eq!(layout.offset(0, 8, 0), 512);
        assert_eq!(layout.offset(64, 0, 0), 1024);
        assert_eq!(layout.tile_mode(), 0x10);
    }
}
