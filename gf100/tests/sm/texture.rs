//! The texture unit, against a reference that is written from the OpenGL 4.3 specification
//! (sections 8.14 and 8.15), in double precision.

use gf100::sm::HeaderTable;
use proptest::prelude::*;

use crate::{
    asm::*,
    machine::{DATA, Machine},
    program,
};

/// Where headers and texels are, from the data on.
const HEADERS: u64 = 0x1_0000;
const SAMPLERS: u64 = 0x1_1000;
const TEXELS: u64 = 0x2_0000;

const D1: u32 = 0;
const D2: u32 = 1;
const D3: u32 = 2;
const CUBE: u32 = 3;
const D2_ARRAY: u32 = 5;
const BUFFER: u32 = 6;
const PITCH: u32 = 7;

/// Formats: component sizes and types with the sources of a result.
const R32F: u32 = 0x0f | 0o7777 << 6 | 2 << 18 | 7 << 27;
const R32UI: u32 = 0x0f | 0o4444 << 6 | 2 << 18 | 6 << 27;
const RGBA8: u32 = 0x08 | 0o2222 << 6 | 2 << 18 | 3 << 21 | 4 << 24 | 5 << 27;

/// A texture of 4-byte texels, tiled in single GOBs.
#[derive(Clone, Copy)]
struct Texture {
    ty: u32,
    format: u32,
    size: [u32; 3],
    levels: u32,
    normalized: bool,
}

impl Texture {
    fn new(ty: u32, format: u32, size: [u32; 3]) -> Self {
        Self {
            ty,
            format,
            size,
            levels: 1,
            normalized: true,
        }
    }

    fn header(&self) -> [u32; 8] {
        let [width, height, depth] = self.size;
        let linear = matches!(self.ty, BUFFER | PITCH);
        let at = DATA + TEXELS;
        let normalized = u32::from(self.normalized);
        [
            self.format,
            at as u32,
            (at >> 32) as u32 | self.ty << 14 | u32::from(linear) << 18 | normalized << 31,
            width * 4,
            1 << 31 | width,
            (self.levels - 1) << 28 | depth << 16 | height,
            0,
            (self.levels - 1) << 4,
        ]
    }

    fn level_size(&self, level: u32) -> [u32; 3] {
        let [w, h, d] = self.size;
        let minify = |n: u32| (n >> level).max(1);
        let d = if self.ty == D3 { minify(d) } else { d };
        [minify(w), minify(h), d]
    }

    fn layers(&self) -> u32 {
        match self.ty {
            CUBE => 6,
            D2_ARRAY => self.size[2],
            _ => 1,
        }
    }

    /// Bytes of a level of one layer.
    fn level_bytes(&self, level: u32) -> u64 {
        let [w, h, d] = self.level_size(level);
        let d = if self.ty == D3 { d } else { 1 };
        u64::from((w * 4).div_ceil(64)) * u64::from(h.div_ceil(8)) * u64::from(d) * 512
    }

    /// Where a texel is: GOBs of 64 bytes by 8 rows, in which 16-byte pieces are arranged as ENV
    /// `docs/hw/memory/g80-surface.rst` has it.
    fn offset(&self, level: u32, [x, y, z]: [u32; 3]) -> u64 {
        let [w, h, _] = self.level_size(level);
        if matches!(self.ty, BUFFER | PITCH) {
            return u64::from(y * w * 4 + x * 4);
        }
        let layer_bytes = (0..self.levels).map(|n| self.level_bytes(n)).sum::<u64>();
        let first: u64 = (0..level).map(|n| self.level_bytes(n)).sum();
        let (gobs_x, gobs_y) = ((w * 4).div_ceil(64), h.div_ceil(8));
        let slice = u64::from(gobs_x * gobs_y * 512);
        let layer = match self.ty {
            D3 => u64::from(z) * slice,
            _ => u64::from(z) * layer_bytes,
        };
        let byte = x * 4;
        let (column, row) = (byte % 64, y % 8);
        let inside =
            column / 32 * 256 + row / 2 * 64 + column % 32 / 16 * 32 + row % 2 * 16 + byte % 16;
        let gob = y / 8 * gobs_x + byte / 64;
        layer + first + u64::from(gob * 512 + inside)
    }

