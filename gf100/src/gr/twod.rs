//! The blits of class 0x902d: pixels from one surface to another, with scaling, filtering and
//! change of format.
//!
//! Source: ENV `rnndb/graph/g80_2d.xml`; M25 `nvc0/nvc0_surface.c nvc0_2d_texture_do_copy,
//! nvc0_blit_eng2d`.

use super::bits::twod::{self, blit_control, operation, surface};
use super::classes::Class;
use super::context::Context;
use super::surface::{Area, Surface};
use crate::engine::Pause;
use crate::format::Format;
use crate::memory::blocklinear::Layout;
use crate::memory::{Client, Fault};
use crate::pace::Pace;

/// Pixels of the longest row, and rows of the highest surface.
const MAX_SIZE: u32 = 0x1_0000;
/// The number 1 of source coordinates, which have 32 bits of fraction.
const ONE: i64 = 1 << 32;

/// A blit that is under way. It keeps its parameters, so the methods may be changed by whoever
/// runs while it is parked.
#[derive(Clone, Debug)]
pub struct Blit {
    source: Image,
    target: Image,
    /// Columns that are written.
    columns: (u32, u32),
    /// Rows that are still to be written.
    rows: (u32, u32),
    /// Source coordinates that target column and row 0 would have.
    origin: (i64, i64),
    step: (i64, i64),
    bilinear: bool,
    /// Wholly transparent pixels are left out.
    keyed: bool,
}

/// A surface with pixels in it.
#[derive(Clone, Debug)]
struct Image {
    surface: Surface,
    format: Format,
    width: u32,
    height: u32,
}

impl Image {
    /// The image whose methods begin at `first`; `None` if the format is unknown.
    fn new(context: &Context, first: u16, layer: u32) -> Option<Self> {
        let get = |offset| context.get(Class::TwoD, first + offset);
        let format = Format::color(get(surface::FORMAT))?;
        let width = get(surface::WIDTH).min(MAX_SIZE);
        let height = get(surface::HEIGHT).min(MAX_SIZE);
        let base = context.address(Class::TwoD, first + surface::ADDRESS_HIGH);
        let surface = match get(surface::LINEAR) & 1 {
            0 => Surface::Tiled {
                base,
                layout: Layout::new(
                    get(surface::BLOCK_DIMENSIONS),
                    width * format.bytes(),
                    height,
                    get(surface::DEPTH),
                ),
                x: 0,
                y: 0,
                z: layer,
            },
            _ => Surface::Linear {
                base,
                pitch: get(surface::PITCH) as i32,
            },
        };
        Some(Self {
            surface,
            format,
            width,
            height,
        })
    }

    /// Columns from..to of a row, as bytes.
    fn area(&self, row: u32, columns: (u32, u32)) -> Area {
        Area {
            column: columns.0 * self.format.bytes(),
            line: row,
            width: (columns.1 - columns.0) * self.format.bytes(),
            lines: 1,
        }
    }
}

/// Part of a row of the source.
struct Row<'a> {
    bytes: &'a [u8],
    first: u32,
    format: &'a Format,
}

impl Row<'_> {
    fn pixel(&self, column: u32) -> u128 {
        let size = self.format.bytes() as usize;
        let at = (column - self.first) as usize * size;
        let mut bytes = [0; 16];
        bytes[..size].copy_from_slice(&self.bytes[at..at + size]);
        u128::from_le_bytes(bytes)
    }

    fn color(&self, column: u32) -> [f32; 4] {
        self.format.unpack(self.pixel(column)).map(f32::from_bits)
    }
}

/// The pixel at a source coordinate, in a row of `size`; coordinates outside are those of the edge.
fn index(at: i64, size: u32) -> u32 {
    (at >> 32).clamp(0, i64::from(size) - 1) as u32
}

/// How far a source coordinate is into its pixel.
fn fraction(at: i64) -> f32 {
    (at & (ONE - 1)) as f32 / ONE as f32
}

