//! The VMM and the front ends of the card.
