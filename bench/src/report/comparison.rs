//! How modes compare with the whole card, and with one another.

use anyhow::Result;

use super::figures::{self, Row, ratio};
use super::html::Page;
use super::measures::{Benchmark, Group, Measures, PHASES, geometric_mean, sum};
use super::{drawing, summary};
use crate::job::{Mode, Suite};
use crate::published;
use crate::record::Counters;

/// What modes are compared with that are virtual, to see what a switch brings.
const NAIVE: &str = "none";

/// How much slower virtual GPUs are than the whole card.
pub fn overhead(page: &mut Page, measures: &Measures, group: Group) -> Result<()> {
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
    page.table(&summary::OVERHEAD, &summary::overhead(measures));
    let series: Vec<String> = modes.iter().map(ToString::to_string).collect();
    for suite in Suite::ALL {
        let rows: Vec<Row> = bars(measures, suite)
            .into_iter()
            .map(|(label, benchmarks)| Row {
                label,
                values: modes
                    .iter()
                    .map(|mode| mean(measures, &benchmarks, mode, &base))
                    .collect(),
            })
            .filter(|row| row.values.iter().any(Option::is_some))
            .collect();
        if !rows.is_empty() {
            let picture = figures::ratios(&series, &rows).map_err(drawing)?;
            let all_sizes = match has_sizes(suite) {
                true => "; copies of all sizes together, by geometric mean: each is below",
                false => "",
            };
            page.figure(
                &group.name(&format!("overhead-{suite}")),
                &picture,
                &format!(
                    "{suite}: times slower than passthrough; left of the line is faster{all_sizes}"
                ),
            );
        }
    }
    page.published("Published, on other hardware", published::OVERHEAD);
    phases(page, measures, group)
}

/// Whether benchmarks of a suite are copies of many sizes.
const fn has_sizes(suite: Suite) -> bool {
    matches!(suite, Suite::Micro | Suite::Copy)
}

/// The benchmarks of a suite that have a bar together, and its name.
fn bars(measures: &Measures, suite: Suite) -> Vec<(String, Vec<&Benchmark>)> {
    let mut bars: Vec<(String, Vec<&Benchmark>)> = Vec::new();
    for benchmark in measures.best.keys() {
        if benchmark.suite != suite || benchmark.phase().is_some() {
            continue;
        }
        let name = match has_sizes(suite) {
            true => &benchmark.family,
            false => &benchmark.name,
        };
        match bars.last_mut() {
            Some((last, benchmarks)) if last == name => benchmarks.push(benchmark),
            _ => bars.push((name.clone(), vec![benchmark])),
        }
    }
    bars
}

/// How much slower `mode` is than `base` in `benchmarks`.
fn mean(measures: &Measures, benchmarks: &[&Benchmark], mode: &Mode, base: &Mode) -> Option<f64> {
    let each = benchmarks.iter();
    let ratios: Vec<f64> = each
        .filter_map(|benchmark| measures.slowdown(benchmark, mode, base))
        .collect();
    (!ratios.is_empty()).then(|| geometric_mean(ratios.into_iter()))
}

/// The phases of OpenCL workloads, all workloads that ran in all modes together.
fn phases(page: &mut Page, measures: &Measures, group: Group) -> Result<()> {
    let ran_in_all = |benchmark: &&Benchmark| {
        let modes = &measures.best[*benchmark];
        measures.modes.iter().all(|mode| modes.contains_key(mode))
    };
    let parts: Vec<&Benchmark> = measures
        .best
        .keys()
        .filter(|benchmark| benchmark.phase().is_some())
        .filter(ran_in_all)
        .collect();
    let workloads = parts.len() / PHASES.len();
    if workloads == 0 {
        return Ok(());
    }
    let of = |phase: &str| -> Vec<&Benchmark> {
        let same = |part: &&&Benchmark| part.phase() == Some(phase);
        parts.iter().copied().filter(|part| same(&part)).collect()
    };
    page.subheading("Where the time of an OpenCL program goes");
    // The compiler runs on the guest's processor and has nothing to do with the card.
    let shown: Vec<&str> = PHASES.into_iter().filter(|p| *p != "build").collect();
    let rows: Vec<Row> = measures
        .modes
        .iter()
        .map(|mode| Row {
            label: mode.to_string(),
            values: shown
                .iter()
                .map(|phase| {
                    let times = of(phase).into_iter();
                    let sum: f64 = times.map(|part| measures.best[part][mode].value).sum();
                    Some(sum / workloads as f64)
                })
                .collect(),
        })
        .collect();
    let names: Vec<String> = shown.iter().map(ToString::to_string).collect();
    let picture = figures::stacked(&names, &rows, "ms").map_err(drawing)?;
    page.figure(
        &group.name("phases"),
        &picture,
        &format!(
            "Mean of {workloads} workloads by phase, each the best of all repetitions, without the \
             compiler's time; init is mostly Mesa, which is brought up for each program"
        ),
    );
    let base = Mode::Passthrough;
    let head: Vec<&str> = ["mode"].into_iter().chain(PHASES).collect();
    let rows: Vec<Vec<String>> = measures
        .modes
        .iter()
        .filter(|mode| **mode != base)
        .map(|mode| {
            let ratios = PHASES.iter().map(|phase| {
                let mean = mean(measures, &of(phase), mode, &base);
                mean.map_or("–".into(), ratio)
            });
            std::iter::once(mode.to_string()).chain(ratios).collect()
        })
        .collect();
    page.paragraph("Times slower than passthrough, by phase, geometric mean of the workloads:");
    page.table(&head, &rows);
    Ok(())
}

