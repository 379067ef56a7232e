//! Builds the VBIOS image of the card from a described table.
