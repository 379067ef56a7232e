//! The report's part on several guests on one card.

use std::collections::BTreeMap;

use anyhow::Result;

use super::fairness::{Fairness, latencies_ms, loads, rates_together};
use super::html::Page;
use super::{drawing, figures, lines};
use crate::job::{Job, Load, Suite};
use crate::published;
use crate::record::Record;
use crate::work::AHEAD;

/// The columns of [`rows`].
pub const COLUMNS: [&str; 14] = [
    "guests",
    "load",
    "scheduler",
    "mode",
    "runs",
    "Jain, worst 1 s",
    "Jain, mean",
    "share error",
    "of a share",
    "card busy",
    "lost",
    "median ms",
    "p99 ms",
    "longest ms",
];

fn shared(records: &[Record]) -> impl Iterator<Item = &Record> {
    let good = records.iter().filter(|record| record.error.is_none());
    good.filter(|record| record.job.suite == Suite::Sharing)
}

/// Kernels per second of a guest alone, by what it has to be like to be compared, and by size.
type Alone = BTreeMap<(String, u64), f64>;

/// What guests have in common that can be compared.
fn likeness(record: &Record) -> String {
    let job = &record.job;
    format!(
        "{} {} {} {} {}",
        job.way, job.mode, job.load, job.size, job.slow_motion
    )
}

fn alone(records: &[Record]) -> Alone {
    let mut best = Alone::new();
    for record in shared(records).filter(|record| record.job.guests == 1) {
        for done in loads(record).iter().flatten() {
            let best = best.entry((likeness(record), done.size)).or_default();
            *best = done.rate_alone().max(*best);
        }
    }
    best
}

/// The part of what the card does for a guest alone that is lost: what all have of it, each
/// measured by what it would have alone, is less than all.
fn lost(record: &Record, fairness: &Fairness, alone: &Alone) -> Option<f64> {
    let rates = rates_together(record, fairness);
    let parts = rates.into_iter().map(|(size, rate)| {
        let alone = alone.get(&(likeness(record), size))?;
        (*alone > 0.0).then(|| rate / alone)
    });
    let parts: Option<Vec<f64>> = parts.collect();
    Some(1.0 - parts?.iter().sum::<f64>())
}

/// What a run of several guests says.
pub struct Figures {
    /// Jain's index: the worst window and the mean of all.
    pub jain: Option<[f64; 2]>,
    /// How far shares are from even ones, as a part of those.
    pub error: Option<f64>,
    /// The part of the time in which engines worked.
    pub busy: Option<f64>,
    /// The part of the card's throughput that is lost.
    pub lost: Option<f64>,
    /// Median, 99th percentile and longest latency of submissions, in milliseconds.
    pub latencies: [f64; 3],
}

impl Figures {
    fn new(record: &Record, alone: &Alone) -> Self {
        let job = &record.job;
        let fairness = Fairness::new(&record.samples);
        // Of guests that sleep, who wanted how much of the card is not known.
        let judged = fairness.as_ref().filter(|_| job.load.keeps_busy());
        Self {
            jain: judged.map(|f| [f.worst(), mean(f.jain.iter().copied()).unwrap_or(1.0)]),
            error: judged.map(|f| f.error / 100.0 * f64::from(job.guests)),
            busy: fairness.as_ref().map(|f| f.busy),
            lost: judged.and_then(|f| lost(record, f, alone)),
            latencies: latencies_ms(record),
        }
    }
}

/// The runs of several guests, with what each says.
pub fn runs(records: &[Record]) -> Vec<(&Record, Figures)> {
    let alone = alone(records);
    shared(records)
        .filter(|record| record.job.guests > 1)
        .map(|record| (record, Figures::new(record, &alone)))
        .collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, n), value| (sum + value, n + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Repetitions of a run of several guests.
pub struct Repeated<'a> {
    first: &'a Record,
    figures: Vec<Figures>,
}

