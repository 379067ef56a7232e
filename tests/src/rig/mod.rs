//! Tests without a machine: programs on the card, which is in their own process (`gpuvm exec`).

mod corpus;
mod faults;
mod piglit;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{Session, Supervised, Testbed, session::POLL};

/// A test. It runs once: there is no kernel in it.
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// It needs packaged piglit.
    pub piglit: bool,
    /// Runs it; a remark for the line that says that it passed.
    pub run: fn(&Rig<'_>) -> Result<String>,
}

/// All tests, quickest first.
pub const CASES: &[Case] = &[
    Case {
        name: "corpus",
        about: "kernels aimed at one thing each are right on the card, on PoCL and on llvmpipe",
        piglit: false,
        run: corpus::run,
    },
    Case {
        name: "exec-faults",
        about: "kernels that go wrong end their own program and no other one",
        piglit: false,
        run: faults::run,
    },
    Case {
        name: "piglit-quick",
        about: "a part of piglit's compute tests passes on the card, in its own process",
        piglit: true,
        run: piglit::quick,
    },
    Case {
        name: "piglit",
        about: "of piglit's compute tests, those that pass on the CPU pass on the card, or it is known why not",
        piglit: true,
        run: piglit::all,
    },
];

/// What a test works with.
pub struct Rig<'a> {
    /// The invocation it belongs to.
    pub session: &'a Session,
    /// The Debian tree, and PoCL.
    pub testbed: &'a Testbed,
    /// The `gpuvm` program, beside the library with the card.
    pub gpuvm: PathBuf,
    /// The `corpus` program.
    pub corpus: PathBuf,
    /// The tree with piglit, where the test needs it.
    pub piglit: Option<PathBuf>,
    /// Where logs go; it exists.
    pub artefacts: PathBuf,
}

/// How a program ended, and what it printed.
struct Ended {
    status: ExitStatus,
    output: String,
}

impl Rig<'_> {
    /// `gpuvm exec` in the Debian tree with `layers` over it, to be given the program.
    fn exec(&self, layers: &[&Path]) -> Command {
        let mut command = Command::new(&self.gpuvm);
        command.arg("exec");
        for layer in layers {
            command.arg("--root").arg(layer);
        }
        command.arg("--root").arg(self.testbed.debian());
        command.current_dir(&self.artefacts);
        command
    }

    /// `corpus` there, to be given its arguments; `options` are those of `gpuvm exec`.
    fn program(&self, layers: &[&Path], options: &[&str]) -> Command {
        let mut command = self.exec(layers);
        command
            .args(options)
            .arg("--bind")
            .arg(&self.corpus)
            .arg("--")
            .arg(&self.corpus);
        command
    }

    /// As [`Rig::run`], where it does not matter how the program ends; it may be stopped.
    fn output(&self, command: &mut Command, log: &str, limit: Duration) -> Result<String> {
        match self.run(command, log, limit) {
            Ok(ended) => Ok(ended.output),
            Err(error) => {
                self.session.check()?;
                let path = self.artefacts.join(log).with_extension("log");
                fs::read(path)
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    .map_err(|_| error)
            }
        }
    }

    /// Runs a command to its end; its output is also in `LOG.log`.
    fn run(&self, command: &mut Command, log: &str, limit: Duration) -> Result<Ended> {
        let log = self.artefacts.join(log).with_extension("log");
        let start = Instant::now();
        let mut child = Supervised::spawn("program", command, &log)?;
        let status = loop {
            if let Some(status) = child.poll()? {
                break status;
            }
            self.session.check()?;
            if start.elapsed() > limit {
                bail!("It did not end within {} s", limit.as_secs());
            }
            thread::sleep(POLL);
        };
        let output = fs::read(&log).with_context(|| format!("Cannot read {}", log.display()))?;
        Ok(Ended {
            status,
            output: String::from_utf8_lossy(&output).into_owned(),
        })
    }
}
