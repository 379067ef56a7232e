//! What a driver stores to bring the engines of a card up.
//!
//! A card that comes out of reset has falcons without firmware and units without settings; a driver
//! knows both. A [`Recorder`] watches one at work, and keeps what it stores to the engines in a
//! [`Record`], from which a card can be brought up again without a driver. Which stores belong to
//! that, which of them carry addresses, and what has to be waited for, is data: [`rules`].

mod record;
mod recorder;
pub mod rules;

pub use record::{Record, RecordError, Store};
pub use recorder::Recorder;
pub use rules::{Holds, Part, Place, Rule, Wait, rule};
