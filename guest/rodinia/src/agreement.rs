//! Whether a device's result is the one it should be.

use serde::Serialize;

/// How far a result is from the CPU's, and how far it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The largest error; infinite (`null` in JSON) where a result has another shape or is no
    /// number.
    pub max_error: f64,
    /// The largest error that passes.
    pub tolerance: f64,
}

impl Agreement {
    /// Whether the result passes.
    pub fn passed(&self) -> bool {
        self.max_error <= self.tolerance
    }

    /// The worse one of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let badness = |a: &Self| (!a.passed(), a.max_error - a.tolerance);
        if badness(&other) > badness(&self) {
            other
        } else {
            self
        }
    }
}

/// Equality. The error is the number of elements that differ.
pub fn exact<T: PartialEq>(expected: &[T], found: &[T]) -> Agreement {
    let differing = expected.iter().zip(found).filter(|(e, f)| e != f).count();
    Agreement {
        max_error: if expected.len() == found.len() {
            differing as f64
        } else {
            f64::INFINITY
        },
        tolerance: 0.0,
    }
}

/// Closeness. The error of an element is its distance, relative to the expected magnitude plus the
/// mean magnitude: a sum that cancels out is not held to the precision of its own tiny result.
pub fn close(expected: &[f32], found: &[f32], tolerance: f64) -> Agreement {
    let magnitude = |value: &f32| f64::from(value.abs());
    let mean = expected.iter().map(magnitude).sum::<f64>() / expected.len().max(1) as f64;
    let error = |(e, f): (&f32, &f32)| {
        let distance = (f64::from(*e) - f64::from(*f)).abs();
        if distance == 0.0 {
            0.0
        } else if distance.is_finite() {
            distance / (magnitude(e) + mean)
        } else {
            f64::INFINITY
        }
    };
    Agreement {
        max_error: if expected.len() == found.len() {
            expected.iter().zip(found).map(error).fold(0.0, f64::max)
        } else {
            f64::INFINITY
        },
        tolerance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_counts_differences() {
        assert_eq!(exact(&[1, 2, 3], &[1, 0, 0]).max_error, 2.0);
        assert!(exact(&[1, 2], &[1, 2]).passed());
    }

    #[test]
    fn short_result_never_passes() {
        assert!(!exact(&[1, 2], &[1]).passed());
        assert!(!close(&[1.0, 2.0], &[1.0], 1e9).passed());
    }

    #[test]
    fn close_is_relative_to_magnitude_and_mean() {
        let agreement = close(&[1.0, 3.0], &[1.0, 3.5], 0.2);
        assert_eq!(agreement.max_error, 0.1);
        assert!(agreement.passed());
    }

    #[test]
    fn not_a_number_never_passes() {
        assert!(!close(&[1.0], &[f32::NAN], 1e9).passed());
        assert!(!close(&[1.0], &[f32::INFINITY], 1e9).passed());
    }

    #[test]
    fn the_failed_one_of_two_wins() {
        let good = close(&[1.0], &[1.0], 0.0);
        let bad = exact(&[1], &[2]);
        assert_eq!(good.and(bad), bad);
        assert_eq!(bad.and(good), bad);
    }
}
