//! Rodinia-style OpenCL workloads and the microbenchmarks of the GPUvm paper.
//!
//! Each workload has the algorithm, the access patterns and the structure of kernels and host
//! loops of its namesake; inputs come from a seed, and every result is compared with one computed
//! on the CPU.
//!
//! With `--json`, each run is a line on standard output:
//!
//! ```json
//! {"workload":"bfs","size":"small","seed":1,"repetition":0,"device":"rusticl: NVC0",
//!  "phases":{"init_ns":0,"build_ns":0,"htod_ns":0,"launch_ns":0,"dtoh_ns":0,"close_ns":0},
//!  "htod_bytes":0,"dtoh_bytes":0,"launches":0,"checked":true,"max_error":0.0,"tolerance":0.0}
//! ```
//!
//! `init` is finding the device, making a context, a queue and buffers; `build` the compiler;
//! `launch` the kernels, from the first one queued to the last one's end. Kernels of a host loop
//! and its transfers are told apart: a transfer waits for the kernels before it, and that wait is
//! `launch`. `checked` says whether the result is right (`max_error` is at most `tolerance`; `null`
//! where it is no number). A workload that cannot run has a line
//! `{"workload":"bfs","size":"small","error":"…"}`. The exit status is 1 unless all were right.
//! `--list --json` prints the workloads' names, a JSON string a line.
//!
//! The first run of a process also brings up the driver, in `init`; `rodinia all` therefore does
//! not show what that costs each program.

mod agreement;
mod gpu;
mod workload;
mod workloads;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::{Parser, value_parser};

use workload::{Entry, Request, Run, Size};

/// OpenCL workloads whose results are checked
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The workloads to run, or `all`
    #[arg(value_name = "NAME", required_unless_present = "list")]
    names: Vec<String>,
    /// How much to compute
    #[arg(long, value_enum, default_value_t = Size::Small)]
    size: Size,
    /// What inputs are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How often to run each, with a context of its own each time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    repeat: u32,
    /// Run on the first device whose `PLATFORM: DEVICE` contains this
    #[arg(long, value_name = "SUBSTRING", default_value = "")]
    device: String,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// List the workloads and the devices; with --json only the workloads' names
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.list {
        list(arguments.json).map(|()| true)
    } else {
        run(&arguments)
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rodinia: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list(json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for entry in workloads::ALL {
            writeln!(out, "{}", serde_json::to_string(entry.name)?)?;
        }
        return Ok(());
    }
    for entry in workloads::ALL {
        writeln!(out, "{:14} {}", entry.name, entry.about)?;
    }
    for device in gpu::devices()? {
        writeln!(out, "device         {}", device.name)?;
    }
    Ok(())
}

/// Runs what was asked for; whether all results were right.
fn run(arguments: &Arguments) -> Result<bool> {
    let request = Request {
        size: arguments.size,
        seed: arguments.seed,
        repeat: arguments.repeat,
        device: arguments.device.clone(),
    };
    let mut out = io::stdout().lock();
    let mut right = true;
    if !arguments.json {
        writeln!(out, "{HEADING}")?;
    }
    for entry in chosen(&arguments.names)? {
        let result = (entry.run)(&request, &mut |run| {
            right &= run.checked;
            if arguments.json {
                writeln!(out, "{}", serde_json::to_string(&run)?)?;
            } else {
                writeln!(out, "{}", row(&run))?;
            }
            Ok(out.flush()?)
        });
        if let Err(error) = result {
            right = false;
            let (name, error) = (entry.name, format!("{error:#}"));
            if arguments.json {
                let line = serde_json::json!({
                    "workload": name, "size": request.size, "error": error,
                });
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{name:14} {error}")?;
            }
            out.flush()?;
        }
    }
    Ok(right)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Entry>> {
    let mut chosen = Vec::new();
    for name in names {
        if name == "all" {
            chosen.extend(workloads::ALL);
            continue;
        }
        let Some(entry) = workloads::ALL.iter().find(|entry| entry.name == name) else {
            bail!("There is no workload {name:?}: see --list");
        };
        chosen.push(entry);
    }
    Ok(chosen)
}

/// The table's columns; times in milliseconds.
const HEADING: &str = "workload             init      build       htod     launch       dtoh      close launches  result";

fn row(run: &Run) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    let phases = run.phases;
    format!(
        "{:14} {:10.3} {:10.3} {:10.3} {:10.3} {:10.3} {:10.3} {:8}  {} (error {:.1e} of {:.1e})",
        run.workload,
        ms(phases.init_ns),
        ms(phases.build_ns),
        ms(phases.htod_ns),
        ms(phases.launch_ns),
        ms(phases.dtoh_ns),
        ms(phases.close_ns),
        run.counts.launches,
        if run.checked { "right" } else { "WRONG" },
        run.agreement.max_error,
        run.agreement.tolerance,
    )
}
