//! What the hypervisor did for single runs of workloads: the driver's probe is no part of them.

use std::collections::BTreeMap;

use super::figures::thousands;
use super::html::Page;
use super::measures::Group;
use crate::job::{Mode, Suite};
use crate::published;
use crate::record::Record;

/// The columns of a mode's costs.
pub const COLUMNS: [&str; 7] = [
    "mode",
    "exits",
    "bytes stored for the guest",
    "bytes written to shadows",
    "of them to empty entries",
    "syncs",
    "bytes a sync",
];
/// Counters that together are the bytes which the hypervisor wrote to shadows.
const SHADOWS: [&str; 2] = ["shadow_written_bytes", "block_written_bytes"];
/// Bytes of an entry of a table.
const ENTRY: u64 = 8;

/// What a run cost the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// Bytes that it wrote to shadows.
    shadows: u64,
    /// Those that only made an entry of a page table empty.
    emptying: u64,
    /// Bytes of the guest's stores that trapped, which it carried out.
    stored: Option<u64>,
    syncs: u64,
    exits: u64,
}

impl Cost {
    /// What the line of a workload says.
    fn of(line: &serde_json::Value) -> Option<Self> {
        let count = |name: &str| line["hypervisor"][name].as_u64();
        Some(Self {
            shadows: SHADOWS.into_iter().map(count).sum::<Option<u64>>()?,
            emptying: ENTRY * count("entries_emptied").unwrap_or(0),
            stored: count("stored_bytes"),
            syncs: count("syncs")?,
            exits: count("exits")?,
        })
    }

    /// The mean of several.
    fn mean(all: &[Self]) -> Option<Self> {
        let mean = |of: fn(&Self) -> u64| {
            all.iter()
                .map(of)
                .sum::<u64>()
                .checked_div(all.len() as u64)
        };
        let stored: Option<u64> = all.iter().map(|cost| cost.stored).sum();
        Some(Self {
            shadows: mean(|cost| cost.shadows)?,
            emptying: mean(|cost| cost.emptying)?,
            stored: stored.map(|sum| sum / all.len() as u64),
            syncs: mean(|cost| cost.syncs)?,
            exits: mean(|cost| cost.exits)?,
        })
    }

    /// The cells of [`COLUMNS`]. Of the whole card, only exits are known.
    fn row(&self, mode: &Mode) -> Vec<String> {
        let virtual_gpu = *mode != Mode::Passthrough;
        let of_virtual = |value: Option<u64>| {
            let value = value.filter(|_| virtual_gpu);
            value.map_or("–".into(), thousands)
        };
        vec![
            mode.to_string(),
            thousands(self.exits),
            of_virtual(self.stored),
            of_virtual(Some(self.shadows)),
            of_virtual(Some(self.emptying)),
            of_virtual(Some(self.syncs)),
            of_virtual(self.shadows.checked_div(self.syncs)),
        ]
    }
}

/// Costs by workload and mode; of several runs, that with the fewest bytes.
type Costs = BTreeMap<String, BTreeMap<Mode, Cost>>;

fn of_group(records: &[Record], group: Group) -> impl Iterator<Item = &Record> {
    let opencl = |record: &&Record| record.job.suite == Suite::Rodinia;
    let records = records.iter().filter(opencl);
    records.filter(move |record| Group::of(record) == group)
}

fn costs(records: &[Record], group: Group) -> Costs {
    let mut all = Costs::new();
    for record in of_group(records, group) {
        for line in record.guests.iter().flat_map(|guest| &guest.lines) {
            let (Some(cost), Some(workload)) = (Cost::of(line), line["workload"].as_str()) else {
                continue;
            };
            let modes = all.entry(workload.to_owned()).or_default();
            let least = modes.entry(record.job.mode.clone()).or_insert(cost);
            *least = cost.min(*least);
        }
    }
    all
}

/// Modes in the order in which they were run first.
fn modes(records: &[Record], group: Group) -> Vec<&Mode> {
    let mut modes = Vec::new();
    for record in of_group(records, group).filter(|record| record.error.is_none()) {
        if !modes.contains(&&record.job.mode) {
            modes.push(&record.job.mode);
        }
    }
    modes
}

/// Mean costs of the workloads that ran in all modes.
pub struct Table {
    /// How many workloads that are.
    pub workloads: usize,
    /// A row for each mode, of [`COLUMNS`].
    pub rows: Vec<Vec<String>>,
}

