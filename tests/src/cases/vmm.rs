//! The project's own VMM in a machine with KVM, with the card in its process.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::gputest::passed;
use super::{Context, quiet_log};
use crate::{Card, CardOptions, Initramfs, Step, StepResult, nested};

/// How the guest gets the card.
const MODES: &[&str] = &["passthrough", "fv"];

/// Cases for every run: a channel of each kind, and copies that are checked.
const SMALL: &str = "params channel/create copy/ce0-sizes copy/pitch sync/release sync/interrupts";

/// The card that [`nested::machine`] has bound to `vfio-pci`, for `--gpu`.
const ON_THE_BUS: &str = "vfio:$(cd /sys/bus/pci/drivers/vfio-pci && echo *:*:*.*)";

/// Shares the card until its virtual GPU listens, and ends that.
const SERVE: &str = "\
mkdir /cards
gpuvm serve --gpu GPU --vgpus 1 --vram 64M --socket-dir /cards --stats & server=$!
until [ -S /cards/vgpu0 ]; do sleep 1; kill -0 $server || exit 1; done
kill -INT $server; wait $server && ! [ -e /cards/vgpu0 ]";

/// Boots a guest in each mode and lets it use the software card in the VMM's process.
pub fn run(context: &Context<'_>) -> Result<String> {
    in_each_mode(context, None, "soft", "--vram 256M", &[])
}

/// Likewise with a card on the bus, which VFIO hands to the VMM, and then to `gpuvm serve`. It is
/// the software card, in a process of its own; the machine has it behind an IOMMU.
pub fn vfio(context: &Context<'_>) -> Result<String> {
    let options = CardOptions {
        gpuvm: context.gpuvm.clone(),
        // No more than a partition and its tables need: a card on the bus is slow to clear.
        vram_mib: 78,
        vgpus: 0,
        arguments: Vec::new(),
    };
    let card = Card::start(context.session, &options, &context.artefacts)?;
    // In small pages the IOMMU would open a window of DMA for each.
    let options = "--vram 64M --hugepages";
    let serve = Step::new("serve", SERVE.replace("GPU", ON_THE_BUS));
    let socket = card.socket(0);
    let remark = in_each_mode(context, Some(&socket), ON_THE_BUS, options, &[serve])?;
    card.stop()?;
    Ok(remark)
}

fn in_each_mode(
    context: &Context<'_>,
    card: Option<&Path>,
    gpu: &str,
    options: &str,
    further: &[Step],
) -> Result<String> {
    let mut files = Initramfs::new(context.testbed, context.kernel, &["nouveau"])?;
    files.add_programs(context.tools)?;
    files.add_steps(&[
        Step::new("probe", "modprobe nouveau && ls /dev/dri/renderD128"),
        Step::new("gputest", format!("gputest {SMALL}")),
    ]);
    let (testbed, kernel) = (context.testbed, context.kernel);
    let mut machine = nested::machine(testbed, kernel, &context.gpuvm, &files, card)?;
    machine.time_out = Duration::from_secs(400);
    machine.steps.extend(
        MODES
            .iter()
            .map(|mode| Step::new(mode, nested::run_guest(gpu, mode, options))),
    );
    machine.steps.extend_from_slice(further);
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;

    for mode in MODES {
        outcome
            .step(mode)
            .with_context(|| format!("gpuvm run --mode {mode}"))?;
    }
    for Step { name, .. } in further {
        outcome
            .step(name)
            .with_context(|| format!("gpuvm {name}"))?;
    }
    let inner = |name: &str| -> Vec<&StepResult> {
        let steps = outcome.steps.iter();
        steps.filter(|step| step.name == name).collect()
    };
    let (probes, tests) = (inner("probe"), inner("gputest"));
    ensure!(
        [probes.len(), tests.len(), outcome.inner.len()] == [MODES.len(); 3],
        "Of {} guests {} came to their tests",
        MODES.len(),
        tests.len()
    );
    let mut remarks = Vec::new();
    for (index, mode) in MODES.iter().enumerate() {
        let in_mode = || format!("In mode {mode}");
        ensure!(
            probes[index].status == 0,
            "nouveau did not find a card in mode {mode}"
        );
        let summary = passed(tests[index]).with_context(in_mode)?;
        quiet_log(&outcome.inner[index]).with_context(in_mode)?;
        let seconds = probes[index].seconds;
        remarks.push(format!("{mode}: probe {seconds:.1} s, {summary}"));
    }
    Ok(remarks.join("; "))
}
