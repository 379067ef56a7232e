//! Guests of `gpuvm run`: on this host's KVM, or in a machine that has KVM.
//!
//! Either way the command line is the same. The machine does all jobs that are left, one after the
//! other, so that what is compared ran in the same one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use e2e::{Initramfs, Machine, Running, Step, StepResult, Supervised, debian, nested, steps_in};

use crate::control::{Sampler, samples_in};
use crate::job::{Job, Suite};
use crate::lab::{Done, Lab, PCIE, Witness};
use crate::record::{Counters, ENGINE_TIME, Sample};
use crate::work;

/// RAM of a guest, in MiB.
const MEMORY_MIB: u32 = 512;
/// RAM of the machine that runs guests, beside theirs and their cards', in MiB.
const OUTER_MIB: u32 = 1024;
/// Video memory of a guest, in MiB; of each where there are several.
const VRAM_MIB: u32 = 512;
const SHARED_VRAM_MIB: u32 = 128;
/// How often it is looked whether a job has ended.
const POLL: Duration = Duration::from_millis(50);
/// How long a machine may take beyond its jobs.
const BOOT: Duration = Duration::from_secs(180);
/// Where the machine has what guests boot into that run OpenCL.
const OPENCL_INITRAMFS: &str = "/guest/opencl.cpio";

/// Files in a job's directory, which is where `gpuvm run` is started.
const INITRD: &str = "initrd";
const CONTROL: &str = "control";

/// The file of guest `n`, and what is in it. A guest knows its number from its environment, to which
/// Linux adds words of its command line that it does not know.
fn guest_file(n: u16) -> (String, String) {
    let parameters = nested::PARAMETERS;
    (
        format!("vm{n}.toml"),
        format!("cmdline = \"{parameters} guest={n}\""),
    )
}

/// The arguments of `gpuvm` for a job, with guests of `kernel` and, if they need one, `disk`.
fn arguments(job: &Job, kernel: &str, disk: &str) -> Vec<String> {
    let memory = format!("{}M", memory(job));
    let mut all: Vec<String> = [
        "run",
        "--kernel",
        kernel,
        "--initrd",
        INITRD,
        "--cpus",
        "1",
        "--memory",
        &memory,
        "--gpu",
        "soft",
        "--stats",
        "--on-reset",
        "exit",
    ]
    .map(String::from)
    .into();
    let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
    for n in 0..job.guests {
        add("--vm", guest_file(n).0);
    }
    if job.suite == Suite::Rodinia {
        add("--disk", format!("{disk},ro"));
    }
    match job.mode.options() {
        None => add("--mode", "passthrough".into()),
        Some((opt, track)) => {
            add("--mode", "fv".into());
            add("--opt", opt.into());
            add("--track", track.into());
            add("--sched", job.sched.clone());
        }
    }
    add("--vram", format!("{}M", vram(job)));
    if job.slow_motion > 0 {
        add("--slow-motion", job.slow_motion.to_string());
    }
    if job.pcie {
        for (name, cost) in PCIE {
            add(name, cost.to_string());
        }
    }
    if job.suite == Suite::Sharing {
        // Consoles go to files, or frames of one guest would break those of another.
        add("--control", CONTROL.into());
        add("--console-dir", ".".into());
    }
    all
}

/// What the machine does for a job, whose guests boot into the files `initramfs` and `steps`.
fn script(job: &Job, initramfs: &str, steps: &str) -> String {
    let mut script = format!(
        "mkdir -p /tmp/job && cd /tmp/job && rm -f ./* && \
         cat {initramfs} {steps} >{INITRD} || exit 1\n"
    );
    for n in 0..job.guests {
        let (name, content) = guest_file(n);
        script += &format!("echo '{content}' >{name}\n");
    }
    let words = arguments(job, nested::KERNEL, nested::DISK);
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let limit = work::time_out(job).as_secs();
    let run = format!("timeout -k 5 {limit} gpuvm {} </dev/null", words.join(" "));
    if job.suite != Suite::Sharing {
        return format!("{script}{run}\n");
    }
    format!(
        "{script}\
         (while [ ! -S {CONTROL} ]; do sleep 0.2; done\n \
         exec gpuvm ctl --every {} --only {} {CONTROL} counters) >samples 2>&1 &\n\
         sampler=$!\n\
         {run}\nstatus=$?\n\
         kill $sampler\ncat samples vm*.log\nexit $status\n",
        Sample::INTERVAL_MS,
        ENGINE_TIME.join(",")
    )
}

