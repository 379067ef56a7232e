//! The project's own VMM in a machine with KVM, with the card in its process or on the bus.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::gputest::passed;
use super::{Context, quiet_log};
use crate::{Card, CardOptions, Initramfs, Outcome, Step, StepResult, nested};

/// How the guest gets the card.
const MODES: &[&str] = &["passthrough", "fv"];

/// A guest that runs cases of `gputest`.
struct Guest {
    /// What it is called.
    name: &'static str,
    /// The cases, with commas between them.
    cases: &'static str,
    /// They make the card fault, and so the kernel complain.
    faults: bool,
}

/// What runs on the bare card.
const ALL: &[Guest] = &[
    Guest {
        name: "works",
        cases: "params,channel,copy,sync,objects",
        faults: false,
    },
    Guest {
        name: "faults",
        cases: "faults",
        faults: true,
    },
];

/// A channel of each kind, and copies that are checked.
const FEW: &[Guest] = &[Guest {
    name: "few",
    cases: "params,channel/create,copy/ce0-sizes,copy/pitch,copy/wide-accesses,sync/release,sync/interrupts",
    faults: false,
}];

/// Memory of a card on the bus: for two machines and their tables.
const VRAM_MIB: u32 = 408;

/// How many times its usual time a case may take: every exit is one of an emulated hypervisor.
const PATIENCE: u32 = 5;
/// The smallest BAR1 and BAR3 of a virtual GPU.
const SMALL_BARS: [u64; 2] = [16 << 20, 4 << 20];
/// Seconds for a guest with all cases, and for one with few.
const LONG: u64 = 1200;
const SHORT: u64 = 180;

/// What a guest does: its cases are on its kernel's command line.
const GPUTEST: &str = "gputest --patience PATIENCE $(tr ' ' '\\n' </proc/cmdline | sed -n 's/^gputest=//p' | tr , ' ')";

/// Says how large the card's BARs are; fails if its kernel's command line says otherwise.
const BARS: &str = "\
cd /sys/class/drm/renderD128/device || exit 1
sizes=$(stat -c %s resource1 resource3 | tr '\\n' , )
echo $sizes
! grep -q bars= /proc/cmdline || grep -q \"bars=$sizes\" /proc/cmdline";

/// The card that [`nested::machine`] has bound to `vfio-pci`, for `--gpu`.
const ON_THE_BUS: &str = "vfio:$(cd /sys/bus/pci/drivers/vfio-pci && echo *:*:*.*)";

/// How a guest's driver brought the card on the bus up, in the outer machine: the first guest with all of
/// it leaves that.
const RECORD: &str = "/bring-up";

/// Without it a card on the bus is not shared: its falcons are empty. The command says so, and what to do.
const REFUSED: &str = "\
COMMAND >/refused 2>&1; status=$?
cat /refused
[ $status = 1 ] && grep -q 'context switcher does not start: it has no firmware' /refused &&
    grep -q -e '--record-bring-up FILE' /refused";

/// Shares the card, lets a client leave a mess and another one find none of it while its neighbour
/// works, and ends that.
const SERVE: &str = "\
mkdir /cards
gpuvm serve --gpu GPU --bring-up RECORD --vgpus 2 --vram 128M --channels 32 --socket-dir /cards --stats & server=$!
until [ -S /cards/vgpu1 ]; do sleep 1; kill -0 $server || exit 1; done
vgpuclient --mess /cards/vgpu1 || exit 1
vgpuclient /cards/vgpu0 & neighbour=$!
vgpuclient /cards/vgpu1 && wait $neighbour || exit 1
kill -INT $server; wait $server && ! [ -e /cards/vgpu0 ]";

/// What a run of guests has in common.
struct Plan<'a> {
    /// The socket of a card on the bus.
    card: Option<&'a Path>,
    /// Where `gpuvm` finds the card.
    gpu: &'a str,
    /// Further options of `gpuvm run`. A kernel under emulation twice may take seconds to handle an
    /// interrupt: its channel is not to be killed for that.
    options: &'a str,
    /// What a virtual GPU shows in BAR1 and BAR3, where that is not what the card does.
    bars: Option<[u64; 2]>,
    /// The card has no firmware but what a driver loads: the first guest's is recorded for all others.
    records: bool,
    /// The guests.
    guests: &'a [Guest],
    /// Seconds for each.
    seconds: u64,
    /// What the outer machine does behind them.
    further: Vec<Step>,
}

/// Boots guests in each mode, which do with the software card in the VMM's process what is done on
/// the bare card.
pub fn run(context: &Context<'_>) -> Result<String> {
    in_process(context, ALL, LONG, None)
}

/// The same with few cases, and with a virtual GPU that shows less of its memory.
pub fn quick(context: &Context<'_>) -> Result<String> {
    in_process(context, FEW, SHORT, Some(SMALL_BARS))
}

fn in_process(
    context: &Context<'_>,
    guests: &[Guest],
    seconds: u64,
    bars: Option<[u64; 2]>,
) -> Result<String> {
    let plan = Plan {
        card: None,
        gpu: "soft",
        options: "--vram 256M --hang-ms 20000",
        bars,
        records: false,
        guests,
        seconds,
        further: Vec::new(),
    };
    in_each_mode(context, &plan)
}

