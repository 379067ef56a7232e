//! `cargo xtask`: everything a user or CI runs.

mod bench;
mod build;
mod demo;
mod e2e_tests;
mod run;
mod speed;
mod test;
mod testbed;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set-up, demo and tests"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prepare QEMU, guest kernels and a Debian 13 tree under target/testbed (or $GPUVM_TESTBED)
    Testbed,
    /// Boot a stock guest on a fresh card, load nouveau and run a command in it
    Run(run::Arguments),
    /// Boot a stock guest on the card, show nouveau's probe and measure copies
    Demo(demo::Arguments),
    /// Run end-to-end tests by name
    E2e(e2e_tests::Arguments),
    /// Build everything and run `gpuvm bench` with these arguments
    Bench(bench::Arguments),
    /// Compare the card's speed with PoCL's, workload by workload
    Speed(speed::Arguments),
    /// Run everything that must pass: format, lints, unit tests, end-to-end tests
    Test,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Testbed => {
            let testbed = testbed::prepare()?;
            println!("{testbed}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(arguments) => run::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::E2e(arguments) => e2e_tests::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Speed(arguments) => speed::run(&arguments),
        Command::Test => test::run(),
    }
}
