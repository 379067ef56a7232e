//! Formats that software and the card keep in memory.

pub mod copy;
pub mod instance;
pub mod kind;
pub mod pagetable;
pub mod pushbuffer;
pub mod userd;
