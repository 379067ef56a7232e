//! Shadows of guests that write anything, as the card sees them.

mod fuzz;
mod properties;
mod reference;
mod rig;
mod script;
mod sync;
mod tracking;
