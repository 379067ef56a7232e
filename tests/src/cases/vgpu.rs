//! A guest on a virtual GPU.

use anyhow::{Result, bail};

use super::{Context, gputest, quiet, reload};
use crate::{Card, Outcome, Step};

/// Memory of each virtual GPU.
const VRAM_MIB: u32 = 256;
/// Virtual GPUs of the card; the guest has the second, whose memory and channels are not where it
/// takes them for.
const VGPUS: u16 = 2;
const NUMBER: u16 = 1;

/// How often the driver goes and comes back.
const CYCLES: u32 = 2;
/// Of the 64 channels of a virtual GPU, those that are for clients: the kernel keeps two, as on the
/// card.
const CHANNELS: u32 = 60;

/// What works on the card works on a virtual GPU, and what fails there fails likewise; several
/// guests, one after the other, have the same virtual GPU.
pub fn run(context: &Context<'_>) -> Result<String> {
    let card = context.card(VRAM_MIB, VGPUS, &["--stats"])?;
    let outcome = guest(
        context,
        &card,
        gputest_step("params channel copy sync objects"),
        1200,
    )?;
    quiet(&outcome)?;
    let works = gputest::verdict(&outcome, "gputest")?;
    let outcome = guest(context, &card, gputest_step("faults"), 600)?;
    if let Some(line) = outcome.dmesg.trouble() {
        bail!("The kernel is in trouble: {line}");
    }
    let faults = gputest::verdict(&outcome, "gputest")?;
    let outcome = guest(context, &card, reload::steps(CYCLES), 300)?;
    quiet(&outcome)?;
    let reloads = reload::verdict(&outcome, CYCLES)?;
    context.stop(card)?;
    Ok(format!(
        "{works}; of faults {faults}; of unloading and loading {reloads}"
    ))
}

/// Load on a virtual GPU, which is small, so that buffers are evicted.
pub fn stress(context: &Context<'_>) -> Result<String> {
    let card = context.card(gputest::STRESSED_VRAM_MIB, VGPUS, &["--stats"])?;
    let steps = gputest_step(&format!("--channels {CHANNELS} stress"));
    let outcome = guest(context, &card, steps, 900)?;
    quiet(&outcome)?;
    context.stop(card)?;
    gputest::verdict(&outcome, "gputest")
}

fn gputest_step(arguments: &str) -> Vec<Step> {
    vec![Step::new("gputest", format!("gputest {arguments}"))]
}

fn guest(context: &Context<'_>, card: &Card, steps: Vec<Step>, seconds: u64) -> Result<Outcome> {
    let machine = context.machine(card, NUMBER, steps, seconds)?;
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;
    outcome.step("probe")?;
    Ok(outcome)
}
