//! Control of running machines.
//!
//! One JSON object per line goes to a Unix socket, one comes back. [`Action`] is the only
//! vocabulary: the command line parses into it, the socket carries it, tests build it.

mod action;
mod client;
mod controller;
mod fleet;
mod server;
mod switches;

pub use action::{Action, GpuStatus, Reply, Request, RunState, Status};
pub use client::{Client, ClientError};
pub use controller::Controller;
pub use fleet::{Fleet, Seat};
pub use server::ControlServer;
pub use switches::{SwitchError, Switches};
