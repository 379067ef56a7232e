//! Clears of render targets and of depth and stencil, which are also how buffers are filled.
//!
//! Source: ENV `rnndb/graph/gf100_3d.xml` CLEAR_BUFFERS, RT, ZETA; M25 `nvc0/nvc0_surface.c
//! nvc0_clear_buffer, nvc0_clear_render_target, nvc0_clear_depth_stencil`.

use super::bits::threed;
use super::bits::threed::{clear, clear_flags, rt, zeta};
use super::classes::Class;
use super::context::Context;
use super::surface::{Area, Surface, Walk};
use crate::engine::Pause;
use crate::format::{Format, ZetaFormat};
use crate::memory::blocklinear::Layout;
use crate::memory::{Client, Fault};
use crate::pace::Pace;

/// A rectangle that gets one value. It keeps its parameters, so the methods may be changed by
/// whoever runs while it is parked.
#[derive(Clone, Debug)]
pub struct Fill {
    surface: Surface,
    /// Where the rectangle starts.
    column: u32,
    line: u32,
    walk: Walk,
    /// Bytes of a pixel.
    bytes: usize,
    pixel: [u8; 16],
    /// The bits that change.
    mask: [u8; 16],
}

/// Pixels from..to in both directions.
#[derive(Clone, Copy)]
struct Window {
    x: (u32, u32),
    y: (u32, u32),
}

impl Window {
    /// What is in both: `horizontal` and `vertical` are start and end.
    fn clip(self, horizontal: (u32, u32), vertical: (u32, u32)) -> Self {
        let both = |a: (u32, u32), b: (u32, u32)| (a.0.max(b.0), a.1.min(b.1));
        Self {
            x: both(self.x, horizontal),
            y: both(self.y, vertical),
        }
    }
}

/// Start and end of a range that a method gives as start and length.
fn start_and_length(word: u32) -> (u32, u32) {
    let start = word & 0xffff;
    (start, start + (word >> 16))
}

/// Start and end of a range that a method gives so.
fn start_and_end(word: u32) -> (u32, u32) {
    (word & 0xffff, word >> 16)
}

/// The fills that a clear stands for; `None` if it makes no sense.
pub fn clears(context: &Context, data: u32) -> Option<Vec<Fill>> {
    let mut fills = Vec::new();
    if data & clear::COLOR != 0 {
        fills.extend(color(context, data)?);
    }
    if data & (clear::Z | clear::S) != 0 && get(context, threed::ZETA_ENABLE) != 0 {
        fills.extend(depth_stencil(context, data)?);
    }
    Some(fills)
}

fn get(context: &Context, address: u16) -> u32 {
    context.get(Class::ThreeD, address)
}

/// The part of a target of this size that a clear reaches.
fn window(context: &Context, width: u32, height: u32) -> Window {
    let mut window = Window {
        x: (0, width),
        y: (0, height),
    };
    let horizontal = start_and_length(get(context, threed::SCREEN_SCISSOR_HORIZ));
    let vertical = start_and_length(get(context, threed::SCREEN_SCISSOR_VERT));
    window = window.clip(horizontal, vertical);
    let flags = get(context, threed::CLEAR_FLAGS);
    if flags & clear_flags::SCISSOR != 0 && get(context, threed::SCISSOR_ENABLE) != 0 {
        let horizontal = start_and_end(get(context, threed::SCISSOR_HORIZ));
        let vertical = start_and_end(get(context, threed::SCISSOR_VERT));
        window = window.clip(horizontal, vertical);
    }
    if flags & clear_flags::VIEWPORT != 0 {
        let horizontal = start_and_length(get(context, threed::VIEWPORT_HORIZ));
        let vertical = start_and_length(get(context, threed::VIEWPORT_VERT));
        window = window.clip(horizontal, vertical);
    }
    window
}

fn color(context: &Context, data: u32) -> Option<Option<Fill>> {
    let index = (data >> clear::RT_SHIFT & 0xf) as u16;
    if index >= rt::COUNT {
        return None;
    }
    let first = rt::FIRST + index * rt::STRIDE;
    let of_target = |offset| get(context, first + offset);
    let number = of_target(rt::FORMAT);
    if number == 0 {
        // No target is bound.
        return Some(None);
    }
    let format = Format::color(number)?;
    let mode = of_target(rt::BLOCK_DIMENSIONS);
    let layer = of_target(rt::BASE_LAYER).wrapping_add(data >> clear::LAYER_SHIFT & 0x7ff);
    let base = context.address(Class::ThreeD, first + rt::ADDRESS_HIGH);
    let (horizontal, height) = (
        of_target(rt::HORIZ) & 0xf_ffff,
        of_target(rt::VERT) & 0xffff,
    );
    let layers = of_target(rt::ARRAY_MODE);
    let stride = of_target(rt::LAYER_STRIDE);
    let place = Place {
        base,
        mode,
        height,
        layers,
        layer,
        stride,
    };
    let (surface, width) = match mode & rt::LINEAR {
        0 => (place.tiled(horizontal * format.bytes()), horizontal),
        _ => {
            let pitch = horizontal as i32;
            (Surface::Linear { base, pitch }, horizontal / format.bytes())
        }
    };
    let color = [0, 4, 8, 12].map(|offset| get(context, threed::CLEAR_COLOR + offset));
    Some(Fill::new(
        surface,
        window(context, width, height),
        format.bytes(),
        format.pack(color),
        format.mask(data >> clear::COLOR_SHIFT & 0xf),
    ))
}

