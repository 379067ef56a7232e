//! The report's part on several guests on one card.

use std::collections::BTreeMap;

use anyhow::Result;

use super::fairness::{Fairness, latencies_ms, loads, rates_together};
use super::html::Page;
use super::{drawing, figures};
use crate::job::{Load, Suite};
use crate::published;
use crate::record::Record;
use crate::work::AHEAD;

/// The columns of [`rows`].
pub const COLUMNS: [&str; 14] = [
    "guests",
    "load",
    "scheduler",
    "mode",
    "repetition",
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

/// A row for each run of several guests.
pub fn rows(records: &[Record]) -> Vec<Vec<String>> {
    let alone = alone(records);
    let several = shared(records).filter(|record| record.job.guests > 1);
    let row = |record: &Record| {
        let job = &record.job;
        let fairness = Fairness::new(&record.samples);
        let of = |text: &dyn Fn(&Fairness) -> String| fairness.as_ref().map_or("–".into(), text);
        let percent = |part: f64| format!("{:.1} %", 100.0 * part);
        // Of guests that sleep, who wanted how much of the card is not known.
        let judged = |text: &dyn Fn(&Fairness) -> String| match job.load.keeps_busy() {
            true => of(text),
            false => "–".into(),
        };
        let lost = |fairness: &Fairness| lost(record, fairness, &alone).map_or("–".into(), percent);
        let mean = |f: &Fairness| f.jain.iter().sum::<f64>() / f.jain.len() as f64;
        let mut row = vec![
            job.guests.to_string(),
            job.load.to_string(),
            job.sched.clone(),
            job.mode.to_string(),
            job.repetition.to_string(),
            judged(&|f| format!("{:.3}", f.worst())),
            judged(&|f| format!("{:.3}", mean(f))),
            judged(&|f| format!("{:.1} pp", f.error)),
            judged(&|f| percent(f.error / 100.0 * f64::from(job.guests))),
            of(&|f| percent(f.busy)),
            judged(&lost),
        ];
        row.extend(latencies_ms(record).map(|ms| format!("{ms:.0}")));
        row
    };
    several.map(row).collect()
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

/// Writes it, if several guests ran at a time.
pub fn section(page: &mut Page, records: &[Record]) -> Result<()> {
    let rows = rows(records);
    if rows.is_empty() {
        return Ok(());
    }
    page.heading("Several guests on one card");
    page.paragraph(&describe(records));
    page.paragraph(
        "Shares are those of the time that engines worked while all guests did; their error is the \
         mean distance from even ones, in percentage points and as a part of an even share. Lost is \
         what is missing when the guests' rates in that time, each divided by that of the same \
         kernels alone, are added. Guests that sleep are not judged. Latencies are those of the \
         guest that waits longest, from a submission to its end.",
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
                "shares-{}-{}-{}-{}-{}",
                job.guests, job.load, job.sched, job.mode, job.way
            );
            let name = name.replace([':', '+'], "-");
            let picture = figures::shares(&title, &fairness.shares).map_err(drawing)?;
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
