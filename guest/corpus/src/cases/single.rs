//! Single precision, in OpenCL C.

use crate::case::{Agreement, Case, Input, OPENCL, THREADS, each};

/// The float that thread `i` has, and its neighbour's.
fn pair(src: &[u32], i: usize) -> (f32, f32) {
    let float = |i: usize| f32::from_bits(src[i % THREADS]);
    (float(i), float(i + 1))
}

/// A result of floats.
fn floats(src: &[u32], f: fn(f32, f32) -> f32) -> Vec<u32> {
    each(THREADS, |i| {
        let (a, b) = pair(src, i);
        f(a, b).to_bits()
    })
}

/// A case on floats of moderate size.
const FLOAT: Case = Case {
    input: Input::Floats(THREADS, -1000.0, 1000.0),
    ..OPENCL
};

/// What all these kernels begin with: `a` is the thread's float, `b` its neighbour's; `r` is
/// stored.
macro_rules! float_kernel {
    ($body:literal) => {
        concat!(
            "#pragma OPENCL FP_CONTRACT OFF
             KERNEL { uint i = get_global_id(0); float a = as_float(src[i]), b = as_float(src[(i + 1) % 256]), r; ",
            $body,
            " dst[i] = as_uint(r); }"
        )
    };
}

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "cl_float_add_mul",
        aims: "FADD, FMUL with negations and absolute values, rounding to nearest",
        source: float_kernel!("r = a + b; r = r * -a; r = r - fabs(b); r = fabs(r) + 0.1f;"),
        reference: |s| floats(s, |a, b| ((a + b) * -a - b.abs()).abs() + 0.1),
        ..FLOAT
    },
    Case {
        name: "cl_float_fma",
        aims: "FFMA rounds once",
        source: float_kernel!("r = fma(a, b, -a); r = fma(r, 3.0000002f, b); r = fma(-r, a, r);"),
        reference: |s| {
            floats(s, |a, b| {
                let r = a.mul_add(b, -a).mul_add(3.000_000_2, b);
                (-r).mul_add(a, r)
            })
        },
        ..FLOAT
    },
    Case {
        name: "cl_float_divide",
        aims: "division within the bound of OpenCL",
        source: float_kernel!("r = a / b;"),
        reference: |s| floats(s, |a, b| a / b),
        agreement: Agreement::Ulps(3),
        ..FLOAT
    },
    Case {
        name: "cl_float_roots",
        aims: "RCP, RSQ and square roots",
        source: float_kernel!("float x = fabs(a) + 0.001f; r = sqrt(x) + rsqrt(x) + native_recip(x);"),
        reference: |s| {
            floats(s, |a, _| {
                let x = a.abs() + 0.001;
                x.sqrt() + 1.0 / x.sqrt() + 1.0 / x
            })
        },
        agreement: Agreement::Within(1e-6),
        ..FLOAT
    },
    Case {
        name: "cl_float_round",
        aims: "conversions that round: floor, ceil, trunc, rint, round",
        source: float_kernel!("r = floor(a) + ceil(b) * 2 + trunc(a) * 3 + rint(b) * 5 + round(a) * 7;"),
        reference: |s| {
            floats(s, |a, b| {
                a.floor() + b.ceil() * 2.0 + a.trunc() * 3.0 + b.round_ties_even() * 5.0 + a.round() * 7.0
            })
        },
        ..FLOAT
    },
    Case {
        name: "cl_float_min_max",
        aims: "FMNMX, also with NaN, clamp, sign",
        source: float_kernel!(
            "float n = i % 3 ? a : NAN; r = fmin(n, b) + fmax(a, n) + clamp(a, -10.0f, 10.0f) + copysign(1.0f, b);"
        ),
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let n = if i % 3 == 0 { f32::NAN } else { a };
                let r = n.min(b) + a.max(n) + a.clamp(-10.0, 10.0) + 1f32.copysign(b);
                r.to_bits()
            })
        },
        ..FLOAT
    },
    Case {
        name: "cl_float_compare",
        aims: "FSET ordered and unordered, classification",
        source: "KERNEL { uint i = get_global_id(0); float a = as_float(src[i]), b = as_float(src[(i + 1) % 256]);
            float n = i % 4 == 0 ? NAN : i % 4 == 1 ? INFINITY : a; uint r = 0;
            r |= n < b; r |= (n >= b) << 1; r |= (n == n) << 2; r |= (n != b) << 3; r |= (isnan(n) != 0) << 4;
            r |= (isinf(n) != 0) << 5; r |= !(n < b) << 6; r |= (isgreater(n, b) != 0) << 7; r |= (isunordered(n, b) != 0) << 8;
            dst[i] = r; }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, b) = pair(s, i);
                let n = [f32::NAN, f32::INFINITY, a, a][i % 4];
                let unordered = n.is_nan() || b.is_nan();
                #[allow(clippy::eq_op, clippy::neg_cmp_op_on_partial_ord)]
                let bits = [
                    n < b,
                    n >= b,
                    n == n,
                    n != b,
                    n.is_nan(),
                    n.is_infinite(),
                    !(n < b),
                    n > b,
                    unordered,
                ];
                (0..).zip(bits).map(|(n, bit)| u32::from(bit) << n).sum()
            })
        },
        ..FLOAT
    },
    Case {
        name: "cl_float_to_int",
        aims: "F2I with every rounding, saturating",
        source: "KERNEL { uint i = get_global_id(0); float a = as_float(src[i]);
            dst[i] = (uint)convert_int_rtz(a) + (uint)convert_int_rte(a) * 3 + (uint)convert_int_rtp(a) * 5
                + (uint)convert_int_rtn(a) * 7 + convert_uint_sat(a * 1e7f) + (uint)convert_int_sat(a * 1e8f); }",
        reference: |s| {
            each(THREADS, |i| {
                let (a, _) = pair(s, i);
                let terms = [
                    (a.trunc() as i32 as u32, 1),
                    (a.round_ties_even() as i32 as u32, 3),
                    (a.ceil() as i32 as u32, 5),
                    (a.floor() as i32 as u32, 7),
                    ((a * 1e7) as u32, 1),
                    ((a * 1e8) as i32 as u32, 1),
                ];
                terms.iter().fold(0, |sum: u32, &(value, factor)| {
                    sum.wrapping_add(value.wrapping_mul(factor))
                })
            })
        },
        ..FLOAT
    },
    Case {
        name: "cl_int_to_float",
        aims: "I2F of 8, 16 and 32 bits, rounding to nearest",
        source: "KERNEL { uint i = get_global_id(0); uint a = src[i];
            float r = (float)a + (float)(int)a * 0.5f; dst[i] = as_uint(r) ^ as_uint((float)(short)a) ^ as_uint((float)(uchar)a); }",
        reference: |s| {
            each(THREADS, |i| {
                let a = s[i];
                let r = a as f32 + a as i32 as f32 * 0.5;
                r.to_bits() ^ f32::from(a as i16).to_bits() ^ f32::from(a as u8).to_bits()
            })
        },
        ..OPENCL
    },
    Case {
        name: "cl_half",
        aims: "F2F from and to 16 bits",
        source: "KERNEL { uint i = get_global_id(0); global const half *h = (global const half *)src;
            uint bits = src[i] & 0xffff; float f = vload_half(2 * i, h);
            ushort back[2]; vstore_half(f, 0, (half *)back);
            int finite = (bits & 0x7c00) != 0x7c00; dst[i] = finite ? back[0] : bits; }",
        reference: |s| each(THREADS, |i| s[i] & 0xffff),
        ..OPENCL
    },
    Case {
        name: "cl_float_exponential",
        aims: "EX2 and LG2 with their argument reduction",
        source: float_kernel!("float x = a * 0.01f; r = exp2(x) + exp(x * 0.5f) + log2(fabs(b) + 1.0f) + log(fabs(a) + 2.0f);"),
        reference: |s| {
            floats(s, |a, b| {
                let x = a * 0.01;
                x.exp2() + (x * 0.5).exp() + (b.abs() + 1.0).log2() + (a.abs() + 2.0).ln()
            })
        },
        agreement: Agreement::Within(1e-5),
        ..FLOAT
    },
    Case {
        name: "cl_float_trigonometry",
        aims: "SIN and COS with their argument reduction",
        source: float_kernel!("float x = a * 0.02f; r = sin(x) + cos(x * 0.5f) + tan(x * 0.05f);"),
        reference: |s| {
            floats(s, |a, _| {
                let x = a * 0.02;
                x.sin() + (x * 0.5).cos() + (x * 0.05).tan()
            })
        },
        agreement: Agreement::Within(1e-5),
        ..FLOAT
    },
    Case {
        name: "cl_float_pow",
        aims: "pow, hypot and friends: functions of many instructions",
        source: float_kernel!("float x = fabs(a) * 0.01f + 0.5f; r = pow(x, 1.7f) + hypot(a, b) + cbrt(x) + exp10(x * 0.1f);"),
        reference: |s| {
            floats(s, |a, b| {
                let x = a.abs() * 0.01 + 0.5;
                x.powf(1.7) + a.hypot(b) + x.cbrt() + 10f32.powf(x * 0.1)
            })
        },
        agreement: Agreement::Within(1e-5),
        ..FLOAT
    },
    Case {
        name: "cl_float_parts",
        aims: "ldexp, frexp, fmod, modf by integer instructions on floats",
        source: float_kernel!("int e; float m = frexp(a, &e); r = ldexp(m, e - 3) + fmod(a, 7.0f) + (float)ilogb(a) * 0.25f;"),
        reference: |s| {
            floats(s, |a, _| {
                let exponent = (a.to_bits() >> 23 & 0xff) as i32 - 127;
                a / 8.0 + a % 7.0 + exponent as f32 * 0.25
            })
        },
        agreement: Agreement::Within(1e-6),
        ..FLOAT
    },
    Case {
        name: "cl_float_geometry",
        aims: "vectors of floats: dot, cross, length, mix, step",
        source: float_kernel!(
            "float4 v = (float4)(a, b, a - b, 1), w = v.wzyx; r = dot(v, w) * 1e-3f + length(v) + mix(a, b, 0.25f)
                + step(0.0f, a) + cross(v, w).y * 1e-3f;"
        ),
        reference: |s| {
            floats(s, |a, b| {
                let (v, w) = ([a, b, a - b, 1.0], [1.0, a - b, b, a]);
                let dot: f32 = v.iter().zip(w).map(|(v, w)| v * w).sum();
                let length = v.iter().map(|v| v * v).sum::<f32>().sqrt();
                let cross = v[2] * w[0] - v[0] * w[2];
                let step = if a < 0.0 { 0.0 } else { 1.0 };
                dot * 1e-3 + length + (a + (b - a) * 0.25) + step + cross * 1e-3
            })
        },
        agreement: Agreement::Within(1e-5),
        ..FLOAT
    },
];
