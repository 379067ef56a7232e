//! Integers of 64 bits, in OpenCL C: sequences with carry.
//!
//! Mesa 25.0.7 cannot compile their division for this card: its register allocator finds no room.
//! Cases say so where it compiles an operation wrongly; those are apart from what it compiles right.

use crate::case::{Case, Input, OPENCL, THREADS};

/// Number `i` of a buffer of 64-bit numbers.
fn long(src: &[u32], i: usize) -> u64 {
    u64::from(src[2 * i]) | u64::from(src[2 * i + 1]) << 32
}

/// A buffer of 64-bit numbers.
fn longs(f: impl Fn(usize) -> u64) -> Vec<u32> {
    (0..THREADS)
        .map(f)
        .flat_map(|value| [value as u32, (value >> 32) as u32])
        .collect()
}

/// A case on 64-bit numbers.
const LONG: Case = Case {
    input: Input::Words(2 * THREADS),
    output: 2 * THREADS,
    ..OPENCL
};

/// What all these kernels begin with: `a` is the thread's number, `b` its neighbour's.
macro_rules! long_kernel {
    ($body:literal) => {
        concat!(
            "KERNEL { uint i = get_global_id(0); global const ulong *from = (global const ulong *)src;
             global ulong *to = (global ulong *)dst; ulong a = from[i], b = from[(i + 1) % 256]; ",
            $body,
            " }"
        )
    };
}