    /// What test textures have in a texel.
    fn word(&self, level: u32, [x, y, z]: [u32; 3]) -> u32 {
        let n = x + 7 * y + 31 * z + 101 * level;
        match self.format {
            R32F => (n as f32 * 0.25 + 1.0).to_bits(),
            RGBA8 => n.wrapping_mul(0x0103_0509),
            _ => n,
        }
    }

    fn write(&self, machine: &Machine) {
        machine.set(HEADERS, &self.header());
        for level in 0..self.levels {
            let [w, h, d] = self.level_size(level);
            let slices = if self.ty == D3 { d } else { self.layers() };
            for z in 0..slices {
                for y in 0..h {
                    for x in 0..w {
                        let at = TEXELS + self.offset(level, [x, y, z]);
                        machine.set(at, &[self.word(level, [x, y, z])]);
                    }
                }
            }
        }
    }

    /// A texel's colour as the specification has it.
    fn colour(&self, level: u32, at: [u32; 3]) -> [f64; 4] {
        let word = self.word(level, at);
        match self.format {
            R32F => [f64::from(f32::from_bits(word)), 0.0, 0.0, 1.0],
            _ => [0, 8, 16, 24].map(|shift| f64::from(word >> shift & 0xff) / 255.0),
        }
    }
}

/// A sampler as the tests have it.
#[derive(Clone, Copy, Debug)]
struct Sampler {
    wrap: [u32; 3],
    linear: bool,
    /// 1 none, 2 nearest, 3 linear.
    mip: u32,
    compare: Option<u32>,
}

const BORDER: [f32; 4] = [10.0, 20.0, 30.0, 40.0];

impl Sampler {
    fn header(&self) -> [u32; 8] {
        let [u, v, p] = self.wrap;
        let compare = self.compare.map_or(0, |function| 1 << 9 | function << 10);
        let filter = if self.linear { 2 } else { 1 };
        let [r, g, b, a] = BORDER.map(f32::to_bits);
        [
            u | v << 3 | p << 6 | compare,
            filter | filter << 4 | self.mip << 6,
            0xfff << 12,
            0,
            r,
            g,
            b,
            a,
        ]
    }
}

fn machine(code: &[u64], texture: &Texture, sampler: &Sampler) -> Machine {
    let mut machine = Machine::new(code).threads(32);
    texture.write(&machine);
    machine.set(SAMPLERS, &sampler.header());
    machine.launch.tic = HeaderTable {
        address: DATA + HEADERS,
        limit: 0,
    };
    machine.launch.tsc = HeaderTable {
        address: DATA + SAMPLERS,
        limit: 0,
    };
    machine.launch.textures[3] = Some(0);
    machine.launch.samplers[2] = Some(0);
    machine
}

/// Each thread loads four words to r8, runs `i` with its results in r16, and stores these.
fn lookups(i: I, texture: &Texture, sampler: &Sampler, sources: &[[u32; 4]; 32]) -> Vec<[u32; 4]> {
    let code = program![
        s2r(0, 0x21),
        mov_imm(2, DATA as u32),
        shl_imm(4, 0, 4),
        iadd(4, 4, 2),
        mov_imm(5, 0),
        ld(8, ty::B128, 4, 0),
        i.field(32, 8, 3).field(40, 5, 2),
        st(16, ty::B128, 4, 0x1000),
        exit(),
    ];
    let machine = machine(&code, texture, sampler);
    machine.set(0, sources.as_flattened());
    machine.done();
    let words = machine.get(0x1000, 128);
    words
        .chunks(4)
        .map(|words| [words[0], words[1], words[2], words[3]])
        .collect()
}

/// Texel `i` of `size` as table 8.19 wraps it; `None` is the border.
fn wrapped(mode: u32, i: i64, size: i64) -> Option<u32> {
    let mirror = |a: i64| if a >= 0 { a } else { -(1 + a) };
    let inside = |i: i64| (0..size).contains(&i).then_some(i as u32);
    match mode {
        0 => inside(i.rem_euclid(size)),
        1 => inside((size - 1) - mirror(i.rem_euclid(2 * size) - size)),
        2 => inside(i.clamp(0, size - 1)),
        3 => inside(i.clamp(-1, size)),
        _ => inside(mirror(i).clamp(0, size - 1)),
    }
}

