//! nouveau's probe.

use anyhow::{Context as _, Result};

use super::{Context, quiet};

/// nouveau's first words about a card, and its last ones of a probe.
const FIRST: &str = "NVIDIA GF100";
const LAST: &str = "Initialized nouveau";

/// Probes once and listens.
pub fn run(context: &Context<'_>) -> Result<String> {
    let outcome = context.run_on_card(1536, Vec::new(), 90)?;
    let (at, first) = outcome
        .dmesg
        .find(0, FIRST)
        .context("nouveau did not name the card")?;
    let (_, last) = outcome
        .dmesg
        .find(at, LAST)
        .context("nouveau did not finish its probe")?;
    quiet(&outcome)?;
    Ok(format!("nouveau probed in {:.2} s", last.time - first.time))
}
