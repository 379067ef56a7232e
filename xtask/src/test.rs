//! `cargo xtask test`: everything that must pass.

use std::{
    fmt,
    io::{BufRead, BufReader},
    ops::AddAssign,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use e2e::{Kernel, Session, cases::CASES, rig};

use crate::{
    build,
    e2e_tests::{RigRunner, Runner},
    workspace,
};

/// Cases that only `cargo xtask e2e NAME` runs: `ablation` and `soak` take many minutes under
/// emulation, as do `vmm` and `vfio`, of which `vmm-quick` is a part, and `bench-kvm`; `two-vms`,
/// `sched`, `hostile` and `multi` run two machines at once, `opencl-vgpu`, `opencl-vmm`,
/// `glcompute-vgpu` and `vgpu-stress` repeat what was run on the card where `vgpu` and `vmm-quick`
/// have been, `compute-faults` waits for time-outs, and `piglit` runs 5000 programs.
const BY_NAME_ONLY: &[&str] = &[
    "ablation",
    "bench-kvm",
    "compute-faults",
    "glcompute-vgpu",
    "hostile",
    "multi",
    "opencl-vgpu",
    "opencl-vmm",
    "piglit",
    "sched",
    "soak",
    "top",
    "two-vms",
    "vfio",
    "vgpu-stress",
    "vmm",
];

/// How many checks passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// One check.
    fn one(passed: bool) -> Self {
        Self {
            passed: passed.into(),
            failed: (!passed).into(),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Runs every check, also behind one that failed.
///
/// # Errors
///
/// When a check cannot be run at all.
pub fn run() -> Result<ExitCode> {
    let session = Session::quiet()?;
    let mut tally = Tally::default();
    tally += check("format", cargo().args(["fmt", "--all", "--check"]))?;
    let lints = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    tally += check("lints", cargo().args(lints))?;
    tally += one_vm_memory()?;
    session.check()?;
    tally += unit_tests()?;
    session.check()?;
    tally += end_to_end(&session)?;
    println!("{tally}");
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn cargo() -> Command {
    let mut command = Command::new(build::cargo());
    command.current_dir(workspace::root()).stdin(Stdio::null());
    command
}

/// A command whose exit status is the verdict.
fn check(name: &str, command: &mut Command) -> Result<Tally> {
    let status = command
        .status()
        .with_context(|| format!("Cannot check {name}"))?;
    Ok(verdict(name, status.success()))
}

fn verdict(name: &str, passed: bool) -> Tally {
    println!("{} {name}", if passed { "PASS" } else { "FAIL" });
    Tally::one(passed)
}

/// Crates of rust-vmm exchange types of vm-memory, so two versions of it do not fit together.
fn one_vm_memory() -> Result<Tally> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    let text = e2e::run_tool(cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Metadata =
        serde_json::from_str(&text).context("Cannot make sense of cargo's metadata")?;
    let versions = metadata
        .packages
        .iter()
        .filter(|p| p.name == "vm-memory")
        .count();
    Ok(verdict("one version of vm-memory", versions == 1))
}

/// Unit, property and documentation tests, and the short runs of the fuzz targets.
fn unit_tests() -> Result<Tally> {
    let mut child = cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .context("Cannot start cargo")?;
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(sums) = closing_line(&line) {
            tally += sums;
        }
        let quiet = line.is_empty() || line.ends_with(" ... ok") || line.starts_with("running ");
        if !quiet {
            println!("{line}");
        }
    }
    // Without a failed test, a failure is one of the build.
    if !child.wait()?.success() && tally.failed == 0 {
        tally += verdict("unit tests build", false);
    }
    Ok(tally)
}

/// The sums in a test runner's last line:
/// `test result: ok. 3 passed; 0 failed; 0 ignored; …`.
fn closing_line(line: &str) -> Option<Tally> {
    let (_, sums) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        sums.split("; ")
            .find_map(|part| part.strip_suffix(what)?.trim().parse::<u64>().ok())
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
    })
}

fn end_to_end(session: &Session) -> Result<Tally> {
    let runner = Runner::new(session)?;
    let mut tally = Tally::default();
    for case in CASES
        .iter()
        .filter(|case| !BY_NAME_ONLY.contains(&case.name))
    {
        for kernel in Kernel::ALL {
            tally += Tally::one(runner.run(case, kernel)?);
        }
    }
    let runner = RigRunner::new(session)?;
    for case in rig::CASES
        .iter()
        .filter(|case| !BY_NAME_ONLY.contains(&case.name))
    {
        tally += Tally::one(runner.run(case)?);
    }
    println!("end to end: {tally}");
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_line_of_a_failed_run_gives_both_sums() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered \
                    out; finished in 0.02s";
        assert_eq!(
            closing_line(line),
            Some(Tally {
                passed: 12,
                failed: 3
            })
        );
    }

    #[test]
    fn line_of_a_single_test_has_no_sums() {
        assert_eq!(closing_line("test tests::adds_up ... ok"), None);
    }
}
