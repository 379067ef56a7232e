//! A guest machine as a value, and running it.

use std::{
    fs,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    Initramfs, Kernel, Session, Supervised, Testbed,
    console::{DMESG, Parser, Record, Tail},
    dmesg::Dmesg,
    initramfs::step_name,
    nested,
    session::POLL,
};

/// The emulated CPU. With fast string instructions Linux clears device memory by the byte, as it
/// expects the CPU to combine the stores; emulation makes a bus transaction of each. Without, it
/// stores eight bytes at a time (6.1 `arch/x86/lib/memset_64.S` asks for ERMS, 6.12 for FSRS).
const CPU: &str = "max,-erms,-fsrm,-fsrs";

/// A machine under QEMU's emulation.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The stock kernel it boots.
    pub kernel: Kernel,
    /// Its chipset.
    pub board: Board,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Whether its CPUs offer SVM, so that it can run guests with KVM itself.
    pub nested: bool,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Devices beyond the serial ports.
    pub devices: Vec<Device>,
    /// Further words for the kernel's command line.
    pub parameters: Vec<String>,
    /// Its file system.
    pub files: Initramfs,
    /// What it does, in order; it powers off behind the last one.
    pub steps: Vec<Step>,
    /// How long all of that may take.
    pub time_out: Duration,
}

/// A chipset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// i440FX with conventional PCI.
    Pc,
    /// Q35 with an Intel IOMMU that remaps interrupts: a machine that can assign devices.
    Q35WithIommu,
}

/// A device.
#[derive(Clone, Debug)]
pub enum Device {
    /// A PCI function that another process serves over vfio-user.
    VfioUser {
        /// Its socket.
        socket: PathBuf,
    },
    /// A virtio disk with a raw image. It is never written to: changes go to a scratch file.
    Disk {
        /// The image.
        image: PathBuf,
    },
}

/// A step: a script for the guest's shell.
#[derive(Clone, Debug)]
pub struct Step {
    /// A short name without spaces.
    pub name: String,
    /// The script.
    pub script: String,
}

impl Step {
    /// A step called `name`.
    pub fn new(name: &str, script: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            script: script.into(),
        }
    }
}

/// What became of a step.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// The step's name.
    pub name: String,
    /// Exit status of its script.
    pub status: i32,
    /// What it printed.
    pub output: String,
    /// How long it took, in guest time.
    pub seconds: f64,
}

impl StepResult {
    /// Whether its script succeeded.
    ///
    /// # Errors
    ///
    /// It did not; the error has the end of what it printed.
    pub fn succeeded(&self) -> Result<()> {
        if self.status != 0 {
            let last = self
                .output
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or("");
            bail!("{} failed with status {}: {last}", self.name, self.status);
        }
        Ok(())
    }
}

/// What a machine left behind when it powered off.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The steps in order.
    pub steps: Vec<StepResult>,
    /// The kernel's log.
    pub dmesg: Dmesg,
    /// The logs of guests that this machine ran itself, in the order of their ends.
    pub inner: Vec<Dmesg>,
    /// How long the machine ran.
    pub wall: Duration,
}

impl Outcome {
    /// The step called `name`, which has to have succeeded.
    ///
    /// # Errors
    ///
    /// When it failed, with the end of what it printed.
    pub fn step(&self, name: &str) -> Result<&StepResult> {
        let step = self.steps.iter().find(|step| step.name == name);
        let step = step.with_context(|| format!("There was no step {name}"))?;
        step.succeeded()?;
        Ok(step)
    }
}

impl Machine {
    /// A small machine: two CPUs, 1 GiB, no devices, nothing to do, a minute and a half for it.
    pub fn new(kernel: Kernel, files: Initramfs) -> Self {
        Self {
            kernel,
            board: Board::Pc,
            vcpus: 2,
            nested: false,
            memory_mib: 1024,
            devices: Vec::new(),
            parameters: Vec::new(),
            files,
            steps: Vec::new(),
            time_out: Duration::from_secs(90),
        }
    }

    /// Runs the machine until it powers off: [`Machine::start`], and [`Running::poll`] until there
    /// is an outcome.
    ///
    /// # Errors
    ///
    /// As [`Running::poll`].
    pub fn run(&self, session: &Session, testbed: &Testbed, artefacts: &Path) -> Result<Outcome> {
        let mut running = self.start(testbed, artefacts)?;
        loop {
            if let Some(outcome) = running.poll(session)? {
                return Ok(outcome);
            }
            thread::sleep(POLL);
        }
    }