/// The colour at a level.
fn level_colour(texture: &Texture, sampler: &Sampler, level: u32, at: [f64; 3]) -> [f64; 4] {
    let size = texture.level_size(level);
    let dims = match texture.ty {
        D1 => 1,
        D3 => 3,
        _ => 2,
    };
    let texel = |i: [i64; 3]| {
        let place = [0, 1, 2].map(|n| match n < dims {
            true => wrapped(sampler.wrap[n], i[n], size[n].into()),
            false => Some(0),
        });
        match place {
            [Some(x), Some(y), Some(z)] => texture.colour(level, [x, y, z]),
            _ => BORDER.map(f64::from),
        }
    };
    let u = [0, 1, 2].map(|n| at[n] * f64::from(size[n]));
    if !sampler.linear {
        return texel(u.map(|u| u.floor() as i64));
    }
    let low = u.map(|u| (u - 0.5).floor());
    let mut sum = [0.0; 4];
    for corner in 0..1usize << dims {
        let side = |n: usize| (corner >> n & 1) as f64;
        let weight: f64 = (0..dims)
            .map(|n| {
                let share = u[n] - 0.5 - low[n];
                if side(n) == 0.0 { 1.0 - share } else { share }
            })
            .product();
        let colour = texel([0, 1, 2].map(|n| low[n] as i64 + side(n) as i64));
        for (sum, component) in sum.iter_mut().zip(colour) {
            *sum += weight * component;
        }
    }
    sum
}

fn close(ours: [u32; 4], expected: [f64; 4], tolerance: f64) -> bool {
    ours.iter().zip(expected).all(|(ours, expected)| {
        let ours = f64::from(f32::from_bits(*ours));
        (ours - expected).abs() <= tolerance * expected.abs().max(1.0)
    })
}

const NEAREST: Sampler = Sampler {
    wrap: [2; 3],
    linear: false,
    mip: 1,
    compare: None,
};

proptest! {
    #![proptest_config(crate::random::cases(96))]

    /// Coordinates are multiples of 1/64 texel, so that both sides agree which texel is nearest.
    #[test]
    fn filtered_colours_are_those_of_the_specification(
        shape in 0usize..5, wrap in [0usize..5, 0usize..5, 0usize..5], linear: bool, rgba: bool,
        mip in 1u32..4,
        sources in proptest::array::uniform32([-96i32..160, -96i32..160, -96i32..160, 0i32..15]),
    ) {
        // Sides are powers of two, so that coordinates are exact.
        let (ty, size, levels) = [
            (D1, [64, 1, 1], 1),
            (D2, [32, 16, 1], 1),
            (D2, [16, 32, 1], 5),
            (D3, [8, 8, 4], 3),
            (PITCH, [32, 16, 1], 1),
        ][shape];
        let format = if rgba { RGBA8 } else { R32F };
        let texture = Texture { levels, ..Texture::new(ty, format, size) };
        const MODES: [u32; 5] = [0, 1, 2, 3, 5];
        let sampler = Sampler { wrap: wrap.map(|n| MODES[n]), linear, mip, compare: None };
        let dims = match ty { D1 => 1, D3 => 3, _ => 2 };
        let coords = |s: &[i32; 4]| [0, 1, 2].map(|n| (f64::from(s[n]) + 1.0 / 4.0) / 64.0);
        // Lod in eighths, off the ties of the nearest level.
        let lod = |s: &[i32; 4]| f64::from(s[3]) / 4.0 + 1.0 / 16.0;
        let words = sources.map(|s| {
            let [x, y, z] = coords(&s).map(|c| (c as f32).to_bits());
            let lod = (lod(&s) as f32).to_bits();
            [[x, lod, 0, 0], [x, y, lod, 0], [x, y, z, lod]][dims - 1]
        });
        let i = tex(texop::TXL, 16, 8, 8 + dims as u64).field(52, 2, dims as u64 - 1);
        let results = lookups(i, &texture, &sampler, &words);
        let last = f64::from(levels - 1);
        for (s, ours) in sources.iter().zip(results) {
            let at = |level: f64| level_colour(&texture, &sampler, level as u32, coords(s));
            let lambda = lod(s).min(last);
            let expected = match mip {
                1 => at(0.0),
                2 => at((lambda + 0.5).ceil() - 1.0),
                _ => {
                    let (near, far) = (at(lambda.floor()), at((lambda.floor() + 1.0).min(last)));
                    let share = lambda - lambda.floor();
                    [0, 1, 2, 3].map(|n| near[n] + (far[n] - near[n]) * share)
                }
            };
            prop_assert!(close(ours, expected, 1e-5), "{s:?}: {ours:x?}, {expected:?}");
        }
    }
}

