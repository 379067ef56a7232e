//! Where jobs are done.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use e2e::{Initramfs, Kernel, Session, Testbed, debian};

use crate::job::{Job, Suite};
use crate::record::{GuestResult, Sample};

/// What an access of a card's BAR costs over PCIe, as options of `gpuvm`, in nanoseconds: a read
/// there and back through a bridge or two; a write is posted.
pub const PCIE: [(&str, u32); 2] = [("--pcie-read-ns", 900), ("--pcie-write-ns", 100)];

/// What runs on the host and in guests.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `gpuvm`; a static one for [`Way::Nested`](crate::Way::Nested).
    pub gpuvm: PathBuf,
    /// `gpubench`, static.
    pub gpubench: PathBuf,
    /// `rodinia`, which needs Debian's libraries; without it, that suite cannot run.
    pub rodinia: Option<PathBuf>,
}

/// What there is to do jobs with.
pub struct Lab<'a> {
    pub session: &'a Session,
    pub testbed: &'a Testbed,
    pub programs: &'a Programs,
    pub kernel: Kernel,
    /// Where logs go; it exists.
    pub logs: &'a Path,
}

/// What came out of a job.
#[derive(Debug)]
pub struct Done {
    pub guests: Vec<GuestResult>,
    pub samples: Vec<Sample>,
}

/// Is told of jobs.
pub trait Witness {
    /// One begins.
    fn begin(&mut self, job: &Job);

    /// One has ended, in a machine that came up at `machine`: see
    /// [`Record::machine`](crate::Record::machine). With an error, no further job is done.
    fn end(&mut self, job: &Job, machine: u64, done: Result<Done>) -> Result<()>;
}

impl Lab<'_> {
    /// The directory for a job's logs.
    pub fn logs_of(&self, job: &Job) -> Result<PathBuf> {
        let directory = self.logs.join(job.key().replace([' ', ',', ':'], "_"));
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("Cannot make {}", directory.display()))?;
        Ok(directory)
    }

    /// What guests of a suite boot into, but for the steps.
    pub fn files(&self, suite: Suite) -> Result<Initramfs> {
        let modules: Vec<&str> = match suite {
            Suite::Rodinia => [debian::MODULES, &["nouveau"]].concat(),
            _ => vec!["nouveau"],
        };
        let mut files = Initramfs::new(self.testbed, self.kernel, &modules)?;
        files.add_programs(std::slice::from_ref(&self.programs.gpubench))?;
        if suite == Suite::Rodinia {
            let rodinia = self.programs.rodinia.as_ref();
            let rodinia = rodinia.context("There is no program rodinia")?;
            debian::add_to(&mut files, std::slice::from_ref(rodinia))?;
        }
        Ok(files)
    }
}
