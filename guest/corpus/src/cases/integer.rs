//! Integer instructions of 32 bits and less, in OpenCL C.

use crate::case::{Case, Input, OPENCL, THREADS, each};

/// The word that thread `i` combines its own with.
fn other(src: &[u32], i: usize) -> u32 {
    src[(i + 1) % THREADS]
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "cl_add_sub_mul",
        aims: "IADD, IMUL and IMAD, low words",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256];
            dst[i] = a * b + (a - b) * 7u - b; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i));
                let left = a.wrapping_mul(b).wrapping_add(a.wrapping_sub(b).wrapping_mul(7));
                left.wrapping_sub(b)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_mul_high",
        aims: "IMUL and IMAD, high words, signed and unsigned",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256];
            dst[i] = mul_hi(a, b) ^ (uint)mul_hi((int)a, (int)b) ^ (uint)mad_hi((int)a, (int)b, 9); }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i));
                let unsigned = ((u64::from(a) * u64::from(b)) >> 32) as u32;
                let signed = ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32;
                unsigned ^ signed ^ signed.wrapping_add(9)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_mul24",
        aims: "products of 24 bits",
        source: "KERNEL { uint i = get_global_id(0);
            uint a = src[i] & 0xffffff, b = src[(i + 1) % 256] & 0xffffff;
            int c = (int)(src[i] << 8) >> 8, d = (int)(src[(i + 1) % 256] << 8) >> 8;
            dst[i] = mul24(a, b) + (uint)mad24(c, d, (int)i); }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i] & 0xff_ffff, other(s, i) & 0xff_ffff);
                let (c, d) = ((s[i] << 8) as i32 >> 8, (other(s, i) << 8) as i32 >> 8);
                let signed = c.wrapping_mul(d).wrapping_add(i as i32) as u32;
                a.wrapping_mul(b).wrapping_add(signed)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_divide_unsigned",
        aims: "division and remainder: calls of Mesa's built-in function, short instructions",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256] >> (i % 32) | 1;
            dst[i] = a / b * 3 + a % b; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i) >> (i % 32) | 1);
                (a / b).wrapping_mul(3).wrapping_add(a % b)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_divide_signed",
        aims: "signed division and remainder",
        source: "KERNEL { uint i = get_global_id(0); int a = src[i], b = (int)src[(i + 1) % 256] >> (i % 31) | 1;
            b = b == -1 ? 1 : b; dst[i] = a / b * 3 + a % b; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i] as i32, other(s, i) as i32 >> (i % 31) | 1);
                let b = if b == -1 { 1 } else { b };
                (a / b).wrapping_mul(3).wrapping_add(a % b) as u32
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_shifts",
        aims: "SHL, SHR: logical, arithmetic, amounts of 31 and 0",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i]; uint n = src[(i + 1) % 256] & 31;
            dst[i] = (a << n) + (a >> n) * 3 + (uint)((int)a >> n) * 5; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, n) = (s[i], other(s, i) & 31);
                let logical = (a >> n).wrapping_mul(3);
                let arithmetic = ((a as i32 >> n) as u32).wrapping_mul(5);
                (a << n).wrapping_add(logical).wrapping_add(arithmetic)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_rotate",
        aims: "rotations by a variable and by a constant",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i];
            dst[i] = rotate(a, src[(i + 1) % 256]) ^ rotate(a, 13u); }",
        reference: |s| each(THREADS, |i| s[i].rotate_left(other(s, i) & 31) ^ s[i].rotate_left(13)),
        ..OPENCL
    },
    Case {
        name: "cl_logic",
        aims: "LOP: and, or, xor, not of either operand, long immediates",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256];
            dst[i] = ((a & ~b) | (~a & 0x12345678u)) ^ (a | b) ^ ~(a ^ 0xdeadbeefu); }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i));
                ((a & !b) | (!a & 0x1234_5678)) ^ (a | b) ^ !(a ^ 0xdead_beef)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_bit_counts",
        aims: "POPC and BFIND",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i] >> (i % 33 % 32);
            dst[i] = popcount(a) | clz(a) << 8 | clz((int)a) << 16 | popcount(a & src[0]) << 24; }",
        reference: |s| {
            each(THREADS, |i| {
                let a = s[i] >> (i % 33 % 32);
                let zeros = a.leading_zeros();
                a.count_ones() | zeros << 8 | zeros << 16 | (a & s[0]).count_ones() << 24
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_bit_fields",
        aims: "fields taken out of words and put into them",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256];
            uint low = (a >> 5) & 0x7ff; int high = (int)(a << 3) >> 22;
            dst[i] = (b & ~(0x7ffu << 9)) | low << 9; dst[i] += (uint)high; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i));
                let (low, high) = (a >> 5 & 0x7ff, (a << 3) as i32 >> 22);
                (b & !(0x7ff << 9) | low << 9).wrapping_add(high as u32)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_min_max",
        aims: "IMNMX signed and unsigned, absolute values and differences",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256];
            dst[i] = min(a, b) ^ (uint)max((int)a, (int)b) ^ abs((int)a) ^ abs_diff((int)a, (int)b)
                ^ (uint)clamp((int)a, -1000000, 1000000) ^ max(a, 77u); }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i));
                let (sa, sb) = (a as i32, b as i32);
                a.min(b)
                    ^ sa.max(sb) as u32
                    ^ sa.unsigned_abs()
                    ^ sa.abs_diff(sb)
                    ^ sa.clamp(-1_000_000, 1_000_000) as u32
                    ^ a.max(77)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_saturate",
        aims: "saturating sums and differences, averages",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256];
            dst[i] = add_sat(a, b) ^ (uint)sub_sat((int)a, (int)b) ^ hadd(a, b) ^ (uint)rhadd((int)a, (int)b)
                ^ sub_sat(a, b) ^ (uint)add_sat((int)a, (int)b); }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i));
                let (sa, sb) = (a as i32, b as i32);
                let average = (u64::from(a) + u64::from(b)) / 2;
                let rounded = (i64::from(sa) + i64::from(sb) + 1) >> 1;
                a.saturating_add(b)
                    ^ sa.saturating_sub(sb) as u32
                    ^ average as u32
                    ^ rounded as u32
                    ^ a.saturating_sub(b)
                    ^ sa.saturating_add(sb) as u32
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_compare",
        aims: "ISET, SLCT and predicates, signed and unsigned",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i], b = src[(i + 1) % 256];
            uint r = 0; r |= a < b; r |= ((int)a < (int)b) << 1; r |= (a == b) << 2; r |= (a >= b) << 3;
            r |= ((int)a > 0) << 4; r |= ((a & 1) != (b & 1)) << 5; r |= ((a < b) && ((int)b > 5)) << 6;
            dst[i] = r + (a > b ? a : (int)b < 0 ? 3u : b); }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i], other(s, i));
                let (sa, sb) = (a as i32, b as i32);
                let bits = [
                    a < b,
                    sa < sb,
                    a == b,
                    a >= b,
                    sa > 0,
                    a & 1 != b & 1,
                    a < b && sb > 5,
                ];
                let flags: u32 = (0..).zip(bits).map(|(n, bit)| u32::from(bit) << n).sum();
                let chosen = if a > b {
                    a
                } else if sb < 0 {
                    3
                } else {
                    b
                };
                flags.wrapping_add(chosen)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_bytes",
        aims: "conversions between widths, loads and stores of bytes",
        source: "KERNEL { uint i = get_global_id(0); global const uchar *bytes = (global const uchar *)src;
            global uchar *to = (global uchar *)dst;
            for (uint n = 0; n < 4; n++) to[i * 4 + n] = bytes[i * 4 + (3 - n)] + (uchar)n * 63; }",
        reference: |s| {
            each(THREADS, |i| {
                let bytes: [u8; 4] = std::array::from_fn(|n| {
                    s[i].to_le_bytes()[3 - n].wrapping_add((n as u8).wrapping_mul(63))
                });
                u32::from_le_bytes(bytes)
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_shorts",
        aims: "16-bit arithmetic, sign extension, saturating conversions",
        source: "KERNEL { uint i = get_global_id(0); short a = (short)src[i], b = (short)(src[i] >> 16);
            short c = a * b + b; char d = convert_char_sat((int)a); uchar e = convert_uchar_sat((int)a + b);
            dst[i] = (ushort)c | (uint)(uchar)d << 16 | (uint)e << 24; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = (s[i] as i16, (s[i] >> 16) as i16);
                let c = a.wrapping_mul(b).wrapping_add(b);
                let d = a.clamp(-128, 127) as i8;
                let e = (i32::from(a) + i32::from(b)).clamp(0, 255) as u32;
                u32::from(c as u16) | u32::from(d as u8) << 16 | e << 24
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_vectors",
        aims: "vectors of integers: swizzles, wide loads and stores",
        source: "KERNEL { uint i = get_global_id(0); uint4 v = vload4(i % 64, src);
            uint4 w = v.wzyx + v.xxyy * (uint4)(1, 2, 3, 4); if (i < 64) vstore4(w, i, dst); }",
        reference: |s| {
            each(THREADS, |at| {
                let (i, n) = (at / 4, at % 4);
                let v = &s[i * 4..][..4];
                let swizzled = [v[0], v[0], v[1], v[1]][n];
                v[3 - n].wrapping_add(swizzled.wrapping_mul(n as u32 + 1))
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_hash",
        aims: "a long chain of dependent integer instructions",
        source: "KERNEL { uint i = get_global_id(0); uint h = src[i];
            for (uint n = 0; n < 200; n++) { h ^= h >> 16; h *= 0x85ebca6bu; h ^= h >> 13; h *= 0xc2b2ae35u; h += n; }
            dst[i] = h; }",
        reference: |s| {
            each(THREADS, |i| {
                (0..200).fold(s[i], |h, n| {
                    let h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
                    (h ^ h >> 13).wrapping_mul(0xc2b2_ae35).wrapping_add(n)
                })
            })
        },
        input: Input::Words(THREADS),
        ..OPENCL
    },
];
