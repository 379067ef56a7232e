//! The corpus, on the card and on what runs the same kernels on the CPU.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::Rig;

/// How long one run over all cases of an interface may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Fewest cases of both interfaces together.
const CASES: usize = 60;

/// Cases that may be wrong: where, which, and why.
const EXCUSED: [(&str, &str, &str); 6] = [
    (
        "llvmpipe",
        "gl_double_arithmetic",
        "its fma of doubles rounds twice",
    ),
    (
        "opencl",
        "cl_long_multiply_high",
        "Mesa's split64MulMad makes the low half of the product",
    ),
    (
        "opencl",
        "cl_long_shift_wrapped",
        "NIR drops the mask of the count, Mesa's handleShift does not wrap it",
    ),
    (
        "opencl",
        "cl_long_popcount",
        "Mesa's Converter::visit counts the low word",
    ),
    (
        "opencl",
        "cl_long_round_trip",
        "NIR's nir_opt_algebraic takes the conversions away",
    ),
    (
        "opencl",
        "cl_image_read_texels",
        "Mesa's nv50_sampler_state_create ignores unnormalized_coords before GK104",
    ),
];

/// A line of `corpus --json`.
#[derive(Deserialize)]
struct Report {
    case: String,
    device: String,
    right: bool,
    error: Option<String>,
}

/// Where the corpus runs.
struct Place {
    log: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// In the device's name.
    device: &'static str,
}

const PLACES: [Place; 4] = [
    Place {
        log: "opencl",
        arguments: &["--api", "opencl", "--device", "NVC0"],
        environment: &[],
        device: "NVC0",
    },
    Place {
        log: "gl",
        arguments: &["--api", "gl"],
        environment: &[],
        device: "NVC0",
    },
    Place {
        log: "pocl",
        arguments: &["--api", "opencl", "--device", "Portable Computing Language"],
        environment: &[],
        device: "Portable Computing Language",
    },
    Place {
        log: "llvmpipe",
        arguments: &["--api", "gl"],
        environment: &[("LIBGL_ALWAYS_SOFTWARE", "1")],
        device: "llvmpipe",
    },
];

/// Runs it.
pub fn run(rig: &Rig<'_>) -> Result<String> {
    let (mut cases, mut right) = (0, 0);
    for place in &PLACES {
        let reports = reports(rig, place).with_context(|| format!("On {}", place.log))?;
        if place.device == "NVC0" {
            cases += reports.len();
            right += reports.iter().filter(|report| report.right).count();
        }
        let excused = |report: &Report| {
            EXCUSED
                .iter()
                .any(|(log, case, _)| *log == place.log && *case == report.case)
        };
        let wrong: Vec<String> = reports
            .iter()
            .filter(|report| !report.right && !excused(report))
            .map(|report| {
                let error = report.error.as_deref().unwrap_or("wrong");
                format!("{}: {error}", report.case)
            })
            .collect();
        ensure!(
            wrong.is_empty(),
            "On {}, {} of {} cases are wrong: {}",
            place.log,
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

fn reports(rig: &Rig<'_>, place: &Place) -> Result<Vec<Report>> {
    let pocl = rig.testbed.pocl();
    let mut command = rig.exec(&[&pocl]);
    command
        .arg("--bind")
        .arg(&rig.corpus)
        .arg("--")
        .arg(&rig.corpus)
        .arg("--json")
        .args(place.arguments)
        .envs(place.environment.iter().copied());
    let ended = rig.run(&mut command, place.log, LIMIT)?;
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
            report.device.contains(place.device),
            "{} ran on {}",
            report.case,
            report.device
        );
    }
    Ok(reports)
}
