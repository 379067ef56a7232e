//! Unloading and loading nouveau.

use anyhow::Result;

use super::{Context, gputest, quiet};
use crate::Step;

/// How often.
const CYCLES: u32 = 5;

/// Every time round, the driver goes, comes back, and copies.
pub fn run(context: &Context<'_>) -> Result<String> {
    let steps = (1..=CYCLES)
        .map(|n| {
            let script = "modprobe -r nouveau && [ ! -e /dev/dri/renderD128 ] && \
                          modprobe nouveau && gputest copy/within-vram sync/interrupts";
            Step::new(&format!("cycle-{n}"), script)
        })
        .collect();
    let outcome = context.run_on_card(512, steps, 300)?;
    for n in 1..=CYCLES {
        gputest::verdict(&outcome, &format!("cycle-{n}"))?;
    }
    quiet(&outcome)?;
    Ok(format!("{CYCLES} cycles"))
}
