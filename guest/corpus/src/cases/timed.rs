//! Kernels in GLSL that take long enough to be timed. What they leave does not depend on how often
//! they have run.

use crate::case::{Agreement, Case, Extra, GLSL, Input, each};

/// Invocations of these cases, and of their groups.
const ALL: usize = 1 << 16;
const GROUP: usize = 256;
/// Rows and columns of images.
const SIDE: usize = 256;
/// Rows and columns of matrices.
const ORDER: usize = 128;
/// Bodies that attract one another.
const BODIES: usize = 1024;

/// A case to be filled in.
const TIMED: Case = Case {
    groups: [(ALL / GROUP) as u32, 1, 1],
    local: [GROUP as u32, 1, 1],
    input: Input::Words(ALL),
    output: ALL,
    ..GLSL
};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "gl_copy",
        aims: "four coalesced loads and stores of each invocation",
        source: "void main() { uint i = gl_GlobalInvocationID.x; for (uint n = 0u; n < 4u; n++) dst[i + n * 65536u] = src[i + n * 65536u]; }",
        input: Input::Words(4 * ALL),
        output: 4 * ALL,
        ..TIMED
    },
    Case {
        name: "gl_fma",
        aims: "256 dependent multiply-adds in single precision",
        source: "void main() { uint i = gl_GlobalInvocationID.x; float a = uintBitsToFloat(src[i]), b = a * 0.25 + 0.5, c = 1.0 - b;
            for (int n = 0; n < 64; n++) { a = fma(a, b, c); a = fma(a, b, c); a = fma(a, b, c); a = fma(a, b, c); } dst[i] = floatBitsToUint(a); }",
        input: Input::Floats(ALL, 0.0, 1.0),
        reference: |s| {
            each(ALL, |i| {
                let a = f32::from_bits(s[i]);
                let b = a * 0.25 + 0.5;
                (0..256).fold(a, |a, _| a.mul_add(b, 1.0 - b)).to_bits()
            })
        },
        agreement: Agreement::Within(1e-4),
        ..TIMED
    },
    Case {
        name: "gl_integer",
        aims: "64 rounds of a random generator",
        source: "void main() { uint i = gl_GlobalInvocationID.x, a = src[i] | 1u;
            for (int n = 0; n < 64; n++) { a ^= a << 13; a ^= a >> 17; a ^= a << 5; a = a * 1664525u + 1013904223u; } dst[i] = a; }",
        reference: |s| {
            each(ALL, |i| {
                (0..64).fold(s[i] | 1, |mut a, _| {
                    a ^= a << 13;
                    a ^= a >> 17;
                    a ^= a << 5;
                    a.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
                })
            })
        },
        ..TIMED
    },
    Case {
        name: "gl_divergent",
        aims: "a loop that each invocation leaves at another time",
        source: "void main() { uint i = gl_GlobalInvocationID.x, a = (src[i] & 0xffffu) + 1u, n = 0u;
            while (a != 1u && n < 256u) { if ((a & 1u) != 0u) a = 3u * a + 1u; else a >>= 1; n++; } dst[i] = n; }",
        reference: |s| {
            each(ALL, |i| {
                let (mut a, mut n) = ((s[i] & 0xffff) + 1, 0);
                while a != 1 && n < 256 {
                    a = if a & 1 != 0 { 3 * a + 1 } else { a >> 1 };
                    n += 1;
                }
                n
            })
        },
        ..TIMED
    },
    Case {
        name: "gl_reduction",
        aims: "sums by groups in shared memory, with barriers",
        source: "shared uint t[256]; void main() { uint l = gl_LocalInvocationIndex; t[l] = src[gl_GlobalInvocationID.x] & 0xffffu;
            for (uint n = 128u; n > 0u; n >>= 1) { barrier(); if (l < n) t[l] += t[l + n]; } if (l == 0u) dst[gl_WorkGroupID.x] = t[0]; }",
        output: ALL / GROUP,
        reference: |s| {
            let sum = |group: &[u32]| group.iter().map(|word| word & 0xffff).sum();
            s.chunks(GROUP).map(sum).collect()
        },
        ..TIMED
    },
    Case {
        name: "gl_histogram",
        aims: "atomics of shared memory",
        source: "shared uint t[64]; void main() { uint l = gl_LocalInvocationIndex; if (l < 64u) t[l] = 0u; barrier();
            atomicAdd(t[src[gl_GlobalInvocationID.x] & 63u], 1u); barrier(); if (l < 64u) dst[gl_WorkGroupID.x * 64u + l] = t[l]; }",
        output: ALL / GROUP * 64,
        reference: |s| {
            let bins = |group: &[u32]| {
                let mut bins = vec![0; 64];
                for word in group {
                    bins[(word & 63) as usize] += 1;
                }
                bins
            };
            s.chunks(GROUP).flat_map(bins).collect()
        },
        ..TIMED
    },
    Case {
        name: "gl_matrix",
        aims: "a product of matrices, by tiles in shared memory",
        source: "shared float a[16][16], b[16][16];
            void main() { uint x = gl_LocalInvocationID.x, y = gl_LocalInvocationID.y, c = gl_GlobalInvocationID.x, r = gl_GlobalInvocationID.y; float sum = 0.0;
            for (uint k = 0u; k < 128u; k += 16u) { a[y][x] = uintBitsToFloat(src[r * 128u + k + x]); b[y][x] = uintBitsToFloat(src[16384u + (k + y) * 128u + c]); barrier();
                for (uint n = 0u; n < 16u; n++) sum += a[y][n] * b[n][x]; barrier(); } dst[r * 128u + c] = floatBitsToUint(sum); }",
        groups: [8, 8, 1],
        local: [16, 16, 1],
        input: Input::Floats(2 * ORDER * ORDER, -1.0, 1.0),
        output: ORDER * ORDER,
        reference: |s| {
            let value = |at: usize| f32::from_bits(s[at]);
            each(ORDER * ORDER, |i| {
                let (row, column) = (i / ORDER, i % ORDER);
                let product = |k| value(row * ORDER + k) * value((ORDER + k) * ORDER + column);
                (0..ORDER).map(product).sum::<f32>().to_bits()
            })
        },
        agreement: Agreement::Within(1e-3),
        ..TIMED
    },
    Case {
        name: "gl_bodies",
        aims: "1024 bodies: inverse square roots of distances",
        source: "void main() { uint i = gl_GlobalInvocationID.x; float x = uintBitsToFloat(src[i]), y = uintBitsToFloat(src[i + 1024u]), force = 0.0;
            for (uint n = 0u; n < 1024u; n++) { float dx = uintBitsToFloat(src[n]) - x, dy = uintBitsToFloat(src[n + 1024u]) - y;
                float r = inversesqrt(dx * dx + dy * dy + 0.01); force += dx * r * r * r; } dst[i] = floatBitsToUint(force); }",
        groups: [(BODIES / GROUP) as u32, 1, 1],
        input: Input::Floats(2 * BODIES, -1.0, 1.0),
        output: BODIES,
        reference: |s| {
            let value = |at: usize| f64::from(f32::from_bits(s[at]));
            each(BODIES, |i| {
                let force = |n: usize| {
                    let (dx, dy) = (value(n) - value(i), value(n + BODIES) - value(i + BODIES));
                    dx / (dx * dx + dy * dy + f64::from(0.01f32)).powf(1.5)
                };
                ((0..BODIES).map(force).sum::<f64>() as f32).to_bits()
            })
        },
        agreement: Agreement::Within(1e-2),
        ..TIMED
    },
    Case {
        name: "gl_stencil",
        aims: "five neighbours in a plane",
        source: "float at(uint x, uint y) { return uintBitsToFloat(src[(y & 255u) * 256u + (x & 255u)]); }
            void main() { uint x = gl_GlobalInvocationID.x, y = gl_GlobalInvocationID.y;
            float sum = at(x - 1u, y) + at(x + 1u, y) + at(x, y - 1u) + at(x, y + 1u); dst[y * 256u + x] = floatBitsToUint(sum * 0.25 - at(x, y)); }",
        groups: [16, 16, 1],
        local: [16, 16, 1],
        input: Input::Floats(ALL, 0.0, 1.0),
        reference: |s| {
            let at = |x: usize, y: usize| f32::from_bits(s[y % SIDE * SIDE + x % SIDE]);
            each(ALL, |i| {
                let (x, y) = (i % SIDE + SIDE, i / SIDE + SIDE);
                let sum = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1);
                (sum * 0.25 - at(x, y)).to_bits()
            })
        },
        agreement: Agreement::Within(1e-5),
        ..TIMED
    },
    Case {
        name: "gl_texture",
        aims: "a filtered texture",
        source: "void main() { uvec2 at = gl_GlobalInvocationID.xy; vec4 texel = textureLod(tex, (vec2(at) + 0.5) / 256.0, 0.0);
            dst[at.y * 256u + at.x] = floatBitsToUint(texel.r + texel.g + texel.b + texel.a); }",
        groups: [16, 16, 1],
        local: [16, 16, 1],
        reference: |s| {
            each(ALL, |i| {
                let sum: u32 = s[i].to_le_bytes().map(u32::from).iter().sum();
                (sum as f32 / 255.0).to_bits()
            })
        },
        agreement: Agreement::Within(1e-3),
        extra: Extra::Texture(SIDE as u32, SIDE as u32),
        ..TIMED
    },
];