impl Repeated<'_> {
    /// What all of them have in common.
    pub fn job(&self) -> &Job {
        &self.first.job
    }

    /// The mean of those that say anything.
    pub fn mean(&self, of: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        mean(self.figures.iter().filter_map(of))
    }

    /// Jain's index in the worst second of all.
    pub fn worst(&self) -> Option<f64> {
        let each = self.figures.iter().filter_map(|f| Some(f.jain?[0]));
        each.reduce(f64::min)
    }

    fn latency(&self, n: usize) -> f64 {
        let each = self.figures.iter().map(|f| f.latencies[n]);
        // The longest of all is not a mean of them.
        match n {
            2 => each.fold(0.0, f64::max),
            _ => mean(each).unwrap_or(0.0),
        }
    }

    fn row(&self) -> Vec<String> {
        let job = self.job();
        let number = |of: Option<f64>| of.map_or("–".into(), |value| format!("{value:.3}"));
        let percent =
            |of: Option<f64>| of.map_or("–".into(), |part| format!("{:.1} %", 100.0 * part));
        let error = self.mean(|f| f.error);
        let points = error.map(|error| 100.0 * error / f64::from(job.guests));
        let mut row = vec![
            job.guests.to_string(),
            job.load.to_string(),
            job.sched.clone(),
            job.mode.to_string(),
            self.figures.len().to_string(),
            number(self.worst()),
            number(self.mean(|f| Some(f.jain?[1]))),
            points.map_or("–".into(), |points| format!("{points:.1} pp")),
            percent(error),
            percent(self.mean(|f| f.busy)),
            percent(self.mean(|f| f.lost)),
        ];
        row.extend((0..3).map(|n| format!("{:.0}", self.latency(n))));
        row
    }
}

/// Runs of several guests, those together that differ only in their repetition.
pub fn repeated(records: &[Record]) -> Vec<Repeated<'_>> {
    let mut all: Vec<Repeated<'_>> = Vec::new();
    let what = |record: &Record| {
        let job = &record.job;
        (likeness(record), job.guests, job.sched.clone())
    };
    for (record, figures) in runs(records) {
        match all.iter_mut().find(|r| what(r.first) == what(record)) {
            Some(same) => same.figures.push(figures),
            None => all.push(Repeated {
                first: record,
                figures: vec![figures],
            }),
        }
    }
    all
}

/// A row for each combination of guests, load, scheduler and mode.
pub fn rows(records: &[Record]) -> Vec<Vec<String>> {
    repeated(records).iter().map(Repeated::row).collect()
}

/// What guests of these loads do, in words.
fn describe(records: &[Record]) -> String {
    let mut text = format!(
        "Each guest launches kernels for a fixed time, with {AHEAD} submissions under way. A kernel's \
         threads go around a loop, and its result is checked. "
    );
    for load in Load::ALL {
        if !shared(records).any(|record| record.job.load == load) {
            continue;
        }
        let turns: Vec<String> = load
            .kernels()
            .iter()
            .map(|kernels| kernels.turns.to_string())
            .collect();
        text += &format!(
            "Guests with {load} work have loops of {} turns",
            turns.join(", ")
        );
        text += match load {
            Load::Bursty => " and sleep up to half a second after 1024 kernels. ",
            Load::ShortLong => ", four short kernels in a submission. ",
            Load::Unlike | Load::Equal => ". ",
        };
    }
    let mut factors: Vec<u32> = shared(records).map(|r| r.job.slow_motion).collect();
    factors.sort_unstable();
    factors.dedup();
    for factor in factors {
        text += &match factor {
            0 => "Engines take as long as the host does. ".to_owned(),
            _ => format!(
                "The card is in slow motion: its engines take {factor} times what a Quadro 6000's \
                 would, so that guests wait for the card and not for the host's processors. "
            ),
        };
    }
    text
}

