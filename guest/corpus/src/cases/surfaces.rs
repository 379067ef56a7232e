//! Images in OpenCL C, textures and images in GLSL.

use crate::case::{Agreement, Case, Extra, GLSL, Input, OPENCL, each};

/// Texels of the images in x, and in y.
const SIDE: usize = 16;

/// Component `c` of a texel of an RGBA image, as a float; outside, the nearest one's.
fn component(s: &[u32], x: i64, y: i64, c: usize) -> f32 {
    let clamp = |at: i64| at.clamp(0, SIDE as i64 - 1) as usize;
    f32::from(s[clamp(y) * SIDE + clamp(x)].to_le_bytes()[c]) / 255.0
}

/// A case on a texture.
const TEXTURE: Case = Case {
    groups: [4, 1, 1],
    input: Input::Words(SIDE * SIDE),
    extra: Extra::Texture(SIDE as u32, SIDE as u32),
    ..GLSL
};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "cl_image_fetch",
        aims: "reading an image without a sampler",
        source: "KERNEL { uint i = get_global_id(0); float4 v = read_imagef(src, (int2)(15 - (int)(i % 16), (int)(i / 16)));
            uint4 b = convert_uint4_rte(v * 255.0f); dst[i] = b.x | b.y << 8 | b.z << 16 | b.w << 24; }",
        input: Input::Words(SIDE * SIDE),
        extra: Extra::Texture(SIDE as u32, SIDE as u32),
        reference: |s| each(256, |i| s[i / 16 * 16 + 15 - i % 16]),
        ..OPENCL
    },
    Case {
        name: "cl_image_read",
        aims: "reading an image of bytes without filtering, clamped at its edges",
        source: "constant sampler_t smp = CLK_NORMALIZED_COORDS_TRUE | CLK_ADDRESS_CLAMP_TO_EDGE | CLK_FILTER_NEAREST;
            KERNEL { uint i = get_global_id(0); float2 at = ((float2)((int)(i % 16) * 2 - 5, (int)(i / 16) * 2 - 7) + 0.5f) / 16;
            float4 v = read_imagef(src, smp, at); uint4 b = convert_uint4_rte(v * 255.0f); dst[i] = b.x | b.y << 8 | b.z << 16 | b.w << 24; }",
        input: Input::Words(SIDE * SIDE),
        extra: Extra::Texture(SIDE as u32, SIDE as u32),
        reference: every_other_texel,
        ..OPENCL
    },
    // Before GK104 only a texture's header says that coordinates are not normalised. Mesa's
    // `nvc0_create_sampler_view` has that said of rectangle textures and buffers alone, and
    // `nv50_sampler_state_create` ignores `unnormalized_coords`.
    Case {
        name: "cl_image_read_texels",
        aims: "the same with coordinates in texels, which Mesa takes for normalised ones",
        source: "constant sampler_t smp = CLK_NORMALIZED_COORDS_FALSE | CLK_ADDRESS_CLAMP_TO_EDGE | CLK_FILTER_NEAREST;
            KERNEL { uint i = get_global_id(0); int2 at = (int2)((int)(i % 16) * 2 - 5, (int)(i / 16) * 2 - 7);
            float4 v = read_imagef(src, smp, at); uint4 b = convert_uint4_rte(v * 255.0f); dst[i] = b.x | b.y << 8 | b.z << 16 | b.w << 24; }",
        input: Input::Words(SIDE * SIDE),
        extra: Extra::Texture(SIDE as u32, SIDE as u32),
        reference: every_other_texel,
        ..OPENCL
    },
    Case {
        name: "cl_image_filter",
        aims: "reading an image with linear filtering",
        source: "constant sampler_t smp = CLK_NORMALIZED_COORDS_TRUE | CLK_ADDRESS_CLAMP_TO_EDGE | CLK_FILTER_LINEAR;
            KERNEL { uint i = get_global_id(0); float2 at = (float2)((i % 16 + 0.25f) / 16, (i / 16 + 0.75f) / 16);
            dst[i] = as_uint(read_imagef(src, smp, at).y); }",
        input: Input::Words(SIDE * SIDE),
        extra: Extra::Texture(SIDE as u32, SIDE as u32),
        reference: |s| each(256, |i| filtered(s, i % 16, i / 16, 1).to_bits()),
        agreement: Agreement::Within(5e-3),
        ..OPENCL
    },
    Case {
        name: "cl_image_write",
        aims: "writing an image of words",
        source: "KERNEL { uint i = get_global_id(0); write_imageui(src, (int2)(15 - i % 16, i / 16), (uint4)(i * 2654435761u, 0, 0, 0)); }",
        input: Input::Words(SIDE * SIDE),
        extra: Extra::Image(SIDE as u32, SIDE as u32),
        reference: |_| {
            each(256, |at| {
                let i = at / 16 * 16 + 15 - at % 16;
                (i as u32).wrapping_mul(2_654_435_761)
            })
        },
        ..OPENCL
    },
    Case {
        name: "gl_texel_fetch",
        aims: "TXF: texels by number",
        source: "void main() { uint i = gl_GlobalInvocationID.x; vec4 v = texelFetch(tex, ivec2(15 - i % 16, i / 16), 0);
            dst[i] = packUnorm4x8(v); }",
        reference: |s| each(256, |i| s[i / 16 * 16 + 15 - i % 16]),
        ..TEXTURE
    },
    Case {
        name: "gl_texture_filter",
        aims: "TEX with linear filtering",
        source: "void main() { uint i = gl_GlobalInvocationID.x; vec2 at = (vec2(i % 16, i / 16) + vec2(0.25, 0.75)) / 16.0;
            dst[i] = floatBitsToUint(textureLod(tex, at, 0.0).y); }",
        reference: |s| each(256, |i| wrapped(s, i % 16, i / 16, 1).to_bits()),
        agreement: Agreement::Within(5e-3),
        ..TEXTURE
    },
    Case {
        name: "gl_texture_wrap",
        aims: "texture coordinates that repeat in x and stick to the edge in y",
        source: "void main() { uint i = gl_GlobalInvocationID.x; vec2 at = (vec2(int(i % 16) * 3 - 20, int(i / 16) * 3 - 20) + 0.5) / 16.0;
            dst[i] = packUnorm4x8(textureLod(tex, at, 0.0)); }",
        reference: |s| {
            each(256, |i| {
                let (x, y) = ((i % 16) as i64 * 3 - 20, (i / 16) as i64 * 3 - 20);
                s[y.clamp(0, 15) as usize * SIDE + x.rem_euclid(16) as usize]
            })
        },
        ..TEXTURE
    },
    Case {
        name: "gl_texture_gather",
        aims: "TXG: the four texels around a point",
        source: "void main() { uint i = gl_GlobalInvocationID.x; vec2 at = vec2(1 + i % 14, 1 + i / 16 % 14) / 16.0;
            dst[i] = packUnorm4x8(textureGather(tex, at, 2)); }",
        reference: |s| {
            each(256, |i| {
                let (x, y) = (1 + i as i64 % 14, 1 + i as i64 / 16 % 14);
                let texels = [(x - 1, y), (x, y), (x, y - 1), (x - 1, y - 1)];
                let bytes = texels.map(|(x, y)| s[y as usize * SIDE + x as usize].to_le_bytes()[2]);
                u32::from_le_bytes(bytes)
            })
        },
        ..TEXTURE
    },
    Case {
        name: "gl_texture_size",
        aims: "TXQ",
        source: "void main() { uint i = gl_GlobalInvocationID.x; ivec2 n = textureSize(tex, 0); dst[i] = uint(n.x) | uint(n.y) << 16; }",
        reference: |_| each(256, |_| 16 | 16 << 16),
        ..TEXTURE
    },
    Case {
        name: "gl_image_load_store",
        aims: "SULD and SUST on an image of words",
        source: "void main() { ivec2 at = ivec2(gl_GlobalInvocationID.x % 16, gl_GlobalInvocationID.x / 16);
            uint v = imageLoad(img, at).x; imageStore(img, at, uvec4(v * 3u + uint(at.x), 0, 0, 0)); }",
        extra: Extra::Image(SIDE as u32, SIDE as u32),
        reference: |s| each(256, |i| s[i].wrapping_mul(3).wrapping_add(i as u32 % 16)),
        ..TEXTURE
    },
    Case {
        name: "gl_image_atomics",
        aims: "SULEA and atomics on an image, under contention",
        source: "void main() { uint i = gl_GlobalInvocationID.x; ivec2 at = ivec2(i % 4, 0);
            imageAtomicAdd(img, at, i); imageAtomicMax(img, at + ivec2(0, 1), i * 7919u); imageAtomicXor(img, at + ivec2(0, 2), i << 20);
            imageAtomicOr(img, at + ivec2(0, 3), 1u << (i & 31u)); }",
        groups: [8, 1, 1],
        extra: Extra::Image(SIDE as u32, SIDE as u32),
        reference: |s| {
            let mut image = s.to_vec();
            for i in 0..512u32 {
                let x = (i % 4) as usize;
                image[x] = image[x].wrapping_add(i);
                image[SIDE + x] = image[SIDE + x].max(i * 7919);
                image[2 * SIDE + x] ^= i << 20;
                image[3 * SIDE + x] |= 1 << (i & 31);
            }
            image
        },
        ..TEXTURE
    },
    Case {
        name: "gl_image_outside",
        aims: "images at coordinates outside: loads give 0, stores are dropped",
        source: "void main() { uint i = gl_GlobalInvocationID.x; ivec2 at = ivec2(i % 16, i / 16);
            uint v = imageLoad(img, at + ivec2(8, 0)).x; memoryBarrierImage(); barrier(); imageStore(img, ivec2(at.x - 16 * int(i & 1u), at.y), uvec4(v)); }",
        groups: [1, 1, 1],
        local: [256, 1, 1],
        extra: Extra::Image(SIDE as u32, SIDE as u32),
        reference: |s| {
            each(256, |i| match (i % 2, i % 16 + 8 < 16) {
                (1, _) => s[i],
                (_, true) => s[i + 8],
                (_, false) => 0,
            })
        },
        ..TEXTURE
    },
    Case {
        name: "gl_image_size",
        aims: "the size of an image, from the driver's constants",
        source: "void main() { uint i = gl_GlobalInvocationID.x; ivec2 n = imageSize(img);
            imageStore(img, ivec2(i % 16, i / 16), uvec4(uint(n.x * 1000 + n.y), 0, 0, 0)); }",
        extra: Extra::Image(SIDE as u32, SIDE as u32),
        reference: |_| each(256, |_| 16016),
        ..TEXTURE
    },
];

