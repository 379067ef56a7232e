//! The tests, by name.

mod ablation;
mod bench;
mod compute_faults;
mod corpus;
mod gputest;
mod hostile;
mod multi;
mod opencl;
mod probe;
mod reload;
mod sched;
mod top;
mod two_vms;
mod vgpu;
mod vmm;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    Card, CardOptions, Device, Dmesg, Initramfs, Kernel, Machine, Outcome, Session, Step, Testbed,
    debian,
};

/// A test. It runs once per kernel.
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// Runs it; a remark for the line that says that it passed.
    pub run: fn(&Context<'_>) -> Result<String>,
}

/// All tests, quickest first.
pub const CASES: &[Case] = &[
    Case {
        name: "probe",
        about: "nouveau probes the card and says nothing of warning level or worse",
        run: probe::run,
    },
    Case {
        name: "copy",
        about: "channels, buffers, copies by all engines and semaphores work",
        run: gputest::copy,
    },
    Case {
        name: "objects",
        about: "objects of every class can be made, bound and used",
        run: gputest::objects,
    },
    Case {
        name: "faults",
        about: "every kind of fault hits the channel that caused it, and the next one works",
        run: gputest::faults,
    },
    Case {
        name: "compute-faults",
        about: "kernels that go wrong are reported, end their own program and no other one",
        run: compute_faults::run,
    },
    Case {
        name: "glcompute",
        about: "packaged Mesa compiles and runs GLSL kernels, and every result is right",
        run: corpus::gl_on_card,
    },
    Case {
        name: "glcompute-vgpu",
        about: "the same on a virtual GPU",
        run: corpus::gl_on_vgpu,
    },
    Case {
        name: "opencl",
        about: "packaged Mesa compiles and runs OpenCL kernels and workloads, and the results are right",
        run: opencl::on_card,
    },
    Case {
        name: "opencl-vgpu",
        about: "the same on a virtual GPU",
        run: opencl::on_vgpu,
    },
    Case {
        name: "opencl-vmm",
        about: "some of the same on a virtual GPU of gpuvm run, on KVM",
        run: opencl::on_vmm,
    },
    Case {
        name: "reload",
        about: "nouveau can be unloaded and loaded again, and the card still works",
        run: reload::run,
    },
    Case {
        name: "vgpu",
        about: "a virtual GPU of a shared card does what the card does",
        run: vgpu::run,
    },
    Case {
        name: "two-vms",
        about: "a guest on a shared card loses nothing while another one faults, goes and is killed",
        run: two_vms::run,
    },
    Case {
        name: "hostile",
        about: "a guest that attacks its virtual GPU reaches nothing of another one or of the host",
        run: hostile::run,
    },
    Case {
        name: "stress",
        about: "channels by the dozen, competing processes and evictions lose nothing",
        run: gputest::stress,
    },
    Case {
        name: "vgpu-stress",
        about: "the same on a virtual GPU",
        run: vgpu::stress,
    },
    Case {
        name: "sched",
        about: "two guests with unlike work share the card as weights, caps and priorities say",
        run: sched::run,
    },
    Case {
        name: "top",
        about: "gpuvm top shows what guests do, and leaves the terminal as it was",
        run: top::run,
    },
    Case {
        name: "ablation",
        about: "any two optimisation switches work, together and each alone, under gpuvm run",
        run: ablation::run,
    },
    Case {
        name: "soak",
        about: "as stress, with hundreds of channels and clients",
        run: gputest::soak,
    },
    Case {
        name: "vmm-quick",
        about: "gpuvm run boots stock guests on KVM, with the whole card and with a virtual GPU",
        run: vmm::quick,
    },
    Case {
        name: "bench-kvm",
        about: "gpuvm bench runs its guests on a host that has KVM, goes on where it was killed, and does nothing twice",
        run: bench::run,
    },
    Case {
        name: "vmm",
        about: "what works on the card works in guests of gpuvm run, whole and as a virtual GPU",
        run: vmm::run,
    },
    Case {
        name: "multi",
        about: "several guests of one gpuvm run share a card, and an operator steers them",
        run: multi::run,
    },
    Case {
        name: "vfio",
        about: "gpuvm run gives guests a card on the bus, whole and as a virtual GPU",
        run: vmm::vfio,
    },
];

