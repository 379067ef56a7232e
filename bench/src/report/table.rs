//! All figures as comma-separated values.

use super::costs;
use super::fairness::Fairness;
use super::measures::{Group, Measures};
use crate::job::Suite;
use crate::record::Record;

/// A line for each figure of each run.
pub fn csv(records: &[Record]) -> String {
    let mut text = String::from("way,suite,benchmark,unit,mode,best\n");
    for group in Group::all(records) {
        let way = match group.pcie {
            true => format!("{} pcie", group.way),
            false => group.way.to_string(),
        };
        for ((suite, name), modes) in &Measures::new(records, group).best {
            for (mode, measure) in modes {
                let (unit, value) = (measure.unit, measure.value);
                text += &format!("{way},{suite},\"{name}\",{unit},{mode},{value}\n");
            }
        }
        for (suite, mode, counters) in costs::of(records, group) {
            for (name, value) in counters {
                text += &format!("{way},{suite},\"{name}\",count,{mode},{value}\n");
            }
        }
    }
    for record in records
        .iter()
        .filter(|r| r.job.suite == Suite::Sharing && r.job.guests > 1)
    {
        if let Some(fairness) = Fairness::new(&record.samples) {
            let (job, worst) = (&record.job, fairness.worst());
            text += &format!(
                "{},sharing,\"Jain of {} guests under {}, #{}\",index,{},{worst}\n",
                job.way, job.guests, job.sched, job.repetition, job.mode
            );
        }
    }
    text
}
