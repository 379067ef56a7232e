//! Arithmetic and control flow in GLSL.

use crate::case::{Agreement, Case, Extra, GLSL, Input, THREADS, each};

/// The word of thread `i`, and its neighbour's.
fn pair(s: &[u32], i: usize) -> (u32, u32) {
    (s[i % THREADS], s[(i + 1) % THREADS])
}

/// What these shaders begin with.
macro_rules! shader {
    ($body:literal) => {
        concat!(
            "void main() { uint i = gl_GlobalInvocationID.x; uint a = src[i], b = src[(i + 1u) % 256u]; ",
            $body,
            " }"
        )
    };
}

/// A double of a word, as the shaders make it.
fn double(word: u32) -> f64 {
    f64::from(word as i32) * 0.001
}

/// Cases on doubles, whose result is 64 bits.
fn doubles(s: &[u32], f: fn(f64, f64) -> f64) -> Vec<u32> {
    (0..THREADS)
        .flat_map(|i| {
            let (a, b) = pair(s, i);
            let bits = f(double(a), double(b)).to_bits();
            [bits as u32, (bits >> 32) as u32]
        })
        .collect()
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "gl_carry",
        aims: "sums with carry, differences with borrow, products of 64 bits in two words",
        source: shader!(
            "uint c, d, h, l; uint x = uaddCarry(a, b, c), y = usubBorrow(a, b, d); umulExtended(a, b, h, l);
             int sh, sl; imulExtended(int(a), int(b), sh, sl); dst[i] = x ^ y ^ h ^ l ^ uint(sh) ^ (c << 7) ^ (d << 9);"
        ),
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let product = u64::from(a) * u64::from(b);
                let signed = i64::from(a as i32) * i64::from(b as i32);
                let (sum, carry) = a.overflowing_add(b);
                let (difference, borrow) = a.overflowing_sub(b);
                sum ^ difference
                    ^ (product >> 32) as u32
                    ^ product as u32
                    ^ (signed >> 32) as u32
                    ^ u32::from(carry) << 7
                    ^ u32::from(borrow) << 9
            })
        },
        ..GLSL
    },
    Case {
        name: "gl_bit_fields",
        aims: "EXTBF, INSBF, BREV, POPC, BFIND by the functions that map to them",
        source: shader!(
            "int o = int(b & 15u), n = int(b >> 8 & 15u); uint r = bitfieldExtract(a, o, n) ^ uint(bitfieldExtract(int(a), o, n));
             r ^= bitfieldInsert(a, b, o, n) ^ bitfieldReverse(a) ^ uint(bitCount(b)); dst[i] = r + uint(findMSB(a)) * 3u + uint(findLSB(b)) * 5u
                + uint(findMSB(int(a)));"
        ),
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let (o, n) = (b & 15, b >> 8 & 15);
                let mask = (1u32 << n) - 1;
                let field = a >> o & mask;
                let signed = match n {
                    0 => 0,
                    n => ((a << (32 - o - n)) as i32 >> (32 - n)) as u32,
                };
                let inserted = a & !(mask << o) | (b & mask) << o;
                let r = field ^ signed ^ inserted ^ a.reverse_bits() ^ b.count_ones();
                let most = 31u32.wrapping_sub(a.leading_zeros());
                let signed_most = 31u32.wrapping_sub(if (a as i32) < 0 { (!a).leading_zeros() } else { a.leading_zeros() });
                let least = if b == 0 { u32::MAX } else { b.trailing_zeros() };
                r.wrapping_add(most.wrapping_mul(3))
                    .wrapping_add(least.wrapping_mul(5))
                    .wrapping_add(signed_most)
            })
        },
        ..GLSL
    },
    Case {
        name: "gl_pack",
        aims: "packing to and from halves and bytes",
        source: shader!(
            "vec2 v = unpackHalf2x16(a & 0x3bff3bffu); vec4 w = unpackUnorm4x8(b), x = unpackSnorm4x8(a);
             dst[i] = packHalf2x16(v) ^ packUnorm4x8(w.wzyx) ^ packSnorm4x8(x) ^ packUnorm2x16(unpackUnorm2x16(b));"
        ),
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let snorm = u32::from_le_bytes(a.to_le_bytes().map(|x| (x as i8).max(-127) as u8));
                a & 0x3bff_3bff ^ b.swap_bytes() ^ snorm ^ b
            })
        },
        ..GLSL
    },
    Case {
        name: "gl_float",
        aims: "floats: fused and not, rounding, minimum and maximum",
        source: shader!(
            "float x = uintBitsToFloat(a), y = uintBitsToFloat(b); precise float r = x * y; r = r + x; r = fma(r, 0.5, y);
             r = max(min(r, 4000.0), -x) + floor(x) + fract(y) + roundEven(x) + abs(y) + sign(x); dst[i] = floatBitsToUint(r);"
        ),
        input: Input::Floats(THREADS, -100.0, 100.0),
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let (x, y) = (f32::from_bits(a), f32::from_bits(b));
                let r = (x * y + x).mul_add(0.5, y);
                let r = r.min(4000.0).max(-x) + x.floor() + (y - y.floor());
                (r + x.round_ties_even() + y.abs() + x.signum()).to_bits()
            })
        },
        agreement: Agreement::Within(1e-6),
        ..GLSL
    },
    Case {
        name: "gl_float_functions",
        aims: "MUFU: the special functions within the bound of GLSL",
        source: shader!(
            "float x = abs(uintBitsToFloat(a)) + 0.1, y = uintBitsToFloat(b) * 0.05;
             float r = inversesqrt(x) + sqrt(x) + exp2(y * 0.2) + log2(x) + sin(y) + cos(y) + pow(x, 0.3) + atan(y) + 1.0 / x; dst[i] = floatBitsToUint(r);"
        ),
        input: Input::Floats(THREADS, -100.0, 100.0),
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let (x, y) = (f32::from_bits(a).abs() + 0.1, f32::from_bits(b) * 0.05);
                let roots = 1.0 / x.sqrt() + x.sqrt() + (y * 0.2).exp2() + x.log2();
                (roots + y.sin() + y.cos() + x.powf(0.3) + y.atan() + 1.0 / x).to_bits()
            })
        },
        agreement: Agreement::Within(5e-5),
        ..GLSL
    },
    Case {
        name: "gl_double_arithmetic",
        aims: "DADD, DMUL, DFMA, rounding to nearest",
        source: shader!(
            "double x = double(int(a)) * 0.001LF, y = double(int(b)) * 0.001LF; precise double r = x * y; r = r + x; r = fma(r, 0.3LF, -y); r = r - abs(x);
             uvec2 v = unpackDouble2x32(r); dst[2u * i] = v.x; dst[2u * i + 1u] = v.y;"
        ),
        output: 2 * THREADS,
        reference: |s| doubles(s, |x, y| (x * y + x).mul_add(0.3, -y) - x.abs()),
        ..GLSL
    },
    Case {
        name: "gl_double_compare",
        aims: "DSET, DMNMX, conversions between double, float and integer",
        source: shader!(
            "double x = double(int(a)) * 0.001LF, y = double(int(b)) * 0.001LF; precise double r = min(x, y) * 2.0LF + max(x, y); if (x < y) r += 1.0LF;
             if (x != floor(x)) r += floor(y) + ceil(x) + trunc(y) + fract(x); r += double(float(x)) + double(int(y)) + double(uint(abs(x))) + (y >= 0.0LF ? 2.0LF : 3.0LF);
             uvec2 v = unpackDouble2x32(r); dst[2u * i] = v.x; dst[2u * i + 1u] = v.y;"
        ),
        output: 2 * THREADS,
        reference: |s| {
            doubles(s, |x, y| {
                let mut r = x.min(y) * 2.0 + x.max(y);
                if x < y {
                    r += 1.0;
                }
                if x != x.floor() {
                    r += y.floor() + x.ceil() + y.trunc() + (x - x.floor());
                }
                let sign = if y >= 0.0 { 2.0 } else { 3.0 };
                r + (f64::from(x as f32) + f64::from(y as i32) + f64::from(x.abs() as u32) + sign)
            })
        },
        agreement: Agreement::Exact,
        ..GLSL
    },
    Case {
        name: "gl_double_matrix",
        aims: "a chain of double arithmetic in a loop",
        source: shader!(
            "double x = double(int(a)) * 0.001LF, y = double(int(b)) * 0.001LF; precise double r = 0.0LF; for (int n = 1; n < 20; n++) { r = (x * double(n) + r) * 0.5LF; r += y; }
             uvec2 v = unpackDouble2x32(r); dst[2u * i] = v.x; dst[2u * i + 1u] = v.y;"
        ),
        output: 2 * THREADS,
        reference: |s| doubles(s, |x, y| (1..20).fold(0.0, |r, n| (x * f64::from(n) + r) * 0.5 + y)),
        ..GLSL
    },
    Case {
        name: "gl_long",
        aims: "64-bit integers: sums, products, shifts, comparisons",
        source: shader!(
            "uint64_t x = packUint2x32(uvec2(a, b)), y = packUint2x32(uvec2(b, a ^ 77u)); uint64_t r = x * y + (x >> 13) - (y << 7);
             if (int64_t(x) < int64_t(y)) r ^= x; uvec2 v = unpackUint2x32(r); dst[2u * i] = v.x; dst[2u * i + 1u] = v.y;"
        ),
        output: 2 * THREADS,
        reference: |s| {
            (0..THREADS)
                .flat_map(|i| {
                    let (a, b) = pair(s, i);
                    let x = u64::from(a) | u64::from(b) << 32;
                    let y = u64::from(b) | u64::from(a ^ 77) << 32;
                    let r = x.wrapping_mul(y).wrapping_add(x >> 13).wrapping_sub(y << 7);
                    let r = if (x as i64) < y as i64 { r ^ x } else { r };
                    [r as u32, (r >> 32) as u32]
                })
                .collect()
        },
        ..GLSL
    },
    Case {
        name: "gl_divergence",
        aims: "nested branches and loops with break and continue",
        source: shader!(
            "uint r = 0u; for (uint n = 0u; n < (a & 31u); n++) { if ((b >> n & 1u) == 0u) continue; r += n * a;
               for (uint m = n; m < 20u; m++) { r ^= m << (n & 7u); if ((r & 15u) == 3u) break; if ((r & 255u) == 200u) { dst[i] = r; return; } }
               if ((r >> 28) == 7u) break; } dst[i] = r + 1u;"
        ),
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let mut r = 0u32;
                for n in 0..a & 31 {
                    if b >> n & 1 == 0 {
                        continue;
                    }
                    r = r.wrapping_add(n.wrapping_mul(a));
                    for m in n..20 {
                        r ^= m << (n & 7);
                        if r & 15 == 3 {
                            break;
                        }
                        if r & 255 == 200 {
                            return r;
                        }
                    }
                    if r >> 28 == 7 {
                        break;
                    }
                }
                r.wrapping_add(1)
            })
        },
        ..GLSL
    },
    Case {
        name: "gl_functions",
        aims: "functions with arguments that come back",
        source: "uint twice(inout uint x, uint y) { x = x * 2u + y; return x ^ y; }
            void pick(uint c, out uint r) { if (c > 5u) r = c * c; else r = ~c; }
            void main() { uint i = gl_GlobalInvocationID.x; uint a = src[i]; uint b = twice(a, i), c; pick(b % 11u, c); dst[i] = a + b + c; }",
        reference: |s| {
            each(THREADS, |i| {
                let a = s[i].wrapping_mul(2).wrapping_add(i as u32);
                let b = a ^ i as u32;
                let n = b % 11;
                let c = if n > 5 { n * n } else { !n };
                a.wrapping_add(b).wrapping_add(c)
            })
        },
        ..GLSL
    },
    Case {
        name: "gl_votes",
        aims: "VOTE: what all and any invocations of a group say",
        source: "void main() { uint i = gl_GlobalInvocationID.x, g = gl_WorkGroupID.x; uint r = 0u;
            if (anyInvocationARB(g == 2u)) r |= 1u; if (allInvocationsARB(g < 3u)) r |= 2u; if (allInvocationsEqualARB(g == 1u)) r |= 4u;
            if (allInvocationsARB(gl_LocalInvocationID.x < 64u)) r |= 8u; if (anyInvocationARB(gl_LocalInvocationID.x >= 64u)) r |= 16u; dst[i] = r; }",
        reference: |_| {
            each(THREADS, |i| {
                let g = i / 64;
                u32::from(g == 2) | u32::from(g < 3) << 1 | 4 | 8
            })
        },
        ..GLSL
    },
    Case {
        name: "gl_indirect",
        aims: "a dispatch whose size is in a buffer, and the size that the shader sees",
        source: "void main() { uint i = gl_GlobalInvocationID.x + gl_GlobalInvocationID.y * 128u;
            dst[i] = src[i % 256u] + gl_NumWorkGroups.x * 1000u + gl_NumWorkGroups.y; }",
        groups: [2, 3, 1],
        output: 384,
        extra: Extra::Indirect,
        reference: |s| each(384, |i| s[i % 256].wrapping_add(2003)),
        ..GLSL
    },
    Case {
        name: "gl_large_grid",
        aims: "many groups in three dimensions",
        source: "void main() { uvec3 g = gl_WorkGroupID; uint at = (g.z * 16u + g.y) * 16u + g.x;
            uint i = at * 64u + gl_LocalInvocationIndex; dst[i] = src[i % 256u] * 3u + at; }",
        groups: [16, 16, 8],
        local: [8, 8, 1],
        output: 2048 * 64,
        reference: |s| {
            each(2048 * 64, |i| s[i % 256].wrapping_mul(3).wrapping_add(i as u32 / 64))
        },
        ..GLSL
    },
];
