//! `cargo xtask speed`: the card's speed beside that of PoCL and of llvmpipe, on the same
//! processors.

use std::{
    fmt,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;

use e2e::Testbed;

use crate::{
    build::{self, OnCard},
    testbed,
};

/// Arguments of `cargo xtask speed`.
#[derive(Args)]
pub struct Arguments {
    /// The OpenCL workloads and GLSL kernels to measure; all of them without a name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How much the workloads compute: small, medium or large
    #[arg(long, default_value = "medium")]
    size: String,
    /// How often to run each, of which the fastest run counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: u32,
}

/// Parts of the names of the devices.
const CARD: &str = "rusticl";
const POCL: &str = "portable";
/// Has Mesa use llvmpipe in place of a card.
const LLVMPIPE: (&str, &str) = ("LIBGL_ALWAYS_SOFTWARE", "1");

/// What is needed of a line of `rodinia --json`.
#[derive(Debug, Deserialize)]
struct Run {
    workload: String,
    phases: Phases,
    launches: u64,
    checked: bool,
}

#[derive(Debug, Deserialize)]
struct Phases {
    htod_ns: u64,
    launch_ns: u64,
    dtoh_ns: u64,
}

impl Run {
    /// What is compared: the time in kernels, or where there are none, in transfers.
    fn nanoseconds(&self) -> u64 {
        if self.launches > 0 {
            self.phases.launch_ns
        } else {
            self.phases.htod_ns + self.phases.dtoh_ns
        }
    }
}

/// What is needed of a line of `corpus --timed --json`.
#[derive(Debug, Deserialize)]
struct Timed {
    case: String,
    device: String,
    right: bool,
    nanoseconds: Option<u64>,
}

/// The times of a workload or a kernel in nanoseconds.
#[derive(Debug)]
struct Row {
    name: String,
    card: u64,
    cpu: u64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.card as f64 / self.cpu as f64
    }
}

/// A Markdown table.
struct Table {
    /// What the rows are.
    of: &'static str,
    /// What runs them on the CPU.
    cpu: &'static str,
    rows: Vec<Row>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Table { of, cpu, rows } = self;
        writeln!(f, "| {of} | card, ms | {cpu}, ms | card / {cpu} |")?;
        writeln!(f, "|---|--:|--:|--:|")?;
        let ms = |ns: u64| ns as f64 / 1e6;
        for row in rows {
            let (name, ratio) = (&row.name, row.ratio());
            let (card, cpu) = (ms(row.card), ms(row.cpu));
            writeln!(f, "| {name} | {card:.3} | {cpu:.3} | {ratio:.2} |")?;
        }
        let mean = geometric_mean(rows.iter().map(Row::ratio));
        write!(f, "| geometric mean | | | {mean:.2} |")
    }
}

fn geometric_mean(ratios: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = ratios.len() as f64;
    (ratios.map(f64::ln).sum::<f64>() / count).exp()
}

