//! Memories in OpenCL C: shared, local, constant, global; barriers and atomics.

use crate::case::{Case, Input, OPENCL, THREADS, each};

/// Threads of a group in these cases.
const GROUP: usize = 64;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "cl_shared_reverse",
        aims: "shared memory and a barrier",
        source: "KERNEL { local uint t[64]; uint l = get_local_id(0), i = get_global_id(0); t[l] = src[i];
            barrier(CLK_LOCAL_MEM_FENCE); dst[i] = t[63 - l] + t[l ^ 32]; }",
        reference: |s| {
            each(THREADS, |i| {
                let (group, l) = (i / GROUP * GROUP, i % GROUP);
                s[group + 63 - l].wrapping_add(s[group + (l ^ 32)])
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_shared_reduction",
        aims: "barriers in a loop whose active threads get fewer",
        source: "KERNEL { local uint t[64]; uint l = get_local_id(0); t[l] = src[get_global_id(0)] & 0xffff;
            for (uint n = 32; n > 0; n >>= 1) { barrier(CLK_LOCAL_MEM_FENCE); if (l < n) t[l] += t[l + n]; }
            if (l == 0) dst[get_group_id(0)] = t[0]; }",
        output: 4,
        reference: |s| {
            let sum = |group: &[u32]| group.iter().map(|word| word & 0xffff).sum();
            s.chunks(GROUP).map(sum).collect()
        },
        ..OPENCL
    },
    Case {
        name: "cl_shared_scan",
        aims: "a prefix sum: two barriers per step",
        source: "KERNEL { local uint t[64]; uint l = get_local_id(0), i = get_global_id(0); t[l] = src[i];
            for (uint n = 1; n < 64; n <<= 1) { barrier(CLK_LOCAL_MEM_FENCE); uint v = l >= n ? t[l - n] : 0;
                barrier(CLK_LOCAL_MEM_FENCE); t[l] += v; } dst[i] = t[l]; }",
        reference: |s| {
            let scan = |group: &[u32]| {
                let sum = |total: &mut u32, &word: &u32| {
                    *total = total.wrapping_add(word);
                    Some(*total)
                };
                group.iter().scan(0, sum).collect::<Vec<_>>()
            };
            s.chunks(GROUP).flat_map(scan).collect()
        },
        ..OPENCL
    },
    Case {
        name: "cl_shared_sort",
        aims: "a bitonic sort: divergence between barriers, in groups of several warps",
        source: "KERNEL { local uint t[256]; uint l = get_local_id(0); t[l] = src[l];
            for (uint k = 2; k <= 256; k <<= 1) for (uint j = k >> 1; j > 0; j >>= 1) { barrier(CLK_LOCAL_MEM_FENCE);
                uint m = l ^ j; if (m > l) { uint a = t[l], b = t[m]; if (((l & k) == 0) == (a > b)) { t[l] = b; t[m] = a; } } }
            barrier(CLK_LOCAL_MEM_FENCE); dst[l] = t[l]; }",
        groups: [1, 1, 1],
        local: [256, 1, 1],
        reference: |s| {
            let mut sorted = s.to_vec();
            sorted.sort_unstable();
            sorted
        },
        ..OPENCL
    },
    Case {
        name: "cl_shared_histogram",
        aims: "atomic sums in shared memory under contention: LD.LOCK, ST.UNLOCK",
        source: "KERNEL { local uint bins[16]; uint l = get_local_id(0); if (l < 16) bins[l] = 0; barrier(CLK_LOCAL_MEM_FENCE);
            for (uint n = 0; n < 8; n++) atomic_add(&bins[src[(l + n * 64) % 256] % 16], n + 1);
            barrier(CLK_LOCAL_MEM_FENCE); if (l < 16) dst[get_group_id(0) * 16 + l] = bins[l]; }",
        output: 64,
        reference: |s| {
            let mut bins = [0; 16];
            for l in 0..64 {
                for n in 0..8 {
                    bins[(s[(l + n * 64) % 256] % 16) as usize] += n as u32 + 1;
                }
            }
            bins.repeat(4)
        },
        ..OPENCL
    },
    Case {
        name: "cl_shared_atomics",
        aims: "every atomic of shared memory on one word",
        source: "KERNEL { local uint t[8]; local int m[2]; uint l = get_local_id(0), a = src[get_global_id(0)];
            if (l < 8) t[l] = l == 4 ? 0xffffffffu : 0; if (l < 2) m[l] = 0; barrier(CLK_LOCAL_MEM_FENCE);
            atomic_add(&t[0], a); atomic_sub(&t[1], a >> 3); atomic_max(&t[2], a); atomic_or(&t[3], a & 0x11111111u);
            atomic_and(&t[4], a | 0xff00ff00u); atomic_xor(&t[5], a); atomic_inc(&t[6]); atomic_dec(&t[7]);
            atomic_min(&m[0], (int)a); atomic_max(&m[1], (int)a);
            barrier(CLK_LOCAL_MEM_FENCE); if (l < 10) dst[get_group_id(0) * 10 + l] = l < 8 ? t[l] : (uint)m[l - 8]; }",
        output: 40,
        reference: |s| {
            let group = |g: &[u32]| {
                let sum = |f: fn(u32) -> u32| g.iter().fold(0u32, |t, &a| t.wrapping_add(f(a)));
                [
                    sum(|a| a),
                    sum(|a| a >> 3).wrapping_neg(),
                    g.iter().copied().max().unwrap_or(0),
                    g.iter().fold(0, |t, a| t | a & 0x1111_1111),
                    g.iter().fold(u32::MAX, |t, a| t & (a | 0xff00_ff00)),
                    g.iter().fold(0, |t, a| t ^ a),
                    64,
                    64u32.wrapping_neg(),
                    g.iter().map(|&a| a as i32).min().unwrap_or(0).min(0) as u32,
                    g.iter().map(|&a| a as i32).max().unwrap_or(0).max(0) as u32,
                ]
            };
            s.chunks(GROUP).flat_map(group).collect()
        },
        ..OPENCL
    },
    Case {
        name: "cl_shared_exchange",
        aims: "compare-and-swap in shared memory, repeated until nobody came between",
        source: "KERNEL { local uint total; uint l = get_local_id(0); if (l == 0) total = 0;
            barrier(CLK_LOCAL_MEM_FENCE); uint old = total, seen;
            for (;;) { seen = atomic_cmpxchg(&total, old, old * 3 + 1); if (seen == old) break; old = seen; }
            barrier(CLK_LOCAL_MEM_FENCE); if (l == 0) dst[get_group_id(0)] = atomic_xchg(&total, 0); }",
        output: 4,
        reference: |_| vec![(0..64).fold(0u32, |t, _| t.wrapping_mul(3).wrapping_add(1)); 4],
        ..OPENCL
    },
    Case {
        name: "cl_global_atomics",
        aims: "RED and ATOM on global memory, from all groups at once",
        source: "KERNEL { uint i = get_global_id(0), a = src[i % 256]; global int *s = (global int *)dst;
            atomic_add(&dst[0], a); atomic_max(&dst[1], a); atomic_or(&dst[2], a & 0x01010101u); atomic_xor(&dst[3], a);
            atomic_inc(&dst[4]); atomic_min(&s[5], (int)a); atomic_max(&s[6], (int)a); atomic_sub(&dst[7], a);
            uint ticket = atomic_add(&dst[8], 1); atomic_add(&dst[9], ticket); atomic_and(&dst[10], a); }",
        groups: [16, 1, 1],
        output: 11,
        reference: |s| {
            let all = || s.iter().cycle().take(1024).copied();
            let total = all().fold(0u32, u32::wrapping_add);
            vec![
                total,
                all().max().unwrap_or(0),
                all().fold(0, |t, a| t | a & 0x0101_0101),
                all().fold(0, |t, a| t ^ a),
                1024,
                all().map(|a| a as i32).min().unwrap_or(0).min(0) as u32,
                all().map(|a| a as i32).max().unwrap_or(0).max(0) as u32,
                total.wrapping_neg(),
                1024,
                (0..1024).sum(),
                0,
            ]
        },
        ..OPENCL
    },
    Case {
        name: "cl_global_compare_swap",
        aims: "ATOM.CAS in a loop: a product that every thread multiplies",
        source: "KERNEL { uint i = get_global_id(0); global uint *at = &dst[src[i] % 4]; uint old = *at, seen;
            for (;;) { seen = atomic_cmpxchg(at, old, old * 3 + 1); if (seen == old) break; old = seen; } }",
        output: 4,
        reference: |s| {
            let mut words = vec![0u32; 4];
            for a in s {
                let word = &mut words[(a % 4) as usize];
                *word = word.wrapping_mul(3).wrapping_add(1);
            }
            words
        },
        ..OPENCL
    },
    Case {
        name: "cl_constant_table",
        aims: "constant memory, indexed by a variable: CRC-32",
        source: "constant uint poly[16] = {0, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
            KERNEL { uint i = get_global_id(0), crc = ~0u; for (uint n = 0; n < 4; n++) { uint b = src[i] >> (8 * n) & 255;
                crc = poly[(crc ^ b) & 15] ^ crc >> 4; crc = poly[(crc ^ b >> 4) & 15] ^ crc >> 4; } dst[i] = ~crc; }",
        reference: |s| {
            let crc = |word: u32| {
                !word.to_le_bytes().iter().fold(u32::MAX, |crc, &byte| {
                    (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                        crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
                    })
                })
            };
            each(THREADS, |i| crc(s[i]))
        },
        ..OPENCL
    },
    Case {
        name: "cl_local_array",
        aims: "an array of each thread's own, indexed by variables: local memory",
        source: "KERNEL { uint i = get_global_id(0), t[32]; for (uint n = 0; n < 32; n++) t[n] = src[(i + n * 7) % 256];
            for (uint n = 0; n < 64; n++) { uint j = t[n % 32] % 32, k = (j * 5 + n) % 32; uint v = t[j]; t[j] = t[k]; t[k] = v + n; }
            uint r = 0; for (uint n = 0; n < 32; n++) r = r * 31 + t[n]; dst[i] = r; }",
        reference: |s| {
            each(THREADS, |i| {
                let mut t: [u32; 32] = std::array::from_fn(|n| s[(i + n * 7) % 256]);
                for n in 0..64u32 {
                    let j = (t[n as usize % 32] % 32) as usize;
                    let k = (j * 5 + n as usize) % 32;
                    let v = t[j];
                    t[j] = t[k];
                    t[k] = v.wrapping_add(n);
                }
                t.iter().fold(0u32, |r, &v| r.wrapping_mul(31).wrapping_add(v))
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_transpose",
        aims: "tiles in shared memory, two-dimensional groups",
        source: "KERNEL { local uint t[16][17]; uint x = get_local_id(0), y = get_local_id(1), gx = get_group_id(0) * 16, gy = get_group_id(1) * 16;
            t[y][x] = src[(gy + y) * 64 + gx + x]; barrier(CLK_LOCAL_MEM_FENCE); dst[(gx + y) * 64 + gy + x] = t[x][y]; }",
        groups: [4, 4, 1],
        local: [16, 16, 1],
        input: Input::Words(4096),
        output: 4096,
        reference: |s| each(4096, |i| s[i % 64 * 64 + i / 64]),
        ..OPENCL
    },
    Case {
        name: "cl_matrix_product",
        aims: "a tiled product of integer matrices: barriers, shared memory, IMAD",
        source: "KERNEL { local uint a[8][8], b[8][8]; uint x = get_local_id(0), y = get_local_id(1), r = 0;
            uint row = get_group_id(1) * 8 + y, col = get_group_id(0) * 8 + x;
            for (uint k = 0; k < 32; k += 8) { a[y][x] = src[row * 32 + k + x]; b[y][x] = src[1024 + (k + y) * 32 + col];
                barrier(CLK_LOCAL_MEM_FENCE); for (uint n = 0; n < 8; n++) r += a[y][n] * b[n][x]; barrier(CLK_LOCAL_MEM_FENCE); }
            dst[row * 32 + col] = r; }",
        groups: [4, 4, 1],
        local: [8, 8, 1],
        input: Input::Words(2048),
        output: 1024,
        reference: |s| {
            each(1024, |i| {
                let (row, col) = (i / 32, i % 32);
                (0..32).fold(0u32, |r, k| {
                    let (a, b) = (s[row * 32 + k], s[1024 + k * 32 + col]);
                    r.wrapping_add(a.wrapping_mul(b))
                })
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_scatter_gather",
        aims: "global loads and stores at addresses that lanes spread widely",
        source: "KERNEL { uint i = get_global_id(0); uint at = i * 167 % 1024; dst[at] = src[i * 389 % 1024] + src[(i ^ 513) % 1024]; }",
        groups: [16, 1, 1],
        input: Input::Words(1024),
        output: 1024,
        reference: |s| {
            let mut dst = vec![0; 1024];
            for i in 0..1024 {
                dst[i * 167 % 1024] = s[i * 389 % 1024].wrapping_add(s[(i ^ 513) % 1024]);
            }
            dst
        },
        ..OPENCL
    },
];
