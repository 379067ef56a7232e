//! A copy: from the class's state to bytes in memory, in steps between which it can be paused.
//!
//! Source: K61 `nvkm/engine/ce/fuc/com.fuc` cmd_exec and what it calls; ENV `rnndb/fifo/pcopy.xml`.

use std::ops::Range;

use crate::memory::blocklinear::{Layout, Rect};
use crate::memory::{Access, Client, Fault};
use crate::pace::Pace;

use super::methods::{Exec, State, Word};
use super::remap::Remap;

/// Bytes between two questions whether to pause.
const STEP: u64 = 64 << 10;
/// TILE_MODE's low bits for GOBs of 16 bytes by 8 rows.
const NARROW: u32 = 0xe;
/// log2 of rows in a GOB.
const GOB_ROWS: u32 = 3;

/// A copy that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The argument of EXEC.
    pub exec: Exec,
    /// Bytes that are copied, if lines follow each other without a gap; else lines.
    pub done: u64,
}

/// How a [`Job`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Done,
    /// With a request to pause.
    Paused,
}

/// Where lines of bytes are.
#[derive(Clone, Copy, Debug)]
enum Surface {
    /// One after the other.
    Linear { base: u64, pitch: u64 },
    /// In blocks of GOBs of 64 bytes by 8 rows.
    Tiled {
        base: u64,
        layout: Layout,
        x: u32,
        y: u32,
        z: u32,
    },
    /// In blocks of GOBs of 16 bytes by 8 rows, one GOB wide.
    Narrow(Narrow),
}

#[derive(Clone, Copy, Debug)]
struct Narrow {
    base: u64,
    /// log2 of rows of a block.
    rows: u32,
    /// log2 of layers of a block.
    layers: u32,
    /// Blocks in a row of blocks.
    blocks_x: u64,
    /// Rows of blocks.
    blocks_y: u64,
    x: u32,
    y: u32,
    z: u32,
}

impl Narrow {
    /// Where byte `x` of row `y` is; 16 bytes that start at a multiple of 16 stay together.
    fn at(&self, x: u32, y: u32) -> u64 {
        let low = |value: u32, bits: u32| u64::from(value & ((1 << bits) - 1));
        let block = u64::from(self.z >> self.layers)
            .wrapping_mul(self.blocks_y)
            .wrapping_add((y >> self.rows).into())
            .wrapping_mul(self.blocks_x)
            .wrapping_add((x >> 4).into());
        let inside = (low(self.z, self.layers) << self.rows | low(y, self.rows)) << 4;
        let offset = block << (4 + self.rows + self.layers);
        self.base
            .wrapping_add(offset)
            .wrapping_add(inside | low(x, 4))
    }
}

/// The words that describe one side of a copy, from its address on.
struct Side {
    address: (Word, Word),
    pitch: Word,
    tile_mode: Word,
    size: (Word, Word, Word),
    offset: (Word, Word, Word),
    cpp: Word,
}

const SOURCE: Side = Side {
    address: (Word::SrcAddressHigh, Word::SrcAddressLow),
    pitch: Word::SrcPitch,
    tile_mode: Word::SrcTileMode,
    size: (Word::SrcXsize, Word::SrcYsize, Word::SrcZsize),
    offset: (Word::SrcXoff, Word::SrcYoff, Word::SrcZoff),
    cpp: Word::SrcCpp,
};

const DESTINATION: Side = Side {
    address: (Word::DstAddressHigh, Word::DstAddressLow),
    pitch: Word::DstPitch,
    tile_mode: Word::DstTileMode,
    size: (Word::DstXsize, Word::DstYsize, Word::DstZsize),
    offset: (Word::DstXoff, Word::DstYoff, Word::DstZoff),
    cpp: Word::DstCpp,
};

impl Surface {
    fn new(state: &State, side: &Side, linear: bool) -> Self {
        let base = state.address(side.address.0, side.address.1);
        if linear {
            return Surface::Linear {
                base,
                pitch: state.get(side.pitch).into(),
            };
        }
        let cpp = state.get(side.cpp);
        // The falcon multiplies 16 by 16 bits.
        let bytes = |word: Word| (state.get(word) & 0xffff) * cpp;
        let mode = state.get(side.tile_mode);
        let (x, y, z) = (
            bytes(side.offset.0),
            state.get(side.offset.1),
            state.get(side.offset.2),
        );
        let (width, height) = (bytes(side.size.0), state.get(side.size.1));
        let (rows, layers) = (mode >> 4 & 0xf, mode >> 8 & 0xf);
        if mode & 0xf == NARROW {
            let rows = rows + GOB_ROWS;
            return Surface::Narrow(Narrow {
                base,
                rows,
                layers,
                blocks_x: width.div_ceil(16).into(),
                blocks_y: height.div_ceil(1 << rows).into(),
                x,
                y,
                z,
            });
        }
        Surface::Tiled {
            base,
            // Blocks are one GOB wide whatever the mode says.
            layout: Layout {
                block_width: 0,
                block_height: rows,
                block_depth: layers,
                width,
                height,
                depth: state.get(side.size.2),
            },
            x,
            y,
            z,
        }
    }

