//! Tiled surfaces.
//!
//! A surface is made of blocks, a block of GOBs, a GOB of 64 bytes by 8 rows. GOBs in a block and
//! blocks in a surface are counted x first, then y, then z. Inside a GOB, 16-byte columns are
//! arranged in pairs of rows.
//!
//! Source: ENV `docs/hw/memory/g80-surface.rst` (blocks); M25 `src/nouveau/nil/copy.rs` (GOB),
//! `src/gallium/drivers/nouveau/nvc0/nvc0_resource.h` NVC0_TILE_* (mode).

use std::ops::Range;

use super::HostSpan;

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

/// Bytes of a surface: `width` bytes of `height` rows of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// First byte of a row.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// The layer.
    pub z: u32,
    /// Bytes of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// The part of a rectangle in one GOB.
struct Piece {
    /// Where the GOB starts, from the start of the surface.
    gob: u64,
    /// Bytes of the GOB's rows.
    x: Range<u32>,
    /// Rows of the GOB.
    y: Range<u32>,
    /// Where the first of these bytes is in the linear copy.
    linear: usize,
}

impl Piece {
    fn whole(&self) -> bool {
        self.x == (0..GOB_WIDTH) && self.y == (0..GOB_HEIGHT)
    }

    /// Calls `each` with the offset in the GOB, that in the linear copy, and the length of every
    /// run that is contiguous in both.
    fn for_each_run(&self, pitch: usize, mut each: impl FnMut(usize, usize, usize)) {
        for (row, y) in self.y.clone().enumerate() {
            let mut x = self.x.start;
            while x < self.x.end {
                let end = ((x | 15) + 1).min(self.x.end);
                let linear = self.linear + row * pitch + (x - self.x.start) as usize;
                each(within_gob(x, y) as usize, linear, (end - x) as usize);
                x = end;
            }
        }
    }
}

/// The pieces of `rect`, GOB by GOB, row of GOBs by row of GOBs.
fn for_each_piece<E>(
    layout: &Layout,
    rect: Rect,
    pitch: usize,
    mut each: impl FnMut(Piece) -> Result<(), E>,
) -> Result<(), E> {
    let (right, bottom) = (
        rect.x.saturating_add(rect.width),
        rect.y.saturating_add(rect.height),
    );
    let mut y = rect.y;
    while y < bottom {
        let (top, rows) = (
            y % GOB_HEIGHT,
            (GOB_HEIGHT - y % GOB_HEIGHT).min(bottom - y),
        );
        let mut x = rect.x;
        while x < right {
            let (left, bytes) = (x % GOB_WIDTH, (GOB_WIDTH - x % GOB_WIDTH).min(right - x));
            each(Piece {
                gob: layout.gob(x, y, rect.z),
                x: left..left + bytes,
                y: top..top + rows,
                linear: (y - rect.y) as usize * pitch + (x - rect.x) as usize,
            })?;
            x += bytes;
        }
        y += rows;
    }
    Ok(())
}

/// Copies `rect` of a tiled surface to rows that are `pitch` bytes apart; `gob` finds the 512 bytes
/// of the GOB at an offset from the surface's start. What does not fit into `out` or is not in the
/// found memory is left out.
///
/// # Errors
///
/// The first of `gob`; the GOBs before it were copied.
pub fn to_linear<'a, E>(
    layout: &Layout,
    rect: Rect,
    out: &mut [u8],
    pitch: usize,
    mut gob: impl FnMut(u64) -> Result<HostSpan<'a>, E>,
) -> Result<(), E> {
    for_each_piece(layout, rect, pitch, |piece| {
        let span = gob(piece.gob)?;
        let rows = out.get_mut(piece.linear..).unwrap_or_default();
        if piece.whole()
            && span.len() >= GOB_BYTES as usize
            && rows.len() >= pitch * 7 + GOB_WIDTH as usize
            && pitch >= GOB_WIDTH as usize
        {
            // SAFETY: the GOB is 512 readable bytes; the last of its rows ends within `rows`.
            unsafe { gob_to_linear(span.as_ptr().as_ptr(), rows.as_mut_ptr(), pitch) };
            return Ok(());
        }
        piece.for_each_run(pitch, |tiled, linear, len| {
            if let Some(run) = out.get_mut(linear..).and_then(|rest| rest.get_mut(..len)) {
                span.skip(tiled).copy_to(run);
            }
        });
        Ok(())
    })
}