impl Blit {
    /// The blit that the methods describe; `None` if it makes no sense.
    pub fn new(context: &Context) -> Option<Self> {
        let get = |address| context.get(Class::TwoD, address);
        // Fraction, then integer.
        let fixed = |address| (u64::from(get(address + 4)) << 32 | u64::from(get(address))) as i64;
        let keyed = match get(twod::OPERATION) {
            operation::SRCCOPY => false,
            operation::SRCCOPY_AND => true,
            _ => return None,
        };
        let layer = get(twod::DST + surface::LAYER);
        let target = Image::new(context, twod::DST, layer)?;
        let source = Image::new(context, twod::SRC, 0)?;
        let control = get(twod::BLIT_CONTROL);
        let bilinear = control & blit_control::FILTER_BILINEAR != 0;
        let integers = source.format.is_integer() || target.format.is_integer();
        if integers && (bilinear || source.format != target.format) {
            return None;
        }
        // Rectangles may begin left of or above the surface.
        let range = |first: u16, size: u32| {
            let start = i64::from(get(first) as i32);
            let end = start + i64::from(get(first + 8) as i32);
            (
                start.clamp(0, size.into()) as u32,
                end.clamp(0, size.into()) as u32,
            )
        };
        let within = |axis: u16, size: u32| {
            let (start, end) = range(twod::BLIT_DST + axis, size);
            let clip = match get(twod::CLIP + 16) & 1 {
                0 => (0, size),
                _ => range(twod::CLIP + axis, size),
            };
            (start.max(clip.0), end.min(clip.1))
        };
        let step = (fixed(twod::BLIT_STEP), fixed(twod::BLIT_STEP + 8));
        // A target pixel is where its centre is, and a filter is about the centres of the source.
        let origin = |axis: u16, step: i64| {
            let first = i64::from(get(twod::BLIT_DST + axis) as i32);
            let centre = match control & blit_control::ORIGIN_CORNER {
                0 => step / 2,
                _ => 0,
            };
            fixed(twod::BLIT_SRC + axis * 2)
                .wrapping_sub(step.wrapping_mul(first))
                .wrapping_add(centre)
                .wrapping_sub(if bilinear { ONE / 2 } else { 0 })
        };
        Some(Self {
            columns: within(0, target.width),
            rows: within(4, target.height),
            origin: (origin(0, step.0), origin(4, step.1)),
            source,
            target,
            step,
            bilinear,
            keyed,
        })
    }

    /// Copies on. `false`: it was asked to pause before the end.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was copied.
    pub fn run(&mut self, client: &mut Client, pause: &Pause, pace: &Pace) -> Result<bool, Fault> {
        let empty = self.source.width == 0 || self.source.height == 0;
        if empty || self.columns.0 >= self.columns.1 {
            return Ok(true);
        }
        let mut buffers = [Vec::new(), Vec::new(), Vec::new()];
        while self.rows.0 < self.rows.1 {
            if pause.asked() {
                return Ok(false);
            }
            self.row(client, self.rows.0, &mut buffers)?;
            pace.moved(buffers.iter().map(|row| row.len() as u64).sum());
            self.rows.0 += 1;
        }
        Ok(true)
    }

    /// The source coordinate of a target column.
    fn u(&self, column: u32) -> i64 {
        let offset = self.step.0.wrapping_mul(column.into());
        self.origin.0.wrapping_add(offset)
    }

    /// Copies one row.
    fn row(
        &self,
        client: &mut Client,
        row: u32,
        [upper, lower, out]: &mut [Vec<u8>; 3],
    ) -> Result<(), Fault> {
        let v = self
            .origin
            .1
            .wrapping_add(self.step.1.wrapping_mul(row.into()));
        let (width, height) = (self.source.width, self.source.height);
        let columns = self.source_columns();
        let mut fetch = |v: i64, buffer: &mut Vec<u8>| {
            let area = self.source.area(index(v, height), columns);
            buffer.resize(area.width as usize, 0);
            self.source.surface.read(client, area, buffer)
        };
        fetch(v, upper)?;
        if self.bilinear {
            fetch(v.saturating_add(ONE), lower)?;
        }
        let of = |bytes| Row {
            bytes,
            first: columns.0,
            format: &self.source.format,
        };
        let (upper, lower) = (of(upper), of(lower));
        let area = self.target.area(row, self.columns);
        out.resize(area.width as usize, 0);
        if self.keyed {
            self.target.surface.read(client, area, out)?;
        }
        let size = self.target.format.bytes() as usize;
        for (column, place) in (self.columns.0..).zip(out.chunks_exact_mut(size)) {
            let u = self.u(column);
            let at = index(u, width);
            if self.keyed && self.source.format.unpack(upper.pixel(at))[3] == 0 {
                continue;
            }
            let pixel = if self.bilinear {
                let right = index(u.saturating_add(ONE), width);
                let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
                let across = |row: &Row<'_>| {
                    let (a, b) = (row.color(at), row.color(right));
                    [0, 1, 2, 3].map(|n| mix(a[n], b[n], fraction(u)))
                };
                let (a, b) = (across(&upper), across(&lower));
                let color = [0, 1, 2, 3].map(|n| mix(a[n], b[n], fraction(v)).to_bits());
                self.target.format.pack(color)
            } else if self.source.format == self.target.format {
                upper.pixel(at)
            } else {
                let color = self.source.format.unpack(upper.pixel(at));
                self.target.format.pack(color)
            };
            place.copy_from_slice(&pixel.to_le_bytes()[..size]);
        }
        self.target.surface.write(client, area, out)
    }

    /// The columns of the source that the written columns come from.
    fn source_columns(&self) -> (u32, u32) {
        let width = self.source.width;
        // Coordinates that wrap around could be anywhere.
        let span = self.step.0.checked_mul(self.columns.1.into());
        if span
            .and_then(|span| self.origin.0.checked_add(span))
            .is_none()
        {
            return (0, width);
        }
        let ends = [self.u(self.columns.0), self.u(self.columns.1 - 1)];
        let [a, b] = ends.map(|u| index(u, width));
        let right = ends.map(|u| index(u.saturating_add(ONE), width));
        (a.min(b), right[0].max(right[1]) + 1)
    }
}
