//! `cargo xtask bench`: builds what `gpuvm bench` needs and runs it.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    build::{self, Programs},
    testbed, workspace,
};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub struct Arguments {
    /// Arguments of `gpuvm bench`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Prepares the testbed, builds the programs, and becomes `gpuvm bench`: whoever ends this process
/// ends that.
///
/// # Errors
///
/// When something cannot be prepared or started.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    testbed::prepare()?;
    let mut command = command(&build::programs()?, &arguments.arguments);
    Err(command.exec()).context("Cannot start gpuvm")
}

/// Runs `gpuvm bench` with `arguments`; how it ended.
///
/// # Errors
///
/// When it cannot be started.
pub fn measure(programs: &Programs, arguments: &[String]) -> Result<ExitStatus> {
    let mut command = command(programs, arguments);
    command.status().context("Cannot start gpuvm")
}

fn command(programs: &Programs, arguments: &[String]) -> Command {
    let tools = programs.guest_tools.iter().chain(&programs.debian_tools);
    let mut places: Vec<String> = tools
        .filter_map(|tool| tool.parent().map(Path::display))
        .map(|place| place.to_string())
        .collect();
    places.dedup();
    let mut command = Command::new(&programs.gpuvm);
    command
        .args(["bench", "--tools", &places.join(",")])
        .args(arguments)
        .current_dir(workspace::root());
    command
}
