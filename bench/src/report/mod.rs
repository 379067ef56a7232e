//! The report: one page that needs nothing else, and the figures as CSV.

mod fairness;
mod figures;
mod html;
mod measures;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use self::fairness::{Fairness, latency_p99_ms, throughput};
use self::figures::{Row, ratio, thousands};
use self::html::Page;
use self::measures::{Measures, accesses, costs, geometric_mean, is_phase, sum};
use crate::plan::{Mode, Suite, Way};
use crate::published;
use crate::record::{Counters, Record, read_all};

/// Files of a report in the directory of its results.
const PAGE: &str = "report.html";
const TABLE: &str = "report.csv";
/// From so many repetitions on, the best of them means something.
const ENOUGH: u32 = 3;
/// Ranges of accesses that have a colour of their own.
const RANGES: usize = 7;

/// Makes the report of the results in `directory`; where the page is.
///
/// # Errors
///
/// There are no results, or the files cannot be written.
pub fn write(directory: &Path) -> Result<PathBuf> {
    let records = read_all(directory)?;
    ensure!(
        records.iter().any(|record| record.error.is_none()),
        "There are no results in {}",
        directory.display()
    );
    let path = directory.join(PAGE);
    let page = page(&records)?;
    fs::write(&path, page).with_context(|| format!("Cannot write {}", path.display()))?;
    let table = directory.join(TABLE);
    fs::write(&table, csv(&records))
        .with_context(|| format!("Cannot write {}", table.display()))?;
    Ok(path)
}

fn ways(records: &[Record]) -> Vec<Way> {
    let mut ways = Vec::new();
    for record in records {
        if !ways.contains(&record.job.way) {
            ways.push(record.job.way);
        }
    }
    ways
}

fn page(records: &[Record]) -> Result<String> {
    let mut page = Page::new("GPUvm: what full virtualization costs");
    introduction(&mut page, records);
    for way in ways(records) {
        let measures = Measures::new(records, way);
        if !measures.best.is_empty() {
            page.heading(&format!("One guest, {}", describe(way)));
            overhead(&mut page, &measures)?;
            causes(&mut page, records, way)?;
            ablation(&mut page, &measures, &costs(records, way));
            details(&mut page, &measures);
        }
    }
    sharing(&mut page, records)?;
    failures(&mut page, records);
    Ok(page.finish())
}

fn describe(way: Way) -> &'static str {
    match way {
        Way::VfioUser => "interpreted by QEMU, card over vfio-user",
        Way::Nested => "gpuvm run on KVM in an interpreted machine",
    }
}

