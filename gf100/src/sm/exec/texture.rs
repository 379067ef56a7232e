//! Texture instructions.
//!
//! Source: Mesa `nv50_ir_lowering_nvc0.cpp handleTEX, handleTXD, handleTXQ, handleTXLQ` for where
//! sources are.

use super::{Cx, Halt, Inst};
use crate::sm::{
    decode::{LodMode, Tex, TexDim, TexKind, TexQuery},
    lanes::{LANES, each},
    operands::tex_sources,
    texture::{Lookup, Place, Reader, Sampler, Texture, dimensions, fetch},
};

/// Sources of a texture instruction in a and in b at most.
const SOURCES: usize = 4;

/// Where a source is among those in a or in b.
#[derive(Clone, Copy, Default)]
struct Sources {
    /// The first coordinate, in a.
    coords: usize,
    /// Coordinates.
    dims: usize,
    /// Level, bias or sample, in b.
    lod: Option<usize>,
    /// Offsets, in a for gradients, else in b.
    offset: Option<usize>,
    /// What is compared with, in b.
    reference: Option<usize>,
}

impl Sources {
    fn of(tex: &Tex) -> Self {
        let dims = match tex.dim {
            TexDim::D1 => 1,
            TexDim::D2 => 2,
            TexDim::D3 | TexDim::Cube => 3,
        };
        let coords = usize::from(tex.array || tex.indirect);
        let mut next = match tex.kind {
            TexKind::Sample(LodMode::Bias | LodMode::Explicit) => 1,
            TexKind::Fetch { lod, multisample } => usize::from(lod) + usize::from(multisample),
            _ => 0,
        };
        let lod = (next > 0).then_some(0);
        let mut take = |count: usize| {
            let at = next;
            next += count;
            (count > 0).then_some(at)
        };
        let offset = match tex.kind {
            TexKind::Gradient => tex.offset.then_some(coords + dims),
            TexKind::Gather {
                four_offsets: true, ..
            } => take(2),
            _ => take(tex.offset.into()),
        };
        let reference = match tex.kind {
            TexKind::Gradient => None,
            _ => take(tex.shadow.into()),
        };
        Self {
            coords,
            dims,
            lod,
            offset,
            reference,
        }
    }
}

/// The sources of a texture instruction, all lanes'.
struct Args {
    tex: Tex,
    at: Sources,
    a: [[u32; LANES]; SOURCES],
    b: [[u32; LANES]; SOURCES],
}

impl Args {
    fn new(cx: &Cx<'_>, i: &Inst, tex: Tex) -> Self {
        let (a, b) = tex_sources(&tex);
        let rows = |source: usize, count: u32| {
            let mut rows = [[0; LANES]; SOURCES];
            for (n, row) in rows.iter_mut().take(count as usize).enumerate() {
                *row = *cx.row_at(i.src[source], n as u16);
            }
            rows
        };
        Self {
            tex,
            at: Sources::of(&tex),
            a: rows(0, a),
            b: rows(1, b),
        }
    }

    /// Slots of the texture and the sampler.
    fn slots(&self, lane: usize) -> (u32, u32) {
        match self.tex.indirect {
            false => (self.tex.texture.into(), self.tex.sampler.into()),
            true => (self.a[0][lane] >> 23, self.a[0][lane] >> 16 & 0x7f),
        }
    }

    fn layer(&self, lane: usize) -> u32 {
        match self.tex.array {
            true => self.a[0][lane] & 0xffff,
            false => 0,
        }
    }

    /// The coordinates, and zeros.
    fn coords(&self, lane: usize) -> [u32; 3] {
        [0, 1, 2].map(|n| match n < self.at.dims {
            true => self.a[(self.at.coords + n) % SOURCES][lane],
            false => 0,
        })
    }

    fn float_coords(&self, lane: usize) -> [f32; 3] {
        self.coords(lane).map(f32::from_bits)
    }

    fn b(&self, at: Option<usize>, lane: usize) -> Option<u32> {
        at.map(|at| self.b[at % SOURCES][lane])
    }

    /// Texels to go on, 4 bits for each axis; 8 bits for a gather.
    fn offset(&self, lane: usize) -> [i32; 3] {
        let word = match (self.at.offset, self.tex.kind) {
            (None, _) => return [0; 3],
            (Some(at), TexKind::Gradient) => self.a[at % SOURCES][lane],
            (Some(at), _) => self.b[at % SOURCES][lane],
        };
        match self.tex.kind {
            TexKind::Gather { .. } => [word as i8, (word >> 8) as i8, 0].map(i32::from),
            _ => [0, 4, 8].map(|shift| ((word >> shift) << 28) as i32 >> 28),
        }
    }

    /// The offsets of a gather that has four.
    fn four_offsets(&self, lane: usize) -> [[i32; 2]; 4] {
        let first = self.at.offset.unwrap_or_default();
        [0, 1, 2, 3].map(|n| {
            let word = self.b[(first + n / 2) % SOURCES][lane] >> (16 * (n % 2));
            [word as i8, (word >> 8) as i8].map(i32::from)
        })
    }

    fn place(&self, lane: usize) -> Place {
        Place {
            coords: self.float_coords(lane),
            layer: self.layer(lane),
            offset: self.offset(lane),
        }
    }

    /// The level of detail that lanes of the quad differ by.
    fn quad_lod(&self, lookup: &Lookup<'_>, lane: usize) -> f32 {
        let quad = lane & !3;
        let neighbours = [1, 2].map(|n| self.float_coords(quad + n));
        lookup.lod_of(self.float_coords(quad), neighbours)
    }

