//! Machines on one card that do what they like: nobody else notices.

mod accesses;
mod hostile;
mod rig;
mod script;
mod stuck;