/// Likewise with a card on the bus, which VFIO hands to the VMM, and then to `gpuvm serve`. It is
/// the software card, in a process of its own; the machine has it behind an IOMMU. Its falcons have no
/// firmware, as those of hardware: it can be shared once it is known how a driver brings it up.
pub fn vfio(context: &Context<'_>) -> Result<String> {
    let options = CardOptions {
        gpuvm: context.gpuvm.clone(),
        vram_mib: VRAM_MIB,
        vgpus: 0,
        arguments: Vec::new(),
    };
    let card = Card::start(context.session, &options, &context.artefacts)?;
    let plan = Plan {
        card: Some(&card.socket(0)),
        gpu: ON_THE_BUS,
        // In small pages the IOMMU would open a window of DMA for each.
        options: "--vram 256M --hugepages --hang-ms 20000",
        bars: None,
        records: true,
        guests: ALL,
        seconds: LONG,
        further: vec![Step::new(
            "serve",
            SERVE.replace("GPU", ON_THE_BUS).replace("RECORD", RECORD),
        )],
    };
    let remark = in_each_mode(context, &plan)?;
    card.stop()?;
    Ok(remark)
}

fn in_each_mode(context: &Context<'_>, plan: &Plan<'_>) -> Result<String> {
    let mut files = Initramfs::new(context.testbed, context.kernel, &["nouveau"])?;
    files.add_programs(context.tools)?;
    let gputest = GPUTEST.replace("PATIENCE", &PATIENCE.to_string());
    files.add_steps(&[
        Step::new("probe", "modprobe nouveau && ls /dev/dri/renderD128"),
        Step::new("bars", BARS),
        Step::new("gputest", gputest),
    ]);
    let (testbed, kernel) = (context.testbed, context.kernel);
    let mut machine = nested::machine(testbed, kernel, &context.gpuvm, &files, plan.card)?;
    machine.files.add_programs(context.tools)?;
    let runs: Vec<(&str, &Guest)> = MODES
        .iter()
        .flat_map(|mode| plan.guests.iter().map(|guest| (*mode, guest)))
        .collect();
    machine.time_out = Duration::from_secs(plan.seconds * runs.len() as u64);
    if plan.records {
        let command = nested::run_guest(plan.gpu, "fv", "", plan.options);
        let refused = REFUSED.replace("COMMAND", &command);
        machine.steps.push(Step::new("no-record", refused));
    }
    machine
        .steps
        .extend(runs.iter().enumerate().map(|(n, (mode, guest))| {
            let mut words = format!("gputest={}", guest.cases);
            let mut options = plan.options.to_owned();
            match *mode {
                "passthrough" if plan.records && n == 0 => {
                    options += &format!(" --record-bring-up {RECORD}");
                }
                "fv" if plan.records => options += &format!(" --bring-up {RECORD}"),
                _ => {}
            }
            if let Some([bar1, bar3]) = plan.bars.filter(|_| *mode == "fv") {
                words += &format!(" bars={bar1},{bar3},");
                options += &format!(" --bar1 {bar1} --bar3 {bar3}");
            }
            let command = nested::run_guest(plan.gpu, mode, &words, &options);
            Step::new(&format!("{mode}-{}", guest.name), command)
        }));
    machine.steps.extend_from_slice(&plan.further);
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;

    let mut remarks = Vec::new();
    let mut wrong = Vec::new();
    for (index, (mode, guest)) in runs.iter().enumerate() {
        match verdict(&outcome, index, mode, guest) {
            Ok(remark) => remarks.push(remark),
            Err(error) => wrong.push(format!("{mode}, {}: {error:#}", guest.name)),
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    let refused = plan.records.then_some("no-record");
    let further = plan.further.iter().map(|step| &step.name[..]);
    for name in refused.into_iter().chain(further) {
        outcome
            .step(name)
            .with_context(|| format!("gpuvm {name}"))?;
    }
    Ok(remarks.join("; "))
}

/// What became of the guest that ran as number `index`.
fn verdict(outcome: &Outcome, index: usize, mode: &str, guest: &Guest) -> Result<String> {
    outcome.step(&format!("{mode}-{}", guest.name))?;
    let inner = |name: &str| -> Result<&StepResult> {
        let steps = outcome.steps.iter().filter(|step| step.name == name);
        let step = steps.into_iter().nth(index);
        step.with_context(|| format!("It did not come to {name}"))
    };
    let (probe, bars, test) = (inner("probe")?, inner("bars")?, inner("gputest")?);
    ensure!(probe.status == 0, "nouveau did not find a card");
    ensure!(
        bars.status == 0,
        "Its BARs have {} bytes",
        bars.output.trim()
    );
    let summary = passed(test)?;
    let log = outcome.inner.get(index).context("It left no log")?;
    match guest.faults {
        false => quiet_log(log)?,
        true => {
            let trouble = log.trouble();
            ensure!(
                trouble.is_none(),
                "The kernel is in trouble: {}",
                trouble.map(ToString::to_string).unwrap_or_default()
            );
        }
    }
    let seconds = probe.seconds;
    Ok(format!("{mode}: probe {seconds:.1} s, {summary}"))
}
