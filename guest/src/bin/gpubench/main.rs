//! Benchmarks of the card through its stock driver, from user space.
//!
//! Prints a table for people, or with `--json` one JSON object per line: `progress` while it
//! works, `copy`, `latency` and `load` for results. Without `--json`, lines that begin with `#` are the
//! progress.

mod copy;
mod load;
mod report;
mod work;

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
    /// Keeps an engine busy with copies or kernels, for others to compete with
    Load(LoadArguments),
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

    /// Time of a round of a measurement, in milliseconds; there are three, and the best one counts
    #[arg(long, value_name = "MS", default_value_t = 100)]
    time: u64,

    /// Render node [default: the first that nouveau drives]
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
}

/// What to keep doing.
#[derive(Debug, Args)]
pub struct LoadArguments {
    /// JSON instead of a sentence
    #[arg(long)]
    json: bool,

    /// Engine that copies within video memory: ce0, ce1 or m2mf
    #[arg(long, value_name = "ENGINE", default_value = "m2mf")]
    engine: String,

    /// KiB of each copy
    #[arg(long, value_name = "KIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    kib: u64,

    /// Instead of copies: kernels whose threads go around a loop so many times
    #[arg(long, value_name = "TURNS", conflicts_with_all = ["engine", "kib"],
        value_parser = clap::value_parser!(u32).range(1..))]
    kernel: Option<u32>,

    /// Copies or kernels of a submission
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,

    /// Channels, each with its context of the engine, that take turns
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    channels: u8,

    /// Submissions of each channel that are under way at a time
    #[arg(long, value_name = "N", default_value_t = 4)]
    ahead: u32,

    /// How long, in seconds
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u64,

    /// End as soon as there is this file
    #[arg(long, value_name = "FILE")]
    until: Option<PathBuf>,

    /// Sleep after so many submissions; 0 never does
    #[arg(long, value_name = "N", default_value_t = 0)]
    burst: u32,

    /// Longest sleep in milliseconds; each is as long as chance has it
    #[arg(long, value_name = "MS", default_value_t = 500)]
    sleep: u64,

    /// Render node [default: the first that nouveau drives]
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().benchmark {
        Benchmark::Copy(arguments) => copy::measure(&arguments),
        Benchmark::Load(arguments) => load::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpubench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