    /// Powers the machine on. `artefacts` receives `console.log` (the kernel's console),
    /// `output.log` (what the steps print), `dmesg.log`, `qemu.log` and the memory file system.
    ///
    /// # Errors
    ///
    /// When QEMU cannot be started.
    pub fn start(&self, testbed: &Testbed, artefacts: &Path) -> Result<Running<'_>> {
        for stale in ["output.log", "console.log", "dmesg.log"] {
            let _ = fs::remove_file(artefacts.join(stale));
        }
        let initramfs = artefacts.join("initramfs.cpio");
        let mut files = self.files.clone();
        files.add_steps(&self.steps);
        fs::write(&initramfs, files.build())
            .with_context(|| format!("Cannot write {}", initramfs.display()))?;
        // Socket paths are limited to about a hundred bytes.
        let directory = tempfile::Builder::new().prefix("gpuvm-").tempdir()?;
        let signal = directory.path().join("signal");
        let mut command = self.command(testbed, artefacts, &initramfs, &signal)?;
        Ok(Running {
            machine: self,
            qemu: Supervised::spawn("guest", &mut command, &artefacts.join("qemu.log"))?,
            tail: Tail::new(&artefacts.join("output.log")),
            parser: Parser::default(),
            start: Instant::now(),
            artefacts: artefacts.to_owned(),
            signal,
            _directory: directory,
        })
    }

    fn outcome(&self, parser: &Parser, artefacts: &Path, wall: Duration) -> Result<Outcome> {
        let ended = parser.records().iter().filter(|r| r.end.is_some());
        let logs = ended.filter(|record| record.name == DMESG);
        let mut logs: Vec<&str> = logs.map(|record| record.output.as_str()).collect();
        // A log that came while a step ran is that of a guest inside the guest.
        let outer = parser
            .records()
            .last()
            .filter(|r| r.name == DMESG && r.end.is_some());
        if outer.is_none() {
            bail!("{}", self.ending(parser, artefacts));
        }
        fs::write(artefacts.join("dmesg.log"), logs.join("\n"))?;
        let dmesg = logs.pop().map(Dmesg::parse).unwrap_or_default();
        let inner = logs.into_iter().map(Dmesg::parse).collect();
        let outcome = Outcome {
            steps: results(parser.records()),
            dmesg,
            inner,
            wall,
        };
        if self.nested {
            let ready = outcome.step(nested::READY);
            ready.context("The machine is not ready for guests")?;
        }
        Ok(outcome)
    }

    /// How a guest ended that did not get to its end.
    fn ending(&self, parser: &Parser, artefacts: &Path) -> String {
        let console = fs::read(artefacts.join("console.log")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let cause = console.lines().find(|line| {
            [
                "BUG: ",
                "Oops",
                "divide error",
                "general protection",
                "Kernel panic",
            ]
            .iter()
            .any(|sign| line.contains(sign))
        });
        match cause {
            Some(line) => format!("{} when its kernel crashed: {line}", progress(parser)),
            None => format!("{} when the machine went down", progress(parser)),
        }
    }

    fn command(
        &self,
        testbed: &Testbed,
        artefacts: &Path,
        initramfs: &Path,
        signal: &Path,
    ) -> Result<Command> {
        let mut qemu = testbed.qemu();
        let (machine, board_parameters) = match self.board {
            Board::Pc => ("pc,memory-backend=ram", ""),
            Board::Q35WithIommu => {
                qemu.args(["-device", "intel-iommu,intremap=on,caching-mode=on"]);
                (
                    "q35,kernel-irqchip=split,memory-backend=ram",
                    "intel_iommu=on ",
                )
            }
        };
        let serial = |name: &str| format!("file:{}", artefacts.join(name).display());
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-machine", machine])
        .args(["-accel", "tcg,thread=multi", "-cpu"])
        .arg(if self.nested {
            format!("{CPU},+svm,+npt")
        } else {
            CPU.to_owned()
        })
        .args(["-smp", &self.vcpus.to_string()])
        .args(["-m", &format!("{}M", self.memory_mib)])
        // The card reaches the guest's memory through this descriptor.
        .arg("-object")
        .arg(format!(
            "memory-backend-memfd,id=ram,size={}M,share=on",
            self.memory_mib
        ))
        .args([
            "-serial",
            &serial("console.log"),
            "-serial",
            &serial("output.log"),
            // The third port is how the harness speaks to steps.
            "-serial",
            &format!("unix:{},server=on,wait=off", signal.display()),
        ])
        .arg("-kernel")
        .arg(testbed.kernel(self.kernel)?.image)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!(
            // A busy host makes the kernel's test of its timer interrupt fail.
            "console=ttyS0 ignore_loglevel log_buf_len=4M panic=-1 oops=panic no_timer_check \
             {board_parameters}{}",
            self.parameters.join(" ")
        ));
        for (n, device) in self.devices.iter().enumerate() {
            match device {
                Device::VfioUser { socket } => qemu.arg("-device").arg(
                    serde_json::json!({
                        "driver": "vfio-user-pci",
                        "socket": { "type": "unix", "path": socket },
                    })
                    .to_string(),
                ),
                Device::Disk { image } => qemu
                    .arg("-drive")
                    .arg(format!(
                        "file={},format=raw,if=none,id=disk{n},snapshot=on",
                        image.display()
                    ))
                    .args(["-device", &format!("virtio-blk-pci,drive=disk{n}")]),
            };
        }
        Ok(qemu)
    }
}