/// RAM of a job's guests, in MiB.
const fn memory(job: &Job) -> u32 {
    match job.suite {
        Suite::Rodinia => debian::MEMORY_MIB,
        Suite::Sharing => MEMORY_MIB / 2,
        _ => MEMORY_MIB,
    }
}

/// Video memory of each of a job's guests, in MiB.
const fn vram(job: &Job) -> u32 {
    match job.suite {
        Suite::Sharing => SHARED_VRAM_MIB,
        _ => VRAM_MIB,
    }
}

/// What a job's script and the guests in it printed.
fn done(job: &Job, steps: &[StepResult]) -> Result<Done> {
    let (outer, inner) = steps.split_first().context("The job printed nothing")?;
    let guests = work::by_guest(inner);
    // A guest that failed says why better than the VMM that it ended.
    let mut results = guests
        .iter()
        .map(|steps| work::result(steps, Counters::new()))
        .collect::<Result<Vec<_>>>()
        .with_context(|| format!("The VMM ended with status {}", outer.status))?;
    outer.succeeded()?;
    ensure!(
        results.len() == usize::from(job.guests),
        "Of {} guests {} came to their work",
        job.guests,
        results.len()
    );
    let counters = work::counters(&outer.output);
    let exits = work::exits(&outer.output);
    if let [alone] = &mut results[..] {
        work::add_costs_of_runs(&mut alone.lines, &outer.output);
    }
    for (n, result) in results.iter_mut().enumerate() {
        result.counters = counters.get(n).cloned().unwrap_or_default();
        let exits = exits.get(&format!("vm{n}")).cloned();
        result.counters.extend(exits.unwrap_or_default());
    }
    Ok(Done {
        guests: results,
        samples: samples_in(&outer.output),
    })
}

/// The whole path of a file that has to be there.
fn found(file: &Path) -> Result<PathBuf> {
    file.canonicalize()
        .with_context(|| format!("There is no {}", file.display()))
}

/// Does a job on this host's KVM.
pub fn on_host(lab: &Lab<'_>, job: &Job) -> Result<Done> {
    let logs = lab.logs_of(job)?;
    let scratch = logs.join("scratch");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir(&scratch).with_context(|| format!("Cannot make {}", scratch.display()))?;
    let mut initrd = lab.files(job.suite)?.build();
    initrd.extend(Initramfs::of_steps(&work::steps(job, "$guest")));
    fs::write(scratch.join(INITRD), initrd)?;
    for (name, content) in (0..job.guests).map(guest_file) {
        fs::write(scratch.join(name), content)?;
    }
    let kernel = found(&lab.testbed.kernel(lab.kernel)?.image)?;
    let disk = match job.suite {
        Suite::Rodinia => found(&lab.testbed.disk())?,
        // The others have none, and a testbed need not.
        _ => PathBuf::new(),
    };
    let text = |path: &Path| path.display().to_string();
    let mut command = Command::new(found(&lab.programs.gpuvm)?);
    command
        .args(arguments(job, &text(&kernel), &text(&disk)))
        .current_dir(&scratch);
    let log = logs.join("output.log");
    let mut process = Supervised::spawn("VMM", &mut command, &log)?;
    let mut sampler = (job.suite == Suite::Sharing).then(|| Sampler::new(&scratch.join(CONTROL)));
    let (begin, limit) = (Instant::now(), work::time_out(job));
    let status = loop {
        lab.session.check()?;
        if let Some(status) = process.poll()? {
            break status;
        }
        if begin.elapsed() > limit {
            bail!("The guests were not done after {} s", limit.as_secs());
        }
        if let Some(sampler) = &mut sampler {
            // Nobody listens before the guests are there, nor when they are gone.
            let _ = sampler.look();
        }
        thread::sleep(POLL);
    };
    let mut output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    for n in 0..job.guests {
        // Only of guests that share there are such files.
        if let Ok(console) = fs::read(scratch.join(format!("vm{n}.log"))) {
            output += &String::from_utf8_lossy(&console);
        }
    }
    let mut steps = vec![StepResult {
        name: "job".into(),
        status: status.code().unwrap_or(-1),
        output: output.clone(),
        seconds: begin.elapsed().as_secs_f64(),
    }];
    steps.extend(steps_in(&output));
    let mut done = done(job, &steps)?;
    if let Some(sampler) = sampler {
        done.samples = sampler.samples;
    }
    let _ = fs::remove_dir_all(&logs);
    Ok(done)
}

