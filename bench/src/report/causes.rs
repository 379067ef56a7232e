//! What overhead is made of: accesses that trap, and the time that they take.

use anyhow::Result;

use super::figures::{self, Row};
use super::html::Page;
use super::measures::{Group, accesses, sum};
use super::{costs, drawing};
use crate::job::{Mode, Suite};
use crate::record::Counters;

/// Ranges of accesses that have a colour of their own.
const RANGES: usize = 7;

type Costs<'a> = (Suite, Mode, &'a Counters);

/// Puts pictures and a table on the page, if anything was counted.
pub fn section(page: &mut Page, all: &[Costs<'_>], group: Group) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    page.subheading("What it is made of");
    if let Some(picture) = accesses_by_range(all).transpose()? {
        page.figure(
            &group.name("accesses"),
            &picture,
            "Accesses of virtual GPUs that trapped in a run, the driver's probe included, by BAR and range",
        );
    }
    if let Some(picture) = handler_times(all).transpose()? {
        page.figure(
            &group.name("time"),
            &picture,
            "Milliseconds of a run that the VMM spent on exits of the guest; ports are the console",
        );
    }
    page.paragraph(
        "All of that in figures, for the first repetition. Of a guest with the whole card only exits \
         are counted: it has neither syncs nor anything else of a virtual GPU.",
    );
    let (head, rows) = costs::table(all, &costs::ALL);
    page.table(&head, &rows);
    Ok(())
}

fn accesses_by_range(all: &[Costs<'_>]) -> Option<Result<String>> {
    let ranges: Vec<_> = all
        .iter()
        .map(|(suite, mode, counters)| (format!("{suite} · {mode}"), accesses(counters)))
        .filter(|(_, ranges)| !ranges.is_empty())
        .collect();
    let mut totals: Vec<(String, u64)> = Vec::new();
    for (range, count) in ranges.iter().flat_map(|(_, ranges)| ranges) {
        match totals.iter_mut().find(|(name, _)| name == range) {
            Some((_, total)) => *total += count,
            None => totals.push((range.clone(), *count)),
        }
    }
    totals.sort_by_key(|(_, total)| std::cmp::Reverse(*total));
    let mut parts: Vec<String> = totals
        .into_iter()
        .filter(|(_, total)| *total > 0)
        .take(RANGES)
        .map(|(name, _)| name)
        .collect();
    let rows: Vec<Row> = ranges
        .into_iter()
        .map(|(label, ranges)| {
            let of = |part: &String| ranges.get(part).copied().unwrap_or(0);
            let known: u64 = parts.iter().map(of).sum();
            let rest = ranges.values().sum::<u64>() - known;
            let values = parts.iter().map(of).chain([rest]);
            Row {
                label,
                values: values.map(|value| Some(value as f64)).collect(),
            }
        })
        .collect();
    parts.push("the rest".into());
    (!rows.is_empty()).then(|| figures::stacked(&parts, &rows, "").map_err(drawing))
}

/// What exits cost by what was done about them: syncs happen within accesses.
fn handler_times(all: &[Costs<'_>]) -> Option<Result<String>> {
    let parts = ["syncs", "loads", "stores but for syncs", "ports"].map(String::from);
    let rows: Vec<Row> = all
        .iter()
        .filter(|(_, _, counters)| sum(counters, "exit_ns") > 0)
        .map(|(suite, mode, counters)| {
            let ms = |name: &str| sum(counters, name) as f64 / 1e6;
            let syncs = ms("sync_ns");
            let times = [
                syncs,
                ms("exit_ns mmio-read"),
                (ms("exit_ns mmio-write") - syncs).max(0.0),
                ms("exit_ns pio"),
            ];
            Row {
                label: format!("{suite} · {mode}"),
                values: times.map(Some).to_vec(),
            }
        })
        .collect();
    (!rows.is_empty()).then(|| figures::stacked(&parts, &rows, "ms").map_err(drawing))
}
