//! What runs cost the hypervisor.

use super::figures::thousands;
use super::measures::Group;
use crate::job::{Mode, Suite};
use crate::record::{Counters, Record};

/// A column's head, and what its counters' names begin with.
pub type Column = (&'static str, &'static str);

const EXITS: Column = ("exits", "exits");
const INTERCEPTED: Column = ("bytes written by guests", "written_bytes");
const FLUSHES: Column = ("TLB flushes", "tlb_flushes");
const SCANNED: Column = ("entries scanned", "entries_scanned");
const WRITTEN: Column = ("entries written", "entries_written");
const INTERRUPTS: Column = ("interrupts", "events");

/// All columns.
pub const ALL: [Column; 10] = [
    EXITS,
    ("ms on exits", "exit_ns"),
    INTERCEPTED,
    FLUSHES,
    ("syncs", "syncs"),
    SCANNED,
    WRITTEN,
    ("bytes written by syncs", "sync_written_bytes"),
    INTERRUPTS,
    ("ms in syncs", "sync_ns"),
];
/// Those that there is room for in a terminal.
pub const MAIN: [Column; 6] = [EXITS, INTERCEPTED, FLUSHES, SCANNED, WRITTEN, INTERRUPTS];

/// What a mode cost the hypervisor in a suite: counters of the first repetition.
pub fn of(records: &[Record], group: Group) -> Vec<(Suite, Mode, &Counters)> {
    let mut all: Vec<(Suite, Mode, &Counters)> = Vec::new();
    for record in records {
        let job = &record.job;
        let known = |(suite, mode, _): &(Suite, Mode, _)| *suite == job.suite && *mode == job.mode;
        if Group::of(record) == group
            && job.suite != Suite::Sharing
            && !all.iter().any(known)
            && let Some(guest) = record.guests.first().filter(|g| !g.counters.is_empty())
        {
            all.push((job.suite, job.mode.clone(), &guest.counters));
        }
    }
    all
}

/// The heads and rows of a table with a row for each suite and mode.
pub fn table(
    all: &[(Suite, Mode, &Counters)],
    columns: &[Column],
) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let rows = all.iter().map(|(suite, mode, counters)| {
        let figures = columns.iter().map(|(_, prefix)| cost(counters, prefix));
        [suite.to_string(), mode.to_string()]
            .into_iter()
            .chain(figures)
            .collect()
    });
    let rows = rows.collect();
    let heads = ["suite", "mode"].into_iter();
    let heads = heads.chain(columns.iter().map(|(head, _)| *head)).collect();
    (heads, rows)
}

/// The sum of the counters called so, with or without a place; times in milliseconds. A dash where
/// there are none: guests of other processes do not exit.
pub fn cost(counters: &Counters, name: &str) -> String {
    let exact = |(key, _): &(&String, &u64)| {
        key.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let named = counters.iter().filter(exact).map(|(_, value)| value);
    let Some(value) = named.copied().reduce(|sum, value| sum + value) else {
        return "–".into();
    };
    match name.ends_with("_ns") {
        true => format!("{:.1}", value as f64 / 1e6),
        false => thousands(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_places_are_added_and_times_are_milliseconds() {
        let counters = [
            ("exits pio", 2),
            ("exits", 3),
            ("exits_other", 9),
            ("sync_ns", 1_500_000),
        ];
        let counters = counters
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let all = [(Suite::Micro, Mode::Passthrough, &counters)];
        let (heads, rows) = table(&all, &[EXITS, ("ms in syncs", "sync_ns"), FLUSHES]);
        assert_eq!(
            heads,
            ["suite", "mode", "exits", "ms in syncs", "TLB flushes"]
        );
        assert_eq!(rows, [["micro", "passthrough", "5", "1.5", "–"]]);
    }
}