/// A word of the shell: in quotes where it needs them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,.:/@".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Does jobs in a machine with KVM, in another one where a job has ended that.
pub fn nested(lab: &Lab<'_>, jobs: &[&Job], witness: &mut dyn Witness) -> Result<()> {
    let mut left = jobs;
    while !left.is_empty() {
        let count = in_one_machine(lab, left, witness)?;
        ensure!(count > 0, "The machine with KVM went down before its jobs");
        left = &left[count..];
    }
    Ok(())
}

/// The name of the step of job `n`.
fn job_step(n: usize) -> String {
    format!("job{n}")
}

/// Does as many of `jobs` as a machine survives; how many.
fn in_one_machine(lab: &Lab<'_>, jobs: &[&Job], witness: &mut dyn Witness) -> Result<usize> {
    let machine = machine(lab, jobs)?;
    let logs = lab.logs.join("machine");
    fs::create_dir_all(&logs).with_context(|| format!("Cannot make {}", logs.display()))?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.map_or(0, |since| since.as_secs());
    let mut running = machine.start(lab.testbed, &logs)?;
    let mut begun = None;
    let mut n = 0;
    loop {
        let over = running.poll(lab.session);
        lab.session.check()?;
        while let Some(job) = jobs.get(n) {
            if begun != Some(n) && has_begun(&running, n) {
                begun = Some(n);
                witness.begin(job);
            }
            let Some(steps) = running.ended(&job_step(n)) else {
                break;
            };
            let result = done(job, &steps);
            if result.is_err() {
                // All of it: what a VMM says of its end is behind the guest's last step.
                let kept = lab.logs_of(job)?;
                for log in ["output.log", "console.log"] {
                    fs::copy(logs.join(log), kept.join(log))?;
                }
            }
            witness.end(job, since, result)?;
            n += 1;
        }
        match over {
            Ok(None) => thread::sleep(POLL),
            Ok(Some(_)) => {
                let _ = fs::remove_dir_all(&logs);
                return Ok(n);
            }
            Err(error) => {
                let Some(job) = jobs.get(n).filter(|_| begun == Some(n)) else {
                    return match n {
                        0 => Err(error),
                        _ => Ok(n),
                    };
                };
                witness.end(job, since, Err(error))?;
                return Ok(n + 1);
            }
        }
    }
}

fn has_begun(running: &Running<'_>, n: usize) -> bool {
    running.output(&job_step(n)).is_some()
}