fn introduction(page: &mut Page, records: &[Record]) {
    let Some(first) = records.first() else { return };
    let host = &first.host;
    let repetitions = records
        .iter()
        .map(|r| r.job.repetition + 1)
        .max()
        .unwrap_or(0);
    let minutes = records.iter().map(|r| r.wall_ms).sum::<u64>() as f64 / 6e4;
    page.paragraph(&format!(
        "{} runs of stock Debian guests (kernel {}, its own nouveau) on the software GF100, {:.0} \
         minutes in all, on {} cores of {}. Each figure is the best of {repetitions}. Everything \
         ran under emulation, so absolute figures say little: compare modes with each other, within \
         this page. Published figures are from other hardware and stand here for orientation only.",
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

fn overhead(page: &mut Page, measures: &Measures) -> Result<()> {
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
    let mut summary = Vec::new();
    for mode in &modes {
        let all = measures.slowdowns(mode, &base);
        for suite in Suite::ALL {
            let of_suite: Vec<_> = all
                .iter()
                .filter(|(benchmark, _)| benchmark.0 == suite && !is_phase(benchmark))
                .collect();
            let Some(worst) = of_suite.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else {
                continue;
            };
            summary.push(vec![
                suite.to_string(),
                mode.to_string(),
                ratio(geometric_mean(
                    of_suite.iter().map(|(_, slowdown)| *slowdown),
                )),
                ratio(worst.1),
                worst.0.1.clone(),
            ]);
        }
    }
    summary.sort();
    page.table(
        &["suite", "mode", "geometric mean", "worst", "where"],
        &summary,
    );
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
                    .map(|mode| {
                        let figures = &measures.best[benchmark];
                        figures.get(mode)?.slowdown(figures.get(&base)?)
                    })
                    .collect(),
            })
            .filter(|row| row.values.iter().any(Option::is_some))
            .collect();
        if !rows.is_empty() {
            let picture = figures::ratios(&series, &rows).map_err(drawing)?;
            page.figure(
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

fn causes(page: &mut Page, records: &[Record], way: Way) -> Result<()> {
    let all = costs(records, way);
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
        &picture,
        "Accesses that trapped in a run, probe included, by BAR and range",
    );
    let columns: [(&str, &str); 8] = [
        ("bytes written by guests", "written_bytes"),
        ("TLB flushes", "tlb_flushes"),
        ("syncs", "syncs"),
        ("entries scanned", "entries_scanned"),
        ("entries written", "entries_written"),
        ("bytes written by syncs", "sync_written_bytes"),
        ("interrupts", "events"),
        ("ms in syncs", "sync_ns"),
    ];
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(suite, mode, counters)| {
            let figures = columns.iter().map(|(_, prefix)| cost(counters, prefix));
            [suite.to_string(), mode.to_string()]
                .into_iter()
                .chain(figures)
                .collect()
        })
        .collect();
    let head: Vec<&str> = ["suite", "mode"]
        .into_iter()
        .chain(columns.iter().map(|(head, _)| *head))
        .collect();
    page.table(&head, &rows);
    Ok(())
}

/// The sum of the counters called so, with or without a place; times in milliseconds.
fn cost(counters: &Counters, name: &str) -> String {
    let exact = |(key, _): &(&String, &u64)| {
        key.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let value: u64 = counters.iter().filter(exact).map(|(_, value)| value).sum();
    match name.ends_with("_ns") {
        true => format!("{:.1}", value as f64 / 1e6),
        false => thousands(value),
    }
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

fn sharing(page: &mut Page, records: &[Record]) -> Result<()> {
    let shared: Vec<&Record> = records
        .iter()
        .filter(|r| r.job.suite == Suite::Sharing && r.error.is_none())
        .collect();
    if shared.is_empty() {
        return Ok(());
    }
    page.heading("Several guests on one card");
    page.paragraph(
        "Each guest copies within its video memory for a fixed time, with four copies under way, by \
         PGRAPH; guests have copies of 1, 2, 4, 8 MiB. Shares are those of the time that engines \
         worked while all guests did; lost throughput is against one guest alone in the same mode.",
    );
    let alone = |mode: &Mode| {
        let one = shared
            .iter()
            .filter(|r| r.job.guests == 1 && r.job.mode == *mode);
        one.map(|r| throughput(r)).fold(0.0, f64::max)
    };
    let mut rows = Vec::new();
    let mut pictures = Vec::new();
    for record in shared.iter().filter(|r| r.job.guests > 1) {
        let job = &record.job;
        let fairness = Fairness::new(&record.samples);
        let lost = match alone(&job.mode) {
            0.0 => "–".to_owned(),
            alone => format!("{:.1} %", 100.0 * (1.0 - throughput(record) / alone)),
        };
        let of = |text: fn(&Fairness) -> String| fairness.as_ref().map_or("–".into(), text);
        rows.push(vec![
            job.guests.to_string(),
            job.sched.clone(),
            job.mode.to_string(),
            of(|f| format!("{:.3}", f.worst())),
            of(|f| format!("{:.3}", f.jain.iter().sum::<f64>() / f.jain.len() as f64)),
            of(|f| format!("{:.1} pp", f.error)),
            format!("{:.0}", throughput(record)),
            lost,
            format!("{:.0}", latency_p99_ms(record)),
        ]);
        if let Some(fairness) = &fairness
            && job.repetition == 0
        {
            let title = format!("{} guests, {}", job.guests, job.sched);
            pictures.push(figures::shares(&title, &fairness.shares).map_err(drawing)?);
        }
    }
    let head = [
        "guests",
        "scheduler",
        "mode",
        "Jain, worst 1 s",
        "Jain, mean",
        "share error",
        "MiB/s",
        "lost",
        "p99 ms",
    ];
    page.table(&head, &rows);
    page.gallery(
        &pictures,
        "Shares of the card over time; dashed: even shares",
    );
    page.published("Published, on other hardware", published::FAIRNESS);
    Ok(())
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

/// A line for each figure of each run.
fn csv(records: &[Record]) -> String {
    let mut text = String::from("way,suite,benchmark,unit,mode,best\n");
    for way in ways(records) {
        for ((suite, name), modes) in &Measures::new(records, way).best {
            for (mode, measure) in modes {
                let (unit, value) = (measure.unit, measure.value);
                text += &format!("{way},{suite},\"{name}\",{unit},{mode},{value}\n");
            }
        }
        for (suite, mode, counters) in costs(records, way) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Job;
    use crate::record::{GuestResult, HostInfo, Sample};

    fn record(suite: Suite, mode: &str, guests: u16, lines: Vec<serde_json::Value>) -> Record {
        let counters = [("reads Bar0 pmc", 9), ("entries_scanned", 5)];
        let counters = counters.map(|(name, value)| (name.to_owned(), value));
        Record {
            job: Job {
                suite,
                mode: mode.parse().unwrap(),
                way: Way::VfioUser,
                guests,
                sched: "drr".into(),
                size: "small".into(),
                repetition: 0,
            },
            host: HostInfo {
                cpu: "a <fast> one".into(),
                cores: 2,
                kernel: "6".into(),
                gpuvm: "0".into(),
                guest_kernel: "6.1".into(),
            },
            time: 0,
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
        let load = serde_json::json!({"type": "load", "copies": 10, "bytes": 1 << 20,
            "seconds": 2.0, "p99_us": 1500.0});
        let mut failed = record(Suite::Copy, "fv:all", 1, Vec::new());
        failed.error = Some("it broke".into());
        let records = [
            record(Suite::Micro, "passthrough", 1, copy(300.0)),
            record(Suite::Micro, "fv:none", 1, copy(100.0)),
            record(Suite::Micro, "fv:all", 1, copy(200.0)),
            record(Suite::Sharing, "fv:all", 2, vec![load]),
            failed,
        ];
        let page = page(&records).unwrap();
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
        let table = csv(&records);
        assert!(table.contains("vfio-user,micro,\"ce0 HtoD 4 KiB\",MiB/s,fv:all,200\n"));
    }
}
