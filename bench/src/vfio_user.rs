//! Guests that QEMU interprets, with cards of another process.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::{Card, CardOptions, Device, Machine, Outcome, debian};

use crate::control::Control;
use crate::lab::{Done, Lab, PCIE};
use crate::plan::{Job, Suite};
use crate::record::Sample;
use crate::work;

/// Video memory of each guest, in MiB.
const VRAM_MIB: u32 = 512;
/// How often counters are looked at while guests run.
const SAMPLE: Duration = Duration::from_millis(250);

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
    let (outcomes, samples) = side_by_side(lab, &machines, control.as_deref(), &logs)?;
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
    machine.steps = work::steps(job, &number.to_string());
    machine.time_out = work::time_out(job);
    Ok(machine)
}

/// Runs machines at the same time, and looks at the counters of the card meanwhile.
fn side_by_side(
    lab: &Lab<'_>,
    machines: &[Machine],
    control: Option<&Path>,
    logs: &Path,
) -> Result<(Vec<Outcome>, Vec<Sample>)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = control.map(|control| scope.spawn(|| sample(control, &over)));
        let guests: Vec<_> = machines
            .iter()
            .enumerate()
            .map(|(n, machine)| {
                scope.spawn(move || -> Result<Outcome> {
                    let artefacts = logs.join(format!("guest{n}"));
                    fs::create_dir_all(&artefacts)?;
                    machine.run(lab.session, lab.testbed, &artefacts)
                })
            })
            .collect();
        let outcomes: Vec<_> = guests
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Release);
        let samples = sampler.map(thread::ScopedJoinHandle::join);
        let mut all = Vec::new();
        for (n, outcome) in outcomes.into_iter().enumerate() {
            let Ok(outcome) = outcome else {
                bail!("The thread of guest {n} panicked");
            };
            all.push(outcome.with_context(|| format!("Guest {n}"))?);
        }
        let samples = match samples {
            Some(Ok(samples)) => samples?,
            Some(Err(_)) => bail!("The thread that samples panicked"),
            None => Vec::new(),
        };
        Ok((all, samples))
    })
}

/// Looks at the counters until it is over.
fn sample(socket: &Path, over: &AtomicBool) -> Result<Vec<Sample>> {
    let mut control = Control::connect(socket)?;
    let begin = Instant::now();
    let mut samples = Vec::new();
    while !over.load(Ordering::Acquire) {
        let counters = control.counters()?;
        samples.push(Sample::new(begin.elapsed().as_millis() as u64, &counters));
        thread::sleep(SAMPLE);
    }
    Ok(samples)
}