fn neighbours(src: &[u32], i: usize) -> (u64, u64) {
    (long(src, i), long(src, (i + 1) % THREADS))
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "cl_long_add",
        aims: "carry from the low word to the high one",
        source: long_kernel!("to[i] = a + b * 1 - (a >> 1) + 0xfffffffful;"),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                a.wrapping_add(b)
                    .wrapping_sub(a >> 1)
                    .wrapping_add(0xffff_ffff)
            })
        },
        ..LONG
    },
    Case {
        name: "cl_long_multiply",
        aims: "products of 64 bits, of numbers of 64 and of 32 bits",
        source: long_kernel!(
            "to[i] = a * b + (ulong)((long)a * (int)b) + (ulong)(uint)a * (uint)(b >> 32) * 1000003;"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let signed = a.wrapping_mul(i64::from(b as i32) as u64);
                let short = u64::from(a as u32).wrapping_mul(b >> 32);
                let products = a.wrapping_mul(b).wrapping_add(signed);
                products.wrapping_add(short.wrapping_mul(1_000_003))
            })
        },
        ..LONG
    },
    // `Split64BitOpPreRA::split64MulMad` of Mesa's `nv50_ir_peephole.cpp` drops the
    // `NV50_IR_SUBOP_MUL_HIGH` that `Converter::getSubOp` of `nv50_ir_from_nir.cpp` has set: IMUL and
    // IMAD make the low half of the product.
    Case {
        name: "cl_long_multiply_high",
        aims: "the high half of products of 64 bits, which Mesa takes for the low half",
        source: long_kernel!("to[i] = mul_hi(a, b) + (ulong)mul_hi((long)a, (long)b);"),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let high = ((u128::from(a) * u128::from(b)) >> 64) as u64;
                let signed = ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64;
                high.wrapping_add(signed)
            })
        },
        ..LONG
    },
    Case {
        name: "cl_long_shift",
        aims: "shifts of 64 bits by 0 to 63",
        source: long_kernel!(
            "uint n = (uint)b >> 26; to[i] = (a << n) ^ (a >> n) ^ (ulong)((long)a >> n);"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let n = b as u32 >> 26;
                (a << n) ^ (a >> n) ^ ((a as i64 >> n) as u64)
            })
        },
        ..LONG
    },
    // NIR's shifts wrap, so `nir_opt_algebraic.py` drops `& 63`. `NVC0LegalizeSSA::handleShift` of
    // `nv50_ir_lowering_nvc0.cpp` makes SHL and SHR without `NV50_IR_SUBOP_SHIFT_WRAP`, which shift
    // everything out, and compares the whole count with 32.
    Case {
        name: "cl_long_shift_wrapped",
        aims: "shifts and rotation of 64 bits by what is taken modulo 64, which Mesa does not do",
        source: long_kernel!(
            "uint n = (uint)b & 63;
             to[i] = (a << n) ^ (a >> n) ^ (ulong)((long)a >> n) ^ rotate(b, a);"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let n = b & 63;
                let rotated = b.rotate_left((a & 63) as u32);
                (a << n) ^ (a >> n) ^ ((a as i64 >> n) as u64) ^ rotated
            })
        },
        ..LONG
    },
    Case {
        name: "cl_long_compare",
        aims: "comparisons of 64 bits, minimum and maximum",
        source: long_kernel!(
            "to[i] = min(a, b) ^ (ulong)max((long)a, (long)b) ^ (a < b ? 5ul : 9ul)
                ^ ((long)a >= (long)(b >> 1) ? 1ul << 40 : 0);"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let less = if a < b { 5 } else { 9 };
                let high = if a as i64 >= (b >> 1) as i64 {
                    1 << 40
                } else {
                    0
                };
                a.min(b) ^ (a as i64).max(b as i64) as u64 ^ less ^ high
            })
        },
        ..LONG
    },
    Case {
        name: "cl_long_bits",
        aims: "counting bits of both halves, leading zeros of 64, rotation by 0 to 63",
        source: long_kernel!(
            "ulong n = a >> 58; uint ones = popcount((uint)a) + popcount((uint)(a >> 32));
             to[i] = ones + clz(b >> n) * 100ul + rotate(a, b >> 58);"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let zeros = u64::from((b >> (a >> 58)).leading_zeros());
                let counts = u64::from(a.count_ones()) + zeros * 100;
                counts.wrapping_add(a.rotate_left((b >> 58) as u32))
            })
        },
        ..LONG
    },
    // `Converter::visit` of `nv50_ir_from_nir.cpp` makes one POPCNT of `nir_op_bit_count`, whatever
    // the size: POPC counts the low word.
    Case {
        name: "cl_long_popcount",
        aims: "counting bits of 64, of which Mesa counts 32",
        source: long_kernel!("to[i] = popcount(a) + popcount(b) * 100ul;"),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                u64::from(a.count_ones()) + u64::from(b.count_ones()) * 100
            })
        },
        ..LONG
    },
    Case {
        name: "cl_long_convert",
        aims: "64-bit integers to float, and floats to such integers",
        source: long_kernel!(
            "float f = (float)(a >> 20); float g = (float)(long)b;
             to[i] = (ulong)as_uint(f) << 32 | as_uint(g);
             to[i] ^= (ulong)(f * 0.5f) + (ulong)(long)(g * 0.25f);"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let (f, g) = ((a >> 20) as f32, b as i64 as f32);
                let bits = u64::from(f.to_bits()) << 32 | u64::from(g.to_bits());
                let signed = (g * 0.25) as i64;
                bits ^ ((f * 0.5) as u64).wrapping_add(signed as u64)
            })
        },
        ..LONG
    },
    // `nir_opt_algebraic.py` replaces `f2u(u2f(a))` by `a`; no F2I is left.
    Case {
        name: "cl_long_round_trip",
        aims: "64-bit integers to float and back, which Mesa leaves as they were",
        source: long_kernel!(
            "to[i] = (ulong)(float)(a >> 20) + (ulong)(long)(float)((long)b >> 1);"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let signed = (b as i64 >> 1) as f32 as i64;
                ((a >> 20) as f32 as u64).wrapping_add(signed as u64)
            })
        },
        ..LONG
    },
    Case {
        name: "cl_fibonacci",
        aims: "64-bit sums in a loop of varying length",
        source: long_kernel!(
            "ulong x = a & 0xff, y = 1; for (uint n = 0; n < (uint)(b & 127); n++) { ulong z = x + y; x = y; y = z; } to[i] = y;"
        ),
        reference: |s| {
            longs(|i| {
                let (a, b) = neighbours(s, i);
                let step = |(x, y): (u64, u64), _| (y, x.wrapping_add(y));
                (0..b & 127).fold((a & 0xff, 1), step).1
            })
        },
        ..LONG
    },
];