/// Copies rows that are `pitch` bytes apart to `rect` of a tiled surface; `gob` finds the 512
/// writable bytes of the GOB at an offset from the surface's start. What is not in `data` or in the
/// found memory is left out.
///
/// # Errors
///
/// The first of `gob`; the GOBs before it were copied.
pub fn from_linear<'a, E>(
    layout: &Layout,
    rect: Rect,
    data: &[u8],
    pitch: usize,
    mut gob: impl FnMut(u64) -> Result<HostSpan<'a>, E>,
) -> Result<(), E> {
    for_each_piece(layout, rect, pitch, |piece| {
        let span = gob(piece.gob)?;
        let rows = data.get(piece.linear..).unwrap_or_default();
        if piece.whole()
            && span.writable()
            && span.len() >= GOB_BYTES as usize
            && rows.len() >= pitch * 7 + GOB_WIDTH as usize
        {
            // SAFETY: the GOB is 512 writable bytes; the last of its rows ends within `rows`.
            unsafe { gob_from_linear(span.as_ptr().as_ptr(), rows.as_ptr(), pitch) };
            return Ok(());
        }
        piece.for_each_run(pitch, |tiled, linear, len| {
            if let Some(run) = data.get(linear..).and_then(|rest| rest.get(..len)) {
                span.skip(tiled).copy_from(run);
            }
        });
        Ok(())
    })
}

/// Copies a whole GOB to 8 rows of 64 bytes.
///
/// # Safety
///
/// `gob` has 512 readable bytes and `rows` 8 writable rows, `pitch` apart; they do not overlap.
unsafe fn gob_to_linear(gob: *const u8, rows: *mut u8, pitch: usize) {
    for y in 0..GOB_HEIGHT {
        for x in (0..GOB_WIDTH).step_by(16) {
            // SAFETY: inside both by the caller.
            unsafe {
                let row = rows.add(y as usize * pitch + x as usize);
                row.copy_from_nonoverlapping(gob.add(within_gob(x, y) as usize), 16);
            }
        }
    }
}

