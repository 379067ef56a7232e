//! OpenCL as Debian packages it, on nouveau, on the card.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{Context, corpus, quiet, quiet_log};
use crate::{Initramfs, Outcome, Step, corpus::Place, debian, nested};

/// What rusticl calls a GF100.
const DEVICE: &str = "NVC0";

/// Memory of the card in MiB.
const VRAM_MIB: u32 = 512;

/// How long the guest may take, in seconds: most of it goes to the compiler, under emulation.
const TIME_OUT: u64 = 600;

/// Workloads for where every access to the card takes long.
const SOME: &str = "nop madd bfs hotspot lud srad2";

/// A line of `rodinia --json`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Run {
        workload: String,
        device: String,
        checked: bool,
        max_error: Option<f64>,
        tolerance: f64,
    },
    Failure {
        workload: String,
        error: String,
    },
}

/// On the bare card.
pub fn on_card(context: &Context<'_>) -> Result<String> {
    run(context, 0)
}

/// On a virtual GPU.
pub fn on_vgpu(context: &Context<'_>) -> Result<String> {
    run(context, 1)
}

/// On a virtual GPU of the project's own VMM, which KVM runs in an emulated machine.
pub fn on_vmm(context: &Context<'_>) -> Result<String> {
    let modules = [debian::MODULES, &["nouveau"]].concat();
    let mut files = Initramfs::new(context.testbed, context.kernel, &modules)?;
    debian::add_to(&mut files, context.debian_tools)?;
    files.add_steps(&[
        Step::new("probe", "modprobe nouveau && ls /dev/dri/renderD128"),
        debian::mount(),
        Step::new("workloads", format!("debian rodinia {SOME} --json")),
    ]);
    let (testbed, kernel) = (context.testbed, context.kernel);
    let mut machine = nested::machine(testbed, kernel, &context.gpuvm, &files, None)?;
    nested::attach_disk(&mut machine, testbed);
    machine.memory_mib += debian::MEMORY_MIB;
    machine.time_out = Duration::from_secs(TIME_OUT);
    let script = format!(
        "gpuvm run --kernel {} --initrd {} --cmdline '{}' --cpus 2 --memory {}M --disk {},ro \
         --gpu soft --mode fv --vram {VRAM_MIB}M",
        nested::KERNEL,
        nested::INITRAMFS,
        nested::PARAMETERS,
        debian::MEMORY_MIB,
        nested::DISK
    );
    machine.steps.push(Step::new("vmm", script));
    let outcome = machine.run(context.session, testbed, &context.artefacts)?;
    for step in ["vmm", "probe", debian::STEP] {
        outcome.step(step)?;
    }
    let count = all_right(&outcome, "workloads")?;
    outcome.inner.iter().try_for_each(quiet_log)?;
    Ok(format!("{count} workloads"))
}

fn run(context: &Context<'_>, vgpus: u16) -> Result<String> {
    let steps = vec![
        Step::new("clinfo", "debian clinfo --list"),
        corpus::step(Place::Opencl),
        Step::new("workloads", "debian rodinia all --size small --json"),
    ];
    let card = context.card(VRAM_MIB, vgpus, &[])?;
    let machine = context.debian_machine(&card, 0, steps, TIME_OUT)?;
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;
    context.stop(card)?;
    outcome.step("probe")?;
    outcome.step(debian::STEP)?;
    let devices = &outcome.step("clinfo")?.output;
    ensure!(
        devices.contains(DEVICE),
        "clinfo lists no {DEVICE}: {devices}"
    );
    let kernels = corpus::verdict(&outcome, Place::Opencl)?;
    let workloads = all_right(&outcome, "workloads")?;
    quiet(&outcome)?;
    Ok(format!("{kernels}, {workloads} workloads"))
}

/// Checks that each run of a step with `rodinia --json` was right and on the card; how many.
fn all_right(outcome: &Outcome, step: &str) -> Result<usize> {
    let result = outcome.steps.iter().find(|result| result.name == step);
    let result = result.with_context(|| format!("There was no step {step}"))?;
    let mut right = 0;
    for line in result.output.lines().filter(|line| line.starts_with('{')) {
        match serde_json::from_str(line).with_context(|| format!("What is {line}?"))? {
            Line::Run {
                checked: true,
                device,
                ..
            } if device.contains(DEVICE) => right += 1,
            Line::Run {
                workload,
                device,
                checked: true,
                ..
            } => bail!("{workload} ran on {device}"),
            Line::Run {
                workload,
                max_error,
                tolerance,
                ..
            } => {
                bail!("{workload} was wrong: error {max_error:?}, {tolerance} allowed")
            }
            Line::Failure { workload, error } => bail!("{workload} failed: {error}"),
        }
    }
    // Its status says that it ran all of them.
    outcome.step(step)?;
    ensure!(right > 0, "Nothing ran");
    Ok(right)
}
