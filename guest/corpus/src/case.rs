//! What a case is, and when its result is right.

/// In which language a kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Api {
    /// OpenCL C.
    Opencl,
    /// GLSL, as a compute shader.
    Gl,
}

/// What a kernel reads.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// So many random words.
    Words(usize),
    /// So many random floats between two bounds.
    Floats(usize, f32, f32),
}

/// What a kernel works with beside its two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    None,
    /// The input is an image of RGBA bytes, of so many texels in x and y, to be sampled.
    Texture(u32, u32),
    /// The input is an image of words, to be loaded from, stored to and changed.
    Image(u32, u32),
    /// The grid's size comes from a buffer.
    Indirect,
    /// The input is a uniform block.
    Uniform,
    /// An atomic counter.
    Counter,
}

/// When words of a result are right.
#[derive(Clone, Copy, Debug)]
pub enum Agreement {
    /// They are equal.
    Exact,
    /// As floats they are so many units in the last place apart at most.
    Ulps(u32),
    /// As floats their difference is at most this, or this times the right value.
    Within(f32),
}

/// A kernel with its input and what has to come out.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What it is aimed at.
    pub aims: &'static str,
    /// Its language.
    pub api: Api,
    /// The kernel. OpenCL: `KERNEL { … }` with `src` and `dst`; GLSL: `void main() { … }` with the
    /// same names.
    pub source: &'static str,
    /// Work-groups in x, y, z.
    pub groups: [u32; 3],
    /// Work-items of a group in x, y, z.
    pub local: [u32; 3],
    /// What is in `src`.
    pub input: Input,
    /// Words of `dst`, which are zero at first.
    pub output: usize,
    /// What has to be in `dst` afterwards.
    pub reference: fn(&[u32]) -> Vec<u32>,
    /// How close to that.
    pub agreement: Agreement,
    /// What else there is.
    pub extra: Extra,
}

/// Threads of most cases.
pub const THREADS: usize = 256;

/// A case in OpenCL C, to be filled in.
pub const OPENCL: Case = Case {
    name: "",
    aims: "",
    api: Api::Opencl,
    source: "",
    groups: [4, 1, 1],
    local: [64, 1, 1],
    input: Input::Words(THREADS),
    output: THREADS,
    reference: |src| src.to_vec(),
    agreement: Agreement::Exact,
    extra: Extra::None,
};

/// A case in GLSL, to be filled in.
pub const GLSL: Case = Case {
    api: Api::Gl,
    ..OPENCL
};

impl Input {
    /// Makes it from a seed.
    pub fn make(self, seed: u64) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(seed);
        match self {
            Input::Words(count) => (0..count).map(|_| random.u32(..)).collect(),
            Input::Floats(count, low, high) => (0..count)
                .map(|_| (low + (high - low) * random.f32()).to_bits())
                .collect(),
        }
    }
}

impl Agreement {
    /// Whether a word is right.
    pub fn holds(self, found: u32, right: u32) -> bool {
        let (a, b) = (f32::from_bits(found), f32::from_bits(right));
        let both_nan = a.is_nan() && b.is_nan();
        match self {
            Agreement::Exact => found == right,
            Agreement::Ulps(limit) => both_nan || ordered(a).abs_diff(ordered(b)) <= limit.into(),
            Agreement::Within(limit) => {
                both_nan || a == b || (a - b).abs() <= limit * b.abs().max(1.0)
            }
        }
    }
}

/// A float's place in the order of all floats.
fn ordered(value: f32) -> i64 {
    let bits = i64::from(value.to_bits() & 0x7fff_ffff);
    if value.is_sign_negative() {
        -bits
    } else {
        bits
    }
}

/// A result whose word `i` of `count` is `f(i)`.
pub fn each(count: usize, f: impl Fn(usize) -> u32) -> Vec<u32> {
    (0..count).map(f).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulps_count_across_zero() {
        let (small, zero) = (f32::from_bits(2), -0.0f32);
        assert!(Agreement::Ulps(2).holds(small.to_bits(), zero.to_bits()));
        assert!(!Agreement::Ulps(1).holds(small.to_bits(), zero.to_bits()));
        assert!(Agreement::Ulps(0).holds(f32::NAN.to_bits(), (-f32::NAN).to_bits()));
        assert!(!Agreement::Exact.holds(0, 0x8000_0000));
    }

    #[test]
    fn a_relative_limit_is_absolute_below_one() {
        let holds = |a: f32, b: f32| Agreement::Within(1e-2).holds(a.to_bits(), b.to_bits());
        assert!(holds(1000.0, 1009.0) && !holds(1000.0, 1011.0));
        assert!(holds(0.0, 0.009) && !holds(0.0, 0.011));
    }
}
