//! Benchmarks of the card through its stock driver, from user space.
//!
//! Prints a table for people, or with `--json` one JSON object per line: `progress` while it
//! works, `copy` and `latency` for results. Without `--json`, lines that begin with `#` are the
//! progress.

mod copy;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Measures a GF100 through the nouveau DRM interface.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Copy bandwidth over sizes, and the latency of small operations, per engine
    Copy(CopyArguments),
}

/// What to measure.
#[derive(Debug, Args)]
pub struct CopyArguments {
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,

    /// Largest copy in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    max: u64,

    /// Time to spend on each measurement, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100)]
    time: u64,

    /// Render node [default: the first that nouveau drives]
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Benchmark::Copy(arguments) = Arguments::parse().benchmark;
    match copy::measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpubench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
