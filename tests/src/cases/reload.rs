//! Unloading and loading nouveau.

use anyhow::Result;

use super::{Context, gputest, quiet};
use crate::{Outcome, Step};

/// How often.
const CYCLES: u32 = 4;
/// The steps behind the cycles.
const LAST: &str = "last";
const WIDE: &str = "large-64k";

/// Loads the driver so that it sets large pages of 64 KiB, not of 128 KiB.
pub const LOAD_64K: &str = "modprobe nouveau config=NvFbBigPage=16";

/// Every time round, the driver copies, goes and comes back.
pub fn run(context: &Context<'_>) -> Result<String> {
    let outcome = context.run_on_card(512, steps(CYCLES), 300)?;
    quiet(&outcome)?;
    verdict(&outcome, CYCLES)
}

/// The steps of so many `cycles`, behind which the driver copies once more, and then with large pages
/// of another size.
///
/// Among what it does is to move a buffer, without which 6.12 cannot leave a GF100 in peace. It
/// has no copy engine there (see `EXCUSED` of `dmesg.rs`), so the methods that bind its copy object
/// are in the pushbuffer of its only channel, and `nouveau_bo_move_init` does not submit them. At
/// unload, `nouveau_accel_ce_fini` first destroys that object, the last one of PGRAPH, which
/// resets the engine, and only then `nouveau_accel_gr_fini` waits for a fence of the channel: the
/// bind goes out with the fence, to an engine in reset, and neither arrives. (K612
/// `nouveau_drm.c nouveau_accel_fini`, `nouveau_bo9039.c nvc0_bo_move_init`.) The first move
/// submits the bind in time.
pub fn steps(cycles: u32) -> Vec<Step> {
    let cases = "copy/kernel-moves copy/within-vram sync/interrupts";
    let script = format!(
        "gputest {cases} && modprobe -r nouveau && [ ! -e /dev/dri/renderD128 ] && \
         modprobe nouveau && [ -e /dev/dri/renderD128 ]"
    );
    let all = names(cycles).into_iter();
    all.map(|name| match &name[..] {
        LAST => Step::new(LAST, format!("gputest {cases}")),
        WIDE => Step::new(
            WIDE,
            format!("modprobe -r nouveau && {LOAD_64K} && gputest params/large-pages {cases}"),
        ),
        cycle => Step::new(cycle, script.clone()),
    })
    .collect()
}

/// What became of [`steps`].
///
/// # Errors
///
/// One of them failed.
pub fn verdict(outcome: &Outcome, cycles: u32) -> Result<String> {
    for name in names(cycles) {
        gputest::verdict(outcome, &name)?;
    }
    Ok(format!("{cycles} cycles"))
}

fn names(cycles: u32) -> Vec<String> {
    let cycles = (1..=cycles).map(|n| format!("cycle-{n}"));
    cycles.chain([LAST, WIDE].map(str::to_owned)).collect()
}
