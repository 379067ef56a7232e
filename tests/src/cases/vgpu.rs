//! A guest on a virtual GPU.

use anyhow::{Result, bail};

use super::{Context, gputest, quiet};
use crate::{Card, Outcome, Step};

/// Memory of each virtual GPU.
const VRAM_MIB: u32 = 256;
/// Virtual GPUs of the card; the guest has the second, whose memory and channels are not where it
/// takes them for.
const VGPUS: u16 = 2;
const NUMBER: u16 = 1;

/// What works on the card works on a virtual GPU, and what fails there fails likewise; two guests,
/// one after the other, have the same virtual GPU.
pub fn run(context: &Context<'_>) -> Result<String> {
    let card = context.card(VRAM_MIB, VGPUS, &["--stats"])?;
    let outcome = guest(context, &card, "params channel copy sync objects", 1200)?;
    quiet(&outcome)?;
    let works = gputest::verdict(&outcome, "gputest")?;
    let outcome = guest(context, &card, "faults", 600)?;
    if let Some(line) = outcome.dmesg.trouble() {
        bail!("The kernel is in trouble: {line}");
    }
    let faults = gputest::verdict(&outcome, "gputest")?;
    context.stop(card)?;
    Ok(format!("{works}; of faults {faults}"))
}

fn guest(context: &Context<'_>, card: &Card, groups: &str, seconds: u64) -> Result<Outcome> {
    let steps = vec![Step::new("gputest", format!("gputest {groups}"))];
    let machine = context.machine(card, NUMBER, steps, seconds)?;
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;
    outcome.step("probe")?;
    Ok(outcome)
}
