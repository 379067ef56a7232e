//! Kernels that no GPU can run to their end. None of them gives the result that it asks for, so
//! that a machine on which one is right has not noticed.

use crate::case::{Case, OPENCL};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "fault_address",
        aims: "a store far behind every buffer",
        source:
            "KERNEL { uint i = get_global_id(0); *(global uint *)((ulong)dst + (1ul << 38)) = i;
            dst[i] = src[i]; }",
        ..OPENCL
    },
    Case {
        name: "fault_alignment",
        aims: "a store of a word at an odd address",
        source: "KERNEL { uint i = get_global_id(0); *(global uint *)((ulong)dst + 4 * i + 1) = i;
            dst[i] = src[i]; }",
        ..OPENCL
    },
    Case {
        name: "fault_endless",
        aims: "a loop that ends when somebody changes its input, which nobody does",
        source: "KERNEL { uint i = get_global_id(0); volatile global const uint *v = src;
            while (v[i] == v[i]) { } dst[i] = src[i]; }",
        ..OPENCL
    },
];
