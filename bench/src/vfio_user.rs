//! Guests that QEMU interprets, with cards of another process.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{Card, CardOptions, Device, Machine, Outcome, Running, debian};

use crate::control::Sampler;
use crate::job::{Job, Suite};
use crate::lab::{Done, Lab, PCIE};
use crate::record::Sample;
use crate::work::{self, TOGETHER, WAITING};

/// Video memory of each guest, in MiB.
const VRAM_MIB: u32 = 512;
/// RAM of each guest that shares, in MiB.
const SHARING_MIB: u32 = 512;
/// How often it is looked how far guests are.
const POLL: Duration = Duration::from_millis(10);

/// Does a job.
pub fn run(lab: &Lab<'_>, job: &Job) -> Result<Done> {
    let logs = lab.logs_of(job)?;
    let mut options = CardOptions {
        gpuvm: lab.programs.gpuvm.clone(),
        vram_mib: VRAM_MIB,
        vgpus: 0,
        arguments: Vec::new(),
    };
    if job.slow_motion > 0 {
        let factor = job.slow_motion.to_string();
        options.arguments.extend(["--slow-motion".into(), factor]);
    }
    if job.pcie {
        for (name, cost) in PCIE {
            options.arguments.extend([name.into(), cost.to_string()]);
        }
    }
    if let Some((opt, track)) = job.mode.options() {
        options.vgpus = job.guests;
        let chosen = [
            "--stats", "--opt", opt, "--track", track, "--sched", &job.sched,
        ];
        options.arguments.extend(chosen.map(String::from));
    }
    let card = Card::start(lab.session, &options, &logs)?;
    let machines = (0..job.guests)
        .map(|n| machine(lab, job, &card, n))
        .collect::<Result<Vec<_>>>()?;
    let control = card.control().filter(|_| job.suite == Suite::Sharing);
    let together = work::waits_for_others(job);
    let (outcomes, samples) = side_by_side(lab, &machines, together, control.as_deref(), &logs)?;
    card.stop()?;
    let log = fs::read_to_string(logs.join("card.log")).unwrap_or_default();
    let counters = work::counters(&log);
    let guests = outcomes
        .iter()
        .enumerate()
        .map(|(n, outcome)| {
            work::result(&outcome.steps, counters.get(n).cloned().unwrap_or_default())
        })
        .collect::<Result<_>>()?;
    // They are large, and say nothing that a good run's record does not.
    let _ = fs::remove_dir_all(&logs);
    Ok(Done { guests, samples })
}

fn machine(lab: &Lab<'_>, job: &Job, card: &Card, number: u16) -> Result<Machine> {
    let mut machine = Machine::new(lab.kernel, lab.files(job.suite)?);
    let socket = card.socket(number);
    machine.devices.push(Device::VfioUser { socket });
    if job.suite == Suite::Rodinia {
        machine.memory_mib = debian::MEMORY_MIB;
        machine.devices.push(Device::Disk {
            image: lab.testbed.disk(),
        });
    }
    if job.suite == Suite::Sharing {
        // What more than one does costs the host more than it brings to guests that wait.
        machine.vcpus = 1;
        machine.memory_mib = SHARING_MIB;
    }
    machine.steps = work::steps(job, &number.to_string());
    machine.time_out = work::time_out(job);
    Ok(machine)
}

/// Runs machines at the same time, and looks at the counters of the card meanwhile.
fn side_by_side(
    lab: &Lab<'_>,
    machines: &[Machine],
    begin_together: bool,
    control: Option<&Path>,
    logs: &Path,
) -> Result<(Vec<Outcome>, Vec<Sample>)> {
    let mut sampler = control.map(Sampler::new);
    let mut guests = Vec::new();
    for (n, machine) in machines.iter().enumerate() {
        let artefacts = logs.join(format!("guest{n}"));
        fs::create_dir_all(&artefacts)?;
        guests.push(machine.start(lab.testbed, &artefacts)?);
    }
    let mut outcomes: Vec<Option<Outcome>> = machines.iter().map(|_| None).collect();
    let mut waiting = begin_together;
    while outcomes.iter().any(Option::is_none) {
        for (n, (guest, outcome)) in guests.iter_mut().zip(&mut outcomes).enumerate() {
            if outcome.is_none() {
                *outcome = guest
                    .poll(lab.session)
                    .with_context(|| format!("Guest {n}"))?;
            }
        }
        let waits = |guest: &Running<'_>| {
            let printed = guest.output(TOGETHER);
            printed.is_some_and(|printed| printed.contains(WAITING))
        };
        if waiting && guests.iter().all(waits) {
            for guest in &guests {
                guest.signal()?;
            }
            waiting = false;
        }
        if let Some(sampler) = &mut sampler {
            sampler.look()?;
        }
        thread::sleep(POLL);
    }
    let samples = sampler.map_or_else(Vec::new, |sampler| sampler.samples);
    Ok((outcomes.into_iter().flatten().collect(), samples))
}