/// What a test works with.
pub struct Context<'a> {
    /// The invocation it belongs to.
    pub session: &'a Session,
    /// QEMU, kernels, busybox and the Debian tree.
    pub testbed: &'a Testbed,
    /// The kernel to test with.
    pub kernel: Kernel,
    /// The `gpuvm` program.
    pub gpuvm: PathBuf,
    /// The programs of `guest/`.
    pub tools: &'a [PathBuf],
    /// Programs that need Debian's libraries.
    pub debian_tools: &'a [PathBuf],
    /// Where logs go; it exists.
    pub artefacts: PathBuf,
}

impl Context<'_> {
    /// Boots a guest on a fresh card with `vram_mib` MiB, loads nouveau in it and runs `steps`.
    /// The guest's time limit is `seconds`.
    ///
    /// # Errors
    ///
    /// When the guest or the card fails, or nouveau cannot be loaded.
    pub fn run_on_card(&self, vram_mib: u32, steps: Vec<Step>, seconds: u64) -> Result<Outcome> {
        let card = self.card(vram_mib, 0, &[])?;
        let machine = self.machine(&card, 0, steps, seconds)?;
        let outcome = machine.run(self.session, self.testbed, &self.artefacts)?;
        self.stop(card)?;
        outcome.step("probe")?;
        Ok(outcome)
    }

    /// A fresh card with `vram_mib` MiB; or one that `vgpus` virtual GPUs share, each with that.
    fn card(&self, vram_mib: u32, vgpus: u16, arguments: &[&str]) -> Result<Card> {
        let options = CardOptions {
            gpuvm: self.gpuvm.clone(),
            vram_mib,
            vgpus,
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        Card::start(self.session, &options, &self.artefacts)
    }

    /// A machine on the card, or on virtual GPU `number` of it, that loads nouveau and runs
    /// `steps`.
    fn machine(&self, card: &Card, number: u16, steps: Vec<Step>, seconds: u64) -> Result<Machine> {
        let files = Initramfs::new(self.testbed, self.kernel, &["nouveau"])?;
        let mut machine = self.loading_nouveau(files, card, number, seconds)?;
        machine.steps.extend(steps);
        Ok(machine)
    }

    /// As [`Self::machine`], with a Debian in which Mesa is.
    fn debian_machine(
        &self,
        card: &Card,
        number: u16,
        steps: Vec<Step>,
        seconds: u64,
    ) -> Result<Machine> {
        let modules = [debian::MODULES, &["nouveau"]].concat();
        let mut files = Initramfs::new(self.testbed, self.kernel, &modules)?;
        debian::add_to(&mut files, self.debian_tools)?;
        let mut machine = self.loading_nouveau(files, card, number, seconds)?;
        debian::attach(&mut machine, self.testbed);
        machine.steps.extend(steps);
        Ok(machine)
    }

    fn loading_nouveau(
        &self,
        mut files: Initramfs,
        card: &Card,
        number: u16,
        seconds: u64,
    ) -> Result<Machine> {
        files.add_programs(self.tools)?;
        let mut machine = Machine::new(self.kernel, files);
        machine.devices.push(Device::VfioUser {
            socket: card.socket(number),
        });
        machine.steps.push(Step::new(
            "probe",
            "modprobe nouveau && ls /dev/dri/renderD128",
        ));
        machine.time_out = Duration::from_secs(seconds);
        Ok(machine)
    }

    /// Ends a card, which has to have come through everything well.
    fn stop(&self, card: Card) -> Result<()> {
        card.stop()?;
        let log = fs::read_to_string(self.artefacts.join("card.log")).unwrap_or_default();
        let panicked = log.lines().find(|line| line.contains("panicked at"));
        ensure!(
            panicked.is_none(),
            "The card panicked: {}",
            panicked.unwrap_or_default()
        );
        Ok(())
    }
}

/// Fails when a guest's log has a complaint about the card.
fn quiet(outcome: &Outcome) -> Result<()> {
    quiet_log(&outcome.dmesg)
}

/// Likewise, of one log.
fn quiet_log(dmesg: &Dmesg) -> Result<()> {
    let complaints = dmesg.complaints();
    match complaints.first() {
        None => Ok(()),
        Some(first) => {
            anyhow::bail!(
                "{} complaints in the kernel's log, first {first}",
                complaints.len()
            )
        }
    }
}
