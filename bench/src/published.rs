//! What others published, to stand beside measurements. All of it is from other hardware.

/// A figure of a publication.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Which publication.
    pub source: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// What came out.
    pub value: &'static str,
}

/// Slow-downs against the bare card.
pub const OVERHEAD: &[Figure] = &[
    Figure {
        source: "GPUvm (ATC'14), Quadro 6000, Xen",
        what: "full virtualization",
        value: "10× to 100×; naive over 100× in nine benchmarks",
    },
    Figure {
        source: "Full GPU virtualization re-evaluated",
        what: "full virtualization",
        value: "232× on average, 737× at worst; boot 7.4×",
    },
    Figure {
        source: "GPUvm (ATC'14)",
        what: "paravirtualization",
        value: "2× to 3×",
    },
    Figure {
        source: "G-KVM (CIT 2016)",
        what: "full virtualization on KVM",
        value: "82 % of native",
    },
    Figure {
        source: "gVirt (ATC'14), Intel GPU",
        what: "mediated pass-through",
        value: "up to 95 % of native",
    },
];

/// What optimisations brought.
pub const ABLATION: &[Figure] = &[
    Figure {
        source: "GPUvm (ATC'14)",
        what: "BAR remap / lazy shadowing",
        value: "1.6× / 1.2× faster",
    },
    Figure {
        source: "gHyvi (ATC'15)",
        what: "relaxed shadowing",
        value: "up to 13× over gVirt",
    },
];

/// What hypervisors wrote.
pub const BYTES: &[Figure] = &[Figure {
    source: "Full GPU virtualization re-evaluated",
    what: "bytes written in a run of hotspot, lud, srad or mmul, naive and original",
    value: "660,000 and 6,700",
}];

/// Fairness.
pub const FAIRNESS: &[Figure] = &[
    Figure {
        source: "Gdev (ATC'12), GTX 480",
        what: "BAND, error of shares",
        value: "within 7 % on average",
    },
    Figure {
        source: "GPUvm (ATC'14)",
        what: "FIFO, CREDIT, BAND, up to 8 machines",
        value: "BAND the fairest; coarse-grained",
    },
    Figure {
        source: "Full GPU virtualization re-evaluated",
        what: "throughput lost to sharing",
        value: "over 40 %",
    },
    Figure {
        source: "gVirt (ATC'14)",
        what: "machines at a time",
        value: "7",
    },
];