/// A picture's name, its unit and what it shows of repetitions.
type Shown = (&'static str, &'static str, fn(&Repeated<'_>) -> Option<f64>);

/// What schedulers are compared by.
const SHOWN: [(Shown, &str); 3] = [
    (
        ("share-error", "%", |r| Some(100.0 * r.mean(|f| f.error)?)),
        "Error of shares in windows of a second, as a part of an even share: less is fairer",
    ),
    (
        ("lost", "%", |r| Some(100.0 * r.mean(|f| f.lost)?)),
        "Throughput that is lost against a guest alone",
    ),
    (
        ("latency", "ms", |r| Some(r.latency(1))),
        "99th percentile of the time from a submission to its end, of the guest that waits longest",
    ),
];

/// Bars of schedulers beside one another, for each number of guests, load and mode.
fn compare(page: &mut Page, all: &[Repeated<'_>]) -> Result<()> {
    let mut scheds: Vec<String> = Vec::new();
    let mut groups: Vec<(String, Vec<&Repeated<'_>>)> = Vec::new();
    let several_modes = all.iter().any(|r| r.job().mode != all[0].job().mode);
    for repeated in all {
        let job = repeated.job();
        if !scheds.contains(&job.sched) {
            scheds.push(job.sched.clone());
        }
        let mut label = format!("{} guests, {}", job.guests, job.load);
        if several_modes {
            label = format!("{label}, {}", job.mode);
        }
        match groups.iter_mut().find(|(known, _)| *known == label) {
            Some((_, same)) => same.push(repeated),
            None => groups.push((label, vec![repeated])),
        }
    }
    for ((name, unit, of), caption) in SHOWN {
        let rows: Vec<figures::Row> = groups
            .iter()
            .map(|(label, same)| figures::Row {
                label: label.clone(),
                values: scheds
                    .iter()
                    .map(|sched| of(same.iter().find(|r| r.job().sched == *sched)?))
                    .collect(),
            })
            .filter(|row| row.values.iter().any(Option::is_some))
            .collect();
        if !rows.is_empty() {
            let picture = figures::amounts(&scheds, &rows, unit).map_err(drawing)?;
            page.figure(name, &picture, caption);
        }
    }
    Ok(())
}

/// Writes it, if several guests ran at a time.
pub fn section(page: &mut Page, records: &[Record]) -> Result<()> {
    let all = repeated(records);
    if all.is_empty() {
        return Ok(());
    }
    page.heading("Several guests on one card");
    page.paragraph(&describe(records));
    page.paragraph(
        "Shares are those of the time that engines worked while all guests did; their error is the \
         mean distance from even ones, in percentage points and as a part of an even share. Lost is \
         what is missing when the guests' rates in that time, each divided by that of the same \
         kernels alone, are added. Guests that sleep are not judged. Latencies are those of the \
         guest that waits longest, from a submission to its end. All are means of the runs, but for \
         the worst second and the longest latency.",
    );
    let rows: Vec<Vec<String>> = all.iter().map(Repeated::row).collect();
    page.table(&COLUMNS, &rows);
    compare(page, &all)?;
    let mut pictures = Vec::new();
    for Repeated { first, .. } in &all {
        let job = &first.job;
        if let Some(fairness) = Fairness::new(&first.samples) {
            let title = format!("{} guests, {}, {}", job.guests, job.load, job.sched);
            let name = format!(
                "shares-{}-{}-{}-{}-{}",
                job.guests, job.load, job.sched, job.mode, job.way
            );
            let name = name.replace([':', '+'], "-");
            let picture = lines::shares(&title, &fairness.shares).map_err(drawing)?;
            pictures.push((name, picture));
        }
    }
    page.gallery(
        pictures,
        "Shares of the card over time, by guest; dashed: even shares",
    );
    page.published("Published, on other hardware", published::FAIRNESS);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{GuestResult, Sample};
    use crate::testing::job;

    /// Two guests that have shares of 1 and `more`.
    fn record(repetition: u32, more: u64) -> Record {
        let mut record = Record::new(job(Suite::Sharing, "fv:all", 2));
        record.job.repetition = repetition;
        record.samples = (0..40)
            .map(|n| Sample {
                ms: 250 * n,
                engine_ns: vec![n, more * n],
            })
            .collect();
        let line = serde_json::json!({"type": "load", "count": 10, "size": 28, "seconds": 2.0,
            "counts": [5, 10], "median_us": 900.0, "p99_us": 1500.0, "max_us": 1e3 * more as f64});
        let guest = GuestResult {
            lines: vec![line],
            ..GuestResult::default()
        };
        record.guests = vec![guest.clone(), guest];
        record
    }

    #[test]
    fn repetitions_have_one_row_with_the_worst_second_of_all() {
        let rows = rows(&[record(0, 1), record(1, 3)]);
        assert_eq!(rows.len(), 1);
        let cell = |column: &str| {
            let n = COLUMNS.iter().position(|c| *c == column).unwrap();
            rows[0][n].as_str()
        };
        assert_eq!(cell("runs"), "2");
        assert_eq!(cell("Jain, worst 1 s"), "0.800");
        assert_eq!(cell("Jain, mean"), "0.900");
        assert_eq!(cell("share error"), "12.5 pp");
        assert_eq!(cell("of a share"), "25.0 %");
        assert_eq!(cell("longest ms"), "3");
        assert_eq!(cell("lost"), "–");
    }
}
