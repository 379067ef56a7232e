//! `cargo xtask e2e`: end-to-end tests by name.

use std::{fs, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use e2e::{
    Kernel, Session, Testbed,
    cases::{CASES, Case, Context},
    rig,
};

use crate::{
    build::{self, OnCard, Programs},
    testbed, workspace,
};

/// Arguments of `cargo xtask e2e`.
#[derive(Args)]
pub struct Arguments {
    /// The tests to run; all of them without a name
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only with this guest kernel: 6.1 or 6.12
    #[arg(long)]
    kernel: Option<Kernel>,
    /// List the tests
    #[arg(long)]
    list: bool,
    /// Do not show what the guests print
    #[arg(long)]
    quiet: bool,
}

/// Runs the tests that the arguments name, and says of each whether it passed.
///
/// # Errors
///
/// When they cannot be run at all.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        let guests = CASES.iter().map(|case| (case.name, case.about));
        let rig = rig::CASES.iter().map(|case| (case.name, case.about));
        for (name, about) in guests.chain(rig) {
            println!("{name:12} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut chosen: Vec<&Case> = Vec::new();
    let mut without_guest: Vec<&rig::Case> = Vec::new();
    for name in &arguments.names {
        let guest = CASES.iter().find(|case| case.name == name);
        let rig = rig::CASES.iter().find(|case| case.name == name);
        if guest.is_none() && rig.is_none() {
            bail!("There is no end-to-end test {name:?}: see `cargo xtask e2e --list`");
        }
        chosen.extend(guest);
        without_guest.extend(rig);
    }
    if arguments.names.is_empty() {
        chosen.extend(CASES);
        without_guest.extend(rig::CASES);
    }
    let kernels = arguments
        .kernel
        .map_or(Kernel::ALL.to_vec(), |kernel| vec![kernel]);
    let session = if arguments.quiet {
        Session::quiet()?
    } else {
        Session::echoing()?
    };
    let mut passed = true;
    if !chosen.is_empty() {
        let runner = Runner::new(&session)?;
        for case in chosen {
            for kernel in &kernels {
                passed &= runner.run(case, *kernel)?;
            }
        }
    }
    if !without_guest.is_empty() {
        let runner = RigRunner::new(&session)?;
        for case in without_guest {
            passed &= runner.run(case)?;
        }
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything that tests share.
pub struct Runner<'a> {
    session: &'a Session,
    testbed: Testbed,
    programs: Programs,
}

impl<'a> Runner<'a> {
    /// Builds what the tests need and prepares the testbed.
    ///
    /// # Errors
    ///
    /// When one of that fails.
    pub fn new(session: &'a Session) -> Result<Self> {
        let testbed = testbed::open()?;
        Ok(Self {
            session,
            testbed,
            programs: build::programs()?,
        })
    }

    /// Runs a test and prints its line; whether it passed.
    ///
    /// # Errors
    ///
    /// When the user wants to stop, or there is no place for the logs.
    pub fn run(&self, case: &Case, kernel: Kernel) -> Result<bool> {
        let name = format!("{}-{kernel}", case.name);
        let artefacts = workspace::target().join("e2e").join(name);
        fs::create_dir_all(&artefacts)
            .with_context(|| format!("Cannot make {}", artefacts.display()))?;
        let context = Context {
            session: self.session,
            testbed: &self.testbed,
            kernel,
            gpuvm: self.programs.gpuvm.clone(),
            tools: &self.programs.guest_tools,
            debian_tools: &self.programs.debian_tools,
            artefacts,
        };
        let start = Instant::now();
        let result = (case.run)(&context);
        self.session.check()?;
        let seconds = start.elapsed().as_secs();
        match &result {
            Ok(remark) => println!("PASS {} {kernel}: {remark} ({seconds} s)", case.name),
            Err(error) => {
                let logs = context.artefacts.display();
                println!("FAIL {} {kernel}: {error:#} (logs in {logs})", case.name);
            }
        }
        Ok(result.is_ok())
    }
}

/// Everything that tests without a guest share.
pub struct RigRunner<'a> {
    session: &'a Session,
    testbed: Testbed,
    programs: OnCard,
}

impl<'a> RigRunner<'a> {
    /// Builds what the tests need and prepares the testbed.
    ///
    /// # Errors
    ///
    /// When one of that fails.
    pub fn new(session: &'a Session) -> Result<Self> {
        let testbed = testbed::open()?;
        Ok(Self {
            session,
            testbed,
            programs: build::on_card()?,
        })
    }

    /// Runs a test and prints its line; whether it passed.
    ///
    /// # Errors
    ///
    /// When the user wants to stop, or something that the test needs cannot be prepared.
    pub fn run(&self, case: &rig::Case) -> Result<bool> {
        let artefacts = workspace::target().join("e2e").join(case.name);
        fs::create_dir_all(&artefacts)
            .with_context(|| format!("Cannot make {}", artefacts.display()))?;
        let rig = rig::Rig {
            session: self.session,
            testbed: &self.testbed,
            gpuvm: self.programs.gpuvm.clone(),
            corpus: self.programs.corpus.clone(),
            piglit: case.piglit.then(testbed::piglit).transpose()?,
            artefacts,
        };
        let start = Instant::now();
        let result = (case.run)(&rig);
        self.session.check()?;
        let seconds = start.elapsed().as_secs();
        match &result {
            Ok(remark) => println!("PASS {}: {remark} ({seconds} s)", case.name),
            Err(error) => {
                let logs = rig.artefacts.display();
                println!("FAIL {}: {error:#} (logs in {logs})", case.name);
            }
        }
        Ok(result.is_ok())
    }
}
