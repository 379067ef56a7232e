//! The VMM and the front ends of the card.
//!
//! [`commands`] is the `gpuvm` command line; each of its subcommands is a short function over
//! the modules beside it.

pub mod commands;
pub mod control;
pub mod host;
mod logging;
pub mod size;
pub mod vfio_user;
