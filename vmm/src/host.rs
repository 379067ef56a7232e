//! What the host offers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::size::Size;

/// What `/dev/kvm` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// The processor runs guests.
    Hardware {
        /// The kernel module behind it.
        module: String,
    },
    /// The kernel runs guests without the processor's help: user code natively, kernels hardly.
    Software {
        /// The kernel module behind it.
        module: String,
    },
    /// It is there and refuses.
    Denied {
        /// The operating system's words.
        reason: String,
    },
    /// It is not there.
    Absent {
        /// The processor says that it could.
        processor: bool,
    },
}

/// Looks at `/dev/kvm`, by opening it.
pub fn kvm() -> Kvm {
    let processor = processor_virtualizes();
    if !Path::new("/dev/kvm").exists() {
        return Kvm::Absent { processor };
    }
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/kvm") {
        return Kvm::Denied {
            reason: error.to_string(),
        };
    }
    let loaded = |module: &&str| Path::new("/sys/module").join(module).exists();
    if let Some(module) = ["kvm_intel", "kvm_amd"].iter().copied().find(loaded)
        && processor
    {
        return Kvm::Hardware {
            module: module.into(),
        };
    }
    let module = ["kvm_pvm"].iter().copied().find(loaded).unwrap_or("kvm");
    match processor {
        true => Kvm::Hardware {
            module: module.into(),
        },
        false => Kvm::Software {
            module: module.into(),
        },
    }
}

/// The processor announces VT-x or AMD-V.
fn processor_virtualizes() -> bool {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    info.lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

/// The KVM modules let guests have KVM.
pub fn nested_kvm() -> bool {
    ["kvm_intel", "kvm_amd"].iter().any(|module| {
        let path = format!("/sys/module/{module}/parameters/nested");
        fs::read_to_string(path).is_ok_and(|value| matches!(value.trim(), "1" | "Y"))
    })
}

/// The number of IOMMU groups.
pub fn iommu_groups() -> usize {
    fs::read_dir("/sys/kernel/iommu_groups").map_or(0, Iterator::count)
}

/// VFIO's container device is there.
pub fn vfio_present() -> bool {
    Path::new("/dev/vfio/vfio").exists()
}

/// The host's QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// As it prints it.
    pub version: String,
    /// It has the device `vfio-user-pci`.
    pub vfio_user: bool,
}

/// Asks `qemu-system-x86_64`, if there is one on the path.
pub fn qemu() -> Option<Qemu> {
    let ask = |arguments: &[&str]| {
        let output = Command::new("qemu-system-x86_64")
            .args(arguments)
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let banner = ask(&["--version"])?;
    let version = banner
        .split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)?;
    let vfio_user = ask(&["-device", "help"])?.contains("vfio-user-pci");
    Some(Qemu {
        version: version.to_owned(),
        vfio_user,
    })
}

/// Bytes that programs can still get.
pub fn memory_available() -> u64 {
    meminfo("MemAvailable").unwrap_or(0) << 10
}

/// Bytes of memory and swap that there are, whoever has them; none if the host does not say.
pub fn memory_total() -> Option<u64> {
    let swap = meminfo("SwapTotal").unwrap_or(0);
    Some((meminfo("MemTotal")? + swap) << 10)
}

/// Free huge pages, and the size of each.
pub fn hugepages() -> (u64, Size) {
    let size = meminfo("Hugepagesize").unwrap_or(0) << 10;
    (meminfo("HugePages_Free").unwrap_or(0), Size::new(size))
}

fn meminfo(key: &str) -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find(|line| line.split(':').next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
