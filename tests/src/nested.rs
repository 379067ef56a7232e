//! Machines that run guests themselves: stock Debian with KVM, under emulation.
//!
//! The outer machine (L1) has a working `/dev/kvm` through `kvm-amd`, a static `gpuvm` and, in
//! [`KERNEL`] and [`INITRAMFS`], everything to boot a guest (L2) with it. Steps of the inner guest
//! print to its only serial port; as long as `gpuvm` passes that to its own standard output, they
//! are found in the outer machine's [`Outcome`](crate::Outcome) like all others.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{Board, Device, Initramfs, Kernel, Machine, Step, Testbed};

/// Where the inner guest's kernel is, in the outer machine.
pub const KERNEL: &str = "/guest/vmlinuz";

/// Where the inner guest's file system is, in the outer machine.
pub const INITRAMFS: &str = "/guest/initramfs.cpio";

/// Words for the inner guest's command line: its kernel keeps the serial port to the steps, and does
/// not take a processor for stuck that stores a page table at the pace of an emulated hypervisor, or
/// that a busy host leaves alone for 20 seconds.
pub const PARAMETERS: &str = "console=ttyS0 quiet loglevel=1 panic=-1 oops=panic nowatchdog \
                              rcupdate.rcu_cpu_stall_suppress=1";

/// What the outer machine needs for KVM, for handing out devices, for a disk, and for one in its
/// memory.
const MODULES: &[&str] = &[
    "kvm-amd",
    "vfio-pci",
    "vfio_iommu_type1",
    "virtio_pci",
    "virtio_blk",
    "brd",
];

/// Huge pages of a machine with a card: the RAM of the guest that [`run_guest`] starts, and some.
const HUGE_PAGES: u32 = 264;

/// Processors of the outer machine: the first one runs no guests, see [`KVM`].
const PROCESSORS: u32 = 3;

/// The step that makes a machine ready for guests.
pub const READY: &str = "kvm";

/// Its script, around two faults of QEMU (7.2 to 11.1).
///
/// Process 1, and with it all steps, keeps off the first processor. QEMU emulates the `IGNNE#` pin in
/// that one's `hflags2`, which any other one that restores its x87 state changes without a lock
/// (`target/i386/tcg/system/fpu_helper.c cpu_clear_ignne`). A change of the first processor's own that
/// meets it is lost, and it keeps there whether interrupts are let through (`HF2_GIF`) and whether it is
/// behind nested page tables (`HF2_NPT`): once in some fifty guests, one walked its page tables in the
/// outer machine's memory, or the outer kernel was interrupted with a guest's registers.
///
/// And the kernel has one processor ([`ALONE`]) until a guest that does nothing, and stays, is there. The
/// first guest makes KVM change the code of the scheduler (`preempt_notifier_key`), and the end of the
/// last one changes it back, each by way of a breakpoint; a processor may go on with what QEMU compiled
/// of the breakpoint after that is gone: once in a hundred guests all of them did, for ever.
const KVM: &str = "\
modprobe kvm-amd || exit 1
gpuvm run --kernel KERNEL --memory 128M --gpu none --control /stays </dev/null >/stays.log 2>&1 &
until gpuvm ctl /stays pause; do kill -0 $! || { cat /stays.log; exit 1; }; sleep 0.2; done
for processor in /sys/devices/system/cpu/cpu[1-9]; do echo 1 >$processor/online || exit 1; done
taskset -p 6 1 && ls /dev/kvm";

/// What the outer kernel's command line says so that it has one processor at first.
const ALONE: &str = "maxcpus=1";

/// Hands every NVIDIA function to user space.
const BIND: &str = "\
modprobe vfio-pci && modprobe vfio_iommu_type1 || exit 1
for function in /sys/bus/pci/devices/*; do
    [ \"$(cat $function/vendor)\" = 0x10de ] || continue
    echo vfio-pci >$function/driver_override
    echo ${function##*/} >/sys/bus/pci/drivers_probe
    [ -e $function/driver ] || exit 1
done
ls /dev/vfio";

/// The disk that [`attach_disk`] adds, in the outer machine.
pub const DISK: &str = "/dev/vda";

/// A machine that can run `inner` with the `gpuvm` program, which has to be a static one. With
/// `card`, the socket of a card, that card is in the machine and bound to `vfio-pci`.
///
/// # Errors
///
/// When the testbed lacks something.
pub fn machine(
    testbed: &Testbed,
    kernel: Kernel,
    gpuvm: &Path,
    inner: &Initramfs,
    card: Option<&Path>,
) -> Result<Machine> {
    let mut files = Initramfs::new(testbed, kernel, MODULES)?;
    files.add("/bin/gpuvm", gpuvm)?;
    files.add(KERNEL, &testbed.kernel(kernel)?.image)?;
    files.add_bytes(INITRAMFS, &inner.build())?;
    let mut machine = Machine::new(kernel, files);
    machine.nested = true;
    machine.vcpus = PROCESSORS;
    machine.memory_mib = 2048;
    machine.time_out = Duration::from_secs(180);
    machine.parameters.push(ALONE.into());
    machine
        .steps
        .push(Step::new("kvm", KVM.replace("KERNEL", KERNEL)));
    if let Some(socket) = card {
        machine.board = Board::Q35WithIommu;
        machine.parameters.push(format!("hugepages={HUGE_PAGES}"));
        machine.devices.push(Device::VfioUser {
            socket: socket.to_owned(),
        });
        machine.steps.push(Step::new("vfio", BIND));
    }
    Ok(machine)
}

/// The command with which the outer machine runs the guest on `gpu`, in `mode`, with further
/// `words` for its kernel and further `options`; at its end it says what that took.
pub fn run_guest(gpu: &str, mode: &str, words: &str, options: &str) -> String {
    format!(
        "gpuvm run --kernel {KERNEL} --initrd {INITRAMFS} --cmdline '{PARAMETERS} {words}' \
         --memory 512M --gpu {gpu} --mode {mode} {options} --stats"
    )
}

/// Gives the outer machine the testbed's disk, as [`DISK`], to hand on.
pub fn attach_disk(machine: &mut Machine, testbed: &Testbed) {
    machine.devices.push(Device::Disk {
        image: testbed.disk(),
    });
    let script = format!("modprobe virtio_pci && modprobe virtio_blk && ls {DISK}");
    machine.steps.push(Step::new("disk", script));
}
