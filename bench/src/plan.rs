//! What is to be run, in which order.

use std::collections::{BTreeSet, HashSet};

use crate::job::{Job, Load, Mode, Size, Suite, Way};
use crate::record::Record;

/// All combinations of these.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Suites.
    pub suites: Vec<Suite>,
    /// Modes.
    pub modes: Vec<Mode>,
    /// The way.
    pub way: Way,
    /// Numbers of guests, for [`Suite::Sharing`].
    pub guests: Vec<u16>,
    /// Schedulers, for [`Suite::Sharing`].
    pub scheds: Vec<String>,
    /// What they do, for [`Suite::Sharing`].
    pub loads: Vec<Load>,
    /// How much slower than a Quadro 6000 the card is, for [`Suite::Sharing`].
    pub slow_motion: u32,
    /// Without the cost of PCIe, with it, or both.
    pub pcie: Vec<bool>,
    /// Size.
    pub size: Size,
    /// Names of OpenCL workloads, for [`Suite::Rodinia`]; none: all of them.
    pub workloads: Vec<String>,
    /// Repetitions.
    pub repeat: u32,
}

/// Jobs in the order in which they are done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The jobs.
    pub jobs: Vec<Job>,
}

impl Plan {
    /// The jobs that `records` are not yet of, in order. In machines that come and go, jobs that are
    /// compared with one another are done together or not at all.
    pub fn left(&self, records: &[Record]) -> Vec<&Job> {
        let good: Vec<&Record> = records.iter().filter(|r| r.error.is_none()).collect();
        let machines: BTreeSet<u64> = good.iter().map(|record| record.machine).collect();
        let done = machines.into_iter().map(|machine| -> HashSet<String> {
            let there = good.iter().filter(|record| record.machine == machine);
            there.map(|record| record.job.key()).collect()
        });
        let done: Vec<HashSet<String>> = done.collect();
        let has = |jobs: &HashSet<String>, job: &Job| jobs.contains(&job.key());
        let is_done = |job: &Job| match job.way {
            Way::Nested => {
                let group = job.group();
                let together = self.jobs.iter().filter(|other| other.group() == group);
                done.iter()
                    .any(|there| together.clone().all(|other| has(there, other)))
            }
            Way::Kvm | Way::VfioUser => done.iter().any(|there| has(there, job)),
        };
        self.jobs.iter().filter(|job| !is_done(job)).collect()
    }

    /// The jobs of a matrix, with those modes next to each other that are to be compared.
    pub fn new(matrix: &Matrix) -> Self {
        let mut jobs = Vec::new();
        for repetition in 0..matrix.repeat {
            for &suite in &matrix.suites {
                if suite == Suite::Sharing {
                    jobs.extend(sharing(matrix, repetition));
                    continue;
                }
                for &pcie in &matrix.pcie {
                    jobs.extend(matrix.modes.iter().map(|mode| Job {
                        pcie,
                        workloads: match suite {
                            Suite::Rodinia => matrix.workloads.clone(),
                            _ => Vec::new(),
                        },
                        ..job(matrix, suite, mode, repetition)
                    }));
                }
            }
        }
        // Who names something twice wants it once.
        let mut keys = HashSet::new();
        jobs.retain(|job| keys.insert(job.key()));
        Self { jobs }
    }
}

fn job(matrix: &Matrix, suite: Suite, mode: &Mode, repetition: u32) -> Job {
    Job {
        suite,
        mode: mode.clone(),
        way: matrix.way,
        guests: 1,
        sched: "direct".into(),
        size: matrix.size,
        load: Load::default(),
        slow_motion: 0,
        pcie: false,
        workloads: Vec::new(),
        repetition,
    }
}

