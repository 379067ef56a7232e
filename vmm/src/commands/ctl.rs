//! `gpuvm ctl`: one action for a running machine, or for all of a process.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::control::{Action, Client, Reply, Request};

/// Arguments of `gpuvm ctl`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control socket, as given to `gpuvm run --control`.
    socket: PathBuf,

    /// The machine; without it, all of them.
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,

    #[command(subcommand)]
    action: Action,
}

/// Sends the action; prints the answer as JSON, or as it is where it is text.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(&args.socket)
        .with_context(|| format!("Cannot reach a machine at {}", args.socket.display()))?;
    let request = Request {
        vm: args.vm,
        action: args.action,
    };
    match client.call(&request)? {
        Reply::Error(reason) => bail!("The machine refused: {reason}"),
        Reply::Text(text) => print!("{text}"),
        reply => println!("{}", serde_json::to_string_pretty(&reply)?),
    }
    Ok(ExitCode::SUCCESS)
}
