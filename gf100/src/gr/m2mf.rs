//! The copy unit behind class 0x9039: linear and tiled surfaces, and inline data.
//!
//! Source: ENV `rnndb/graph/gf100_m2mf.xml`; M25 `nvc0/nvc0_transfer.c`; K61 `nouveau_bo9039.c`.

use super::bits::m2mf::{self, exec};
use super::classes::Class;
use super::context::{Context, Push};
use crate::engine::Pause;
use crate::memory::blocklinear::{Layout, Rect};
use crate::memory::{Client, Fault};

/// Bytes between two looks at the pause flag.
const CHUNK: u32 = 64 << 10;

/// One side of a transfer.
#[derive(Clone, Copy, Debug)]
enum Surface {
    Linear {
        base: u64,
        pitch: i32,
    },
    Tiled {
        base: u64,
        layout: Layout,
        x: u32,
        y: u32,
        z: u32,
    },
}

impl Surface {
    /// The layout of one side as the methods describe it.
    fn new(context: &Context, linear: bool, side: Side) -> Self {
        let get = |address| context.get(Class::M2mf, address);
        let base = context.address(Class::M2mf, side.offset);
        match linear {
            true => Surface::Linear {
                base,
                pitch: get(side.pitch) as i32,
            },
            false => Surface::Tiled {
                base,
                layout: Layout::new(
                    get(side.tile),
                    get(side.tile + 4),
                    get(side.tile + 8),
                    get(side.tile + 12),
                ),
                z: get(side.tile + 16),
                x: get(side.position),
                y: get(side.position + 4),
            },
        }
    }

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
    fn read(&self, client: &mut Client, area: Area, out: &mut [u8]) -> Result<(), Fault> {
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
    fn write(&self, client: &mut Client, area: Area, data: &[u8]) -> Result<(), Fault> {
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
fn linear(base: u64, pitch: i32, line: u32, column: u32) -> u64 {
    let skip = i64::from(pitch) * i64::from(line);
    base.wrapping_add_signed(skip).wrapping_add(column.into())
}

/// Part of a transfer: bytes from `column` of lines from `line`.
#[derive(Clone, Copy, Debug)]
struct Area {
    column: u32,
    line: u32,
    width: u32,
    lines: u32,
}

/// The methods of one side.
#[derive(Clone, Copy)]
struct Side {
    offset: u16,
    pitch: u16,
    tile: u16,
    position: u16,
}

const IN: Side = Side {
    offset: m2mf::OFFSET_IN_HIGH,
    pitch: m2mf::PITCH_IN,
    tile: m2mf::BLOCKLINEAR_IN,
    position: m2mf::BLOCKLINEAR_POSITION_IN,
};

const OUT: Side = Side {
    offset: m2mf::OFFSET_OUT_HIGH,
    pitch: m2mf::PITCH_OUT,
    tile: m2mf::BLOCKLINEAR_OUT,
    position: m2mf::BLOCKLINEAR_POSITION_OUT,
};

/// A transfer that is under way. It keeps its parameters, so the methods may be changed by whoever
/// runs while it is parked.
#[derive(Clone, Debug)]
pub struct Transfer {
    source: Surface,
    target: Surface,
    width: u32,
    lines: u32,
    line: u32,
    column: u32,
}

impl Transfer {
    /// The transfer that the methods describe.
    pub fn new(context: &Context, exec: u32) -> Self {
        Self {
            source: Surface::new(context, exec & exec::LINEAR_IN != 0, IN),
            target: Surface::new(context, exec & exec::LINEAR_OUT != 0, OUT),
            width: context.get(Class::M2mf, m2mf::LINE_LENGTH_IN),
            lines: context.get(Class::M2mf, m2mf::LINE_COUNT),
            line: 0,
            column: 0,
        }
    }

    /// Copies on. `false`: it was asked to pause before the end.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was copied.
    pub fn run(&mut self, client: &mut Client, pause: &Pause) -> Result<bool, Fault> {
        if self.width == 0 {
            return Ok(true);
        }
        self.join_lines();
        let mut buffer = Vec::new();
        while self.line < self.lines {
            if pause.asked() {
                return Ok(false);
            }
            let area = self.next_area();
            match (&self.source, &self.target) {
                (
                    &Surface::Linear { base, pitch },
                    &Surface::Linear {
                        base: to,
                        pitch: out,
                    },
                ) => {
                    for line in area.line..area.line + area.lines {
                        let from = linear(base, pitch, line, area.column);
                        let to = linear(to, out, line, area.column);
                        client.copy(to, from, area.width.into())?;
                    }
                }
                (source, target) => {
                    buffer.resize(area.width as usize * area.lines as usize, 0);
                    source.read(client, area, &mut buffer)?;
                    target.write(client, area, &buffer)?;
                }
            }
            self.column += area.width;
            if self.column == self.width {
                self.column = 0;
                self.line += area.lines;
            }
        }
        Ok(true)
    }

    /// What is copied between two looks at the pause flag: lines, or part of one.
    fn next_area(&self) -> Area {
        let (column, line) = (self.column, self.line);
        let (width, lines) = match self.width {
            ..=CHUNK => (self.width, (CHUNK / self.width).min(self.lines - line)),
            _ => ((self.width - column).min(CHUNK), 1),
        };
        Area {
            column,
            line,
            width,
            lines,
        }
    }

    /// Lines that follow each other on both sides are one.
    fn join_lines(&mut self) {
        let width = i64::from(self.width);
        let packed = |surface: &Surface| match surface {
            Surface::Linear { pitch, .. } => i64::from(*pitch) == width,
            Surface::Tiled { .. } => false,
        };
        let begins = (self.line, self.column) == (0, 0);
        if let Some(width) = self.width.checked_mul(self.lines)
            && begins
            && packed(&self.source)
            && packed(&self.target)
        {
            self.width = width;
            self.lines = self.lines.min(1);
        }
    }
}

/// Takes a word of inline data, of which lines use as many bytes as they need; `true` when it was
/// the last one of the transfer.
///
/// # Errors
///
/// The bytes cannot be stored.
pub fn push(
    context: &mut Context,
    client: &mut Client,
    exec: u32,
    data: u32,
) -> Result<bool, Fault> {
    let target = Surface::new(context, exec & exec::LINEAR_OUT != 0, OUT);
    let width = context.get(Class::M2mf, m2mf::LINE_LENGTH_IN);
    let lines = context.get(Class::M2mf, m2mf::LINE_COUNT);
    let mut push = context.push();
    let len = width.saturating_sub(push.column).min(4);
    let area = Area {
        column: push.column,
        line: push.line,
        width: len,
        lines: 1,
    };
    let stored = match len {
        0 => Ok(()),
        _ => target.write(client, area, &data.to_le_bytes()[..len as usize]),
    };
    push.column = push.column.saturating_add(4);
    if push.column >= width {
        push.column = 0;
        push.line = push.line.saturating_add(1);
    }
    let done = push.line >= lines;
    context.set_push(Push {
        active: !done,
        ..push
    });
    stored.map(|()| done)
}
