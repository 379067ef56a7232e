//! Which vector instructions of the host the lanes' loops are compiled for.

/// Runs code that is compiled for a set of instructions of the host.
///
/// What is called is inlined into the instance for the set, so that the loops in it use it.
pub trait Isa: Copy {
    /// Calls `f`.
    fn call<R>(self, f: impl FnOnce() -> R) -> R;
}

/// What every host has.
#[derive(Clone, Copy, Debug)]
pub struct Baseline;

impl Isa for Baseline {
    #[inline(always)]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// AVX2 with fused multiply-add; the value proves that the host has them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

#[cfg(target_arch = "x86_64")]
impl Avx2 {
    /// If the host has it.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        has.then_some(Self(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    #[inline(always)]
    fn call<R>(self, f: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn with_features<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        // SAFETY: the value exists, so the host has these.
        unsafe { with_features(f) }
    }
}
