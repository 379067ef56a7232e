//! Small kernels, each aimed at one thing that a GPU can get wrong, in OpenCL C and in GLSL, with
//! results checked against the CPU.
//!
//! With `--json`, each case is a line on standard output:
//!
//! ```json
//! {"case":"cl_add","api":"opencl","device":"rusticl: NVC0","right":true,"digest":"0123…","error":null}
//! ```
//!
//! With `--timed` there is the time of the fastest of several runs, too: `"nanoseconds":123456`.
//!
//! The digest is of the result: devices that are right to the bit have the same. The exit status
//! is 1 unless all were right.

mod case;
mod cases;
mod gl;
mod opencl;

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use serde::Serialize;

use case::{Api, Case};

/// Kernels whose results are checked
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The cases to run; all of them without a name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only those of this interface
    #[arg(long, value_enum)]
    api: Option<Api>,
    /// Run OpenCL on the first device whose `PLATFORM: DEVICE` contains this
    #[arg(long, value_name = "SUBSTRING", default_value = "")]
    device: String,
    /// What inputs are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// List the cases
    #[arg(long)]
    list: bool,
    /// Run those that no GPU can run to their end, in place of the others
    #[arg(long)]
    faults: bool,
    /// Run those that take long enough to be timed, in place of the others
    #[arg(long, conflicts_with = "faults")]
    timed: bool,
    /// How often to run each, of which the fastest run counts
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: u32,
}

impl Arguments {
    /// The cases to choose from.
    fn cases(&self) -> Box<dyn Iterator<Item = &'static Case>> {
        match (self.faults, self.timed) {
            (true, _) => Box::new(cases::FAULTS.iter()),
            (_, true) => Box::new(cases::TIMED.iter()),
            _ => Box::new(cases::all()),
        }
    }
}

/// What became of a case.
#[derive(Serialize)]
struct Report<'a> {
    case: &'a str,
    api: &'a str,
    device: &'a str,
    right: bool,
    digest: String,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nanoseconds: Option<u64>,
}

/// What a case leaves behind.
struct Outcome {
    /// What is in its output.
    words: Vec<u32>,
    /// How long the fastest run took.
    time: Duration,
}

/// Where kernels run.
trait Machine {
    /// What it is.
    fn device(&self) -> &str;
    /// Runs a case so many times.
    fn run(&self, case: &Case, input: &[u32], repeat: u32) -> Result<Outcome>;
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.list {
        for case in arguments.cases() {
            println!("{:24} {}", case.name, case.aims);
        }
        Ok(true)
    } else {
        run(&arguments)
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("corpus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    for name in &arguments.names {
        ensure!(
            arguments.cases().any(|case| case.name == name),
            "There is no case {name:?}: see `corpus --list`"
        );
    }
    let chosen: Vec<&Case> = arguments
        .cases()
        .filter(|case| arguments.api.is_none_or(|api| api == case.api))
        .filter(|case| arguments.names.is_empty() || arguments.names.iter().any(|n| n == case.name))
        .collect();
    if chosen.is_empty() {
        bail!("No case is left to run");
    }
    let (mut right, mut wrong) = (0, 0);
    for api in [Api::Opencl, Api::Gl] {
        let mut cases = chosen.iter().filter(|case| case.api == api).peekable();
        if cases.peek().is_none() {
            continue;
        }
        let machine: Box<dyn Machine> = match api {
            Api::Opencl => Box::new(opencl::Device::open(&arguments.device)?),
            Api::Gl => Box::new(gl::Device::open()?),
        };
        for case in cases {
            let report = judge(machine.as_ref(), case, arguments);
            match report.right {
                true => right += 1,
                false => wrong += 1,
            }
            if arguments.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                let verdict = report.error.as_deref().unwrap_or("right");
                let time = report.nanoseconds.map_or(String::new(), |time| {
                    format!(", {:.3} ms", time as f64 / 1e6)
                });
                println!("{:24} {verdict}{time}", case.name);
            }
        }
    }
    if !arguments.json {
        println!("{right} right, {wrong} wrong");
    }
    Ok(wrong == 0)
}

/// Runs a case and compares what comes out.
fn judge<'a>(machine: &'a dyn Machine, case: &'a Case, arguments: &Arguments) -> Report<'a> {
    let input = case.input.make(arguments.seed);
    let (words, time, error) = match machine.run(case, &input, arguments.repeat.max(1)) {
        Ok(Outcome { words, time }) => {
            let error = mismatch(case, &words, &(case.reference)(&input));
            (words, arguments.timed.then_some(time), error)
        }
        Err(error) => (Vec::new(), None, Some(format!("{error:#}"))),
    };
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    Report {
        case: case.name,
        api: match case.api {
            Api::Opencl => "opencl",
            Api::Gl => "gl",
        },
        device: machine.device(),
        nanoseconds: time.map(|time| time.as_nanos() as u64),
        right: error.is_none(),
        digest: format!("{:016x}", hasher.finish()),
        error,
    }
}

/// Says which word is wrong, if one is.
fn mismatch(case: &Case, found: &[u32], right: &[u32]) -> Option<String> {
    if found.len() != right.len() {
        return Some(format!("{} words instead of {}", found.len(), right.len()));
    }
    let pairs = || found.iter().zip(right);
    let wrong = pairs()
        .filter(|&(&f, &r)| !case.agreement.holds(f, r))
        .count();
    let first = pairs().position(|(&f, &r)| !case.agreement.holds(f, r))?;
    let (f, r) = (found[first], right[first]);
    Some(format!(
        "{wrong} of {} words are wrong; word {first} is {f:#x} ({}) where {r:#x} ({}) is right",
        right.len(),
        f32::from_bits(f),
        f32::from_bits(r)
    ))
}
