//! Runs one job in stock guests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::{
    Card, CardOptions, Device, Initramfs, Kernel, Machine, Outcome, Session, Step, Testbed, debian,
    nested,
};

use crate::control::Control;
use crate::plan::{Job, Mode, Suite, Way};
use crate::record::{Counters, GuestResult, Sample};

/// Video memory of each guest, in MiB.
const VRAM_MIB: u32 = 512;
/// How often counters are looked at while guests run.
const SAMPLE: Duration = Duration::from_millis(250);
/// The step that is measured.
const BENCH: &str = "bench";

/// What runs on the host and in guests.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `gpuvm`; a static one for [`Way::Nested`].
    pub gpuvm: PathBuf,
    /// `gpubench`, static.
    pub gpubench: PathBuf,
    /// `rodinia`, which needs Debian's libraries; without it, that suite cannot run.
    pub rodinia: Option<PathBuf>,
}

/// Where and with what jobs are done.
pub struct Lab<'a> {
    pub session: &'a Session,
    pub testbed: &'a Testbed,
    pub programs: &'a Programs,
    pub kernel: Kernel,
    /// Where logs go; it exists.
    pub artefacts: &'a Path,
}

/// What came out of a job.
pub struct Done {
    pub guests: Vec<GuestResult>,
    pub samples: Vec<Sample>,
}

