//! Debian 13 in a guest: the testbed's disk beside the memory file system, so that packaged
//! programs run on the guest's kernel. `debian COMMAND ARGUMENTS` runs one there.

use std::path::PathBuf;

use anyhow::Result;

use crate::{Device, Initramfs, Machine, Step, Testbed};

/// What the guest's kernel needs for the disk. The file system does not ask for `crc32c` itself.
pub const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "ext4", "crc32c_generic"];

/// Name of the step that mounts the disk.
pub const STEP: &str = "debian";

/// Where added programs are, in the guest's memory and, bound there, in Debian's path.
const PROGRAMS: &str = "/programs";

/// Mounts the disk with all that a system has and a disk has not.
const MOUNT: &str = "\
modprobe virtio_pci && modprobe virtio_blk && modprobe crc32c_generic && modprobe ext4 || exit 1
mkdir -p /debian /programs && mount -t ext4 -o ro /dev/vda /debian || exit 1
for directory in dev proc sys; do
    mount -o bind /$directory /debian/$directory || exit 1
done
mount -t tmpfs tmp /debian/tmp && mount -t tmpfs run /debian/run || exit 1
mkdir /debian/run/programs && mount -o bind /programs /debian/run/programs";

/// Runs a command on the disk. rusticl offers a driver's devices only where it is named.
const RUN: &str = "\
#!/bin/sh
exec chroot /debian /usr/bin/env -i HOME=/tmp PATH=/run/programs:/usr/bin:/usr/sbin \
    RUSTICL_ENABLE=nouveau \"$@\"
";

/// Memory that a guest with Mesa's compilers needs, in MiB.
pub const MEMORY_MIB: u32 = 2048;

/// Puts `programs`, which may need Debian's libraries, and the means to run commands into `files`.
/// They have to hold [`MODULES`].
///
/// # Errors
///
/// When a program cannot be read.
pub fn add_to(files: &mut Initramfs, programs: &[PathBuf]) -> Result<()> {
    files.add_bytes("/bin/debian", RUN.as_bytes())?;
    files.add_programs_in(PROGRAMS, programs)
}

/// Gives a machine the disk and, as its next step, mounts it.
pub fn attach(machine: &mut Machine, testbed: &Testbed) {
    machine.memory_mib = machine.memory_mib.max(MEMORY_MIB);
    machine.devices.push(Device::Disk {
        image: testbed.disk(),
    });
    machine.steps.push(mount());
}

/// The step that mounts the disk, which has to be the machine's first one.
pub fn mount() -> Step {
    Step::new(STEP, MOUNT)
}
