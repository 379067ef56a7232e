//! The `gpuvm` command.

use std::process::ExitCode;

use clap::Parser;

use vmm::commands::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
