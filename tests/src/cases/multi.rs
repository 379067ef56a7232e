//! Several guests in one `gpuvm run`, and an operator who steers them.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::gputest::passed;
use super::{Context, quiet_log};
use crate::{Initramfs, Step, StepResult, nested, vmlinux};

/// A guest's RAM in MiB, and its video memory.
const MEMORY_MIB: u32 = 512;
const VRAM_MIB: u32 = 128;

/// What the guests of the operator do: they copy and check until somebody ends them.
const WORK: &str = "
pass=0
while gputest --patience 20 copy/ce0-sizes sync/release >/tmp/pass; do
    pass=$((pass + 1))
    echo pass $pass
done
cat /tmp/pass
";

/// Cases for guests that come to their end.
const CASES: &str = "--patience 20 params channel/create copy/ce0-sizes sync/release";

/// What the operator's steps have in common. Nothing of it depends on how fast the guests are, which
/// under emulation beside others may take minutes for a pass.
const OPERATOR: &str = r#"
die() { tail -n 3 /tmp/consoles/*.log; echo "FAIL $*"; exit 1; }
ctl() { gpuvm ctl /tmp/control "$@"; }
passes() { grep -c '^pass ' /tmp/consoles/$1.log; }
# until WHAT COMMAND...: waits until the command succeeds.
until_true() {
    what=$1; shift; n=0
    until "$@"; do
        [ -e /proc/$(cat /tmp/gpuvm.pid) ] || die "gpuvm ended before $what"
        n=$((n + 1)); [ $n -lt 4000 ] || die "in vain: $what"
        sleep 0.2
    done
}
# goes_on VM: two more passes, of which the first may have begun before.
more() { [ $(passes $1) -ge $2 ]; }
goes_on() { until_true "$1 goes on" more $1 $(($(passes $1) + 2)); }
says() { what=$1; shift; ctl "$@" | grep -q "$what" || die "ctl $* does not say $what"; }
refuses() { ctl "$@" 2>/tmp/refused && die "ctl $* was accepted"; cat /tmp/refused; }
"#;

/// What the operator does, by step.
const STEPS: &[(&str, &str)] = &[
    (
        "both-work",
        r#"
        until_true "the socket" [ -S /tmp/control ]
        goes_on vm0; goes_on vm1
        [ $(ctl status | grep -c '"state": "running"') = 2 ] || die "not both run: $(ctl status)"
        says '"cpus": 1' --vm vm1 status
        says '"bar1": 134217728' --vm vm0 status; says '"bar1": 33554432' --vm vm1 status
        "#,
    ),
    (
        "pause",
        r#"
        ctl --vm vm0 pause >/dev/null || die "no pause"
        says paused --vm vm0 status; says running --vm vm1 status
        before=$(passes vm0); goes_on vm1; goes_on vm1
        # What it had printed may have been on its way.
        [ $(passes vm0) -le $((before + 1)) ] || die "vm0 works while it is paused"
        ctl --vm vm0 resume >/dev/null || die "no resume"
        says running --vm vm0 status
        goes_on vm0
        "#,
    ),
    (
        "switches",
        r#"
        for opt in none paper lazy-shadow,incremental all; do
            ctl --vm vm1 set opt $opt >/dev/null || die "opt $opt"
            goes_on vm1
        done
        ctl --vm vm0 set weight 300 >/dev/null || die weight
        ctl set log debug >/dev/null || die log
        ctl set log warn >/dev/null || die log
        goes_on vm0
        refuses --vm vm0 set opt everything
        refuses --vm vm0 set weight heavy
        refuses --vm vm0 set speed 11
        refuses --vm vm7 status
        "#,
    ),
    (
        "counters",
        r#"
        # Of all channels together.
        count() {
            ctl --vm $1 counters | grep "\"$2[{\"]" | sed 's/.*: //' | awk '{ n += $1 } END { print n + 0 }'
        }
        for vm in vm0 vm1; do
            before=$(count $vm gpu_doorbells_total); goes_on $vm
            [ "$(count $vm gpu_doorbells_total)" -gt "$before" ] || die "$vm rings no doorbells"
        done
        ctl metrics >/tmp/metrics || die metrics
        for vm in vm0 vm1; do
            grep -q "^gpuvm_exits_total{.*vm=\"$vm\"" /tmp/metrics || die "no exits of $vm"
            grep -q "^gpuvm_gpu_sched_dispatched_total{.*vm=\"$vm\"" /tmp/metrics || die "no dispatches of $vm"
        done
        odd=$(grep -vE '^(# (TYPE|HELP) [a-z_]+ .+|[a-z][a-z0-9_]*(\{([a-z_]+="[^"]*",?)+\})? [0-9]+)$' /tmp/metrics | head -n1)
        [ -z "$odd" ] || die "no metric: $odd"
        wc -l </tmp/metrics
        "#,
    ),
    (
        "stop",
        r#"
        ctl --vm vm0 stop >/dev/null || die "no stop"
        off() { ctl --vm $1 status | grep -q '"state": "off"'; }
        until_true "vm0 ends" off vm0
        refuses --vm vm0 pause
        goes_on vm1
        ctl stop >/dev/null || die "no stop of all"
        n=0
        while [ ! -e /tmp/status ]; do
            n=$((n + 1)); [ $n -lt 2000 ] || die "gpuvm does not end"; sleep 0.2
        done
        [ $(cat /tmp/status) = 5 ] || die "exit status $(cat /tmp/status)"
        [ ! -e /tmp/control ] || die "the socket is still there"
        grep -q '^vm1:' /tmp/stats || die "no counters of vm1: $(tail -n 3 /tmp/stats)"
        "#,
    ),
];

/// What a guest with a disk, or without one, does with it, and with its source of entropy.
const DEVICES: &str = "
modprobe virtio_pci && modprobe virtio_blk && modprobe virtio_rng || exit 1
[ $(head -c 64 /dev/hwrng | wc -c) = 64 ] || exit 1
grep virtio_rng /sys/class/misc/hw_random/rng_current || exit 1
[ -e /dev/vda ] || exit 0
[ $(cat /sys/block/vda/size) = 8192 ] || exit 1
echo from the guest | dd of=/dev/vda bs=512 count=1 conv=sync,fsync
";

/// Where the outer machine has the inner guests' files.
const ENDS: &str = "/guest/ends.cpio";
const RESETS: &str = "/guest/resets.cpio";
const VMLINUX: &str = "/guest/vmlinux";

/// Two guests that are alike share a card under a scheduler, while an operator watches, holds, and
/// ends them; then two that differ, as files describe them, come to their ends by themselves, one of
/// them booted from an ELF file where the testbed has one, the other with a disk of its host; and
/// some end otherwise, or do not begin.
pub fn run(context: &Context<'_>) -> Result<String> {
    let (testbed, kernel) = (context.testbed, context.kernel);
    let modules = ["nouveau", "virtio_pci", "virtio_blk", "virtio_rng"];
    let mut works = Initramfs::new(testbed, kernel, &modules)?;
    works.add_programs(context.tools)?;
    let mut ends = works.clone();
    let probe = Step::new("probe", "modprobe nouveau && ls /dev/dri/renderD128");
    works.add_steps(&[probe.clone(), Step::new("work", WORK)]);
    ends.add_steps(&[
        probe,
        Step::new("gputest", format!("gputest {CASES}")),
        Step::new("devices", DEVICES),
    ]);
    let mut resets = Initramfs::new(testbed, kernel, &[])?;
    resets.add_steps(&[Step::new("reboot", "reboot -f")]);

    let mut machine = nested::machine(testbed, kernel, &context.gpuvm, &works, None)?;
    machine.files.add_bytes(ENDS, &ends.build())?;
    machine.files.add_bytes(RESETS, &resets.build())?;
    let image = testbed.kernel(kernel)?.image;
    let image = fs::read(&image).with_context(|| format!("Cannot read {}", image.display()))?;
    let unpacked = vmlinux::unpack(&image)?;
    if let Some(kernel) = &unpacked {
        machine.files.add_bytes(VMLINUX, kernel)?;
    }
    let large = unpacked.as_ref().map_or(nested::KERNEL, |_| VMLINUX);
    machine.memory_mib = 3072;
    machine.time_out = Duration::from_secs(1800);
    machine.steps.push(Step::new("start", start()));
    for (name, script) in STEPS {
        machine
            .steps
            .push(Step::new(name, format!("{OPERATOR}{script}")));
    }
    machine.steps.push(Step::new("files", files(large)));
    machine.steps.push(Step::new("endings", endings()));
    let outcome = machine.run(context.session, context.testbed, &context.artefacts)?;

    let steps = STEPS.iter().map(|(name, _)| *name);
    for name in ["start"].into_iter().chain(steps) {
        outcome.step(name)?;
    }
    outcome
        .step("files")
        .context("With guests that files describe")?;
    outcome.step("endings")?;
    let inner = |name: &str| -> Vec<&StepResult> {
        let steps = outcome.steps.iter();
        steps.filter(|step| step.name == name).collect()
    };
    let (tests, devices) = (inner("gputest"), inner("devices"));
    ensure!(
        [tests.len(), devices.len(), outcome.inner.len()] == [2; 3],
        "Of two guests {} came to their end",
        outcome.inner.len()
    );
    for step in devices {
        step.succeeded()?;
    }
    for (test, log) in tests.into_iter().zip(&outcome.inner) {
        passed(test)?;
        quiet_log(log)?;
    }
    let format = unpacked.map_or("bzImage", |_| "ELF");
    Ok(format!(
        "{} steps of an operator, two guests by files, {format}",
        STEPS.len()
    ))
}

fn start() -> String {
    format!(
        "mkdir /tmp/consoles
        (
            gpuvm run --vms 2 --kernel {kernel} --initrd {initramfs} --cmdline '{parameters}' \
                --memory {MEMORY_MIB}M --gpu soft --mode fv --vram {VRAM_MIB}M --bar1 128M,32M --sched drr --hang-ms 20000 \
                --control /tmp/control --console-dir /tmp/consoles --stats 2>/tmp/stats &
            echo $! >/tmp/gpuvm.pid
            wait $!
            echo $? >/tmp/status
        ) >/tmp/output 2>&1 &",
        kernel = nested::KERNEL,
        initramfs = nested::INITRAMFS,
        parameters = nested::PARAMETERS,
    )
}

/// Two guests with little in common; the second's console is its own file. What the VMM calls
/// without leave is only written to the kernel's log.
fn files(kernel_of_large: &str) -> String {
    format!(
        "modprobe brd rd_nr=1 rd_size=4096 || exit
        cat >/tmp/small.toml <<'END'
name = \"small\"
memory = \"384M\"
bar3 = \"16M\"
disk = [\"/dev/ram0\"]
END
        cat >/tmp/large.toml <<'END'
name = \"large\"
kernel = \"{kernel_of_large}\"
cpus = 2
console = \"own.log\"
END
        gpuvm run --vm /tmp/small.toml --vm /tmp/large.toml --kernel {kernel} --initrd {ENDS} \
            --cmdline '{parameters}' --memory {MEMORY_MIB}M --gpu soft --vram {VRAM_MIB}M --hang-ms 20000 \
            --console-dir /tmp --seccomp log || exit
        cat /tmp/small.log /tmp/own.log
        [ \"$(head -c 14 /dev/ram0)\" = 'from the guest' ] || exit
        ! dmesg | grep type=1326",
        kernel = nested::KERNEL,
        parameters = nested::PARAMETERS,
    )
}

/// A guest that resets itself is told apart from one that switches itself off, from one that is told
/// to reset by a triple fault, from one whose kernel is not whole, and from one for which the host
/// has no memory.
fn endings() -> String {
    format!(
        "run() {{
            gpuvm run --initrd {RESETS} --on-reset exit \"$@\" >/dev/null 2>/tmp/why
            status=$?
        }}
        is() {{ [ $status = $1 ] || {{ echo \"FAIL status $status, not $1\"; cat /tmp/why; exit 1; }}; }}
        says() {{ grep -q \"$1\" /tmp/why || {{ echo \"FAIL not $1\"; cat /tmp/why; exit 1; }}; }}
        run --kernel {kernel} --memory 256M --cmdline '{parameters}'
        is 3
        run --kernel {kernel} --memory 256M --cmdline '{parameters} reboot=t'
        is 4; says 'triple fault'
        head -c 3000000 {kernel} >/tmp/short
        run --kernel /tmp/short --memory 256M
        is 1; says 'is cut short'
        run --kernel {kernel} --memory 32M
        is 1; says 'To unpack itself'
        run --kernel {kernel} --memory 64G
        is 1; says 'this host has'",
        kernel = nested::KERNEL,
        parameters = nested::PARAMETERS,
    )
}