/// A machine that is on. Dropped, it loses its power.
pub struct Running<'a> {
    machine: &'a Machine,
    qemu: Supervised,
    tail: Tail,
    parser: Parser,
    start: Instant,
    artefacts: PathBuf,
    signal: PathBuf,
    _directory: TempDir,
}

impl Running<'_> {
    /// Takes in what the machine printed; the outcome once it has powered off.
    ///
    /// # Errors
    ///
    /// When QEMU fails, the guest crashes or hangs, or the user wants to stop. A step that fails is
    /// no error: see [`Outcome::step`].
    pub fn poll(&mut self, session: &Session) -> Result<Option<Outcome>> {
        session.check()?;
        let status = self.qemu.poll()?;
        // Read after the poll: when QEMU has ended, everything is in the file.
        let text = self.tail.read()?;
        session.show(&self.parser.feed(&text));
        let Some(status) = status else {
            let limit = self.machine.time_out;
            if self.start.elapsed() > limit {
                bail!("{} after {} s", progress(&self.parser), limit.as_secs());
            }
            return Ok(None);
        };
        if !status.success() {
            let log = fs::read_to_string(self.artefacts.join("qemu.log")).unwrap_or_default();
            bail!(
                "QEMU ended with {status}: {}",
                log.lines().last().unwrap_or("no message")
            );
        }
        let elapsed = self.start.elapsed();
        let outcome = self
            .machine
            .outcome(&self.parser, &self.artefacts, elapsed)?;
        Ok(Some(outcome))
    }

    /// What the step called `name` has printed so far; `None` before it begins.
    pub fn output(&self, name: &str) -> Option<&str> {
        let mut records = self.parser.records().iter();
        let record = records.find(|record| step_name(&record.name) == name)?;
        Some(&record.output)
    }

    /// The step called `name`, once it has ended, and behind it those of guests that ran inside it.
    pub fn ended(&self, name: &str) -> Option<Vec<StepResult>> {
        let records = self.parser.records();
        let begin = records
            .iter()
            .position(|r| step_name(&r.name) == name && r.end.is_some())?;
        Some(results(&records[begin..records[begin].until]))
    }

    /// Sends a byte to the machine's third serial port, `/dev/ttyS2`, where a step waits for it.
    ///
    /// # Errors
    ///
    /// When QEMU does not listen.
    pub fn signal(&self) -> Result<()> {
        let mut port = UnixStream::connect(&self.signal).context("Cannot reach the guest")?;
        port.write_all(b"\n").context("Cannot reach the guest")
    }
}

/// What became of those steps that ended, as a guest's second serial port told.
fn results(records: &[Record]) -> Vec<StepResult> {
    let steps = records.iter().filter(|record| record.name != DMESG);
    let results = steps.filter_map(|record| {
        let (end, status) = record.end?;
        Some(StepResult {
            name: step_name(&record.name).to_owned(),
            status,
            output: record.output.clone(),
            seconds: end - record.begin,
        })
    });
    results.collect()
}

/// The steps of guests whose serial port was written to a file or a pipe: `text`.
pub fn steps_in(text: &str) -> Vec<StepResult> {
    let mut parser = Parser::default();
    parser.feed(text);
    results(parser.records())
}

/// How far a guest got, for a message.
fn progress(parser: &Parser) -> String {
    match parser.records().last() {
        None => "The guest had not come up".to_owned(),
        Some(record) => format!("The guest was still at {:?}", step_name(&record.name)),
    }
}
