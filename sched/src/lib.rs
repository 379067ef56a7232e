//! Who may use the card next: accounting and policies on a virtual clock.
//!
//! Nothing here has a thread or reads a clock: every call is told the time, in [`Nanos`] of a
//! clock that the caller chooses. What drives a card ([`Scheduler`] behind a dispatcher thread) and
//! what plans without one ([`sim`]) run the same code.
//!
//! The unit of dispatch is a submission: one value of GP_PUT that a guest stored. It waits in its
//! machine's queue until the [`Policy`] gives the machine a turn on the engine, and is over when the
//! channel has fetched and executed everything before that value. Compute and copy engines are lanes
//! of their own where the policy lets them be, and are accounted apart in any case.
//!
//! Memory is bounded by the numbers of machines and channels that a scheduler is made for: a guest
//! that rings more often than [`QUEUE`] times ahead has its last doorbells merged, which loses
//! nothing, as a later GP_PUT includes an earlier one.

mod account;
mod config;
mod lane;
mod policy;
mod scheduler;
pub mod sim;
mod submission;

pub use account::{Engine, Settings, SettingsError, Usage};
pub use config::{Config, Lanes, Policy, UnknownPolicy};
pub use scheduler::Scheduler;
pub use submission::{Decision, QUEUE, Submission};

/// Nanoseconds of the caller's clock, or a span of them.
pub type Nanos = u64;

/// Nanoseconds of a microsecond.
pub const MICROSECOND: Nanos = 1_000;
/// Nanoseconds of a millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
/// Nanoseconds of a second.
pub const SECOND: Nanos = 1_000_000_000;
