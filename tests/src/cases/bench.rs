//! `gpuvm bench` where it runs guests by itself: on a host whose processor virtualizes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Context;
use crate::modules::{BUILT_IN, ModuleTree};
use crate::testbed::{KernelFiles, Manifest, Qemu, Testbed};
use crate::{Initramfs, Step, nested};

/// Where the machine with KVM has a testbed: what such a host's `cargo xtask testbed` would make of
/// it, as far as these benchmarks need it.
const TESTBED: &str = "/testbed";
/// Memory of that machine: for a guest, its card, and the files of both.
const MEMORY_MIB: u32 = 3072;
/// How long it may take, in seconds.
const SECONDS: u64 = 900;
/// Modes, each of which is a run.
const MODES: [&str; 2] = ["passthrough", "fv:all"];

/// Ends `gpuvm bench`, whose command line this is, in its second run as hard as can be; no guest may be
/// left but the one that is there all the time.
const KILLED: &str = "stays=$(pidof gpuvm)
$bench >/tmp/killed 2>&1 &
until [ -s /tmp/bench/results.jsonl ]; do
    [ -e /proc/$! ] || { cat /tmp/killed; exit 1; }
    sleep 1
done
sleep 2
kill -9 $!
wait $!
sleep 1
left=$(pidof gpuvm)
echo $left
[ \"$left\" = \"$stays\" ]";

/// Runs benchmarks in guests of `gpuvm run`, is killed in the midst and goes on, and once more, when all
/// are there already.
pub fn run(context: &Context<'_>) -> Result<String> {
    let inner = Initramfs::new(context.testbed, context.kernel, &[])?;
    let (testbed, kernel) = (context.testbed, context.kernel);
    let mut machine = nested::machine(testbed, kernel, &context.gpuvm, &inner, None)?;
    machine.files.add_programs(context.tools)?;
    add_testbed(&mut machine.files, context)?;
    machine.memory_mib = MEMORY_MIB;
    machine.time_out = Duration::from_secs(SECONDS);
    let bench = format!(
        "env GPUVM_TESTBED={TESTBED} gpuvm bench --way kvm --suite boot --modes {} --kernel {kernel} \
         --repeat 1 --out /tmp/bench",
        MODES.join(",")
    );
    machine.steps.extend([
        Step::new("killed", format!("bench='{bench}'\n{KILLED}")),
        Step::new("bench", &*bench),
        Step::new("results", "cat /tmp/bench/results.jsonl"),
        Step::new("again", bench),
        Step::new("report", "cat /tmp/bench/report.csv"),
    ]);
    let outcome = machine.run(context.session, testbed, &context.artefacts)?;
    for step in ["killed", "results"] {
        outcome.step(step)?;
    }
    let went_on = &outcome.step("bench")?.output;
    ensure!(
        went_on.contains("1 of 2 runs are there already"),
        "Not gone on with: {went_on}"
    );
    let again = &outcome.step("again")?.output;
    ensure!(
        again.contains("2 of 2 runs are there already"),
        "Runs were done again: {again}"
    );
    let report = &outcome.step("report")?.output;
    for mode in MODES {
        ensure!(report.contains(mode), "The report lacks {mode}: {report}");
    }
    let results = &outcome.step("results")?.output;
    let probes: Vec<String> = results.lines().filter_map(probe).collect();
    ensure!(probes.len() == MODES.len(), "No two results: {results}");
    Ok(format!("nouveau's probe took {} s", probes.join(" and ")))
}

/// How long the driver's probe took in the guest of a record.
fn probe(record: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(record).ok()?;
    Some(format!("{:.1}", record["guests"][0]["probe_s"].as_f64()?))
}

/// Adds a testbed without QEMU and Debian.
fn add_testbed(files: &mut Initramfs, context: &Context<'_>) -> Result<()> {
    let at = |name: &str| format!("{TESTBED}/{name}");
    let host = context.testbed.kernel(context.kernel)?;
    files.add(&at("busybox"), &context.testbed.busybox())?;
    files.add(
        &at(&format!("modules/{BUILT_IN}")),
        &host.modules.join(BUILT_IN),
    )?;
    let modules = ModuleTree::open(&host.modules)?.closure(&["nouveau"])?;
    for (name, module) in modules.iter() {
        files.add_bytes(&at(&format!("modules/kernel/{name}.ko")), &module.bytes)?;
    }
    let kernel = KernelFiles {
        release: host.release,
        image: nested::KERNEL.into(),
        modules: "modules".into(),
    };
    let manifest = Manifest {
        qemu: Qemu::Host {
            program: "qemu-system-x86_64".into(),
        },
        busybox: "busybox".into(),
        kernels: BTreeMap::from([(context.kernel, kernel)]),
        debian: "debian-13".into(),
        pocl: "debian-13-pocl".into(),
        disk: "debian-13.ext4".into(),
    };
    let manifest = serde_json::to_vec(&manifest).context("Cannot describe a testbed")?;
    files.add_bytes(&at(Testbed::MANIFEST), &manifest)
}
