//! Unloading and loading nouveau.

use anyhow::Result;

use super::{Context, gputest, quiet};
use crate::Step;

/// How often.
const CYCLES: u32 = 4;

/// Every time round, the driver copies, goes and comes back.
///
/// Among what it does is to move a buffer, without which 6.12 cannot leave a GF100 in peace. It
/// has no copy engine there (see `EXCUSED` of `dmesg.rs`), so the methods that bind its copy object
/// are in the pushbuffer of its only channel, and `nouveau_bo_move_init` does not submit them. At
/// unload, `nouveau_accel_ce_fini` first destroys that object, the last one of PGRAPH, which
/// resets the engine, and only then `nouveau_accel_gr_fini` waits for a fence of the channel: the
/// bind goes out with the fence, to an engine in reset, and neither arrives. (K612
/// `nouveau_drm.c nouveau_accel_fini`, `nouveau_bo9039.c nvc0_bo_move_init`.) The first move
/// submits the bind in time.
pub fn run(context: &Context<'_>) -> Result<String> {
    let cases = "copy/kernel-moves copy/within-vram sync/interrupts";
    let script = format!(
        "gputest {cases} && modprobe -r nouveau && [ ! -e /dev/dri/renderD128 ] && \
         modprobe nouveau && [ -e /dev/dri/renderD128 ]"
    );
    let mut steps: Vec<Step> = (1..=CYCLES)
        .map(|n| Step::new(&format!("cycle-{n}"), script.clone()))
        .collect();
    steps.push(Step::new("last", format!("gputest {cases}")));
    let names: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
    let outcome = context.run_on_card(512, steps, 300)?;
    for name in &names {
        gputest::verdict(&outcome, name)?;
    }
    quiet(&outcome)?;
    Ok(format!("{CYCLES} cycles"))
}
