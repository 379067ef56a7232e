//! Where the fields of texture and sampler headers are: TIC and TSC, 8 words each.
//!
//! Source: ENV `rnndb/graph/g80_texture.xml`; M25 `nvc0/nvc0_tex.c gf100_create_texture_view`,
//! `nv50/nv50_state.c nv50_sampler_state_create`.

/// Bytes of a header.
pub const HEADER_BYTES: u32 = 32;

/// A header's words.
pub type Header = [u32; HEADER_BYTES as usize / 4];

/// Some bits of a word of a header.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    word: usize,
    lo: u32,
    len: u32,
}

impl Field {
    /// The field's value in a header.
    pub fn of(self, header: &Header) -> u32 {
        header[self.word] >> self.lo & (u32::MAX >> (32 - self.len))
    }

    /// The value as a number in two's complement with 8 bits of fraction.
    pub fn signed_fixed(self, header: &Header) -> f32 {
        let unused = 32 - self.len;
        (((self.of(header) << unused) as i32) >> unused) as f32 / 256.0
    }

    /// The value as a number with 8 bits of fraction.
    pub fn fixed(self, header: &Header) -> f32 {
        self.of(header) as f32 / 256.0
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $word:expr, $lo:expr, $len:expr;)*) => {
        $(
            $(#[$doc])*
            pub const $name: Field = Field { word: $word, lo: $lo, len: $len };
        )*
    };
}

/// Fields of a texture header.
pub mod tic {
    use super::Field;

    fields! {
        /// The format: how wide components are.
        COMPONENTS_SIZES = 0, 0, 6;
        /// Data type of the first component; those of the others follow, 3 bits each.
        DATA_TYPES = 0, 6, 12;
        /// What the result's first component is; those of the others follow, 3 bits each.
        SOURCES = 0, 18, 12;
        OFFSET_LOWER = 1, 0, 32;
        OFFSET_UPPER = 2, 0, 8;
        SRGB_CONVERSION = 2, 10, 1;
        TEXTURE_TYPE = 2, 14, 4;
        LAYOUT_PITCH = 2, 18, 1;
        /// log2 of a block's GOBs.
        GOBS_PER_BLOCK_WIDTH = 2, 19, 3;
        GOBS_PER_BLOCK_HEIGHT = 2, 22, 3;
        GOBS_PER_BLOCK_DEPTH = 2, 25, 3;
        NORMALIZED_COORDS = 2, 31, 1;
        PITCH = 3, 0, 20;
        WIDTH = 4, 0, 30;
        HEIGHT = 5, 0, 16;
        DEPTH = 5, 16, 12;
        /// The last level that there is.
        MAX_MIP_LEVEL = 5, 28, 4;
        /// The levels that can be seen.
        RES_VIEW_MIN_MIP_LEVEL = 7, 0, 4;
        RES_VIEW_MAX_MIP_LEVEL = 7, 4, 4;
        HEIGHT_MSB = 7, 8, 1;
        MULTI_SAMPLE_COUNT = 7, 12, 4;
        MIN_LOD_CLAMP = 7, 16, 12;
        DEPTH_MSB = 7, 28, 3;
    }
}

/// Fields of a sampler header.
pub mod tsc {
    use super::Field;

    fields! {
        ADDRESS_U = 0, 0, 3;
        ADDRESS_V = 0, 3, 3;
        ADDRESS_P = 0, 6, 3;
        DEPTH_COMPARE = 0, 9, 1;
        DEPTH_COMPARE_FUNC = 0, 10, 3;
        MAG_FILTER = 1, 0, 2;
        MIN_FILTER = 1, 4, 2;
        MIP_FILTER = 1, 6, 2;
        MIP_LOD_BIAS = 1, 12, 13;
        MIN_LOD_CLAMP = 2, 0, 12;
        MAX_LOD_CLAMP = 2, 12, 12;
    }

    /// The first word of the border's colour.
    pub const BORDER_COLOR: usize = 4;
    /// [`MAG_FILTER`], [`MIN_FILTER`]: linear.
    pub const FILTER_LINEAR: u32 = 2;
    /// [`MIP_FILTER`]: nearest.
    pub const MIP_FILTER_NEAREST: u32 = 2;
    /// [`MIP_FILTER`]: linear.
    pub const MIP_FILTER_LINEAR: u32 = 3;
}
