//! Images: what surface instructions load from and store to.
//!
//! Source: ENV `rnndb/graph/gf100_compute.xml IMAGE`; M25 `nvc0/nvc0_tex.c nvc0_validate_suf`.

use super::launch::Image;
use crate::{
    format::{Format, ZetaFormat},
    memory::blocklinear::Layout,
};

/// Fields of the methods of an image.
mod field {
    /// HEIGHT: rows.
    pub const HEIGHT: u32 = 0xffff;
    /// HEIGHT: the image is rows of bytes.
    pub const LINEAR: u32 = 1 << 20;
    /// FORMAT: shift and mask of the colour format.
    pub const COLOR: (u32, u32) = (4, 0xff);
    /// FORMAT: shift and mask of the depth format.
    pub const ZETA: (u32, u32) = (12, 0x1f);
    /// FORMAT: the depth format of a colour image.
    pub const ZETA_NONE: u32 = 0x14;
}

/// What pixels of an image are.
#[derive(Clone, Copy, Debug)]
pub enum Pixel {
    /// A colour.
    Color(Format),
    /// Something of this many bytes.
    Raw(u32),
}

/// A bound image.
#[derive(Clone, Copy, Debug)]
pub struct View {
    address: u64,
    /// `None`: rows of bytes.
    tiling: Option<u32>,
    /// In bytes.
    width: u32,
    height: u32,
    /// The pixels.
    pub pixel: Pixel,
}

impl View {
    /// What is bound; `None` if nothing is.
    pub fn new(image: &Image) -> Option<Self> {
        let part = |(shift, mask): (u32, u32)| image.format >> shift & mask;
        let pixel = match part(field::ZETA) {
            field::ZETA_NONE => Pixel::Color(Format::color(part(field::COLOR))?),
            zeta => Pixel::Raw(ZetaFormat::new(zeta)?.bytes),
        };
        let height = image.height & field::HEIGHT;
        if image.address == 0 || image.width == 0 || height == 0 {
            return None;
        }
        let linear = image.height & field::LINEAR != 0;
        let mut view = Self {
            address: image.address,
            tiling: (!linear).then_some(image.block_dimensions),
            width: image.width,
            height,
            pixel,
        };
        if !linear {
            view.width = image.width.saturating_mul(view.pixel_bytes());
        }
        Some(view)
    }

    /// Bytes of a pixel.
    pub fn pixel_bytes(&self) -> u32 {
        match &self.pixel {
            Pixel::Color(format) => format.bytes(),
            Pixel::Raw(bytes) => *bytes,
        }
    }

    /// The address of byte `x` of row `y`, `len` bytes from where on belong together; `None` if
    /// they are not all inside.
    pub fn at(&self, x: u32, y: u32, len: u32) -> Option<u64> {
        let inside = y < self.height && u64::from(x) + u64::from(len) <= u64::from(self.width);
        inside.then(|| self.address.wrapping_add(self.offset(x, y)))
    }

    fn offset(&self, x: u32, y: u32) -> u64 {
        match self.tiling {
            None => u64::from(y) * u64::from(self.width) + u64::from(x),
            Some(mode) => Layout::new(mode, self.width, self.height, 1).offset(x, y, 0),
        }
    }

    /// As [`View::at`] with the nearest coordinates inside.
    pub fn clamped(&self, x: i32, y: i32, len: u32) -> u64 {
        let x = x.clamp(
            0,
            self.width.saturating_sub(len).min(i32::MAX as u32) as i32,
        ) as u32;
        let y = y.clamp(0, self.height as i32 - 1) as u32;
        self.address.wrapping_add(self.offset(x / len * len, y))
    }
}
