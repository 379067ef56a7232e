//! The report: one page that needs nothing else, and the figures as CSV.

mod costs;
mod fairness;
mod figures;
mod html;
mod measures;
mod runs;
mod sharing;
mod summary;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use self::figures::{Row, ratio, thousands};
use self::html::Page;
use self::measures::{Group, Measures, accesses, geometric_mean, is_phase, sum};
use crate::job::{Mode, Suite};
use crate::published;
use crate::record::{Counters, Record, read_all};

/// Files of a report in the directory of its results.
const PAGE: &str = "report.html";
const TABLE: &str = "report.csv";
const PLOTS: &str = "plots";
/// From so many repetitions on, the best of them means something.
const ENOUGH: u32 = 3;
/// Ranges of accesses that have a colour of their own.
const RANGES: usize = 7;

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
    let plots = directory.join(PLOTS);
    fs::create_dir_all(&plots).with_context(|| format!("Cannot make {}", plots.display()))?;
    for (name, picture) in page.pictures() {
        save(&plots.join(format!("{name}.svg")), picture)?;
    }
    save(&directory.join(TABLE), &table::csv(&records))?;
    let path = directory.join(PAGE);
    save(&path, &page.finish())?;
    Ok(Written {
        page: path,
        summary: summary::text(&records),
    })
}

fn save(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("Cannot write {}", path.display()))
}

