//! What `corpus --json` says, and what of it may be wrong.

use serde::Deserialize;

/// A line of it: what became of a kernel.
#[derive(Deserialize)]
pub struct Report {
    /// The kernel.
    pub case: String,
    /// Where it ran.
    pub device: String,
    /// Its results agree with the CPU's.
    pub right: bool,
    /// What is wrong.
    pub error: Option<String>,
}

/// What runs the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// OpenCL on the card.
    Opencl,
    /// GL on the card.
    Gl,
    /// OpenCL on the CPU.
    Pocl,
    /// GL on the CPU.
    Llvmpipe,
}

/// Cases that may be wrong: where, which, and why.
const EXCUSED: [(Place, &str, &str); 6] = [
    (
        Place::Llvmpipe,
        "gl_double_arithmetic",
        "its fma of doubles rounds twice",
    ),
    (
        Place::Opencl,
        "cl_long_multiply_high",
        "Mesa's split64MulMad makes the low half of the product",
    ),
    (
        Place::Opencl,
        "cl_long_shift_wrapped",
        "NIR drops the mask of the count, Mesa's handleShift does not wrap it",
    ),
    (
        Place::Opencl,
        "cl_long_popcount",
        "Mesa's Converter::visit counts the low word",
    ),
    (
        Place::Opencl,
        "cl_long_round_trip",
        "NIR's nir_opt_algebraic takes the conversions away",
    ),
    (
        Place::Opencl,
        "cl_image_read_texels",
        "Mesa's nv50_sampler_state_create ignores unnormalized_coords before GK104",
    ),
];

impl Report {
    /// Why it may be wrong there, if it may.
    pub fn excuse(&self, place: Place) -> Option<&'static str> {
        EXCUSED
            .iter()
            .find(|(excused, case, _)| *excused == place && *case == self.case)
            .map(|(_, _, why)| *why)
    }

    /// What is wrong, in a line.
    pub fn complaint(&self) -> String {
        format!(
            "{}: {}",
            self.case,
            self.error.as_deref().unwrap_or("wrong")
        )
    }
}
