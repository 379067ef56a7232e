//! A hostile guest beside an honest one.

use std::thread;

use anyhow::{Context as _, Result, ensure};

use super::two_vms::{WORK, Worker, card, directory};
use super::{Context, gputest};
use crate::{Step, session::POLL};

/// Time limits in seconds.
const SECONDS: u64 = 900;

/// While one guest works, the other one attacks its virtual GPU in every way that the program
/// `hostile` knows, without a driver; its own driver still has a card afterwards. (What is in the
/// honest guest's memory is compared in `vmm/tests/isolation`, where it can be read.)
pub fn run(context: &Context<'_>) -> Result<String> {
    let card = card(context)?;
    let worker = context.machine(&card, 0, vec![Step::new("work", WORK)], SECONDS)?;
    let mut worker = Worker::start(context, &worker)?;
    worker.goes_on(context)?;

    let steps = vec![
        Step::new("hostile", "hostile"),
        Step::new(
            "gputest",
            "modprobe nouveau && gputest copy/within-vram sync/ping-pong",
        ),
    ];
    let mut machine = context.machine(&card, 1, steps, SECONDS)?;
    machine.steps.retain(|step| step.name != "probe");
    // A kernel may keep user space from a device's memory.
    machine.parameters.push("iomem=relaxed".to_owned());
    let artefacts = directory(context, "hostile")?;
    let mut running = machine.start(context.testbed, &artefacts)?;
    let outcome = loop {
        worker.poll(context)?;
        if let Some(outcome) = running.poll(context.session)? {
            break outcome;
        }
        thread::sleep(POLL);
    };
    let step = outcome.steps.iter().find(|step| step.name == "hostile");
    let step = step.context("The hostile guest did not attack")?;
    let lines = || step.output.lines();
    let bad = lines().find(|line| line.starts_with("FAIL "));
    ensure!(bad.is_none(), "{}", bad.unwrap_or_default());
    step.succeeded()?;
    let attacks = lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(attacks > 0, "Nothing was attacked");
    gputest::verdict(&outcome, "gputest").context("After the attacks, in the same guest")?;
    worker.goes_on(context)?;
    let passes = worker.finish(context)?;
    context.stop(card)?;
    Ok(format!("{attacks} attacks, {passes} passes beside them"))
}
