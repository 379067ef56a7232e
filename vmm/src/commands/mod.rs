//! The `gpuvm` command line: one module per subcommand, each an `Args` and a `run`.

pub mod bench;
pub mod ctl;
pub mod doctor;
pub mod exec;
pub mod gpu;
mod guest;
mod recording;
pub mod report;
pub mod run;
pub mod serve;
mod sharing;
pub mod sim;
pub mod top;
pub mod trace;
pub mod vbios;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

use crate::logging;

/// Full GPU virtualization of an NVIDIA GF100, after GPUvm.
#[derive(Debug, Parser)]
#[command(name = "gpuvm", version, propagate_version = true)]
pub struct Cli {
    /// Log more: `-v` for debug, `-vv` for trace. RUST_LOG refines it per module.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

/// What `gpuvm` can do. A new subcommand is a module above, a variant here and an arm in
/// [`Cli::run`].
#[derive(Debug, Subcommand)]
enum Command {
    /// Run guests.
    Run(run::Args),
    /// Send one action to a running machine and print its answer.
    Ctl(ctl::Args),
    /// Say what this host can do, and what the other commands make of it.
    Doctor(doctor::Args),
    /// Run a program on the software card, with no virtual machine.
    Exec(exec::Args),
    /// Serve the software card to a VMM over a vfio-user socket.
    Gpu(gpu::Args),
    /// Share one card as several virtual GPUs over vfio-user sockets.
    Serve(serve::Args),
    /// Run benchmarks in stock guests, in all combinations that are asked for.
    Bench(bench::Args),
    /// Make a page of the results of benchmarks.
    Report(report::Args),
    /// Simulate schedulers, for planning.
    Sim(sim::Args),
    /// Show live what machines make of their cards.
    Top(top::Args),
    /// Summarise a trace of accesses.
    Trace(trace::Args),
    /// Describe the card's VBIOS, or write its image.
    Vbios(vbios::Args),
}

impl Cli {
    /// Runs the subcommand. An error is printed here, once, with its causes.
    pub fn run(self) -> ExitCode {
        logging::init(self.verbose);
        let result = match self.command {
            Command::Run(args) => run::run(args),
            Command::Ctl(args) => ctl::run(args),
            Command::Doctor(args) => doctor::run(args),
            Command::Exec(args) => exec::run(args),
            Command::Gpu(args) => gpu::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Report(args) => report::run(args),
            Command::Sim(args) => sim::run(args),
            Command::Top(args) => top::run(args),
            Command::Trace(args) => trace::run(args),
            Command::Vbios(args) => vbios::run(args),
        };
        result.unwrap_or_else(|error| {
            eprintln!("gpuvm: {error:#}");
            ExitCode::FAILURE
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
