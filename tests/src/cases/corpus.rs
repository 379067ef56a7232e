//! The kernels of `guest/corpus/` in a guest, each aimed at one thing that a GPU can get wrong.

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, quiet};
use crate::{
    Outcome, Step,
    corpus::{Place, Report},
    debian,
};

/// What Mesa calls a GF100.
const DEVICE: &str = "NVC0";

/// Memory of the card in MiB.
const VRAM_MIB: u32 = 512;

/// How long a guest may take over the GLSL kernels, in seconds.
const TIME_OUT: u64 = 400;

/// Runs the GLSL kernels on the bare card, without a display.
pub fn gl_on_card(context: &Context<'_>) -> Result<String> {
    gl(context, 0)
}

/// Runs them on a virtual GPU.
pub fn gl_on_vgpu(context: &Context<'_>) -> Result<String> {
    gl(context, 1)
}

fn gl(context: &Context<'_>, vgpus: u16) -> Result<String> {
    let steps = vec![step(Place::Gl)];
    let card = context.card(VRAM_MIB, vgpus, &[])?;
    let machine = context.debian_machine(&card, 0, steps, TIME_OUT)?;
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;
    context.stop(card)?;
    outcome.step("probe")?;
    outcome.step(debian::STEP)?;
    let remark = verdict(&outcome, Place::Gl)?;
    quiet(&outcome)?;
    Ok(remark)
}

/// The step that runs the kernels of one of the card's interfaces.
pub fn step(place: Place) -> Step {
    let api = match place {
        Place::Gl => "gl",
        _ => "opencl",
    };
    Step::new("kernels", format!("debian corpus --api {api} --json"))
}

/// Checks that each kernel of that step ran on the card and was right or excused; how many were
/// right.
pub fn verdict(outcome: &Outcome, place: Place) -> Result<String> {
    let result = outcome.steps.iter().find(|result| result.name == "kernels");
    let result = result.context("No kernels were run")?;
    let reports: Vec<Report> = result
        .output
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).with_context(|| format!("What is {line}?")))
        .collect::<Result<_>>()?;
    for report in &reports {
        if !report.right && report.excuse(place).is_none() {
            bail!("{}", report.complaint());
        }
        ensure!(
            report.device.contains(DEVICE),
            "{} ran on {}",
            report.case,
            report.device
        );
    }
    let right = reports.iter().filter(|report| report.right).count();
    // Its status says that it ran all of them: 1 if any was wrong.
    ensure!(
        result.status == i32::from(right < reports.len()) && right > 0,
        "The kernels ended with {} after {} of them: {}",
        result.status,
        reports.len(),
        result.output.lines().last().unwrap_or_default()
    );
    Ok(format!("{right} of {} kernels", reports.len()))
}
