//! The main figures.

use super::figures::ratio;
use super::measures::{Group, Measures, geometric_mean};
use super::{costs, goals, runs, sharing};
use crate::job::{Mode, Suite};
use crate::record::Record;

/// The columns of [`overhead`].
pub const OVERHEAD: [&str; 5] = ["suite", "mode", "geometric mean", "worst", "where"];

/// A row for each suite and mode: how much slower than passthrough.
pub fn overhead(measures: &Measures) -> Vec<Vec<String>> {
    let base = Mode::Passthrough;
    let mut rows = Vec::new();
    for suite in Suite::ALL {
        for mode in measures.modes.iter().filter(|mode| **mode != base) {
            let all = measures.slowdowns(mode, &base);
            let of_suite: Vec<_> = all
                .iter()
                .filter(|(benchmark, _)| benchmark.suite == suite && benchmark.phase().is_none())
                .collect();
            let Some(worst) = of_suite.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else {
                continue;
            };
            let mean = geometric_mean(of_suite.iter().map(|(_, slowdown)| *slowdown));
            rows.push(vec![
                suite.to_string(),
                mode.to_string(),
                ratio(mean),
                ratio(worst.1),
                worst.0.name.clone(),
            ]);
        }
    }
    rows
}

/// The overhead and what it is made of and, where there was any, the sharing, for a terminal.
pub fn text(records: &[Record]) -> String {
    let mut text = String::new();
    for group in Group::all(records) {
        let rows = overhead(&Measures::new(records, group));
        if !rows.is_empty() {
            text += &format!("Slower than passthrough ({}):\n", group.describe());
            text += &aligned(&OVERHEAD, &rows);
        }
        let (heads, rows) = costs::table(&costs::of(records, group), &costs::MAIN);
        if !rows.is_empty() {
            text += "What that took in a run, the driver's probe included:\n";
            text += &aligned(&heads, &rows);
        }
        if let Some(runs::Table { workloads, rows }) = runs::table(records, group) {
            text += &format!(
                "What one run of an OpenCL program took, without the probe, mean of {workloads}:\n"
            );
            text += &aligned(&runs::COLUMNS, &rows);
        }
    }
    let rows = sharing::rows(records);
    if !rows.is_empty() {
        text += "Several guests:\n";
        text += &aligned(&sharing::COLUMNS, &rows);
    }
    let rows = goals::rows(records);
    if !rows.is_empty() {
        text += "What is aimed at:\n";
        text += &aligned(&goals::COLUMNS, &rows);
    }
    text
}

/// A table in columns of characters.
fn aligned(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(rows);
        let widths = cells.filter_map(|row| Some(row.get(column)?.chars().count()));
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, width)| format!("  {cell:width$}"))
            .collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["1.00×".to_owned(), "b".to_owned()]];
        assert_eq!(aligned(&["a", "bcd"], &rows), "  a      bcd\n  1.00×  b\n");
    }
}
