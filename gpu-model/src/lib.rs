//! GPUvm itself: one GF100 that many machines have, each as a GF100 of its own.
//!
//! * [`Card`] is the card as its owner sees it; nothing here knows which one it is.
//! * [`aggregator`] owns the card's registers: it brings the card up once, gives it the merged
//!   channels of all machines, and tells each machine of the interrupts that are its own.
//! * [`VirtualGpu`] is what one machine finds behind its BARs.
//! * [`Layout`] says who has which part of the card, [`Host`] puts all of it together.

pub mod aggregator;
mod card;
mod counters;
mod host;
mod optimisations;
mod partition;
mod scheduled;
mod stretch;
mod submission;
mod tracking;
mod vgpu;
mod vram;

pub use aggregator::{BringUpError, Limits};
pub use card::{Card, Protection, Registers};
pub use counters::{Counters, Value};
pub use host::{Host, HostError, Settings};
pub use optimisations::{Optimisations, UnknownOptimisation};
pub use partition::{BarSizes, Layout, MOST_VGPUS, Partition, PartitionError, VRAM_UNIT};
pub use scheduled::Scheduled;
pub use stretch::{Stretch, Stretches};
pub use submission::{Activity, Direct, Dispatcher, Gate, Submission};
pub use tracking::Tracking;
pub use vgpu::{Mapper, Piece, Slot, VirtualGpu};