    /// Reads `lines` lines from number `first` on, of `bytes` bytes each.
    fn read(
        &self,
        client: &mut Client,
        first: u32,
        lines: u32,
        bytes: u32,
        out: &mut [u8],
    ) -> Result<(), Fault> {
        if let Some((base, layout, rect)) = self.rect(first, lines, bytes) {
            return client.read_tiled(base, &layout, rect, out, bytes as usize);
        }
        self.each_piece(first, lines, bytes, |at, range| {
            client.read(at, &mut out[range])
        })
    }

    /// Writes `lines` lines from number `first` on, of `bytes` bytes each.
    fn write(
        &self,
        client: &mut Client,
        first: u32,
        lines: u32,
        bytes: u32,
        data: &[u8],
    ) -> Result<(), Fault> {
        if let Some((base, layout, rect)) = self.rect(first, lines, bytes) {
            return client.write_tiled(base, &layout, rect, data, bytes as usize);
        }
        self.each_piece(first, lines, bytes, |at, range| {
            client.write(at, &data[range])
        })
    }

    /// Lines of what is tiled: its address, its layout, and where they are in it.
    fn rect(&self, first: u32, lines: u32, bytes: u32) -> Option<(u64, Layout, Rect)> {
        let Surface::Tiled {
            base,
            layout,
            x,
            y,
            z,
        } = *self
        else {
            return None;
        };
        let rect = Rect {
            x,
            y: y + first,
            z,
            width: bytes,
            height: lines,
        };
        Some((base, layout, rect))
    }

