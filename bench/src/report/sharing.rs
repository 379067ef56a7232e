//! The report's part on several guests on one card.

use std::collections::BTreeMap;

use anyhow::Result;

use super::fairness::{Fairness, latency_p99_ms, rates};
use super::html::Page;
use super::{drawing, figures};
use crate::plan::Suite;
use crate::published;
use crate::record::Record;

/// The columns of [`rows`].
pub const COLUMNS: [&str; 11] = [
    "guests",
    "load",
    "scheduler",
    "mode",
    "repetition",
    "Jain, worst 1 s",
    "Jain, mean",
    "share error",
    "copies/s",
    "lost",
    "p99 ms",
];

fn shared(records: &[Record]) -> impl Iterator<Item = &Record> {
    let good = records.iter().filter(|record| record.error.is_none());
    good.filter(|record| record.job.suite == Suite::Sharing)
}

/// Copies per second of a guest alone, by what it has to be like to be compared, and by bytes.
type Alone = BTreeMap<(String, u64), f64>;

/// What guests have in common that can be compared.
fn likeness(record: &Record) -> String {
    let job = &record.job;
    format!("{} {} {} {}", job.way, job.mode, job.load, job.size)
}

fn alone(records: &[Record]) -> Alone {
    let mut best = Alone::new();
    for record in shared(records).filter(|record| record.job.guests == 1) {
        for (bytes, rate) in rates(record) {
            let best = best.entry((likeness(record), bytes)).or_default();
            *best = rate.max(*best);
        }
    }
    best
}

/// The part of what the card does for a guest alone that is lost: what all have of it, each
/// measured by what it would have alone, is less than all.
fn lost(record: &Record, alone: &Alone) -> Option<f64> {
    let parts = rates(record).into_iter().map(|(bytes, rate)| {
        let alone = alone.get(&(likeness(record), bytes))?;
        (*alone > 0.0).then(|| rate / alone)
    });
    let parts: Option<Vec<f64>> = parts.collect();
    Some(1.0 - parts?.iter().sum::<f64>())
}

/// A row for each run of several guests.
pub fn rows(records: &[Record]) -> Vec<Vec<String>> {
    let alone = alone(records);
    let several = shared(records).filter(|record| record.job.guests > 1);
    let row = |record: &Record| {
        let job = &record.job;
        let fairness = Fairness::new(&record.samples);
        let of = |text: fn(&Fairness) -> String| fairness.as_ref().map_or("–".into(), text);
        let lost = lost(record, &alone).filter(|_| job.load.keeps_busy());
        let copies: f64 = rates(record).iter().map(|(_, rate)| rate).sum();
        vec![
            job.guests.to_string(),
            job.load.to_string(),
            job.sched.clone(),
            job.mode.to_string(),
            job.repetition.to_string(),
            of(|f| format!("{:.3}", f.worst())),
            of(|f| format!("{:.3}", f.jain.iter().sum::<f64>() / f.jain.len() as f64)),
            of(|f| format!("{:.1} pp", f.error)),
            format!("{copies:.0}"),
            lost.map_or("–".into(), |lost| format!("{:.1} %", 100.0 * lost)),
            format!("{:.0}", latency_p99_ms(record)),
        ]
    };
    several.map(row).collect()
}

/// Writes it, if several guests ran at a time.
pub fn section(page: &mut Page, records: &[Record]) -> Result<()> {
    let rows = rows(records);
    if rows.is_empty() {
        return Ok(());
    }
    page.heading("Several guests on one card");
    page.paragraph(
        "Each guest copies within its video memory for a fixed time by PGRAPH, with four copies \
         under way. Unlike guests have copies of 1, 2, 4, 8 MiB; equal ones of 1 MiB; short and long \
         ones in turn of 64 KiB and 8 MiB; bursty ones make 1024 copies of 64 KiB after a sleep of up \
         to half a second each. Shares are those of the time that engines worked while all guests \
         did. Lost is what is missing when the guests' rates, each divided by that of the same work \
         alone, are added; where guests and card share processors, what the guests lose to one \
         another there is in it.",
    );
    page.table(&COLUMNS, &rows);
    let mut pictures = Vec::new();
    for record in shared(records) {
        let job = &record.job;
        if job.guests > 1
            && job.repetition == 0
            && let Some(fairness) = Fairness::new(&record.samples)
        {
            let title = format!("{} guests, {}, {}", job.guests, job.load, job.sched);
            let name = format!(
                "shares-{}-{}-{}-{}",
                job.guests, job.load, job.sched, job.mode
            );
            let name = name.replace([':', '+'], "-");
            let picture = figures::shares(&title, &fairness.shares).map_err(drawing)?;
            pictures.push((name, picture));
        }
    }
    page.gallery(
        pictures,
        "Shares of the card over time; dashed: even shares",
    );
    page.published("Published, on other hardware", published::FAIRNESS);
    Ok(())
}