/// A machine with KVM whose steps are `jobs`.
fn machine(lab: &Lab<'_>, jobs: &[&Job]) -> Result<Machine> {
    let gpuvm = &lab.programs.gpuvm;
    let inner = lab.files(Suite::Micro)?;
    let mut machine = nested::machine(lab.testbed, lab.kernel, gpuvm, &inner, None)?;
    let opencl = jobs.iter().any(|job| job.suite == Suite::Rodinia);
    if opencl {
        let files = lab.files(Suite::Rodinia)?;
        machine.files.add_bytes(OPENCL_INITRAMFS, &files.build())?;
        nested::attach_disk(&mut machine, lab.testbed);
    }
    machine.time_out = BOOT;
    for (n, job) in jobs.iter().enumerate() {
        let steps = format!("/guest/{}.cpio", job_step(n));
        let archive = Initramfs::of_steps(&work::steps(job, "$guest"));
        machine.files.add_bytes(&steps, &archive)?;
        let initramfs = match job.suite {
            Suite::Rodinia => OPENCL_INITRAMFS,
            _ => nested::INITRAMFS,
        };
        let script = script(job, initramfs, &steps);
        machine.steps.push(Step::new(&job_step(n), script));
        machine.time_out += work::time_out(job) + Duration::from_secs(10);
    }
    let guests = jobs
        .iter()
        .map(|job| u32::from(job.guests) * (memory(job) + vram(job)))
        .max();
    machine.memory_mib = OUTER_MIB + guests.unwrap_or(0);
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::job;

    fn script_of(job: &Job) -> String {
        script(job, "a", "b")
    }

    fn step(name: &str, status: i32, output: &str) -> StepResult {
        StepResult {
            name: name.into(),
            status,
            output: output.into(),
            seconds: 1.0,
        }
    }

    #[test]
    fn job_becomes_a_command_line() {
        let script = script_of(&job(Suite::Rodinia, "fv:bulk+incremental@ring", 1));
        for part in [
            "cat a b >initrd",
            "timeout -k 5 1200 gpuvm run --kernel /guest/vmlinuz",
            "--disk /dev/vda,ro",
            "--mode fv --opt bulk,incremental --track ring --sched direct",
        ] {
            assert!(script.contains(part), "{part} is missing in {script}");
        }
        assert!(!script.contains("--control"));
        let script = script_of(&job(Suite::Micro, "passthrough", 1));
        assert!(script.contains("--mode passthrough --vram"), "{script}");
    }

    #[test]
    fn each_of_several_guests_has_its_file_and_counters_are_sampled() {
        let script = script_of(&job(Suite::Sharing, "fv:all", 4));
        for part in [
            "guest=3",
            "--vm vm0.toml --vm vm1",
            "ctl --every 250",
            "--console-dir",
        ] {
            assert!(script.contains(part), "{part} is missing in {script}");
        }
    }

    #[test]
    fn guests_and_counters_of_a_job_are_put_together() {
        let printed = "vm0:\n  syncs: 4\nexits_total{vm=\"vm1\",vcpu=\"0\",kind=\"pio\"}: 2\n\
                       vm1:\n  syncs: 5\n";
        let guest = |bytes: u64| {
            let line = format!("{{\"type\":\"load\",\"bytes\":{bytes}}}");
            [step("probe", 0, ""), step("bench", 0, &line)]
        };
        let mut steps = vec![step("job0", 0, printed)];
        steps.extend(guest(1).into_iter().chain(guest(2)));
        let job = job(Suite::Sharing, "fv:all", 2);
        let both = done(&job, &steps).unwrap();
        assert_eq!(both.guests[0].counters["syncs"], 4);
        assert_eq!(both.guests[1].counters["exits pio"], 2);
        assert_eq!(both.guests[1].lines[0]["bytes"], 2);

        let error = done(&job, &steps[..3]).unwrap_err().to_string();
        assert_eq!(error, "Of 2 guests 1 came to their work");
        steps[4].status = 7;
        let error = format!("{:#}", done(&job, &steps).unwrap_err());
        assert!(
            error.starts_with("The VMM ended with status 0: "),
            "{error}"
        );
        assert!(error.contains("bench failed"), "{error}");
    }

    #[test]
    fn word_has_quotes_where_it_needs_them() {
        assert_eq!(quoted("--opt=none,bulk"), "--opt=none,bulk");
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
        assert_eq!(quoted(""), "''");
    }
}
