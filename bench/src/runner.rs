//! Does the jobs of a plan, one after the other.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use e2e::{Kernel, Session, Testbed};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::job::{Job, Suite};
use crate::lab::{Done, Lab, Programs, Witness};
use crate::plan::Plan;
use crate::record::{HostInfo, RESULTS, Record, read_all};
use crate::ways;

/// Does jobs and keeps their records.
pub struct Runner {
    testbed: Testbed,
    programs: Programs,
    kernel: Kernel,
    directory: PathBuf,
    host: HostInfo,
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
            host: HostInfo::this(kernel.to_string()),
            // Paths of sockets and files are given to other processes.
            directory: directory.canonicalize()?,
        })
    }

    /// Does the jobs of `plan` whose record is not there yet; how many failed. A job that failed is
    /// recorded as such and does not stop the others; it is done again the next time.
    ///
    /// # Errors
    ///
    /// The user wants to stop, records cannot be written, or those that are there are not of this host
    /// and these guests. What was recorded stays.
    pub fn run(&self, plan: &Plan) -> Result<usize> {
        let _alone = lock(&self.directory)?;
        let session = Session::quiet()?;
        let records = read_all(&self.directory)?;
        comparable(&self.host, &records)?;
        let left = plan.left(&records);
        if left.len() < plan.jobs.len() {
            eprintln!(
                "{} of {} runs are there already",
                plan.jobs.len() - left.len(),
                plan.jobs.len()
            );
        }
        let logs = self.directory.join("logs");
        let lab = Lab {
            session: &session,
            testbed: &self.testbed,
            programs: &self.programs,
            kernel: self.kernel,
            logs: &logs,
        };
        let mut keeper = Keeper {
            runner: self,
            progress: Progress::new(&left),
            failures: 0,
        };
        let result = ways::run(&lab, &left, &mut keeper);
        keeper.progress.bar.finish_and_clear();
        result?;
        Ok(keeper.failures)
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

/// Keeps others from writing to `directory` as long as the file is open.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| format!("Cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("Another gpuvm bench is at work in {}", directory.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("Cannot lock {}", path.display()))
        }
    }
}

/// Fails unless figures of `host` can stand beside `records`.
fn comparable(host: &HostInfo, records: &[Record]) -> Result<()> {
    let describe = |host: &HostInfo| {
        format!(
            "guests with kernel {} on {} cores of {}",
            host.guest_kernel, host.cores, host.cpu
        )
    };
    let others = records.iter().map(|record| describe(&record.host));
    if let Some(other) = others.into_iter().find(|other| *other != describe(host)) {
        bail!(
            "The results there are of {other}, but these would be of {}: choose another --out",
            describe(host)
        );
    }
    Ok(())
}

/// Keeps records of jobs.
struct Keeper<'a> {
    runner: &'a Runner,
    progress: Progress,
    failures: usize,
}

impl Witness for Keeper<'_> {
    fn begin(&mut self, job: &Job) {
        self.progress.begin(job);
    }

    fn end(&mut self, job: &Job, machine: u64, done: Result<Done>) -> Result<()> {
        let wall = self.progress.end(job);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut record = Record {
            host: self.runner.host.clone(),
            time: now.map_or(0, |since| since.as_secs()),
            machine,
            wall_ms: wall.as_millis() as u64,
            ..Record::new(job.clone())
        };
        match done {
            Ok(done) => {
                record.guests = done.guests;
                record.samples = done.samples;
            }
            Err(error) => {
                self.failures += 1;
                let error = format!("{error:#}");
                self.progress.bar.suspend(|| eprintln!("{job}: {error}"));
                record.error = Some(error);
            }
        }
        self.runner.append(&record)
    }
}

/// How far a plan is.
struct Progress {
    bar: ProgressBar,
    /// What is left, in order.
    left: VecDeque<Job>,
    /// How long jobs of a kind took, and how many there were.
    took: BTreeMap<Kind, (Duration, u32)>,
    since: Instant,
}

/// What jobs have in common that take about as long as one another.
type Kind = (Suite, u16);

const fn kind(job: &Job) -> Kind {
    (job.suite, job.guests)
}

impl Progress {
    fn new(left: &[&Job]) -> Self {
        let bar = ProgressBar::new(left.len() as u64);
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(500));
        bar.set_message("  getting ready");
        Self {
            bar,
            left: left.iter().map(|job| (*job).clone()).collect(),
            took: BTreeMap::new(),
            since: Instant::now(),
        }
    }

    fn begin(&mut self, job: &Job) {
        self.since = Instant::now();
        let left = match self.time_left() {
            Some(left) => format!(", about {} left", HumanDuration(left)),
            None => String::new(),
        };
        if self.bar.is_hidden() {
            // Where there is no terminal, a bar shows nothing.
            eprintln!(
                "Run {} of {}{left}: {job}",
                self.bar.position() + 1,
                self.bar.length().unwrap_or(0)
            );
        }
        self.bar.set_message(format!("{left}  {job}"));
    }

    fn end(&mut self, job: &Job) -> Duration {
        let took = self.since.elapsed();
        let (sum, count) = self.took.entry(kind(job)).or_default();
        *sum += took;
        *count += 1;
        self.left.pop_front();
        self.bar.inc(1);
        took
    }

    /// What jobs of the same kinds took before; of kinds that there were none of yet, all jobs.
    fn time_left(&self) -> Option<Duration> {
        let all = self.took.values();
        let (sum, count) = all.fold((Duration::ZERO, 0), |(sum, count), kind| {
            (sum + kind.0, count + kind.1)
        });
        let mean = sum.checked_div(count)?;
        let each = self.left.iter().map(|job| {
            let same = self.took.get(&kind(job));
            same.and_then(|(sum, count)| sum.checked_div(*count))
                .unwrap_or(mean)
        });
        Some(each.sum())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::job;

    #[test]
    fn results_of_other_guests_are_not_gone_on_with() {
        let host = |kernel: &str| HostInfo {
            guest_kernel: kernel.into(),
            ..HostInfo::default()
        };
        let record = Record {
            host: host("6.1"),
            ..Record::new(job(Suite::Boot, "fv:all", 1))
        };
        assert!(comparable(&host("6.1"), std::slice::from_ref(&record)).is_ok());
        let error = comparable(&host("6.12"), &[record])
            .unwrap_err()
            .to_string();
        assert!(error.contains("kernel 6.1 on"), "{error}");
    }

    #[test]
    fn directory_has_one_bench_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        let error = lock(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("Another gpuvm bench"), "{error}");
        drop(first);
        assert!(lock(directory.path()).is_ok());
    }

    #[test]
    fn time_left_is_that_of_jobs_of_the_same_kind() {
        let jobs =
            [Suite::Boot, Suite::Boot, Suite::Copy].map(|suite| job(suite, "passthrough", 1));
        let mut progress = Progress::new(&jobs.each_ref());
        assert_eq!(progress.time_left(), None);
        progress.end(&jobs[0]);
        let second = Duration::from_secs(1);
        progress.took = [((Suite::Boot, 1), (6 * second, 2))].into();
        assert_eq!(progress.time_left(), Some(6 * second));
        progress.took.insert((Suite::Copy, 1), (10 * second, 1));
        assert_eq!(progress.time_left(), Some(13 * second));
    }
}
