//! `gpuvm doctor`: what this host can do, and what the other commands make of it.

use std::process::ExitCode;

use serde::Serialize;

use crate::host::{self, Kvm, Qemu};

/// The first QEMU with a vfio-user client.
const QEMU_WITH_VFIO_USER: (u32, u32) = (10, 1);

/// Memory that a guest with a card wants, at least.
const COMFORTABLE_MEMORY: u64 = 4 << 30;

/// Arguments of `gpuvm doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As wished.
    Good,
    /// There is a slower or narrower way.
    Limited,
    /// Not there.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What the other commands therefore do.
    effect: &'static str,
    /// How to get more.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Looks and prints. Succeeds whatever it finds: a report is not a failure.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let findings = [
        kvm(&host::kvm()),
        nested(),
        iommu(),
        qemu(host::qemu().as_ref()),
        memory(),
        hugepages(),
    ];
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        for finding in &findings {
            let state = match finding.state {
                State::Good => "good",
                State::Limited => "limited",
                State::Missing => "missing",
            };
            println!("{:<10} {:<8} {}", finding.name, state, finding.found);
            println!("{:<19} {}", "", finding.effect);
            if let Some(remedy) = &finding.remedy {
                println!("{:<19} To change it: {remedy}", "");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn kvm(kvm: &Kvm) -> Finding {
    let name = "kvm";
    match kvm {
        Kvm::Hardware { module } => Finding {
            name,
            state: State::Good,
            found: format!("hardware virtualization ({module})"),
            effect: "Guests run straight on KVM.",
            remedy: None,
        },
        Kvm::Software { module } => Finding {
            name,
            state: State::Limited,
            found: format!("software virtualization ({module})"),
            effect: "KVM carries test payloads; Linux guests run nested inside QEMU.",
            remedy: Some("use a host with VT-x or AMD-V".into()),
        },
        Kvm::Denied { reason } => Finding {
            name,
            state: State::Missing,
            found: format!("/dev/kvm cannot be opened: {reason}"),
            effect: "Guests run inside QEMU, which interprets them.",
            remedy: Some(
                "join the group that owns /dev/kvm (often `kvm`), then log in again".into(),
            ),
        },
        Kvm::Absent { processor } => Finding {
            name,
            state: State::Missing,
            found: "no /dev/kvm".into(),
            effect: "Guests run inside QEMU, which interprets them.",
            remedy: Some(match processor {
                true => "load kvm_intel or kvm_amd".into(),
                false => "enable VT-x or AMD-V in the firmware, or nesting in the hypervisor below"
                    .into(),
            }),
        },
    }
}

fn nested() -> Finding {
    let nested = host::nested_kvm();
    Finding {
        name: "nested",
        state: if nested { State::Good } else { State::Limited },
        found: format!("nested KVM {}", if nested { "on" } else { "off" }),
        effect: match nested {
            true => "A guest's own KVM is fast.",
            false => "Nested guests need QEMU to interpret the outer one.",
        },
        remedy: (!nested).then(|| "load kvm_intel or kvm_amd with nested=1".into()),
    }
}

fn iommu() -> Finding {
    let groups = host::iommu_groups();
    let vfio = host::vfio_present();
    let (state, effect) = match (groups, vfio) {
        (1.., true) => (
            State::Good,
            "A card on the bus can be given to a guest (--gpu vfio:BDF), and shared (with --bring-up).",
        ),
        _ => (
            State::Limited,
            "Guests share the software card (--gpu soft).",
        ),
    };
    Finding {
        name: "iommu",
        state,
        found: format!(
            "{groups} IOMMU groups, VFIO {}",
            if vfio { "present" } else { "absent" }
        ),
        effect,
        remedy: match (groups, vfio) {
            (0, _) => Some("boot with intel_iommu=on or amd_iommu=on".into()),
            (_, false) => Some("load vfio-pci".into()),
            _ => None,
        },
    }
}

fn qemu(qemu: Option<&Qemu>) -> Finding {
    let (major, minor) = QEMU_WITH_VFIO_USER;
    let remedy = format!(
        "install QEMU {major}.{minor} or newer; the testbed (`cargo xtask testbed`) brings its own"
    );
    let name = "qemu";
    match qemu {
        Some(qemu) if qemu.vfio_user => Finding {
            name,
            state: State::Good,
            found: format!("QEMU {} with vfio-user", qemu.version),
            effect: "The testbed uses this QEMU.",
            remedy: None,
        },
        Some(qemu) => Finding {
            name,
            state: State::Limited,
            found: format!("QEMU {} without vfio-user", qemu.version),
            effect: "The testbed fetches a newer QEMU for itself.",
            remedy: Some(remedy),
        },
        None => Finding {
            name,
            state: State::Limited,
            found: "no qemu-system-x86_64".into(),
            effect: "The testbed fetches a QEMU for itself.",
            remedy: Some(remedy),
        },
    }
}

fn memory() -> Finding {
    let available = host::memory_available();
    let enough = available >= COMFORTABLE_MEMORY;
    Finding {
        name: "memory",
        state: if enough { State::Good } else { State::Limited },
        found: format!("{} MiB available", available >> 20),
        effect: match enough {
            true => "Several guests and their video memory fit.",
            false => "One small guest fits; video memory costs only what is touched.",
        },
        remedy: (!enough).then(|| "close other programs".into()),
    }
}

fn hugepages() -> Finding {
    let (free, size) = host::hugepages();
    Finding {
        name: "hugepages",
        state: if free > 0 {
            State::Good
        } else {
            State::Limited
        },
        found: format!("{free} free, of {size}"),
        effect: "Not needed: guest memory is in ordinary shared pages.",
        remedy: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_lacks_something_is_told_the_remedy() {
        let lacking = [
            kvm(&Kvm::Absent { processor: false }),
            kvm(&Kvm::Denied {
                reason: "Permission denied".into(),
            }),
            kvm(&Kvm::Software {
                module: "kvm_pvm".into(),
            }),
            qemu(None),
            qemu(Some(&Qemu {
                version: "7.2.0".into(),
                vfio_user: false,
            })),
        ];
        for finding in lacking {
            assert_ne!(finding.state, State::Good, "{}", finding.found);
            assert!(finding.remedy.is_some(), "{}", finding.found);
        }
    }

    #[test]
    fn hardware_kvm_and_a_new_qemu_are_good() {
        let good = [
            kvm(&Kvm::Hardware {
                module: "kvm_amd".into(),
            }),
            qemu(Some(&Qemu {
                version: "11.1.3".into(),
                vfio_user: true,
            })),
        ];
        assert!(good.iter().all(|finding| finding.state == State::Good));
    }
}