/// Copies 8 rows of 64 bytes to a whole GOB.
///
/// # Safety
///
/// `gob` has 512 writable bytes and `rows` 8 readable rows, `pitch` apart; they do not overlap.
unsafe fn gob_from_linear(gob: *mut u8, rows: *const u8, pitch: usize) {
    for y in 0..GOB_HEIGHT {
        for x in (0..GOB_WIDTH).step_by(16) {
            // SAFETY: inside both by the caller.
            unsafe {
                let row = rows.add(y as usize * pitch + x as usize);
                row.copy_to_nonoverlapping(gob.add(within_gob(x, y) as usize), 16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::Vram;

    /// The definition in ENV `g80-surface.rst`, step by step, with the GOB's bytes by enumeration.
    fn definition(layout: &Layout, x: u64, y: u64, z: u64) -> u64 {
        let gobs = [
            1u64 << layout.block_width,
            1 << layout.block_height,
            1 << layout.block_depth,
        ];
        let block = [64 * gobs[0], 8 * gobs[1], gobs[2]];
        let block_bytes = 512 * gobs[0] * gobs[1] * gobs[2];
        let blocks_x = u64::from(layout.width).div_ceil(block[0]);
        let blocks_y = u64::from(layout.height).div_ceil(block[1]);
        let block_at = (x / block[0]) * block_bytes
            + (y / block[1]) * block_bytes * blocks_x
            + (z / block[2]) * block_bytes * blocks_x * blocks_y;
        let (bx, by, bz) = (x % block[0], y % block[1], z % block[2]);
        let gob_at = bx / 64 * 512 + by / 8 * 512 * gobs[0] + bz * 512 * gobs[0] * gobs[1];
        // A GOB in the order of its bytes: two halves of 32 bytes, in each four groups of two rows,
        // in each two columns of 16 bytes, in each two rows.
        let mut at = 0;
        for half in 0..2 {
            for pair in 0..4 {
                for column in 0..2 {
                    for row in 0..2 {
                        for byte in 0..16 {
                            let here = (half * 32 + column * 16 + byte, pair * 2 + row);
                            if here == (bx % 64, by % 8) {
                                return block_at + gob_at + at;
                            }
                            at += 1;
                        }
                    }
                }
            }
        }
        unreachable!("every byte of a GOB is enumerated")
    }

    fn layouts() -> impl Strategy<Value = Layout> {
        (0u32..3, 0u32..6, 0u32..4, 1u32..300, 1u32..100, 1u32..6).prop_map(
            |(block_width, block_height, block_depth, width, height, depth)| Layout {
                block_width,
                block_height,
                block_depth,
                width,
                height,
                depth,
            },
        )
    }

    proptest! {
        #[test]
        fn an_offset_is_what_the_definition_says(
            layout in layouts(), x in 0u32..300, y in 0u32..100, z in 0u32..6,
        ) {
            let (x, y, z) = (x % layout.width, y % layout.height, z % layout.depth);
            let offset = layout.offset(x, y, z);
            prop_assert_eq!(offset, definition(&layout, x.into(), y.into(), z.into()));
            prop_assert!(offset < layout.bytes());
        }

        #[test]
        fn copies_agree_with_the_offsets_of_their_bytes(
            layout in layouts(),
            (x, y, z, width, height) in (0u32..300, 0u32..100, 0u32..6, 0u32..300, 0u32..100),
            gap in 0usize..70,
        ) {
            let (x, y, z) = (x % layout.width, y % layout.height, z % layout.depth);
            let rect = Rect {
                x,
                y,
                z,
                width: width.min(layout.width - x),
                height: height.min(layout.height - y),
            };
            let pitch = rect.width as usize + gap;
            let vram = Vram::new(layout.bytes().next_multiple_of(1 << 20)).unwrap();
            let gob = |at| Ok::<_, Infallible>(vram.span(at, GOB_BYTES as usize).unwrap());
            let data: Vec<u8> = (0..pitch * rect.height as usize).map(|n| n as u8 | 1).collect();
            from_linear(&layout, rect, &data, pitch, gob).unwrap();
            let mut tiled = vec![0; layout.bytes() as usize];
            for (row, col) in (0..rect.height).flat_map(|r| (0..rect.width).map(move |c| (r, c))) {
                tiled[layout.offset(x + col, y + row, z) as usize] =
                    data[row as usize * pitch + col as usize];
            }
            let mut written = vec![0; tiled.len()];
            vram.read(0, &mut written);
            prop_assert!(written == tiled);
            let mut back = vec![0; data.len()];
            to_linear(&layout, rect, &mut back, pitch, gob).unwrap();
            for (n, byte) in back.iter().enumerate() {
                let gap = n % pitch >= rect.width as usize;
                prop_assert_eq!(*byte, if gap { 0 } else { data[n] });
            }
        }
    }

    #[test]
    fn a_tile_mode_holds_the_sizes_of_a_block() {
        let layout = Layout::new(0x140, 256, 128, 2);
        assert_eq!(
            (layout.block_width, layout.block_height, layout.block_depth),
            (0, 4, 1)
        );
        assert_eq!(layout.block_bytes(), 512 * 32);
        assert_eq!(layout.bytes(), 4 * 512 * 32);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let vram = Vram::new(1 << 20).unwrap();
        vram.fill(0, 1 << 20, 0xaa);
        let layout = Layout::new(0x10, 64, 16, 1);
        let rect = Rect {
            x: 0,
            y: 0,
            z: 0,
            width: 64,
            height: 16,
        };
        let gob = |at| Ok::<_, Infallible>(vram.span_from(at));
        let mut out = [0; 100];
        to_linear(&layout, rect, &mut out, 64, gob).unwrap();
        assert_eq!(out[..96], [0xaa; 96]);
        from_linear(&layout, rect, &[], 64, gob).unwrap();
        let absurd = Layout::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX);
        let rect = Rect {
            x: u32::MAX - 9,
            y: u32::MAX,
            z: u32::MAX,
            width: 99,
            height: 99,
        };
        to_linear(&absurd, rect, &mut out, 0, gob).unwrap();
    }
}
