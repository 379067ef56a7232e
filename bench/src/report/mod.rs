//! The report: one page that needs nothing else, and the figures as CSV.

mod causes;
mod comparison;
mod costs;
mod fairness;
mod figures;
mod goals;
mod html;
mod lines;
mod measures;
mod runs;
mod sharing;
mod summary;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use self::figures::thousands;
pub use self::html::Page;
pub use self::lines::shares;
use self::measures::{Benchmark, Group, Measures};
use crate::record::{Record, read_all};

/// Files of a report in the directory of its results.
const PAGE: &str = "report.html";
const TABLE: &str = "report.csv";
/// From so many repetitions on, the best of them means something.
const ENOUGH: u32 = 3;

/// A report that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where the page is.
    pub page: PathBuf,
    /// The main figures, for a terminal.
    pub summary: String,
}

/// Makes the report of the results in `directory`: a page, a table, and the page's pictures.
///
/// # Errors
///
/// There are no results, or the files cannot be written.
pub fn write(directory: &Path) -> Result<Written> {
    let records = read_all(directory)?;
    ensure!(
        records.iter().any(|record| record.error.is_none()),
        "There are no results in {}",
        directory.display()
    );
    let page = page(&records)?;
    let table = directory.join(TABLE);
    fs::write(&table, table::csv(&records))
        .with_context(|| format!("Cannot write {}", table.display()))?;
    Ok(Written {
        page: page.write(&directory.join(PAGE))?,
        summary: summary::text(&records),
    })
}

fn page(records: &[Record]) -> Result<Page> {
    let mut page = Page::new("GPUvm: what full virtualization costs");
    introduction(&mut page, records);
    goals::section(&mut page, records);
    for group in Group::all(records) {
        let measures = Measures::new(records, group);
        if !measures.best.is_empty() {
            page.heading(&format!("One guest, {}", group.describe()));
            let costs = costs::of(records, group);
            comparison::overhead(&mut page, &measures, group)?;
            causes::section(&mut page, &costs, group)?;
            runs::section(&mut page, records, group);
            comparison::ablation(&mut page, &measures, &costs, group)?;
            details(&mut page, &measures);
        }
    }
    sharing::section(&mut page, records)?;
    failures(&mut page, records);
    Ok(page)
}

fn introduction(page: &mut Page, records: &[Record]) {
    let Some(first) = records.first() else { return };
    let host = &first.host;
    let machines: BTreeSet<u64> = records
        .iter()
        .map(|record| record.machine)
        .filter(|machine| *machine != 0)
        .collect();
    let within = match machines.len() {
        0 => String::new(),
        1 => ", all in one boot of a machine with KVM".into(),
        n => format!(", in {n} boots of a machine with KVM"),
    };
    let repetitions = records
        .iter()
        .map(|r| r.job.repetition + 1)
        .max()
        .unwrap_or(0);
    let kernels: BTreeSet<&str> = records
        .iter()
        .map(|record| record.host.guest_kernel.as_str())
        .collect();
    let kernels: Vec<&str> = kernels.into_iter().collect();
    let failed = match records.iter().filter(|r| r.error.is_some()).count() {
        0 => String::new(),
        n => format!(" {n} of the runs failed: see below."),
    };
    let best = match repetitions {
        1 => "of one repetition".to_owned(),
        n => format!("the best of {n} repetitions"),
    };
    let minutes = records.iter().map(|r| r.wall_ms).sum::<u64>() as f64 / 6e4;
    page.paragraph(&format!(
        "{} runs of stock Debian guests (kernel {}, its own nouveau) on the software GF100, {:.0} \
         minutes in all{within}, on {} cores of {}.{failed} Each figure is {best}. The card is software, so absolute figures say little: compare modes with each \
         other, within this page. Published figures are from other hardware and stand here for \
         orientation only.",
        records.len(),
        kernels.join(" and "),
        minutes,
        host.cores,
        host.cpu
    ));
    if repetitions < ENOUGH {
        page.paragraph(&format!(
            "With fewer than {ENOUGH} repetitions, single figures below are mostly noise of the host; \
             counters are exact."
        ));
    }
}

fn drawing(error: Box<dyn std::error::Error>) -> anyhow::Error {
    anyhow!("Cannot draw: {error}")
}