/// Those of a group; none without virtual GPUs, or where a way does not tell.
pub fn table(records: &[Record], group: Group) -> Option<Table> {
    let all = costs(records, group);
    let modes = modes(records, group);
    let complete = all
        .values()
        .filter(|costs| modes.iter().all(|mode| costs.contains_key(mode)));
    let complete: Vec<&BTreeMap<Mode, Cost>> = complete.collect();
    if complete.is_empty() || modes.iter().all(|mode| **mode == Mode::Passthrough) {
        return None;
    }
    let rows = modes.iter().filter_map(|mode| {
        let costs: Vec<Cost> = complete.iter().map(|costs| costs[mode]).collect();
        Some(Cost::mean(&costs)?.row(mode))
    });
    Some(Table {
        workloads: complete.len(),
        rows: rows.collect(),
    })
}

/// Puts the tables on the page.
pub fn section(page: &mut Page, records: &[Record], group: Group) {
    let Some(Table { workloads, rows }) = table(records, group) else {
        return;
    };
    page.subheading("What one run of an OpenCL program costs the hypervisor");
    page.paragraph(&format!(
        "Between the start of a program and its end, so without the driver's probe; of all \
         repetitions that with the fewest bytes; the mean of {workloads} workloads. Bytes stored for \
         the guest are those of its stores that trapped: with all switches, registers that the driver \
         sets when a program is the first on the card. Those to shadows went to page tables and \
         instance blocks. A sync without optimisations writes the whole directory, 64 KiB, and all \
         tables, 256 KiB where pages are small; with incremental, the entries that the guest changed, \
         8 bytes each. Entries are emptied when the driver unmaps pages while a channel can still \
         use them, as it does when a program ends."
    ));
    page.paragraph(
        "What the published count is of is not known here. As one rebuild of a shadow table writes \
         65,536 bytes for the directory alone, 6,700 in a whole run cannot be those to shadows; bytes \
         stored for the guest are alike in all workloads, as the published ones are, and BAR remapping \
         spares them: compare with those.",
    );
    page.table(&COLUMNS, &rows);
    page.details("Each workload", |page| {
        let heads: Vec<&str> = ["workload"].into_iter().chain(COLUMNS).collect();
        let modes = modes(records, group);
        let rows: Vec<Vec<String>> = costs(records, group)
            .iter()
            .flat_map(|(workload, costs)| {
                modes.iter().filter_map(move |mode| {
                    let mut row = costs.get(*mode)?.row(mode);
                    row.insert(0, workload.clone());
                    Some(row)
                })
            })
            .collect();
        page.table(&heads, &rows);
    });
    page.published("Published, on other hardware", published::BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::GuestResult;
    use crate::testing::job;

    fn record(mode: &str, shadow: u64) -> Record {
        let mut record = Record::new(job(Suite::Rodinia, mode, 1));
        record.guests.push(GuestResult {
            lines: vec![serde_json::json!({"workload": "lud", "hypervisor": {
                "shadow_written_bytes": shadow, "block_written_bytes": 100, "entries_emptied": 3,
                "stored_bytes": 70, "syncs": 2, "exits": 5,
            }})],
            ..GuestResult::default()
        });
        record
    }

    #[test]
    fn run_with_the_fewest_bytes_counts_and_the_whole_card_has_exits_alone() {
        let records = [
            record("fv:all", 5000),
            record("fv:all", 4000),
            record("fv:none", 70_000),
            record("passthrough", 0),
        ];
        let Table { workloads, rows } = table(&records, Group::of(&records[0])).unwrap();
        assert_eq!((workloads, rows[0].len()), (1, COLUMNS.len()));
        assert_eq!(rows[2], ["passthrough", "5", "–", "–", "–", "–", "–"]);
        let all = [
            "fv:all",
            "5",
            "70",
            "4\u{202f}100",
            "24",
            "2",
            "2\u{202f}050",
        ];
        assert_eq!(rows[0], all);
        assert_eq!(rows[1][3], "70\u{202f}100");
    }

    #[test]
    fn without_virtual_gpus_there_is_no_table() {
        let records = [record("passthrough", 0)];
        assert!(table(&records, Group::of(&records[0])).is_none());
    }
}
