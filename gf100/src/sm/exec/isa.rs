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

/// A set of the host's vector instructions; the value proves that the host has them.
macro_rules! vector_isa {
    ($(#[$doc:meta])* $name:ident = $features:literal, [$($feature:tt),*]) => {
        $(#[$doc])*
        #[cfg(target_arch = "x86_64")]
        #[derive(Clone, Copy, Debug)]
        pub struct $name(());

        #[cfg(target_arch = "x86_64")]
        impl $name {
            /// If the host has it.
            pub fn detect() -> Option<Self> {
                let has = true $(&& is_x86_feature_detected!($feature))*;
                has.then_some(Self(()))
            }
        }

        #[cfg(target_arch = "x86_64")]
        impl Isa for $name {
            #[inline(always)]
            fn call<R>(self, f: impl FnOnce() -> R) -> R {
                #[target_feature(enable = $features)]
                fn with_features<R>(f: impl FnOnce() -> R) -> R {
                    f()
                }
                // SAFETY: the value exists, so the host has these.
                unsafe { with_features(f) }
            }
        }
    };
}

vector_isa! {
    /// AVX2 with fused multiply-add.
    Avx2 = "avx2,fma,bmi1,bmi2,lzcnt,popcnt",
    ["avx2", "fma", "bmi1", "bmi2", "lzcnt", "popcnt"]
}

vector_isa! {
    /// AVX-512 as servers have had it since Skylake.
    Avx512 = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt",
    [
        "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "bmi1", "bmi2", "lzcnt",
        "popcnt"
    ]
}