fn depth_stencil(context: &Context, data: u32) -> Option<Option<Fill>> {
    let format = ZetaFormat::new(get(context, zeta::FORMAT))?;
    let (width, height) = (get(context, zeta::HORIZ), get(context, zeta::VERT));
    let (width, height) = (width & 0xffff, height & 0xffff);
    let place = Place {
        base: context.address(Class::ThreeD, zeta::ADDRESS_HIGH),
        mode: get(context, zeta::BLOCK_DIMENSIONS),
        height,
        layers: get(context, zeta::ARRAY_MODE) & 0xffff,
        layer: get(context, zeta::BASE_LAYER).wrapping_add(data >> clear::LAYER_SHIFT & 0x7ff),
        stride: get(context, zeta::LAYER_STRIDE),
    };
    let depth = get(context, threed::CLEAR_DEPTH);
    let (pixel, depth, stencil) = format.pack(depth, get(context, threed::CLEAR_STENCIL));
    let mask = match (data & clear::Z != 0, data & clear::S != 0) {
        (true, true) => depth | stencil,
        (true, false) => depth,
        _ => stencil,
    };
    Some(Fill::new(
        place.tiled(width * format.bytes),
        window(context, width, height),
        format.bytes,
        pixel,
        mask,
    ))
}

/// Where a tiled target is.
struct Place {
    base: u64,
    mode: u32,
    height: u32,
    /// Layers, with the flag of a volume.
    layers: u32,
    layer: u32,
    /// Words from layer to layer.
    stride: u32,
}

impl Place {
    /// The surface of one layer with rows of `width` bytes.
    fn tiled(&self, width: u32) -> Surface {
        let volume = self.layers & rt::VOLUME != 0;
        let depth = if volume { self.layers & 0xffff } else { 1 };
        let skip = u64::from(self.stride) * 4 * u64::from(self.layer);
        Surface::Tiled {
            base: if volume {
                self.base
            } else {
                self.base.wrapping_add(skip)
            },
            layout: Layout::new(self.mode & 0xfff, width, self.height, depth),
            x: 0,
            y: 0,
            z: if volume { self.layer } else { 0 },
        }
    }
}

impl Fill {
    /// A fill of a window; `None` if there is nothing in it, or nothing changes.
    fn new(surface: Surface, window: Window, bytes: u32, pixel: u128, mask: u128) -> Option<Self> {
        let width = window.x.1.checked_sub(window.x.0)? * bytes;
        let lines = window.y.1.checked_sub(window.y.0)?;
        (mask != 0).then(|| Self {
            surface,
            column: window.x.0 * bytes,
            line: window.y.0,
            walk: Walk::new(width, lines, bytes),
            bytes: bytes as usize,
            pixel: pixel.to_le_bytes(),
            mask: mask.to_le_bytes(),
        })
    }

    /// Fills on. `false`: it was asked to pause before the end.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was filled.
    pub fn run(&mut self, client: &mut Client, pause: &Pause, pace: &Pace) -> Result<bool, Fault> {
        let (pixel, mask) = (&self.pixel[..self.bytes], &self.mask[..self.bytes]);
        let whole = mask.iter().all(|&bits| bits == 0xff);
        let mut buffer = Vec::new();
        while let Some(area) = self.walk.next() {
            if pause.asked() {
                return Ok(false);
            }
            let place = Area {
                column: self.column + area.column,
                line: self.line + area.line,
                ..area
            };
            let len = area.width as usize * area.lines as usize;
            if whole {
                if buffer.len() != len {
                    buffer = pixel.repeat(len / self.bytes);
                }
            } else {
                buffer.resize(len, 0);
                self.surface.read(client, place, &mut buffer)?;
                for old in buffer.chunks_exact_mut(self.bytes) {
                    for ((byte, &new), &mask) in old.iter_mut().zip(pixel).zip(mask) {
                        *byte = *byte & !mask | new & mask;
                    }
                }
            }
            self.surface.write(client, place, &buffer)?;
            pace.moved(area.bytes());
            self.walk.done(area);
        }
        Ok(true)
    }
}
