//! All figures as comma-separated values.

use super::measures::{Group, Measures};
use super::{costs, sharing};
use crate::record::Record;

/// A line for each figure of each run.
pub fn csv(records: &[Record]) -> String {
    let mut text = String::from("way,size,suite,benchmark,unit,mode,best\n");
    for group in Group::all(records) {
        let pcie = if group.pcie { " pcie" } else { "" };
        let way = format!("{}{pcie},{}", group.way, group.size);
        for (benchmark, modes) in &Measures::new(records, group).best {
            let (suite, name) = (benchmark.suite, &benchmark.name);
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
    for (record, figures) in sharing::runs(records) {
        let job = &record.job;
        let name = format!(
            "{} guests with {} work under {}, #{}",
            job.guests, job.load, job.sched, job.repetition
        );
        let [median, p99, longest] = figures.latencies.map(Some);
        let all = [
            (
                "Jain, worst second",
                "index",
                figures.jain.map(|jain| jain[0]),
            ),
            ("Jain, mean", "index", figures.jain.map(|jain| jain[1])),
            ("error of shares", "of a share", figures.error),
            ("busy", "of the time", figures.busy),
            ("lost", "of the throughput", figures.lost),
            ("median latency", "ms", median),
            ("p99 latency", "ms", p99),
            ("longest latency", "ms", longest),
        ];
        for (what, unit, value) in all {
            if let Some(value) = value {
                let (way, size, mode) = (job.way, job.size, &job.mode);
                text += &format!("{way},{size},sharing,\"{name}: {what}\",{unit},{mode},{value}\n");
            }
        }
    }
    text
}