    /// The level of detail of a filtered lookup, without the sampler's part.
    fn lod(&self, lookup: &Lookup<'_>, lane: usize) -> f32 {
        let source = self.b(self.at.lod, lane).map_or(0.0, f32::from_bits);
        let automatic = || match self.tex.all_lanes {
            true => self.quad_lod(lookup, lane),
            false => 0.0,
        };
        match self.tex.kind {
            TexKind::Sample(LodMode::Explicit) => source,
            TexKind::Sample(LodMode::Bias) => automatic() + source,
            TexKind::Sample(LodMode::Auto) => automatic(),
            TexKind::Gradient => {
                let along = |which: usize| {
                    [0, 1, 2].map(|n| match n < self.at.dims.min(2) {
                        true => f32::from_bits(self.b[2 * n + which][lane]),
                        false => 0.0,
                    })
                };
                lookup.lod_of_differences([along(0), along(1)])
            }
            _ => 0.0,
        }
    }

    /// A lane's lookup.
    fn look_up(
        &self,
        texture: &Texture,
        sampler: &Sampler,
        reader: &mut Reader<'_, '_>,
        lane: usize,
    ) -> Result<[u32; 4], Halt> {
        let lookup = Lookup {
            texture,
            sampler,
            reference: self.b(self.at.reference, lane).map(f32::from_bits),
        };
        let place = self.place(lane);
        Ok(match self.tex.kind {
            TexKind::Gather {
                component,
                four_offsets,
            } => {
                let offsets = four_offsets.then(|| self.four_offsets(lane));
                lookup.gather(reader, &place, component.into(), offsets)?
            }
            TexKind::QueryLod => {
                let lod = self.quad_lod(&lookup, lane);
                // 8 bits of fraction, in 16 bits.
                let fixed = |lod: f32| (lod * 256.0) as i16 as u16;
                let clamped = fixed(lookup.clamp_lod(lod).max(0.0));
                [fixed(lod).into(), clamped.into(), 0, 0]
            }
            _ => {
                let lod = self.lod(&lookup, lane);
                lookup.sample(reader, &place, lod)?
            }
        })
    }

    /// A lane's fetch.
    fn fetch(
        &self,
        texture: &Texture,
        reader: &mut Reader<'_, '_>,
        lane: usize,
        (has_level, has_sample): (bool, bool),
    ) -> Result<[u32; 4], Halt> {
        let level = if has_level { self.b[0][lane] } else { 0 };
        let sample = match has_sample {
            true => self.b[usize::from(has_level)][lane],
            false => 0,
        };
        let offset = self.offset(lane);
        let coords = self.coords(lane);
        let at = [0, 1, 2].map(|n| (coords[n] as i32).wrapping_add(offset[n]));
        let layer = self.layer(lane);
        Ok(fetch(texture, reader, at, layer, level, sample)?)
    }
}

/// Looks up. Where nothing is bound there are zeros.
pub fn tex(cx: &mut Cx<'_>, i: &Inst, tex: Tex) -> Result<(), Halt> {
    let args = Args::new(cx, i, tex);
    let mut out = [[0; LANES]; 4];
    let (env, guard) = (cx.env, cx.guard);
    for lane in each(cx.mask) {
        let (slot, sampler) = args.slots(lane);
        let Some(texture) = env.headers.texture(cx.client, &env.launch, slot)? else {
            continue;
        };
        let colour = if let TexKind::Fetch { lod, multisample } = tex.kind {
            let reader = &mut Reader {
                client: cx.client,
                guard,
            };
            args.fetch(texture, reader, lane, (lod, multisample))?
        } else {
            let found = env.headers.sampler(cx.client, &env.launch, slot, sampler)?;
            let Some(sampler) = found else { continue };
            let reader = &mut Reader {
                client: cx.client,
                guard,
            };
            args.look_up(texture, sampler, reader, lane)?
        };
        for (row, component) in out.iter_mut().zip(colour) {
            row[lane] = component;
        }
    }
    cx.write_masked(i.dst, tex.mask, &out);
    Ok(())
}

/// Asks.
pub fn query(
    cx: &mut Cx<'_>,
    i: &Inst,
    query: TexQuery,
    slot: u8,
    indirect: bool,
    mask: u8,
) -> Result<(), Halt> {
    let mut out = [[0; LANES]; 4];
    let env = cx.env;
    for lane in each(cx.mask) {
        let first = cx.row(i.src[0])[lane];
        let (slot, level) = match indirect {
            false => (u32::from(slot), first),
            true => (first >> 23, cx.row_at(i.src[0], 1)[lane]),
        };
        let Some(texture) = env.headers.texture(cx.client, &env.launch, slot)? else {
            continue;
        };
        let answer = match query {
            TexQuery::Dimensions => dimensions(texture, level),
            TexQuery::Type => [0, 0, texture.sample_count(), 0],
        };
        for (row, component) in out.iter_mut().zip(answer) {
            row[lane] = component;
        }
    }
    cx.write_masked(i.dst, mask, &out);
    Ok(())
}

impl Cx<'_> {
    /// Keeps the rows of `mask`, one after the other.
    fn write_masked(&mut self, dst: u16, mask: u8, rows: &[[u32; LANES]; 4]) {
        let wanted = rows
            .iter()
            .enumerate()
            .filter(|(n, _)| mask >> n & 1 != 0)
            .map(|(_, row)| row);
        for (dst, row) in (dst..).zip(wanted) {
            self.write(dst, row);
        }
    }
}
