//! Memories in GLSL: storage and uniform buffers, shared memory, atomics.

use crate::case::{Case, Extra, GLSL, Input, THREADS, each};

/// Invocations of a group in these cases.
const GROUP: usize = 64;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "gl_shared",
        aims: "shared memory and barriers in a loop",
        source: "shared uint t[64]; void main() { uint l = gl_LocalInvocationIndex, i = gl_GlobalInvocationID.x; t[l] = src[i];
            for (uint n = 1u; n < 64u; n <<= 1) { memoryBarrierShared(); barrier(); uint v = t[l ^ n]; memoryBarrierShared(); barrier(); t[l] = t[l] * 3u + v; } dst[i] = t[l]; }",
        reference: |s| {
            let group = |g: &[u32]| {
                let mut t = g.to_vec();
                for step in 0..6 {
                    let old = t.clone();
                    for l in 0..GROUP {
                        t[l] = old[l].wrapping_mul(3).wrapping_add(old[l ^ 1 << step]);
                    }
                }
                t
            };
            s.chunks(GROUP).flat_map(group).collect()
        },
        ..GLSL
    },
    Case {
        name: "gl_shared_atomics",
        aims: "atomics of shared memory under contention",
        source: "shared uint t[4]; shared int m; void main() { uint l = gl_LocalInvocationIndex, a = src[gl_GlobalInvocationID.x];
            if (l < 4u) t[l] = 0u; if (l == 0u) m = 0; barrier(); atomicAdd(t[a & 1u], 1u); atomicMax(t[2], a); atomicXor(t[3], a); atomicMin(m, int(a));
            barrier(); if (l < 4u) dst[gl_WorkGroupID.x * 5u + l] = t[l]; if (l == 4u) dst[gl_WorkGroupID.x * 5u + 4u] = uint(m); }",
        output: 20,
        reference: |s| {
            let group = |g: &[u32]| {
                let odd = g.iter().filter(|&a| a & 1 != 0).count() as u32;
                let least = g.iter().map(|&a| a as i32).min().unwrap_or(0).min(0);
                let most = g.iter().copied().max().unwrap_or(0);
                let parity = g.iter().fold(0, |t, a| t ^ a);
                [64 - odd, odd, most, parity, least as u32]
            };
            s.chunks(GROUP).flat_map(group).collect()
        },
        ..GLSL
    },
    Case {
        name: "gl_shared_swap",
        aims: "atomicCompSwap and atomicExchange of shared memory",
        source: "shared uint head, sum; void main() { uint l = gl_LocalInvocationIndex; if (l == 0u) { head = 0u; sum = 0u; } barrier();
            uint seen, old = 0u; do { seen = old; old = atomicCompSwap(head, seen, seen + l); } while (old != seen); atomicAdd(sum, atomicExchange(head, head));
            barrier(); if (l == 0u) dst[gl_WorkGroupID.x] = head; }",
        output: 4,
        reference: |_| vec![63 * 64 / 2; 4],
        ..GLSL
    },
    Case {
        name: "gl_buffer_atomics",
        aims: "every atomic of a storage buffer",
        source: "void main() { uint a = src[gl_GlobalInvocationID.x % 256u]; atomicAdd(dst[0], a); atomicMin(dst[1], ~a); atomicMax(dst[2], a); atomicAnd(dst[3], a);
            atomicOr(dst[4], a & 0x10101010u); atomicXor(dst[5], a); uint t = atomicAdd(dst[6], 1u); atomicAdd(dst[7], t); uint o = dst[8], s;
            do { s = o; o = atomicCompSwap(dst[8], s, s * 5u + 1u); } while (o != s); atomicExchange(dst[9], 4711u); }",
        groups: [16, 1, 1],
        output: 10,
        reference: |s| {
            let all = || s.iter().cycle().take(1024).copied();
            vec![
                all().fold(0, u32::wrapping_add),
                0,
                all().max().unwrap_or(0),
                0,
                all().fold(0, |t, a| t | a & 0x1010_1010),
                all().fold(0, |t, a| t ^ a),
                1024,
                1023 * 1024 / 2,
                (0..1024).fold(0u32, |t, _| t.wrapping_mul(5).wrapping_add(1)),
                4711,
            ]
        },
        ..GLSL
    },
    Case {
        name: "gl_atomic_counter",
        aims: "an atomic counter: each invocation gets a number of its own",
        source: "void main() { uint n = atomicCounterIncrement(counter); dst[n] = dst[n] + 1u; }",
        extra: Extra::Counter,
        reference: |_| each(THREADS, |_| 1),
        ..GLSL
    },
    Case {
        name: "gl_uniform_block",
        aims: "a uniform block, indexed by a variable: LDC",
        source: "void main() { uint i = gl_GlobalInvocationID.x; uvec4 v = block[i * 37u % 64u]; dst[i] = v[i & 3u] + block[3].y; }",
        extra: Extra::Uniform,
        reference: |s| each(THREADS, |i| s[i * 37 % 64 * 4 + (i & 3)].wrapping_add(s[13])),
        ..GLSL
    },
    Case {
        name: "gl_buffer_length",
        aims: "the length of a buffer, from the driver's constants",
        source: "void main() { uint i = gl_GlobalInvocationID.x; dst[i] = uint(src.length()) * 10000u + uint(dst.length()); }",
        reference: |_| each(THREADS, |_| 2_560_256),
        ..GLSL
    },
    Case {
        name: "gl_local_array",
        aims: "arrays of each invocation's own, indexed by variables",
        source: "void main() { uint i = gl_GlobalInvocationID.x; uint t[16]; for (uint n = 0u; n < 16u; n++) t[n] = src[(i * 3u + n) % 256u];
            for (uint n = 0u; n < 16u; n++) { uint k = t[n] & 15u; uint v = t[k]; t[k] = t[n]; t[n] = v; } uint r = 0u;
            for (uint n = 0u; n < 16u; n++) r = r * 17u + t[n]; dst[i] = r; }",
        reference: |s| {
            each(THREADS, |i| {
                let mut t: [u32; 16] = std::array::from_fn(|n| s[(i * 3 + n) % 256]);
                for n in 0..16 {
                    let k = (t[n] & 15) as usize;
                    t.swap(n, k);
                }
                t.iter().fold(0u32, |r, &v| r.wrapping_mul(17).wrapping_add(v))
            })
        },
        ..GLSL
    },
    Case {
        name: "gl_wide_loads",
        aims: "loads and stores of two and four words",
        source: "layout(std430, binding = 0) buffer Wide { uvec4 from[]; }; layout(std430, binding = 1) buffer Pairs { uvec2 to[]; };
            void main() { uint i = gl_GlobalInvocationID.x; uvec4 v = from[i]; to[2u * i] = v.yx; to[2u * i + 1u] = v.zw + v.xx; }",
        groups: [1, 1, 1],
        input: Input::Words(256),
        output: 256,
        reference: |s| {
            let quad = |v: &[u32]| [v[1], v[0], v[2].wrapping_add(v[0]), v[3].wrapping_add(v[0])];
            s.chunks(4).flat_map(quad).collect()
        },
        ..GLSL
    },
];
