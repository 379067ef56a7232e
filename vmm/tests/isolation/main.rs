//! Machines on one card that do what they like: nobody else notices.

mod accesses;
mod hostile;
mod pages;
mod rig;
mod script;
mod stuck;
