//! GL compute as Debian packages it, on nouveau, on the card.

use anyhow::Result;

use super::{Context, corpus, quiet};
use crate::{Step, debian};

/// What Mesa calls a GF100.
const DEVICE: &str = "NVC0";

/// Memory of the card in MiB.
const VRAM_MIB: u32 = 512;

/// How long the guest may take, in seconds.
const TIME_OUT: u64 = 400;

/// Runs every GLSL kernel of the corpus, without a display.
pub fn run(context: &Context<'_>) -> Result<String> {
    let steps = vec![Step::new("kernels", "debian corpus --api gl --json")];
    let card = context.card(VRAM_MIB, 0, &[])?;
    let machine = context.debian_machine(&card, 0, steps, TIME_OUT)?;
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;
    context.stop(card)?;
    outcome.step("probe")?;
    outcome.step(debian::STEP)?;
    let count = corpus::all_right(&outcome, "kernels", DEVICE)?;
    quiet(&outcome)?;
    Ok(format!("{count} kernels"))
}
