//! Control of a running machine.
//!
//! One JSON object per line goes to the machine's Unix socket, one comes back. [`Action`] is
//! the only vocabulary: the command line parses into it, the socket carries it, tests build it.

mod action;
mod client;
mod controller;
mod server;
mod switches;

pub use action::{Action, Reply, RunState, Status};
pub use client::{Client, ClientError};
pub use controller::Controller;
pub use server::ControlServer;
pub use switches::{SwitchError, Switches};