#[test]
fn fetches_find_texels_of_any_shape_and_nothing_outside() {
    for (ty, size, levels) in [
        (D1, [40, 1, 1], 1),
        (D2, [20, 12, 1], 3),
        (D3, [12, 10, 6], 2),
        (D2_ARRAY, [12, 10, 5], 2),
        (BUFFER, [40, 1, 1], 1),
        (PITCH, [20, 12, 1], 1),
    ] {
        let texture = Texture {
            levels,
            ..Texture::new(ty, R32UI, size)
        };
        let dims = match ty {
            D1 | BUFFER => 1,
            D3 => 3,
            _ => 2,
        };
        let array = ty == D2_ARRAY;
        let places: [[u32; 4]; 32] = std::array::from_fn(|n| {
            let n = n as u32;
            // Some are outside on one side or the other.
            let z = if ty == D3 || array { n % 7 } else { 0 };
            let y = if dims > 1 { (n * 5) % 14 } else { 0 };
            [(n * 3 + 1) % 42, y, z, n % 3]
        });
        let sources = places.map(|[x, y, z, level]| match (dims, array) {
            (1, _) => [x, level, 0, 0],
            (_, true) => [z, x, y, level],
            (2, _) => [x, y, level, 0],
            _ => [x, y, z, level],
        });
        let b = 8 + dims as u64 + u64::from(array);
        let i = tex(texop::TXF_LOD, 16, 8, b)
            .field(52, 2, dims as u64 - 1)
            .field(51, 1, array.into());
        let results = lookups(i, &texture, &NEAREST, &sources);
        for ([x, y, z, level], ours) in places.into_iter().zip(results) {
            let [w, h, d] = texture.level_size(level);
            let inside = level < levels && x < w && y < h && z < d;
            let expected = match inside {
                true => [texture.word(level, [x, y, z]), 0, 0, 1],
                false => [0; 4],
            };
            assert_eq!(ours, expected, "type {ty} at {x} {y} {z}, level {level}");
        }
    }
}

#[test]
fn offsets_move_a_fetch() {
    let texture = Texture::new(D2, R32UI, [16, 16, 1]);
    // x - 1, y + 2.
    let sources = std::array::from_fn(|n| [n as u32 % 16, n as u32 / 4, 0x2f, 0]);
    let i = tex(texop::TXF, 16, 8, 10).bit(54);
    for (n, ours) in lookups(i, &texture, &NEAREST, &sources).iter().enumerate() {
        let (x, y) = (n as u32 % 16, n as u32 / 4 + 2);
        let expected = if x == 0 {
            0
        } else {
            texture.word(0, [x - 1, y, 0])
        };
        assert_eq!(ours[0], expected);
    }
}

#[test]
fn a_gather_takes_one_component_of_four_texels() {
    let texture = Texture::new(D2, RGBA8, [16, 8, 1]);
    let wrap = Sampler {
        wrap: [0; 3],
        ..NEAREST
    };
    let at = |x: u32, y: u32| texture.colour(0, [x % 16, y % 8, 0])[2];
    // Between texels (n, n + 1) and (2, 3), one texel down with the offset.
    let sources = std::array::from_fn(|n| {
        let (s, t) = ((n as f32 + 1.0) / 16.0, 3.0f32 / 8.0);
        [s.to_bits(), t.to_bits(), 0x0100, 0xff00_0100]
    });
    let i = tex(texop::TXG, 16, 8, 10).bit(54).field(5, 2, 2);
    for (n, ours) in lookups(i, &texture, &wrap, &sources)
        .into_iter()
        .enumerate()
    {
        let n = n as u32;
        let expected = [at(n, 4), at(n + 1, 4), at(n + 1, 3), at(n, 3)];
        assert!(close(ours, expected, 1e-6), "{n}: {ours:x?} {expected:?}");
    }
    // Four offsets: (0, 1), (0, 0), (0, 1), (0, -1).
    let i = tex(texop::TXG, 16, 8, 10).bit(55).field(5, 2, 2);
    for (n, ours) in lookups(i, &texture, &wrap, &sources)
        .into_iter()
        .enumerate()
    {
        let n = n as u32;
        let expected = [at(n, 3), at(n, 2), at(n, 3), at(n, 1)];
        assert!(close(ours, expected, 1e-6), "{n}: {ours:x?} {expected:?}");
    }
}