/// Measures and prints the tables.
///
/// # Errors
///
/// When something does not run or a result is wrong.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let testbed = testbed::open()?;
    let bench = Bench {
        arguments,
        testbed,
        programs: build::on_card()?,
    };
    let (workloads, kernels) = (bench.workloads()?, bench.kernels()?);
    for name in &arguments.names {
        ensure!(
            workloads.contains(name) || kernels.contains(name),
            "There is no workload or kernel {name:?}"
        );
    }
    let chosen = |names: Vec<String>| -> Vec<String> {
        let wanted = |name: &String| arguments.names.is_empty() || arguments.names.contains(name);
        names.into_iter().filter(wanted).collect()
    };
    let (workloads, kernels) = (chosen(workloads), chosen(kernels));
    let bar = ProgressBar::new((workloads.len() + kernels.len()) as u64);
    // One behind the other, so that both meet the same machine.
    let workloads = rows(workloads, &bar, |name| {
        Ok((bench.workload(name, CARD)?, bench.workload(name, POCL)?))
    })?;
    let kernels = rows(kernels, &bar, |name| {
        let card = bench.kernel(name, "NVC0", &[])?;
        Ok((card, bench.kernel(name, "llvmpipe", &[LLVMPIPE])?))
    })?;
    bar.finish_and_clear();
    for (of, cpu, rows) in [
        ("OpenCL workload", "PoCL", workloads),
        ("GLSL kernel", "llvmpipe", kernels),
    ] {
        if !rows.is_empty() {
            println!("{}\n", Table { of, cpu, rows });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures each: on the card and on the CPU.
fn rows(
    names: Vec<String>,
    bar: &ProgressBar,
    measure: impl Fn(&str) -> Result<(u64, u64)>,
) -> Result<Vec<Row>> {
    let row = |name: String| {
        let (card, cpu) = measure(&name)?;
        bar.inc(1);
        Ok(Row { name, card, cpu })
    };
    names.into_iter().map(row).collect()
}

/// How to run workloads and kernels.
struct Bench<'a> {
    arguments: &'a Arguments,
    testbed: Testbed,
    programs: OnCard,
}

impl Bench<'_> {
    /// A program with Debian's libraries, where the card, PoCL and llvmpipe are.
    fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.programs.gpuvm);
        command
            .arg("exec")
            .arg("--root")
            .arg(self.testbed.pocl())
            .arg("--root")
            .arg(self.testbed.debian())
            .arg("--bind")
            .arg(program)
            .arg("--")
            .arg(program)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }

    fn workloads(&self) -> Result<Vec<String>> {
        let mut command = self.program(&self.programs.rodinia);
        let text = text(command.args(["--list", "--json"]))?;
        let names = text.lines().map(|line| Ok(serde_json::from_str(line)?));
        names.collect()
    }

    fn kernels(&self) -> Result<Vec<String>> {
        let mut command = self.program(&self.programs.corpus);
        let text = text(command.args(["--timed", "--list"]))?;
        let names = text.lines().filter_map(|line| line.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The time of a workload's fastest run on a device, in nanoseconds.
    fn workload(&self, workload: &str, device: &str) -> Result<u64> {
        let mut command = self.program(&self.programs.rodinia);
        command
            .args([workload, "--json", "--device", device])
            .args(["--size", &self.arguments.size])
            .args(["--repeat", &self.arguments.repeat.to_string()]);
        let text = text(&mut command).with_context(|| format!("{workload} on {device}"))?;
        let runs = text.lines().map(serde_json::from_str);
        let runs: Vec<Run> = runs.collect::<Result<_, _>>()?;
        let right = |run: &Run| run.checked && run.workload == workload;
        ensure!(runs.iter().all(right), "{workload} on {device} is wrong");
        let fastest = runs.iter().map(Run::nanoseconds).min();
        fastest.with_context(|| format!("{workload} did not run on {device}"))
    }

    /// The time of a kernel's fastest run on a device, in nanoseconds. One more run, of which
    /// drivers make use to compile, comes first.
    fn kernel(&self, kernel: &str, device: &str, environment: &[(&str, &str)]) -> Result<u64> {
        let mut command = self.program(&self.programs.corpus);
        command
            .args([kernel, "--timed", "--json", "--repeat"])
            .arg((self.arguments.repeat + 1).to_string())
            .envs(environment.iter().copied());
        let text = text(&mut command).with_context(|| format!("{kernel} on {device}"))?;
        let timed: Timed = serde_json::from_str(&text)?;
        ensure!(
            timed.right && timed.case == kernel && timed.device.contains(device),
            "{kernel} on {}: {}",
            timed.device,
            text.trim()
        );
        timed
            .nanoseconds
            .with_context(|| format!("{kernel} was not timed"))
    }
}

/// What a command prints; it has to succeed.
fn text(command: &mut Command) -> Result<String> {
    let output = command.output().context("Cannot start gpuvm")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "It failed: {}", text.trim());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_ends_with_the_geometric_mean_of_the_ratios() {
        let row = |name: &str, card, cpu| Row {
            name: name.to_owned(),
            card,
            cpu,
        };
        let table = Table {
            of: "workload",
            cpu: "PoCL",
            rows: vec![
                row("bfs", 4_000_000, 1_000_000),
                row("nw", 250_000, 1_000_000),
            ],
        };
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| bfs | 4.000 | 1.000 | 4.00 |",
                "| nw | 0.250 | 1.000 | 0.25 |",
                "| geometric mean | | | 1.00 |",
            ]
        );
    }

    #[test]
    fn run_without_kernels_counts_its_transfers() {
        let line = r#"{"workload":"cpy","phases":{"htod_ns":2,"launch_ns":0,"dtoh_ns":3},
                       "launches":0,"checked":true}"#;
        let run: Run = serde_json::from_str(line).expect("a run");
        assert_eq!(run.nanoseconds(), 5);
    }
}