/// What each switch brings, against a virtual GPU without any.
pub fn ablation(
    page: &mut Page,
    measures: &Measures,
    costs: &[(Suite, Mode, &Counters)],
    group: Group,
) -> Result<()> {
    let base = Mode::Fv(NAIVE.into());
    let others: Vec<&Mode> = measures
        .modes
        .iter()
        .filter(|mode| matches!(mode, Mode::Fv(opt) if opt != NAIVE))
        .collect();
    if !measures.modes.contains(&base) || others.is_empty() {
        return Ok(());
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
    let mut picture = Vec::new();
    for suite in Suite::ALL {
        let all: Vec<&Benchmark> = bars(measures, suite)
            .into_iter()
            .flat_map(|(_, benchmarks)| benchmarks)
            .collect();
        let means: Vec<Option<f64>> = others
            .iter()
            .map(|mode| mean(measures, &all, mode, &base))
            .collect();
        for (mode, mean) in others.iter().zip(&means) {
            let Some(mean) = mean else { continue };
            rows.push(vec![
                suite.to_string(),
                mode.to_string(),
                ratio(1.0 / mean),
                percent(left(suite, mode, &["reads ", "writes "])),
                percent(left(suite, mode, &["entries_scanned"])),
            ]);
        }
        if means.iter().any(Option::is_some) {
            picture.push(Row {
                label: suite.to_string(),
                values: means.into_iter().map(|mean| Some(1.0 / mean?)).collect(),
            });
        }
    }
    let heads = [
        "suite",
        "mode",
        "faster",
        "accesses left",
        "entries read left",
    ];
    page.table(&heads, &rows);
    let series: Vec<String> = others.iter().map(ToString::to_string).collect();
    page.figure(
        &group.name("ablation"),
        &figures::ratios(&series, &picture).map_err(drawing)?,
        "Times faster than fv:none, by suite; left of the line is slower",
    );
    page.published("Published, on other hardware", published::ABLATION);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{GuestResult, Record};
    use crate::testing::job;

    #[test]
    fn sizes_of_a_copy_have_one_bar_and_their_mean() {
        let record = |mode: &str, rates: [f64; 2]| {
            let line = |bytes: u64, rate: f64| {
                serde_json::json!({"type": "copy", "engine": "ce0", "direction": "DtoD",
                    "bytes": bytes, "mib_per_s": rate})
            };
            let mut record = Record::new(job(Suite::Micro, mode, 1));
            record.guests.push(GuestResult {
                lines: vec![line(4096, rates[0]), line(1 << 20, rates[1])],
                ..GuestResult::default()
            });
            record
        };
        let records = [
            record("passthrough", [400.0, 100.0]),
            record("fv:all", [100.0, 100.0]),
        ];
        let measures = Measures::new(&records, Group::of(&records[0]));
        let bars = bars(&measures, Suite::Micro);
        let (name, benchmarks) = &bars[0];
        assert_eq!(
            (bars.len(), name.as_str(), benchmarks.len()),
            (1, "ce0 DtoD", 2)
        );
        let all = Mode::Fv("all".into());
        let slower = mean(&measures, benchmarks, &all, &Mode::Passthrough).unwrap();
        assert!((slower - 2.0).abs() < 1e-9, "{slower}");
    }
}
