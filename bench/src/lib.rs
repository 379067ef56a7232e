//! Benchmarks of GPUvm: a matrix of runs, the runner, and the report.
//!
//! A [`Plan`] is a list of [`Job`]s; the [`Runner`] does them in stock guests and appends a
//! [`Record`] per run to `results.jsonl`; a [`report`] is made of those records alone, so it can be
//! made again, elsewhere, or of several runs together.
//!
//! Repetitions are the outermost loop and modes the innermost, so that a machine that grows slower
//! or faster in the course of an hour does so for all modes alike. Compare figures within one
//! directory of results only.

mod control;
mod job;
mod lab;
mod own_vmm;
mod plan;
pub mod published;
mod record;
pub mod report;
mod runner;
#[cfg(test)]
mod testing;
mod vfio_user;
mod ways;
mod work;

pub use job::{Job, Load, Mode, Size, Suite, Way};
pub use lab::Programs;
pub use plan::{Matrix, Plan};
pub use record::{GuestResult, HostInfo, RESULTS, Record, Sample, read_all};
pub use runner::Runner;
