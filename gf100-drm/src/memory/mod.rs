//! Memory as the driver deals it out: ranges, blocks of the two memories, address spaces.

mod heap;
mod range;
mod space;

pub use heap::{Block, Heap, PAGE};
pub use range::Ranges;
pub use space::{AddressSpace, Mapped};
