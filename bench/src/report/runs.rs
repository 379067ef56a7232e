//! What the hypervisor did for single runs of workloads: the driver's probe is no part of them.

use std::collections::BTreeMap;

use super::figures::thousands;
use super::html::Page;
use super::measures::Group;
use crate::job::{Mode, Suite};
use crate::published;
use crate::record::Record;

/// Counters that together are the bytes which it wrote.
const BYTES: [&str; 2] = ["shadow_written_bytes", "block_written_bytes"];
/// Bytes of an entry of a table.
const ENTRY: u64 = 8;

/// Bytes that the hypervisor wrote for a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Written {
    all: u64,
    /// Those that only made an entry of a page table empty.
    emptying: u64,
}

/// What it wrote, by workload and mode; of several runs, the least.
fn written(records: &[Record], group: Group) -> BTreeMap<String, BTreeMap<Mode, Written>> {
    let mut all: BTreeMap<String, BTreeMap<Mode, Written>> = BTreeMap::new();
    let of_group = records
        .iter()
        .filter(|record| Group::of(record) == group && record.job.suite == Suite::Rodinia);
    for record in of_group {
        for line in record.guests.iter().flat_map(|guest| &guest.lines) {
            let count = |name: &str| line["hypervisor"][name].as_u64();
            let bytes: Option<u64> = BYTES.into_iter().map(count).sum();
            let (Some(bytes), Some(workload)) = (bytes, line["workload"].as_str()) else {
                continue;
            };
            let written = Written {
                all: bytes,
                emptying: ENTRY * count("entries_emptied").unwrap_or(0),
            };
            let modes = all.entry(workload.to_owned()).or_default();
            let least = modes.entry(record.job.mode.clone()).or_insert(written);
            *least = written.min(*least);
        }
    }
    all
}

/// The heads and the rows of the table of those bytes; none without virtual GPUs.
pub fn table(records: &[Record], group: Group) -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let all = written(records, group);
    let mut modes: Vec<&Mode> = all.values().flat_map(BTreeMap::keys).collect();
    modes.sort();
    modes.dedup();
    modes.retain(|mode| **mode != Mode::Passthrough);
    if modes.is_empty() {
        return None;
    }
    let rows = all.iter().map(|(workload, bytes)| {
        let cells = modes.iter().flat_map(|mode| match bytes.get(mode) {
            Some(written) => [written.all, written.emptying].map(thousands),
            None => ["–", "–"].map(String::from),
        });
        std::iter::once(workload.clone()).chain(cells).collect()
    });
    let rows = rows.collect();
    let heads = modes
        .iter()
        .flat_map(|mode| [mode.to_string(), "of them to empty entries".into()]);
    let heads = std::iter::once("workload".into()).chain(heads).collect();
    Some((heads, rows))
}

/// Puts the table on the page.
pub fn section(page: &mut Page, records: &[Record], group: Group) {
    let Some((heads, rows)) = table(records, group) else {
        return;
    };
    page.subheading("Bytes that the hypervisor wrote in a run");
    page.paragraph(
        "To shadow page tables and shadow instance blocks, between the start of a workload's program \
         and its end, the least of all repetitions; and what of that took pages out of page tables, \
         8 bytes each, as drivers do when a program ends.",
    );
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    page.table(&heads, &rows);
    page.published("Published, on other hardware", published::BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Job, Load, Way};
    use crate::record::GuestResult;

    fn record(mode: &str, shadow: u64) -> Record {
        let job = Job {
            suite: Suite::Rodinia,
            mode: mode.parse().unwrap(),
            way: Way::Nested,
            guests: 1,
            sched: "direct".into(),
            size: "small".into(),
            load: Load::default(),
            pcie: false,
            slow_motion: 0,
            workloads: Vec::new(),
            repetition: 0,
        };
        let mut record = Record::new(job);
        record.guests.push(GuestResult {
            lines: vec![serde_json::json!({"workload": "lud", "hypervisor": {
                "shadow_written_bytes": shadow, "block_written_bytes": 100, "entries_emptied": 3,
            }})],
            ..GuestResult::default()
        });
        record
    }

    #[test]
    fn least_of_all_repetitions_counts_and_passthrough_does_not() {
        let records = [
            record("fv:all", 5000),
            record("fv:all", 4000),
            record("fv:none", 70_000),
            record("passthrough", 0),
        ];
        let (heads, rows) = table(&records, Group::of(&records[0])).unwrap();
        let emptying = "of them to empty entries";
        assert_eq!(heads, ["workload", "fv:all", emptying, "fv:none", emptying]);
        let bytes = ["lud", "4\u{202f}100", "24", "70\u{202f}100", "24"];
        assert_eq!(rows, [bytes]);
        assert!(table(&records[3..], Group::of(&records[0])).is_none());
    }
}
