//! Control flow, in OpenCL C: what the stack of a warp has to get right.

use crate::case::{Case, Input, OPENCL, THREADS, each};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "cl_branches",
        aims: "SSY and BRA: branches within branches that lanes take differently",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], r = 1;
            if (a & 1) { r += 10; if (a & 2) { r *= 3; if (a & 4) r += 7; else r -= 2; } else if (a & 8) { r ^= 0x55; } r += 1; }
            else { r += 100; if (a & 16) { if (a & 32) r *= 5; } else { r -= 50; } r *= 2; }
            dst[i] = r; }",
        reference: |s| {
            each(THREADS, |i| {
                let a = s[i];
                let bit = |n: u32| a >> n & 1 != 0;
                if bit(0) {
                    let r = 11;
                    let r = match (bit(1), bit(2), bit(3)) {
                        (true, true, _) => r * 3 + 7,
                        (true, false, _) => r * 3 - 2,
                        (false, _, true) => r ^ 0x55,
                        _ => r,
                    };
                    r + 1
                } else {
                    let r = match (bit(4), bit(5)) {
                        (true, true) => 101 * 5,
                        (true, false) => 101,
                        (false, _) => 51,
                    };
                    r * 2
                }
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_loop_break_continue",
        aims: "PBK, BRK, PCNT and CONT: lanes leave and skip at their own times",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], r = 0;
            for (uint n = 0; n < 40; n++) { a = a * 1664525u + 1013904223u;
                if ((a >> 28) == 3) continue; r += a >> 24; if ((a >> 27) == 17) break; r ^= n; }
            dst[i] = r; }",
        reference: |s| {
            each(THREADS, |i| {
                let (mut a, mut r) = (s[i], 0u32);
                for n in 0..40 {
                    a = a.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if a >> 28 == 3 {
                        continue;
                    }
                    r = r.wrapping_add(a >> 24);
                    if a >> 27 == 17 {
                        break;
                    }
                    r ^= n;
                }
                r
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_nested_loops",
        aims: "loops in loops with breaks of both, and an early return",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], r = 0;
            for (uint x = 0; x < 8; x++) { for (uint y = 0; y <= x; y++) { a ^= a << 13; a ^= a >> 17; a ^= a << 5;
                    if ((a & 63) == 5) break; r += a & 255; if ((a & 1023) == 77) { dst[i] = r | 0x80000000u; return; } }
                if ((a & 31) == 9) break; r *= 3; }
            dst[i] = r & 0x7fffffffu; }",
        reference: |s| {
            each(THREADS, |i| {
                let (mut a, mut r) = (s[i], 0u32);
                'outer: for x in 0..8 {
                    for _ in 0..=x {
                        a ^= a << 13;
                        a ^= a >> 17;
                        a ^= a << 5;
                        if a & 63 == 5 {
                            break;
                        }
                        r = r.wrapping_add(a & 255);
                        if a & 1023 == 77 {
                            return r | 0x8000_0000;
                        }
                    }
                    if a & 31 == 9 {
                        break 'outer;
                    }
                    r = r.wrapping_mul(3);
                }
                r & 0x7fff_ffff
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_early_return",
        aims: "EXIT under divergence, before and within a loop",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i]; dst[i] = 7; if ((a & 3) == 0) return;
            for (uint n = 0; n < a % 50; n++) { if (n == 20 + (a & 7)) return; dst[i] += n; }
            dst[i] ^= 0xffff; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, mut r) = (s[i], 7u32);
                if a & 3 == 0 {
                    return r;
                }
                for n in 0..a % 50 {
                    if n == 20 + (a & 7) {
                        return r;
                    }
                    r += n;
                }
                r ^ 0xffff
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_switch",
        aims: "a switch of many cases with fall-through",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], r = 0;
            switch (a % 11) { case 0: r = 5; break; case 1: r = a; case 2: r += 3; break; case 3: r = a * 7; break;
                case 4: case 5: r = ~a; break; case 6: for (uint n = 0; n < 5; n++) r += n * a; break; case 7: r = a >> 3;
                case 8: r ^= 0xff; case 9: r++; break; default: r = 1; } dst[i] = r; }",
        reference: |s| {
            each(THREADS, |i| {
                let a = s[i];
                match a % 11 {
                    0 => 5,
                    1 => a.wrapping_add(3),
                    2 => 3,
                    3 => a.wrapping_mul(7),
                    4 | 5 => !a,
                    6 => a.wrapping_mul(10),
                    7 => ((a >> 3) ^ 0xff).wrapping_add(1),
                    8 => 0x100,
                    9 => 1,
                    _ => 1,
                }
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_collatz",
        aims: "a loop whose length differs widely between lanes",
        source: "KERNEL { uint i = get_global_id(0); uint n = src[i] % 10000 + 1, steps = 0;
            while (n != 1) { n = n & 1 ? 3 * n + 1 : n >> 1; steps++; } dst[i] = steps; }",
        reference: |s| {
            each(THREADS, |i| {
                let (mut n, mut steps) = (s[i] % 10000 + 1, 0);
                while n != 1 {
                    n = if n & 1 != 0 { 3 * n + 1 } else { n >> 1 };
                    steps += 1;
                }
                steps
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_do_while",
        aims: "loops that are tested at their end, short circuits",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], n = 0;
            do { a = a * 69069u + 1; n++; } while ((a >> 30) != 2 && (n < 9 || (a & 1)) && n < 60); dst[i] = n << 8 | a >> 24; }",
        reference: |s| {
            each(THREADS, |i| {
                let (mut a, mut n) = (s[i], 0u32);
                loop {
                    a = a.wrapping_mul(69069).wrapping_add(1);
                    n += 1;
                    if !(a >> 30 != 2 && (n < 9 || a & 1 != 0) && n < 60) {
                        break;
                    }
                }
                n << 8 | a >> 24
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_functions",
        aims: "functions that call functions, with divergent callers",
        source: "uint third(uint a, uint n) { uint r = a; for (uint k = 0; k < n; k++) r = r * 5 + k; return r; }
            uint second(uint a) { if (a & 1) return third(a, a & 7); return third(~a, 3) ^ 1; }
            uint first(uint a, uint b) { return second(a) + (b & 4 ? second(b) : third(b, 2)); }
            KERNEL { uint i = get_global_id(0); dst[i] = first(src[i], src[(i + 1) % 256]); }",
        reference: |s| {
            fn third(a: u32, n: u32) -> u32 {
                (0..n).fold(a, |r, k| r.wrapping_mul(5).wrapping_add(k))
            }
            fn second(a: u32) -> u32 {
                match a & 1 {
                    0 => third(!a, 3) ^ 1,
                    _ => third(a, a & 7),
                }
            }
            each(THREADS, |i| {
                let (a, b) = (s[i], s[(i + 1) % THREADS]);
                let rest = if b & 4 != 0 { second(b) } else { third(b, 2) };
                second(a).wrapping_add(rest)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_mandelbrot",
        aims: "a long loop in fixed point that lanes leave one by one",
        source: "KERNEL { uint i = get_global_id(0); int cx = (int)(i % 64) * 160 - 8192, cy = (int)(i / 64) * 700 - 4096;
            int x = 0, y = 0; uint n = 0;
            while (n < 200) { int xx = x * x >> 12, yy = y * y >> 12; if (xx + yy > 4 << 12) break;
                y = (2 * x * y >> 12) + cy; x = xx - yy + cx; n++; }
            dst[i] = n; }",
        reference: |_| {
            each(THREADS, |i| {
                let (cx, cy) = ((i % 64) as i32 * 160 - 8192, (i / 64) as i32 * 700 - 4096);
                let (mut x, mut y, mut n) = (0i32, 0i32, 0);
                while n < 200 {
                    let (xx, yy) = (x.wrapping_mul(x) >> 12, y.wrapping_mul(y) >> 12);
                    if xx.wrapping_add(yy) > 4 << 12 {
                        break;
                    }
                    y = (x.wrapping_mul(2).wrapping_mul(y) >> 12).wrapping_add(cy);
                    x = xx.wrapping_sub(yy).wrapping_add(cx);
                    n += 1;
                }
                n
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_odd_groups",
        aims: "groups that do not fill their last warp",
        source: "KERNEL { uint i = get_global_id(0); dst[i] = src[i] + get_local_id(0) * 1000 + get_group_id(0) * 100000; }",
        groups: [7, 1, 1],
        local: [33, 1, 1],
        input: Input::Words(231),
        output: 231,
        reference: |s| {
            each(231, |i| {
                let own = (i as u32 % 33) * 1000 + (i as u32 / 33) * 100_000;
                s[i].wrapping_add(own)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_three_dimensions",
        aims: "special registers: ids and sizes in three dimensions",
        source: "KERNEL { uint x = get_global_id(0), y = get_global_id(1), z = get_global_id(2);
            uint at = (z * get_global_size(1) + y) * get_global_size(0) + x;
            dst[at] = src[at % 256] ^ (get_local_id(0) | get_local_id(1) << 4 | get_local_id(2) << 8 | get_group_id(0) << 12
                | get_group_id(1) << 16 | get_group_id(2) << 20 | get_num_groups(1) << 24 | get_local_size(2) << 28); }",
        groups: [2, 3, 4],
        local: [8, 4, 2],
        output: 1536,
        reference: |s| {
            each(1536, |at| {
                let (x, y, z) = (at % 16, at / 16 % 12, at / 192);
                let ids = [x % 8, y % 4, z % 2, x / 8, y / 4, z / 2, 3, 2];
                let word: usize = (0..).step_by(4).zip(ids).map(|(n, id)| id << n).sum();
                s[at % THREADS] ^ word as u32
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_large_grid",
        aims: "a grid of many groups",
        source: "KERNEL { uint i = get_global_id(0); uint a = i * 2654435761u; dst[i] = (a ^ a >> 15) * src[i % 256]; }",
        groups: [4096, 1, 1],
        local: [64, 1, 1],
        output: 4096 * 64,
        reference: |s| {
            each(4096 * 64, |i| {
                let a = (i as u32).wrapping_mul(2_654_435_761);
                (a ^ a >> 15).wrapping_mul(s[i % THREADS])
            })
        },
        ..OPENCL
    },
];
