//! The kernels of `guest/corpus/` in a guest, each aimed at one thing that a GPU can get wrong.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::Outcome;

/// A line of `corpus --json`.
#[derive(Deserialize)]
struct Report {
    case: String,
    device: String,
    right: bool,
    error: Option<String>,
}

/// Checks that each kernel of a step with `corpus --json` was right and ran on `device`; how many.
pub fn all_right(outcome: &Outcome, step: &str, device: &str) -> Result<usize> {
    let result = outcome.steps.iter().find(|result| result.name == step);
    let result = result.with_context(|| format!("There was no step {step}"))?;
    let mut right = 0;
    for line in result.output.lines().filter(|line| line.starts_with('{')) {
        let report: Report =
            serde_json::from_str(line).with_context(|| format!("What is {line}?"))?;
        if !report.right {
            let error = report.error.unwrap_or_default();
            bail!("{} was wrong: {error}", report.case);
        }
        ensure!(
            report.device.contains(device),
            "{} ran on {}",
            report.case,
            report.device
        );
        right += 1;
    }
    // Its status says that it ran all of them.
    outcome.step(step)?;
    ensure!(right > 0, "Nothing ran");
    Ok(right)
}
