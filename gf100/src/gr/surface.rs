//! Surfaces in memory, linear or tiled, and how large work on them is cut up.

use crate::memory::blocklinear::{Layout, Rect};
use crate::memory::{Client, Fault};

/// Bytes between two looks at the pause flag.
const CHUNK: u32 = 64 << 10;

/// Bytes in rows, somewhere in an address space.
#[derive(Clone, Copy, Debug)]
pub enum Surface {
    /// Rows that are `pitch` bytes apart.
    Linear {
        /// Virtual address of the first row.
        base: u64,
        /// Bytes from row to row; rows may go down.
        pitch: i32,
    },
    /// Rows in tiles.
    Tiled {
        /// Virtual address of the surface.
        base: u64,
        /// How it is tiled.
        layout: Layout,
        /// Where in it the first byte is: bytes,
        x: u32,
        /// rows,
        y: u32,
        /// and layers.
        z: u32,
    },
}

/// Bytes from `column` of lines from `line`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First byte of a line.
    pub column: u32,
    /// First line.
    pub line: u32,
    /// Bytes of a line, not 0.
    pub width: u32,
    /// Lines.
    pub lines: u32,
}

impl Area {
    /// Its bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.width) * u64::from(self.lines)
    }
}

impl Surface {
    /// The bytes of `area` that are in a tiled surface at `x`, `y`, `z`.
    fn rect(area: Area, x: u32, y: u32, z: u32) -> Rect {
        Rect {
            x: x.wrapping_add(area.column),
            y: y.wrapping_add(area.line),
            z,
            width: area.width,
            height: area.lines,
        }
    }

    /// Reads an area into rows that follow each other.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was read.
    pub fn read(&self, client: &mut Client, area: Area, out: &mut [u8]) -> Result<(), Fault> {
        let width = area.width as usize;
        match self {
            Surface::Linear { base, pitch } => {
                for (line, row) in (area.line..).zip(out.chunks_mut(width)) {
                    client.read(linear(*base, *pitch, line, area.column), row)?;
                }
                Ok(())
            }
            Surface::Tiled {
                base,
                layout,
                x,
                y,
                z,
            } => client.read_tiled(*base, layout, Self::rect(area, *x, *y, *z), out, width),
        }
    }

    /// Writes an area from rows that follow each other.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was written.
    pub fn write(&self, client: &mut Client, area: Area, data: &[u8]) -> Result<(), Fault> {
        let width = area.width as usize;
        match self {
            Surface::Linear { base, pitch } => {
                for (line, row) in (area.line..).zip(data.chunks(width)) {
                    client.write(linear(*base, *pitch, line, area.column), row)?;
                }
                Ok(())
            }
            Surface::Tiled {
                base,
                layout,
                x,
                y,
                z,
            } => client.write_tiled(*base, layout, Self::rect(area, *x, *y, *z), data, width),
        }
    }
}

/// Where a byte of a linear surface is.
pub fn linear(base: u64, pitch: i32, line: u32, column: u32) -> u64 {
    let skip = i64::from(pitch) * i64::from(line);
    base.wrapping_add_signed(skip).wrapping_add(column.into())
}

/// Lines of bytes that are worked on piece by piece.
#[derive(Clone, Debug)]
pub struct Walk {
    width: u32,
    lines: u32,
    line: u32,
    column: u32,
    /// Pieces of a line are multiples of this many bytes.
    unit: u32,
}

impl Walk {
    /// A walk over `lines` lines of `width` bytes, which are `unit` bytes (at most 16) each.
    pub fn new(width: u32, lines: u32, unit: u32) -> Self {
        Self {
            width,
            lines: if width == 0 { 0 } else { lines },
            line: 0,
            column: 0,
            unit,
        }
    }

    /// The next piece: lines, or part of one; `None` at the end.
    pub fn next(&self) -> Option<Area> {
        let (column, line) = (self.column, self.line);
        let lines_left = self.lines - line;
        let (width, lines) = match self.width {
            _ if lines_left == 0 => return None,
            ..=CHUNK => (self.width, (CHUNK / self.width).min(lines_left)),
            _ => ((self.width - column).min(CHUNK / self.unit * self.unit), 1),
        };
        Some(Area {
            column,
            line,
            width,
            lines,
        })
    }

    /// The piece was done.
    pub fn done(&mut self, area: Area) {
        self.column += area.width;
        if self.column >= self.width {
            self.column = 0;
            self.line += area.lines;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_walk_visits_every_unit_once(units in 0u32..20_000, lines in 0u32..100, unit in 1u32..17) {
            let width = units * unit;
            let mut walk = Walk::new(width, lines, unit);
            let (mut line, mut column) = (0, 0);
            while let Some(area) = walk.next() {
                prop_assert_eq!((area.line, area.column), (line, column));
                prop_assert!(area.width * area.lines <= CHUNK && area.width.is_multiple_of(unit));
                column += area.width;
                if column == width {
                    column = 0;
                    line += area.lines;
                }
                walk.done(area);
            }
            prop_assert_eq!((line, column), (if width == 0 { 0 } else { lines }, 0));
        }
    }

    #[test]
    fn the_longest_lines_are_walked_too() {
        let mut walk = Walk::new(u32::MAX, 1, 1);
        let mut total = 0u64;
        while let Some(area) = walk.next() {
            total += u64::from(area.width);
            walk.done(area);
        }
        assert_eq!(total, u64::from(u32::MAX));
    }
}