#[test]
fn a_comparison_is_made_before_the_filter() {
    let texture = Texture::new(D2, R32F, [8, 8, 1]);
    let less_or_equal = Sampler {
        linear: true,
        compare: Some(3),
        ..NEAREST
    };
    // The middle of texels 3 and 4 of row 0, whose values are 1.75 and 2.0.
    let references = [1.5f32, 1.75, 1.9, 2.0, 2.1];
    let sources = std::array::from_fn(|n| {
        let reference = references[n % references.len()];
        [0.5f32.to_bits(), 0, 0, reference.to_bits()]
    });
    // b has the level of detail, then the reference.
    let i = tex(texop::TXL, 16, 8, 10).bit(56);
    for (n, ours) in lookups(i, &texture, &less_or_equal, &sources)
        .iter()
        .enumerate()
    {
        let expected = [1.0, 1.0, 0.5, 0.5, 0.0][n % references.len()];
        assert_eq!(f32::from_bits(ours[0]), expected, "{n}");
    }
}

#[test]
fn a_direction_leads_to_a_face_of_a_cube() {
    let texture = Texture::new(CUBE, R32UI, [4, 4, 1]);
    // Direction, and the face with the texel, from table 8.18.
    let cases = [
        ([1.0, 0.2, -0.6], [3, 1, 0]),
        ([-1.0, 0.2, -0.6], [0, 1, 1]),
        ([0.6, 1.0, 0.2], [3, 2, 2]),
        ([0.6, -1.0, 0.2], [3, 1, 3]),
        ([0.6, 0.2, 1.0], [3, 1, 4]),
        ([0.6, 0.2, -1.0], [0, 1, 5]),
    ];
    let sources = std::array::from_fn(|n| {
        let [x, y, z] = cases[n % 6].0.map(f32::to_bits);
        [x, y, z, 0]
    });
    let i = tex(texop::TXL, 16, 8, 11).field(52, 2, 3);
    for (n, ours) in lookups(i, &texture, &NEAREST, &sources).iter().enumerate() {
        assert_eq!(
            ours[0],
            texture.word(0, cases[n % 6].1),
            "{:?}",
            cases[n % 6]
        );
    }
}

#[test]
fn derivatives_choose_the_level() {
    let texture = Texture {
        levels: 4,
        ..Texture::new(D1, R32UI, [64, 1, 1])
    };
    let nearest = Sampler { mip: 2, ..NEAREST };
    // Of s = 0 by 2^n texels.
    let sources = std::array::from_fn(|n| {
        let step = 2f32.powi(n as i32 % 6) / 64.0;
        [0, step.to_bits(), 0, 0]
    });
    let i = tex(texop::TXD, 16, 8, 9).field(52, 2, 0);
    for (n, ours) in lookups(i, &texture, &nearest, &sources).iter().enumerate() {
        assert_eq!(ours[0], texture.word((n as u32 % 6).min(3), [0, 0, 0]));
    }
}

#[test]
fn queries_tell_the_size_of_a_level() {
    let texture = Texture {
        levels: 3,
        ..Texture::new(D2_ARRAY, RGBA8, [20, 12, 5])
    };
    let sources = std::array::from_fn(|n| [n as u32 % 3, 0, 0, 0]);
    let i = tex(texop::TXQ, 16, 8, 63);
    for (n, ours) in lookups(i, &texture, &NEAREST, &sources).iter().enumerate() {
        let [w, h, d] = texture.level_size(n as u32 % 3);
        assert_eq!(*ours, [w, h, d, 3]);
    }
}

#[test]
fn slots_may_come_from_a_register_and_be_empty() {
    let texture = Texture::new(BUFFER, R32UI, [32, 1, 1]);
    // The texture's slot from bit 23 on, of which slot 4 is empty.
    let sources = std::array::from_fn(|n| [(3 + (n as u32 & 1)) << 23, n as u32, 0, 0]);
    let i = tex(texop::TXF, 16, 8, 63).bit(50).field(52, 2, 0);
    for (n, ours) in lookups(i, &texture, &NEAREST, &sources).iter().enumerate() {
        let expected = if n % 2 == 0 { n as u32 } else { 0 };
        assert_eq!(ours[0], expected);
    }
}
