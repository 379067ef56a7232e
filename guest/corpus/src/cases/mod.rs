//! The cases, by what they are aimed at.

mod faults;
mod flow;
mod glsl;
mod glsl_memory;
mod integer;
mod memory;
mod single;
mod surfaces;
mod timed;
mod wide;

use crate::case::Case;

pub use faults::CASES as FAULTS;
pub use timed::CASES as TIMED;

/// All that have a result.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        integer::CASES,
        wide::CASES,
        single::CASES,
        flow::CASES,
        memory::CASES,
        surfaces::CASES,
        glsl::CASES,
        glsl_memory::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_references_fill_the_output() {
        let all = || all().chain(FAULTS).chain(TIMED);
        let mut names: Vec<_> = all().map(|case| case.name).collect();
        let count = names.len();
        assert!(count >= 60, "{count} cases");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for case in all() {
            let right = (case.reference)(&case.input.make(1));
            assert_eq!(right.len(), case.output, "{}", case.name);
        }
    }
}
