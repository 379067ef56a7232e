//! PFIFO from a driver's side.

#[path = "../rig/mod.rs"]
mod rig;

mod commands;
mod recovery;
mod scheduling;