    /// Calls `each` with the address of each piece of lines of what is not tiled, and its place among
    /// their bytes.
    fn each_piece(
        &self,
        first: u32,
        lines: u32,
        bytes: u32,
        mut each: impl FnMut(u64, Range<usize>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let bytes = bytes as usize;
        for n in 0..lines {
            let (line, start) = (first + n, n as usize * bytes);
            match *self {
                Surface::Linear { base, pitch } => {
                    let at = base.wrapping_add(pitch * u64::from(line));
                    each(at, start..start + bytes)?;
                }
                Surface::Narrow(narrow) => each_column(narrow.x, bytes, |x, range| {
                    let at = narrow.at(x, narrow.y + line);
                    each(at, start + range.start..start + range.end)
                })?,
                Surface::Tiled { .. } => {}
            }
        }
        Ok(())
    }
}

/// Calls `each` with the pieces of a line of `len` bytes that starts at byte `x`, cut at multiples
/// of 16.
fn each_column(
    x: u32,
    len: usize,
    mut each: impl FnMut(u32, Range<usize>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut done = 0;
    while done < len {
        let at = x.wrapping_add(done as u32);
        let piece = (16 - at as usize % 16).min(len - done);
        each(at, done..done + piece)?;
        done += piece;
    }
    Ok(())
}

impl Job {
    /// Begins a copy: from the argument of EXEC, with the pixel sizes put into the state as the
    /// firmware does.
    pub fn begin(state: &mut State, exec: Exec) -> Self {
        let (src, dst) = match exec.contains(Exec::FORMAT) {
            true => {
                let remap = Remap::new(state);
                (remap.source_bytes(), remap.destination_bytes())
            }
            false => (1, 1),
        };
        state.set(Word::SrcCpp, src);
        state.set(Word::DstCpp, dst);
        Self { exec, done: 0 }
    }

    /// Copies until all is done or `pause` says so.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it may be copied.
    pub fn run(
        &mut self,
        state: &State,
        client: &mut Client,
        scratch: &mut Scratch,
        pause: &dyn Fn() -> bool,
        pace: &Pace,
    ) -> Result<End, Fault> {
        let source = Surface::new(state, &SOURCE, self.exec.contains(Exec::SRC_LINEAR));
        let destination = Surface::new(state, &DESTINATION, self.exec.contains(Exec::DST_LINEAR));
        let (width, lines) = (state.get(Word::Xcnt), state.get(Word::Ycnt));
        match (source, destination) {
            (
                Surface::Linear {
                    base: from,
                    pitch: from_pitch,
                },
                Surface::Linear {
                    base: to,
                    pitch: to_pitch,
                },
            ) if !self.exec.contains(Exec::FORMAT) => {
                let width = u64::from(width);
                if width == 0 {
                    return Ok(End::Done);
                }
                let run = match (from_pitch, to_pitch) == (width, width) {
                    true => width * u64::from(lines),
                    false => width,
                };
                self.linear(client, pause, pace, width * u64::from(lines), |done| {
                    let (line, byte) = (done / run, done % run);
                    let at = |base: u64, pitch: u64| base.wrapping_add(line * pitch + byte);
                    (at(to, to_pitch), at(from, from_pitch), run - byte)
                })
            }
            _ => {
                let remap = self.exec.contains(Exec::FORMAT).then(|| Remap::new(state));
                self.by_lines(
                    client,
                    scratch,
                    pause,
                    pace,
                    source,
                    destination,
                    width,
                    lines,
                    remap,
                )
            }
        }
    }

    /// Copies `total` bytes; `at` says for a number of bytes that are done where the next go to,
    /// where they come from and how many follow without a gap.
    fn linear(
        &mut self,
        client: &mut Client,
        pause: &dyn Fn() -> bool,
        pace: &Pace,
        total: u64,
        at: impl Fn(u64) -> (u64, u64, u64),
    ) -> Result<End, Fault> {
        let memory = client.memory().clone();
        while self.done < total {
            if pause() {
                return Ok(End::Paused);
            }
            let guard = memory.enter();
            let end = total.min(self.done + STEP);
            let bytes = end - self.done;
            while self.done < end {
                let (to, from, run) = at(self.done);
                let len = run.min(end - self.done) as usize;
                let source = client.page(&guard, from, Access::Read)?.take(len);
                let target = client.page(&guard, to, Access::Write)?;
                self.done += target.copy_from_span(&source) as u64;
            }
            drop(guard);
            pace.moved(2 * bytes);
        }
        Ok(End::Done)
    }

    /// Copies line by line through a buffer.
    #[allow(clippy::too_many_arguments)] // They are the copy.
    fn by_lines(
        &mut self,
        client: &mut Client,
        scratch: &mut Scratch,
        pause: &dyn Fn() -> bool,
        pace: &Pace,
        source: Surface,
        destination: Surface,
        width: u32,
        lines: u32,
        remap: Option<Remap>,
    ) -> Result<End, Fault> {
        let bytes = |cpp: u32| (width * cpp) as usize;
        let (from, to) = match &remap {
            Some(remap) => (
                bytes(remap.source_bytes()),
                bytes(remap.destination_bytes()),
            ),
            None => (bytes(1), bytes(1)),
        };
        if width == 0 {
            return Ok(End::Done);
        }
        while self.done < lines.into() {
            if pause() {
                return Ok(End::Paused);
            }
            let first = self.done as u32;
            let step = (STEP as usize / from.max(to)).clamp(1, 64) as u32;
            let count = step.min(lines - first);
            scratch.source.resize(from * count as usize, 0);
            if remap.as_ref().is_none_or(Remap::reads_source) {
                source.read(client, first, count, from as u32, &mut scratch.source)?;
            }
            let data = match &remap {
                Some(remap) => {
                    scratch.destination.resize(to * count as usize, 0);
                    remap.apply(&scratch.source, &mut scratch.destination);
                    &scratch.destination
                }
                None => &scratch.source,
            };
            destination.write(client, first, count, to as u32, data)?;
            pace.moved((from + to) as u64 * u64::from(count));
            self.done += u64::from(count);
        }
        Ok(End::Done)
    }
}

/// Buffers that are kept from job to job.
#[derive(Debug, Default)]
pub struct Scratch {
    source: Vec<u8>,
    destination: Vec<u8>,
}

/// Writes the query: 16 bytes with the time, or the counter alone.
///
/// # Errors
///
/// The first fault.
pub fn query(state: &State, client: &mut Client, exec: Exec, time: u64) -> Result<(), Fault> {
    let at = state.address(Word::QueryAddressHigh, Word::QueryAddressLow);
    if !exec.contains(Exec::QUERY_SHORT) {
        client.store(at.wrapping_add(4), 0u32)?;
        client.store(at.wrapping_add(8), time)?;
    }
    // The counter says that all before it is there.
    std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
    client.store(at, state.get(Word::QueryCounter))
}
