//! The ways in which guests are run.

use anyhow::Result;

use crate::job::{Job, Way};
use crate::lab::{Done, Lab, Witness};
use crate::{own_vmm, vfio_user};

/// Does jobs, which all have the same way, in their order. A job that fails is the witness's to keep.
///
/// # Errors
///
/// The user wants to stop, the witness does, or no job can be done at all.
pub fn run(lab: &Lab<'_>, jobs: &[&Job], witness: &mut dyn Witness) -> Result<()> {
    match jobs.first().map(|job| job.way) {
        None => Ok(()),
        Some(Way::VfioUser) => one_by_one(lab, jobs, witness, vfio_user::run),
        Some(Way::Kvm) => one_by_one(lab, jobs, witness, own_vmm::on_host),
        Some(Way::Nested) => own_vmm::nested(lab, jobs, witness),
    }
}

fn one_by_one(
    lab: &Lab<'_>,
    jobs: &[&Job],
    witness: &mut dyn Witness,
    run: fn(&Lab<'_>, &Job) -> Result<Done>,
) -> Result<()> {
    for job in jobs {
        witness.begin(job);
        let done = run(lab, job);
        lab.session.check()?;
        witness.end(job, 0, done)?;
    }
    Ok(())
}
