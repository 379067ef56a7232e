//! Does the jobs of a plan, one after the other.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use e2e::{Kernel, Session, Testbed};
use indicatif::{ProgressBar, ProgressStyle};

use crate::machines::{Lab, Programs};
use crate::plan::{Job, Plan};
use crate::record::{HostInfo, RESULTS, Record, read_all};

/// Does jobs and keeps their records.
pub struct Runner {
    testbed: Testbed,
    programs: Programs,
    kernel: Kernel,
    directory: PathBuf,
}

impl Runner {
    /// Results go to `directory`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn new(
        testbed: Testbed,
        programs: Programs,
        kernel: Kernel,
        directory: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(directory.join("logs"))
            .with_context(|| format!("Cannot make {}", directory.display()))?;
        Ok(Self {
            testbed,
            programs,
            kernel,
            // Paths of sockets and files are given to other processes.
            directory: directory.canonicalize()?,
        })
    }

    /// Does the jobs of `plan` whose record is not there yet; how many failed. A job that failed is
    /// recorded as such and does not stop the others; it is done again the next time.
    ///
    /// # Errors
    ///
    /// The user wants to stop, or records cannot be written. What was recorded stays.
    pub fn run(&self, plan: &Plan) -> Result<usize> {
        let session = Session::quiet()?;
        let done: HashSet<String> = read_all(&self.directory)?
            .into_iter()
            .filter(|record| record.error.is_none())
            .map(|record| record.job.key())
            .collect();
        let left: Vec<&Job> = plan
            .jobs
            .iter()
            .filter(|job| !done.contains(&job.key()))
            .collect();
        if left.len() < plan.jobs.len() {
            eprintln!(
                "{} of {} runs are there already",
                plan.jobs.len() - left.len(),
                plan.jobs.len()
            );
        }
        let bar = ProgressBar::new(left.len() as u64);
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} + {eta}  {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(500));
        let mut failures = 0;
        for job in left {
            bar.set_message(job.to_string());
            let record = self.record(&session, job);
            session.check()?;
            if let Some(error) = &record.error {
                failures += 1;
                bar.suspend(|| eprintln!("{job}: {error}"));
            }
            self.append(&record)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(failures)
    }

    fn record(&self, session: &Session, job: &Job) -> Record {
        let logs = self
            .directory
            .join("logs")
            .join(job.key().replace(' ', "_"));
        let lab = Lab {
            session,
            testbed: &self.testbed,
            programs: &self.programs,
            kernel: self.kernel,
            artefacts: &logs,
        };
        let begin = Instant::now();
        let done = fs::create_dir_all(&logs)
            .context("Cannot make the directory of logs")
            .and_then(|()| lab.run(job));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut record = Record {
            job: job.clone(),
            host: HostInfo::this(self.kernel.to_string()),
            time: now.map_or(0, |since| since.as_secs()),
            wall_ms: begin.elapsed().as_millis() as u64,
            guests: Vec::new(),
            samples: Vec::new(),
            error: None,
        };
        match done {
            Ok(done) => {
                record.guests = done.guests;
                record.samples = done.samples;
                // They are large, and say nothing that a good run's record does not.
                let _ = fs::remove_dir_all(&logs);
            }
            Err(error) => record.error = Some(format!("{error:#}")),
        }
        record
    }

    /// Appends a line, in one piece, behind whatever an interruption left of the last one.
    fn append(&self, record: &Record) -> Result<()> {
        let path = self.directory.join(RESULTS);
        let whole = fs::read(&path).is_ok_and(|bytes| bytes.last().is_none_or(|b| *b == b'\n'));
        let mut file: File = OpenOptions::new().append(true).create(true).open(&path)?;
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if !whole && path.exists() && fs::metadata(&path)?.len() > 0 {
            truncate_to_lines(&path)?;
        }
        file.write_all(&line)
            .with_context(|| format!("Cannot write {}", path.display()))
    }
}

/// Cuts off a line without an end.
fn truncate_to_lines(path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    OpenOptions::new()
        .write(true)
        .open(path)?
        .set_len(end as u64)?;
    Ok(())
}