/// Every other texel from 5 before the image on in x and 7 before it in y, clamped to its edges.
fn every_other_texel(s: &[u32]) -> Vec<u32> {
    each(256, |i| {
        let (x, y) = ((i % 16) as i64 * 2 - 5, (i / 16) as i64 * 2 - 7);
        let at = |v: i64| v.clamp(0, SIDE as i64 - 1) as usize;
        s[at(y) * SIDE + at(x)]
    })
}

/// Linear filtering at a quarter texel before the middle in x and behind it in y.
fn filtered(s: &[u32], x: usize, y: usize, c: usize) -> f32 {
    let (x, y) = (x as i64, y as i64);
    blend(
        component(s, x - 1, y, c),
        component(s, x, y, c),
        component(s, x - 1, y + 1, c),
        component(s, x, y + 1, c),
    )
}

/// The same where x repeats.
fn wrapped(s: &[u32], x: usize, y: usize, c: usize) -> f32 {
    let (left, x, y) = ((x as i64 + 15) % 16, x as i64, y as i64);
    blend(
        component(s, left, y, c),
        component(s, x, y, c),
        component(s, left, y + 1, c),
        component(s, x, y + 1, c),
    )
}

/// A quarter of the left and the lower texels each.
fn blend(left: f32, right: f32, left_below: f32, right_below: f32) -> f32 {
    let above = left * 0.25 + right * 0.75;
    let below = left_below * 0.25 + right_below * 0.75;
    above * 0.75 + below * 0.25
}