fn details(page: &mut Page, measures: &Measures) {
    page.details("All figures", |page| {
        let head: Vec<String> = ["suite", "benchmark", "unit"]
            .into_iter()
            .map(String::from)
            .chain(measures.modes.iter().map(ToString::to_string))
            .collect();
        let rows: Vec<Vec<String>> = measures
            .best
            .iter()
            .map(|(benchmark, modes)| {
                let unit = modes.values().next().map_or("", |measure| measure.unit);
                let figures = measures.modes.iter().map(|mode| match modes.get(mode) {
                    Some(measure) => figure(measure.value),
                    None => "–".into(),
                });
                let Benchmark { suite, name, .. } = benchmark;
                [suite.to_string(), name.clone(), unit.into()]
                    .into_iter()
                    .chain(figures)
                    .collect()
            })
            .collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        page.table(&head, &rows);
    });
}

fn figure(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..100.0 => format!("{value:.2}"),
        _ => thousands(value as u64),
    }
}

fn failures(page: &mut Page, records: &[Record]) {
    let failed: BTreeSet<(String, String)> = records
        .iter()
        .filter_map(|record| Some((record.job.to_string(), record.error.clone()?)))
        .collect();
    if failed.is_empty() {
        return;
    }
    page.heading("Runs that failed");
    let rows: Vec<Vec<String>> = failed
        .into_iter()
        .map(|(job, why)| vec![job, why])
        .collect();
    page.table(&["run", "why"], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Job, Suite, Way};
    use crate::record::{GuestResult, HostInfo, Sample};
    use crate::testing::job;

    fn record(suite: Suite, mode: &str, guests: u16, lines: Vec<serde_json::Value>) -> Record {
        let counters = [("reads Bar0 pmc", 9), ("entries_scanned", 5)];
        let counters = counters.map(|(name, value)| (name.to_owned(), value));
        Record {
            job: Job {
                way: Way::VfioUser,
                ..job(suite, mode, guests)
            },
            host: HostInfo {
                cpu: "a <fast> one".into(),
                cores: 2,
                kernel: "6".into(),
                gpuvm: "0".into(),
                guest_kernel: "6.1".into(),
            },
            time: 0,
            machine: 0,
            wall_ms: 60_000,
            guests: (0..guests)
                .map(|_| GuestResult {
                    probe_s: 1.5,
                    bench_s: 1.0,
                    lines: lines.clone(),
                    counters: counters.clone().into_iter().collect(),
                })
                .collect(),
            samples: (0..20)
                .map(|n| Sample {
                    ms: n * 500,
                    engine_ns: (0..u64::from(guests)).map(|vm| n * (vm + 1)).collect(),
                })
                .collect(),
            error: None,
        }
    }

    #[test]
    fn page_and_table_have_what_was_measured() {
        let copy = |rate: f64| {
            vec![
                serde_json::json!({"type": "copy", "engine": "ce0", "direction": "HtoD",
                "bytes": 4096, "mib_per_s": rate}),
            ]
        };
        let load = serde_json::json!({"type": "load", "count": 10, "size": 28,
            "seconds": 2.0, "counts": [5, 10], "median_us": 900.0, "p99_us": 1500.0, "max_us": 2e3});
        let mut failed = record(Suite::Copy, "fv:all", 1, Vec::new());
        failed.error = Some("it broke".into());
        let records = [
            record(Suite::Micro, "passthrough", 1, copy(300.0)),
            record(Suite::Micro, "fv:none", 1, copy(100.0)),
            record(Suite::Micro, "fv:all", 1, copy(200.0)),
            record(Suite::Sharing, "fv:all", 2, vec![load]),
            failed,
        ];
        let page = page(&records).unwrap().finish();
        for expected in [
            "3.00×",
            "1.50×",
            "2.00×",
            "a &lt;fast&gt; one",
            "it broke",
            "0.900",
            "GPUvm (ATC",
        ] {
            assert!(page.contains(expected), "{expected} is missing");
        }
        let table = table::csv(&records);
        assert!(table.contains("vfio-user,small,micro,\"ce0 HtoD 4 KiB\",MiB/s,fv:all,200\n"));
    }
}
