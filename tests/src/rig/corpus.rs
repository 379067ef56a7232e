//! The corpus, on the card and on what runs the same kernels on the CPU.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Rig;
use crate::corpus::{Place, Report};

/// How long one run over all cases of an interface may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Fewest cases of both interfaces together.
const CASES: usize = 60;

/// How to run it somewhere.
struct Setup {
    place: Place,
    log: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// In the device's name.
    device: &'static str,
}

const SETUPS: [Setup; 4] = [
    Setup {
        place: Place::Opencl,
        log: "opencl",
        arguments: &["--api", "opencl", "--device", "NVC0"],
        environment: &[],
        device: "NVC0",
    },
    Setup {
        place: Place::Gl,
        log: "gl",
        arguments: &["--api", "gl"],
        environment: &[],
        device: "NVC0",
    },
    Setup {
        place: Place::Pocl,
        log: "pocl",
        arguments: &["--api", "opencl", "--device", "Portable Computing Language"],
        environment: &[],
        device: "Portable Computing Language",
    },
    Setup {
        place: Place::Llvmpipe,
        log: "llvmpipe",
        arguments: &["--api", "gl"],
        environment: &[("LIBGL_ALWAYS_SOFTWARE", "1")],
        device: "llvmpipe",
    },
];

/// Runs it.
pub fn run(rig: &Rig<'_>) -> Result<String> {
    let (mut cases, mut right) = (0, 0);
    for setup in &SETUPS {
        let reports = reports(rig, setup).with_context(|| format!("On {}", setup.log))?;
        if matches!(setup.place, Place::Opencl | Place::Gl) {
            cases += reports.len();
            right += reports.iter().filter(|report| report.right).count();
        }
        let wrong: Vec<String> = reports
            .iter()
            .filter(|report| !report.right && report.excuse(setup.place).is_none())
            .map(Report::complaint)
            .collect();
        ensure!(
            wrong.is_empty(),
            "On {}, {} of {} cases are wrong: {}",
            setup.log,
            wrong.len(),
            reports.len(),
            wrong.join("; ")
        );
    }
    ensure!(cases >= CASES, "There are only {cases} cases");
    Ok(format!(
        "{right} of {cases} kernels are right, the rest excused"
    ))
}

fn reports(rig: &Rig<'_>, setup: &Setup) -> Result<Vec<Report>> {
    let pocl = rig.testbed.pocl();
    let mut command = rig.program(&[&pocl], &[]);
    command
        .arg("--json")
        .args(setup.arguments)
        .envs(setup.environment.iter().copied());
    let ended = rig.run(&mut command, setup.log, LIMIT)?;
    let reports = ended
        .output
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<Report>(line).context("Cannot make sense of a line"))
        .collect::<Result<Vec<_>>>()?;
    // 1 says that a case was wrong; the reports say which.
    ensure!(
        matches!(ended.status.code(), Some(0 | 1)) && !reports.is_empty(),
        "The corpus ended with {} after {} cases: {}",
        ended.status,
        reports.len(),
        ended.output.lines().last().unwrap_or_default()
    );
    for report in &reports {
        ensure!(
            report.device.contains(setup.device),
            "{} ran on {}",
            report.case,
            report.device
        );
    }
    Ok(reports)
}