impl Lab<'_> {
    /// Does a job.
    pub fn run(&self, job: &Job) -> Result<Done> {
        match job.way {
            Way::VfioUser => self.over_vfio_user(job),
            Way::Nested if job.guests == 1 => self.nested(job),
            Way::Nested => bail!("Several guests are only run over vfio-user"),
        }
    }

    fn files(&self, job: &Job) -> Result<Initramfs> {
        let modules: Vec<&str> = match job.suite {
            Suite::Rodinia => [debian::MODULES, &["nouveau"]].concat(),
            _ => vec!["nouveau"],
        };
        let mut files = Initramfs::new(self.testbed, self.kernel, &modules)?;
        files.add_programs(std::slice::from_ref(&self.programs.gpubench))?;
        if job.suite == Suite::Rodinia {
            let rodinia = self.programs.rodinia.as_ref();
            let rodinia = rodinia.context("There is no program rodinia")?;
            debian::add_to(&mut files, std::slice::from_ref(rodinia))?;
        }
        Ok(files)
    }

    fn over_vfio_user(&self, job: &Job) -> Result<Done> {
        let mut options = CardOptions {
            gpuvm: self.programs.gpuvm.clone(),
            vram_mib: VRAM_MIB,
            vgpus: 0,
            arguments: Vec::new(),
        };
        let control = self.artefacts.join("control");
        if let Mode::Fv(opt) = &job.mode {
            options.vgpus = job.guests;
            options.arguments = vec!["--stats".into(), "--opt".into(), opt.clone()];
            options
                .arguments
                .extend(["--sched".into(), job.sched.clone()]);
            if job.guests > 1 {
                options.arguments.push("--control".into());
                options.arguments.push(control.display().to_string());
            }
        }
        let card = Card::start(self.session, &options, self.artefacts)?;
        let machines = (0..job.guests)
            .map(|n| self.machine(job, &card, n))
            .collect::<Result<Vec<_>>>()?;
        let (outcomes, samples) = self.side_by_side(&machines, &control)?;
        card.stop()?;
        let log = fs::read_to_string(self.artefacts.join("card.log")).unwrap_or_default();
        let counters = counters(&log);
        let guests = outcomes
            .iter()
            .enumerate()
            .map(|(n, outcome)| result(outcome, counters.get(n).cloned().unwrap_or_default()))
            .collect::<Result<_>>()?;
        Ok(Done { guests, samples })
    }

    fn machine(&self, job: &Job, card: &Card, number: u16) -> Result<Machine> {
        let mut machine = Machine::new(self.kernel, self.files(job)?);
        let socket = card.socket(number);
        machine.devices.push(Device::VfioUser { socket });
        if job.suite == Suite::Rodinia {
            debian::attach(&mut machine, self.testbed);
        }
        machine.steps.push(probe());
        machine.steps.push(Step::new(BENCH, script(job, number)));
        machine.time_out = time_out(job);
        Ok(machine)
    }

    /// Runs machines at the same time, and looks at the counters of the card meanwhile.
    fn side_by_side(
        &self,
        machines: &[Machine],
        control: &Path,
    ) -> Result<(Vec<Outcome>, Vec<Sample>)> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sampler = (machines.len() > 1).then(|| scope.spawn(|| sample(control, &over)));
            let guests: Vec<_> = machines
                .iter()
                .enumerate()
                .map(|(n, machine)| {
                    scope.spawn(move || -> Result<Outcome> {
                        let artefacts = self.artefacts.join(format!("guest{n}"));
                        fs::create_dir_all(&artefacts)?;
                        machine.run(self.session, self.testbed, &artefacts)
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

    fn nested(&self, job: &Job) -> Result<Done> {
        if job.suite == Suite::Rodinia {
            bail!("OpenCL workloads are only run over vfio-user");
        }
        let mut files = self.files(job)?;
        files.add_steps(&[probe(), Step::new(BENCH, script(job, 0))]);
        let (testbed, kernel) = (self.testbed, self.kernel);
        let mut machine = nested::machine(testbed, kernel, &self.programs.gpuvm, &files, None)?;
        machine.time_out = 2 * time_out(job);
        let mode = match &job.mode {
            Mode::Passthrough => "passthrough".to_owned(),
            Mode::Fv(opt) => format!("fv --opt {opt} --sched {}", job.sched),
        };
        let command = format!(
            "gpuvm run --kernel {} --initrd {} --cmdline '{}' --memory 512M --cpus 1 --gpu soft \
             --vram {VRAM_MIB}M --stats --mode {mode}",
            nested::KERNEL,
            nested::INITRAMFS,
            nested::PARAMETERS
        );
        machine.steps.push(Step::new("run", command));
        let outcome = machine.run(self.session, self.testbed, self.artefacts)?;
        let counters = counters(&outcome.step("run")?.output);
        let guest = result(&outcome, counters.into_iter().next().unwrap_or_default())?;
        Ok(Done {
            guests: vec![guest],
            samples: Vec::new(),
        })
    }
}

fn probe() -> Step {
    Step::new("probe", "modprobe nouveau && ls /dev/dri/renderD128")
}

/// What guest `number` does.
fn script(job: &Job, number: u16) -> String {
    let large = job.size != "small";
    match job.suite {
        Suite::Boot => "cat /proc/uptime".into(),
        Suite::Micro => match large {
            true => "gpubench copy --json --max 16 --time 100".into(),
            false => "gpubench copy --json --max 1 --time 20".into(),
        },
        Suite::Copy => match large {
            true => "gpubench copy --json --max 64 --time 200".into(),
            false => "gpubench copy --json --max 16 --time 50".into(),
        },
        Suite::Rodinia => format!("debian rodinia all --size {} --json", job.size),
        Suite::Sharing => {
            let kib = 1024 << (number % 4);
            let seconds = if large { 60 } else { 20 };
            format!("gpubench load --json --engine m2mf --kib {kib} --seconds {seconds}")
        }
    }
}

fn time_out(job: &Job) -> Duration {
    let seconds = match (job.suite, job.size.as_str()) {
        (Suite::Rodinia, "small") => 900,
        (Suite::Rodinia, _) => 3600,
        (_, "small") => 300,
        _ => 900,
    };
    Duration::from_secs(seconds * u64::from(job.guests.max(1)))
}

fn result(outcome: &Outcome, counters: Counters) -> Result<GuestResult> {
    let probe = outcome.step("probe")?;
    let bench = outcome.step(BENCH)?;
    let lines = bench.output.lines().filter(|line| line.starts_with('{'));
    let lines = lines.filter_map(|line| serde_json::from_str(line).ok());
    let result = |line: &serde_json::Value| line.get("type").is_none_or(|kind| kind != "progress");
    Ok(GuestResult {
        probe_s: probe.seconds,
        bench_s: bench.seconds,
        lines: lines.filter(result).collect(),
        counters,
    })
}

/// The counters that `--stats` printed, by machine.
fn counters(log: &str) -> Vec<Counters> {
    let mut all: Vec<Counters> = Vec::new();
    for line in log.lines() {
        let line = line.trim_end();
        if let Some(name) = line.strip_suffix(':')
            && name.starts_with("vm")
        {
            all.push(BTreeMap::new());
        } else if let Some((name, value)) = line.strip_prefix("  ").and_then(|l| l.split_once(": "))
            && let Ok(value) = value.parse()
            && let Some(counters) = all.last_mut()
        {
            counters.insert(name.to_owned(), value);
        }
    }
    all
}

/// Looks at the counters until it is over.
fn sample(socket: &Path, over: &AtomicBool) -> Result<Vec<Sample>> {
    let mut control = Control::connect(socket)?;
    let begin = Instant::now();
    let mut samples = Vec::new();
    while !over.load(Ordering::Acquire) {
        let engine_ns = control.counters()?.iter().map(engine_time).collect();
        samples.push(Sample {
            ms: begin.elapsed().as_millis() as u64,
            engine_ns,
        });
        thread::sleep(SAMPLE);
    }
    Ok(samples)
}

/// Time that the scheduler accounted where there is one, which knows it better than samples do.
fn engine_time(counters: &Counters) -> u64 {
    let sum = |name: &str| -> Option<u64> {
        let named = || counters.iter().filter(|(key, _)| key.starts_with(name));
        named()
            .next()
            .map(|_| named().map(|(_, value)| value).sum())
    };
    sum("gpu_sched_busy_ns_total")
        .or_else(|| sum("gpu_engine_ns_total"))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_they_are_printed() {
        let log =
            "2026 INFO something: 3\nvm0:\n  flushes: 4\n  reads Bar0 pmc: 7\nvm1:\n  flushes: 9\n";
        let all = counters(log);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["reads Bar0 pmc"], 7);
        assert_eq!(all[1]["flushes"], 9);
    }
}
