//! What this project aims at, beside what the records say of it.

use super::figures::ratio;
use super::html::Page;
use super::measures::{Group, Measures, geometric_mean};
use super::sharing::{self, Figures};
use crate::job::{Load, Mode, Suite};
use crate::record::Record;

/// The columns of [`rows`].
pub const COLUMNS: [&str; 5] = ["of", "where", "aim", "here", "reached"];

/// Slow-downs of all switches against the whole card: of OpenCL workloads on average and at worst, and
/// of the driver's probe.
const MEAN: f64 = 1.05;
const WORST: f64 = 1.25;
const BOOT: f64 = 1.10;
/// Jain's index in the worst second, and the part of the card's throughput that sharing may lose.
const JAIN: f64 = 0.99;
const LOST: f64 = 0.03;

fn row(of: String, place: &str, aim: String, here: String, reached: bool) -> Vec<String> {
    let reached = if reached { "yes" } else { "no" };
    vec![of, place.to_owned(), aim, here, reached.into()]
}

/// A row for each aim of which the records say anything.
pub fn rows(records: &[Record]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for group in Group::all(records) {
        overhead(&mut rows, &Measures::new(records, group), group);
    }
    shared(&mut rows, records);
    rows
}

fn overhead(rows: &mut Vec<Vec<String>>, measures: &Measures, group: Group) {
    let all = Mode::Fv("all".into());
    let slowdowns = measures.slowdowns(&all, &Mode::Passthrough);
    let within = |limit: f64| format!("≤ {}", ratio(limit));
    let of = |suite: Suite| {
        let of_suite = slowdowns
            .iter()
            .filter(|(benchmark, _)| benchmark.suite == suite && benchmark.phase().is_none());
        of_suite.collect::<Vec<_>>()
    };
    let pcie = if group.pcie {
        ", with the cost of PCIe"
    } else {
        ""
    };
    let place = &format!("{}, size {}{pcie}", group.way, group.size);
    let opencl = of(Suite::Rodinia);
    if let Some((worst, most)) = opencl.iter().max_by(|a, b| a.1.total_cmp(&b.1)) {
        let mean = geometric_mean(opencl.iter().map(|(_, slowdown)| *slowdown));
        rows.push(row(
            format!("OpenCL workloads ({}), geometric mean", opencl.len()),
            place,
            within(MEAN),
            ratio(mean),
            mean <= MEAN,
        ));
        rows.push(row(
            format!("OpenCL workloads ({}), worst", opencl.len()),
            place,
            within(WORST),
            format!("{} ({})", ratio(*most), worst.name),
            *most <= WORST,
        ));
    }
    for (benchmark, slowdown) in of(Suite::Boot) {
        let (name, here) = (benchmark.name.clone(), ratio(*slowdown));
        rows.push(row(name, place, within(BOOT), here, *slowdown <= BOOT));
    }
}

/// Of each number of guests with unlike work, the fairest scheduler.
fn shared(rows: &mut Vec<Vec<String>>, records: &[Record]) {
    let runs = sharing::repeated(records);
    let unlike = || runs.iter().filter(|runs| runs.job().load == Load::Unlike);
    let mut guests: Vec<u16> = unlike().map(|runs| runs.job().guests).collect();
    guests.sort_unstable();
    guests.dedup();
    for guests in guests {
        let with_jain = unlike()
            .filter(|runs| runs.job().guests == guests)
            .filter_map(|runs| Some((runs, runs.worst()?)));
        let Some((fairest, jain)) = with_jain.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            continue;
        };
        let place = &format!("{guests} guests, unlike, {}", fairest.job().sched);
        rows.push(row(
            "Jain's index, worst second".into(),
            place,
            format!("≥ {JAIN}"),
            format!("{jain:.3}"),
            jain >= JAIN,
        ));
        if let Some(lost) = fairest.mean(|figures: &Figures| figures.lost) {
            rows.push(row(
                "throughput lost to sharing".into(),
                place,
                format!("≤ {:.0} %", 100.0 * LOST),
                format!("{:.1} %", 100.0 * lost),
                lost <= LOST,
            ));
        }
    }
}

/// Puts them on the page.
pub fn section(page: &mut Page, records: &[Record]) {
    let rows = rows(records);
    if rows.is_empty() {
        return;
    }
    page.heading("What is aimed at");
    page.paragraph(
        "A virtual GPU with all switches against the whole card, and guests that share under the \
         fairest scheduler. What is missed is made of what is below, cause by cause.",
    );
    page.table(&COLUMNS, &rows);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::GuestResult;
    use crate::testing::job;

    #[test]
    fn aim_that_is_missed_is_said_to_be() {
        let record = |mode: &str, probe_s: f64| {
            let mut record = Record::new(job(Suite::Micro, mode, 1));
            record.guests.push(GuestResult {
                probe_s,
                ..GuestResult::default()
            });
            record
        };
        let records = [record("passthrough", 1.0), record("fv:all", 1.2)];
        let rows = rows(&records);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0][2..], ["≤ 1.10×", "1.20×", "no"]);
    }
}