fn page(records: &[Record]) -> Result<Page> {
    let mut page = Page::new("GPUvm: what full virtualization costs");
    introduction(&mut page, records);
    for group in Group::all(records) {
        let measures = Measures::new(records, group);
        if !measures.best.is_empty() {
            page.heading(&format!("One guest, {}", group.describe()));
            overhead(&mut page, &measures, group)?;
            causes(&mut page, records, group)?;
            runs::section(&mut page, records, group);
            ablation(&mut page, &measures, &costs::of(records, group));
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
    let minutes = records.iter().map(|r| r.wall_ms).sum::<u64>() as f64 / 6e4;
    page.paragraph(&format!(
        "{} runs of stock Debian guests (kernel {}, its own nouveau) on the software GF100, {:.0} \
         minutes in all{within}, on {} cores of {}. Each figure is the best of \
         {repetitions}. The card is software, so absolute figures say little: compare modes with each \
         other, within this page. Published figures are from other hardware and stand here for \
         orientation only.",
        records.len(),
        host.guest_kernel,
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

fn overhead(page: &mut Page, measures: &Measures, group: Group) -> Result<()> {
    let base = Mode::Passthrough;
    let modes: Vec<&Mode> = measures
        .modes
        .iter()
        .filter(|mode| **mode != base)
        .collect();
    if modes.len() == measures.modes.len() || modes.is_empty() {
        page.paragraph("Without runs of passthrough there is nothing to compare with.");
        return Ok(());
    }
    page.subheading("Overhead against the same card passed through");
    let summary = summary::overhead(measures);
    page.table(&summary::OVERHEAD, &summary);
    let series: Vec<String> = modes.iter().map(ToString::to_string).collect();
    for suite in Suite::ALL {
        let rows: Vec<Row> = measures
            .best
            .keys()
            .filter(|benchmark| benchmark.0 == suite && !is_phase(benchmark))
            .map(|benchmark| Row {
                label: benchmark.1.clone(),
                values: modes
                    .iter()
                    .map(|mode| measures.slowdown(benchmark, mode, &base))
                    .collect(),
            })
            .filter(|row| row.values.iter().any(Option::is_some))
            .collect();
        if !rows.is_empty() {
            let picture = figures::ratios(&series, &rows).map_err(drawing)?;
            page.figure(
                &group.name(&format!("overhead-{suite}")),
                &picture,
                &format!("{suite}: times slower than passthrough; left of the line is faster"),
            );
        }
    }
    page.published("Published, on other hardware", published::OVERHEAD);
    Ok(())
}

fn drawing(error: Box<dyn std::error::Error>) -> anyhow::Error {
    anyhow!("Cannot draw: {error}")
}

fn causes(page: &mut Page, records: &[Record], group: Group) -> Result<()> {
    let all = costs::of(records, group);
    if all.is_empty() {
        return Ok(());
    }
    page.subheading("What it is made of");
    let mut totals: Vec<(String, u64)> = Vec::new();
    for (_, _, counters) in &all {
        for (range, count) in accesses(counters) {
            match totals.iter_mut().find(|(name, _)| *name == range) {
                Some((_, total)) => *total += count,
                None => totals.push((range, count)),
            }
        }
    }
    totals.sort_by_key(|(_, total)| std::cmp::Reverse(*total));
    let mut parts: Vec<String> = totals
        .into_iter()
        .filter(|(_, total)| *total > 0)
        .take(RANGES)
        .map(|(name, _)| name)
        .collect();
    let rows: Vec<Row> = all
        .iter()
        .map(|(suite, mode, counters)| {
            let ranges = accesses(counters);
            let of = |part: &String| ranges.get(part).copied().unwrap_or(0);
            let known: u64 = parts.iter().map(of).sum();
            let rest = ranges.values().sum::<u64>() - known;
            let values = parts.iter().map(of).chain([rest]);
            Row {
                label: format!("{suite} · {mode}"),
                values: values.map(|value| Some(value as f64)).collect(),
            }
        })
        .collect();
    parts.push("the rest".into());
    let picture = figures::stacked(&parts, &rows).map_err(drawing)?;
    page.figure(
        &group.name("accesses"),
        &picture,
        "Accesses that trapped in a run, probe included, by BAR and range",
    );
    if let Some(picture) = handler_times(&all).transpose()? {
        page.figure(
            &group.name("time"),
            &picture,
            "Milliseconds of a run that the VMM spent on exits of the guest",
        );
    }
    let (head, rows) = costs::table(&all, &costs::ALL);
    page.table(&head, &rows);
    Ok(())
}

/// What exits cost by what was done about them: syncs happen within accesses.
fn handler_times(all: &[(Suite, Mode, &Counters)]) -> Option<Result<String>> {
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
    (!rows.is_empty()).then(|| figures::stacked(&parts, &rows).map_err(drawing))
}

fn ablation(page: &mut Page, measures: &Measures, costs: &[(Suite, Mode, &Counters)]) {
    let base = Mode::Fv("none".into());
    let others: Vec<&Mode> = measures
        .modes
        .iter()
        .filter(|mode| matches!(mode, Mode::Fv(opt) if opt != "none"))
        .collect();
    if !measures.modes.contains(&base) || others.is_empty() {
        return;
    }
    page.subheading("What each switch brings");
    page.paragraph(
        "Against full virtualization as it was published, without optimisations: how much faster \
         the suite is on (geometric) average, and what is left of accesses that trap and of entries \
         that syncs read.",
    );
    let left = |suite: Suite, mode: &Mode, prefix: &[&str]| -> Option<f64> {
        let of = |mode: &Mode| {
            let found = costs.iter().find(|(s, m, _)| *s == suite && m == mode)?;
            Some(prefix.iter().map(|p| sum(found.2, p)).sum::<u64>() as f64)
        };
        let (now, before) = (of(mode)?, of(&base)?);
        (before > 0.0).then(|| now / before)
    };
    let percent = |part: Option<f64>| part.map_or("–".into(), |p| format!("{:.1} %", 100.0 * p));
    let mut rows = Vec::new();
    for suite in Suite::ALL {
        for mode in &others {
            let slowdowns: Vec<f64> = measures
                .slowdowns(mode, &base)
                .into_iter()
                .filter(|(benchmark, _)| benchmark.0 == suite && !is_phase(benchmark))
                .map(|(_, slowdown)| slowdown)
                .collect();
            if slowdowns.is_empty() {
                continue;
            }
            let speed = 1.0 / geometric_mean(slowdowns.into_iter());
            rows.push(vec![
                suite.to_string(),
                mode.to_string(),
                ratio(speed),
                percent(left(suite, mode, &["reads ", "writes "])),
                percent(left(suite, mode, &["entries_scanned"])),
            ]);
        }
    }
    page.table(
        &[
            "suite",
            "mode",
            "faster",
            "accesses left",
            "entries read left",
        ],
        &rows,
    );
    page.published("Published, on other hardware", published::ABLATION);
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
            .map(|((suite, name), modes)| {
                let unit = modes.values().next().map_or("", |measure| measure.unit);
                let figures = measures.modes.iter().map(|mode| match modes.get(mode) {
                    Some(measure) => figure(measure.value),
                    None => "–".into(),
                });
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
    use crate::job::{Job, Way};
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
        assert!(table.contains("vfio-user,micro,\"ce0 HtoD 4 KiB\",MiB/s,fv:all,200\n"));
    }
}
