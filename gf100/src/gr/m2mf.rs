//! The copy unit behind class 0x9039: linear and tiled surfaces, and inline data.
//!
//! Source: ENV `rnndb/graph/gf100_m2mf.xml`; M25 `nvc0/nvc0_transfer.c`; K61 `nouveau_bo9039.c`.

use super::bits::m2mf::{self, exec};
use super::classes::Class;
use super::context::Context;
use super::methods::{INLINE, bytes_of};
use super::surface::{Area, Surface, Walk, linear};
use crate::engine::Pause;
use crate::memory::blocklinear::Layout;
use crate::memory::{Client, Fault};
use crate::pace::Pace;

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

/// The surface of one side as the methods describe it.
fn surface(context: &Context, linear: bool, side: Side) -> Surface {
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

/// A transfer that is under way. It keeps its parameters, so the methods may be changed by whoever
/// runs while it is parked.
#[derive(Clone, Debug)]
pub struct Transfer {
    source: Surface,
    target: Surface,
    walk: Walk,
}

impl Transfer {
    /// The transfer that the methods describe.
    pub fn new(context: &Context, exec: u32) -> Self {
        let source = surface(context, exec & exec::LINEAR_IN != 0, IN);
        let target = surface(context, exec & exec::LINEAR_OUT != 0, OUT);
        let width = context.get(Class::M2mf, m2mf::LINE_LENGTH_IN);
        let lines = context.get(Class::M2mf, m2mf::LINE_COUNT);
        let packed = |surface: &Surface| match surface {
            Surface::Linear { pitch, .. } => i64::from(*pitch) == i64::from(width),
            Surface::Tiled { .. } => false,
        };
        // Lines that follow each other on both sides are one.
        let walk = match width.checked_mul(lines) {
            Some(bytes) if packed(&source) && packed(&target) => Walk::new(bytes, 1, 1),
            _ => Walk::new(width, lines, 1),
        };
        Self {
            source,
            target,
            walk,
        }
    }

    /// Copies on. `false`: it was asked to pause before the end.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was copied.
    pub fn run(&mut self, client: &mut Client, pause: &Pause, pace: &Pace) -> Result<bool, Fault> {
        let mut buffer = Vec::new();
        while let Some(area) = self.walk.next() {
            if pause.asked() {
                return Ok(false);
            }
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
            pace.moved(2 * area.bytes());
            self.walk.done(area);
        }
        Ok(true)
    }
}

/// Takes words of inline data, of which lines use as many bytes as they need: how many were taken,
/// and whether those were the last ones of the transfer.
///
/// # Errors
///
/// The bytes cannot be stored.
pub fn push(
    context: &mut Context,
    client: &mut Client,
    exec: u32,
    words: &[u32],
) -> Result<(usize, bool), Fault> {
    let target = surface(context, exec & exec::LINEAR_OUT != 0, OUT);
    let width = context.get(Class::M2mf, m2mf::LINE_LENGTH_IN);
    let lines = context.get(Class::M2mf, m2mf::LINE_COUNT);
    let mut push = context.push();
    let mut bytes = [0; 4 * INLINE];
    let mut used = 0;
    while used < words.len() && push.active {
        let left = width.saturating_sub(push.column);
        let rest = &words[used..];
        let line = &rest[..rest.len().min(left.div_ceil(4).max(1) as usize).min(INLINE)];
        let len = left.min(4 * line.len() as u32);
        let area = Area {
            column: push.column,
            line: push.line,
            width: len,
            lines: 1,
        };
        let stored = match len {
            0 => Ok(()),
            _ => target.write(client, area, &bytes_of(line, &mut bytes)[..len as usize]),
        };
        used += line.len();
        push.column = push.column.saturating_add(4 * line.len() as u32);
        if push.column >= width {
            push.column = 0;
            push.line = push.line.saturating_add(1);
        }
        push.active = push.line < lines;
        context.set_push(push);
        stored?;
    }
    Ok((used, !push.active))
}
