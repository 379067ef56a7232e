//! `cargo xtask speed`: the card's speed beside PoCL's, on the same processors.

use std::{
    fmt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::ProgressBar;
use serde::Deserialize;

use e2e::Testbed;

use crate::{build, testbed, workspace};

/// Arguments of `cargo xtask speed`.
#[derive(Args)]
pub struct Arguments {
    /// The workloads to measure; all of them without a name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How much to compute: small, medium or large
    #[arg(long, default_value = "medium")]
    size: String,
    /// How often to run each, of which the fastest run counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: u32,
}

/// Parts of the names of the devices.
const CARD: &str = "rusticl";
const POCL: &str = "portable";

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

/// A workload's times in nanoseconds.
#[derive(Debug)]
struct Row {
    workload: String,
    card: u64,
    pocl: u64,
}

impl Row {
    fn ratio(&self) -> f64 {
        self.card as f64 / self.pocl as f64
    }
}

/// A Markdown table.
struct Table(Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| workload | card, ms | PoCL, ms | card / PoCL |")?;
        writeln!(f, "|---|--:|--:|--:|")?;
        let ms = |ns: u64| ns as f64 / 1e6;
        for row in &self.0 {
            let (card, pocl, ratio) = (ms(row.card), ms(row.pocl), row.ratio());
            writeln!(
                f,
                "| {} | {card:.3} | {pocl:.3} | {ratio:.2} |",
                row.workload
            )?;
        }
        let mean = geometric_mean(self.0.iter().map(Row::ratio));
        write!(f, "| geometric mean | | | {mean:.2} |")
    }
}

fn geometric_mean(ratios: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = ratios.len() as f64;
    (ratios.map(f64::ln).sum::<f64>() / count).exp()
}

/// Measures and prints the table.
///
/// # Errors
///
/// When something does not run or a result is wrong.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let testbed = testbed::open()?;
    let rodinia = build::on_card()?.rodinia;
    let bench = Bench {
        arguments,
        testbed,
        rodinia,
    };
    let names = if arguments.names.is_empty() {
        bench.names()?
    } else {
        arguments.names.clone()
    };
    let bar = ProgressBar::new(names.len() as u64);
    let mut rows = Vec::new();
    for workload in names {
        // One behind the other, so that both meet the same machine.
        let card = bench.fastest(&workload, CARD)?;
        let pocl = bench.fastest(&workload, POCL)?;
        rows.push(Row {
            workload,
            card,
            pocl,
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{}", Table(rows));
    Ok(ExitCode::SUCCESS)
}

/// How to run workloads.
struct Bench<'a> {
    arguments: &'a Arguments,
    testbed: Testbed,
    rodinia: PathBuf,
}

impl Bench<'_> {
    /// `rodinia` with Debian's libraries, where both the card and PoCL are.
    fn rodinia(&self) -> Command {
        let mut command = Command::new(workspace::target().join("release/gpuvm"));
        command
            .arg("exec")
            .arg("--root")
            .arg(self.testbed.pocl())
            .arg("--root")
            .arg(self.testbed.debian())
            .arg("--bind")
            .arg(&self.rodinia)
            .arg("--")
            .arg(&self.rodinia)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }

    fn names(&self) -> Result<Vec<String>> {
        let output = self.rodinia().args(["--list", "--json"]).output()?;
        ensure!(
            output.status.success(),
            "rodinia does not list its workloads"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text.lines().map(|line| Ok(serde_json::from_str(line)?));
        names.collect()
    }

    /// The time of a workload's fastest run on a device, in nanoseconds.
    fn fastest(&self, workload: &str, device: &str) -> Result<u64> {
        let output = self
            .rodinia()
            .args([workload, "--json", "--device", device])
            .args(["--size", &self.arguments.size])
            .args(["--repeat", &self.arguments.repeat.to_string()])
            .output()
            .context("Cannot start gpuvm")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{workload} on {device}: {}", text.trim());
        }
        let runs = text.lines().map(serde_json::from_str);
        let runs: Vec<Run> = runs.collect::<Result<_, _>>()?;
        let right = |run: &Run| run.checked && run.workload == workload;
        ensure!(runs.iter().all(right), "{workload} on {device} is wrong");
        let fastest = runs.iter().map(Run::nanoseconds).min();
        fastest.with_context(|| format!("{workload} did not run on {device}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_ends_with_the_geometric_mean_of_the_ratios() {
        let row = |workload: &str, card, pocl| Row {
            workload: workload.to_owned(),
            card,
            pocl,
        };
        let table = Table(vec![
            row("bfs", 4_000_000, 1_000_000),
            row("nw", 250_000, 1_000_000),
        ]);
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
