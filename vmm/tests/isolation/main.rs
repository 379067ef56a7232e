//! Machines on one card that do what they like: nobody else notices.

mod accesses;
mod fetch;
mod hostile;
mod pages;
#[path = "../rig/mod.rs"]
mod rig;
mod script;
mod scrub;
mod stretches;
mod stuck;
