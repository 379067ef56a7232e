//! `cargo xtask bench`: builds what `gpuvm bench` needs and runs it.

use std::{
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

/// Prepares the testbed, builds the programs, and passes on how the benchmarks ended.
///
/// # Errors
///
/// When something cannot be prepared or started.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    testbed::prepare()?;
    let status = measure(&build::programs()?, &arguments.arguments)?;
    Ok(status
        .code()
        .map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8)))
}

/// Runs `gpuvm bench` with `arguments`; how it ended.
///
/// # Errors
///
/// When it cannot be started.
pub fn measure(programs: &Programs, arguments: &[String]) -> Result<ExitStatus> {
    let tools = programs.guest_tools.iter().chain(&programs.debian_tools);
    let mut places: Vec<String> = tools
        .filter_map(|tool| tool.parent().map(Path::display))
        .map(|place| place.to_string())
        .collect();
    places.dedup();
    Command::new(&programs.gpuvm)
        .args(["bench", "--tools", &places.join(",")])
        .args(arguments)
        .current_dir(workspace::root())
        .status()
        .context("Cannot start gpuvm")
}
