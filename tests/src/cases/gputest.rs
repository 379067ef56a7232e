//! Groups of `gputest` cases.

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, quiet};
use crate::{Outcome, Step, StepResult};

/// Memory of the card for most groups.
const VRAM_MIB: u32 = 512;
/// Memory of a card that is to be short of it.
pub const STRESSED_VRAM_MIB: u32 = 128;

/// Channels, buffers, copies and semaphores.
pub fn copy(context: &Context<'_>) -> Result<String> {
    let (outcome, remark) = run(context, "params channel copy sync", VRAM_MIB, 900)?;
    quiet(&outcome)?;
    Ok(remark)
}

/// Objects of all classes.
pub fn objects(context: &Context<'_>) -> Result<String> {
    let (outcome, remark) = run(context, "objects", VRAM_MIB, 600)?;
    quiet(&outcome)?;
    Ok(remark)
}

/// Faults. The kernel has to report each, so its log is full of complaints, but it must not be in
/// trouble itself.
pub fn faults(context: &Context<'_>) -> Result<String> {
    let (outcome, remark) = run(context, "faults", VRAM_MIB, 900)?;
    if let Some(line) = outcome.dmesg.trouble() {
        bail!("The kernel is in trouble: {line}");
    }
    Ok(remark)
}

/// Load. The card is small, so that buffers are evicted.
pub fn stress(context: &Context<'_>) -> Result<String> {
    let (outcome, remark) = run(context, "stress", STRESSED_VRAM_MIB, 600)?;
    quiet(&outcome)?;
    Ok(remark)
}

/// The same for longer.
pub fn soak(context: &Context<'_>) -> Result<String> {
    let (outcome, remark) = run(context, "--large stress", STRESSED_VRAM_MIB, 1800)?;
    quiet(&outcome)?;
    Ok(remark)
}

fn run(
    context: &Context<'_>,
    groups: &str,
    vram_mib: u32,
    seconds: u64,
) -> Result<(Outcome, String)> {
    let steps = vec![Step::new("gputest", format!("gputest {groups}"))];
    let outcome = context.run_on_card(vram_mib, steps, seconds)?;
    let remark = verdict(&outcome, "gputest")?;
    Ok((outcome, remark))
}

/// The summary of a step that ran `gputest`, which has to have passed something and failed nothing.
pub fn verdict(outcome: &Outcome, name: &str) -> Result<String> {
    let step = outcome.steps.iter().find(|step| step.name == name);
    passed(step.with_context(|| format!("There was no step {name}"))?)
}

/// The summary of `gputest` in `step`, which has to have passed something and failed nothing.
pub fn passed(step: &StepResult) -> Result<String> {
    let lines = || step.output.lines();
    let summary = lines().find_map(|line| line.strip_prefix("gputest: "));
    let failed: Vec<&str> = lines()
        .filter_map(|line| line.strip_prefix("FAIL "))
        .collect();
    if let Some(first) = failed.first() {
        bail!("{} cases failed, first {first}", failed.len());
    }
    step.succeeded()?;
    let summary = summary.context("gputest ended without a summary")?;
    ensure!(
        lines().any(|line| line.starts_with("ok ")),
        "Nothing ran: {summary}"
    );
    Ok(summary.to_owned())
}