/// Guests can only share what is virtual; a guest alone is what they are compared with.
fn sharing(matrix: &Matrix, repetition: u32) -> Vec<Job> {
    let mut jobs = Vec::new();
    let shared = matrix
        .modes
        .iter()
        .filter(|mode| **mode != Mode::Passthrough);
    for mode in shared {
        for &load in &matrix.loads {
            for &guests in &matrix.guests {
                let scheds = match guests {
                    1 => &["direct".to_owned()][..],
                    _ => &matrix.scheds,
                };
                jobs.extend(scheds.iter().map(|sched| Job {
                    guests,
                    sched: sched.clone(),
                    load,
                    slow_motion: matrix.slow_motion,
                    ..job(matrix, Suite::Sharing, mode, repetition)
                }));
            }
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Matrix {
        Matrix {
            suites: vec![Suite::Micro, Suite::Sharing],
            modes: vec!["passthrough".parse().unwrap(), "fv:all".parse().unwrap()],
            way: Way::VfioUser,
            guests: vec![1, 2],
            scheds: vec!["fifo".into(), "drr".into()],
            loads: vec![Load::Unlike],
            slow_motion: 0,
            pcie: vec![false],
            size: Size::Small,
            workloads: Vec::new(),
            repeat: 2,
        }
    }

    #[test]
    fn modes_alternate_within_a_repetition() {
        let plan = Plan::new(&matrix());
        let micro: Vec<_> = plan
            .jobs
            .iter()
            .filter(|job| job.suite == Suite::Micro)
            .map(|job| (job.repetition, job.mode.to_string()))
            .collect();
        let of = |n, mode: &str| (n, mode.to_owned());
        assert_eq!(
            micro,
            [
                of(0, "passthrough"),
                of(0, "fv:all"),
                of(1, "passthrough"),
                of(1, "fv:all")
            ]
        );
    }

    #[test]
    fn only_virtual_gpus_are_shared_and_one_guest_needs_no_scheduler() {
        let plan = Plan::new(&matrix());
        let sharing: Vec<_> = plan
            .jobs
            .iter()
            .filter(|job| job.suite == Suite::Sharing && job.repetition == 0)
            .map(|job| (job.guests, job.sched.as_str()))
            .collect();
        assert_eq!(sharing, [(1, "direct"), (2, "fifo"), (2, "drr")]);
    }

    #[test]
    fn what_is_named_twice_is_done_once() {
        let twice = Plan::new(&Matrix {
            suites: vec![Suite::Micro, Suite::Sharing, Suite::Micro],
            guests: vec![1, 2, 2],
            ..matrix()
        });
        assert_eq!(twice.jobs, Plan::new(&matrix()).jobs);
    }

    #[test]
    fn keys_tell_all_jobs_of_a_plan_apart() {
        let plan = Plan::new(&Matrix {
            suites: Suite::ALL.to_vec(),
            loads: Load::ALL.to_vec(),
            pcie: vec![false, true],
            ..matrix()
        });
        let keys: HashSet<String> = plan.jobs.iter().map(Job::key).collect();
        assert_eq!(keys.len(), plan.jobs.len());
    }

    #[test]
    fn what_is_compared_is_done_together_where_machines_come_and_go() {
        let plan = Plan::new(&Matrix {
            suites: vec![Suite::Micro],
            way: Way::Nested,
            repeat: 1,
            ..matrix()
        });
        let record = |n: usize, machine| Record {
            machine,
            ..Record::new(plan.jobs[n].clone())
        };
        assert_eq!(plan.left(&[]).len(), 2);
        assert_eq!(plan.left(&[record(0, 7)]).len(), 2);
        assert_eq!(plan.left(&[record(0, 7), record(1, 8)]).len(), 2);
        assert_eq!(plan.left(&[record(0, 7), record(1, 7)]).len(), 0);
        let failed = Record {
            error: Some("it broke".into()),
            ..record(1, 7)
        };
        assert_eq!(plan.left(&[record(0, 7), failed]).len(), 2);
    }

    #[test]
    fn on_one_host_only_what_is_missing_is_done() {
        let plan = Plan::new(&matrix());
        let first = Record::new(plan.jobs[0].clone());
        let left = plan.left(std::slice::from_ref(&first));
        assert_eq!(left.len(), plan.jobs.len() - 1);
    }
}
