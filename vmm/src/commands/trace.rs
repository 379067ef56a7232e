//! `gpuvm trace`: what a trace of accesses says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use mmio::trace::Record;
use mmio::{Bar, Direction};
use plotters::prelude::*;

/// Loads of one register in a row that count as polling it.
const POLL: u64 = 8;
/// Columns of the time line.
const COLUMNS: usize = 400;

/// Arguments of `gpuvm trace`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What `gpuvm gpu --trace` wrote.
    file: PathBuf,

    /// Lines of each table.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,

    /// Draw the time line into this SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Prints tables, and draws the time line when asked.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file =
        File::open(&args.file).with_context(|| format!("Cannot open {}", args.file.display()))?;
    let mut summary = Summary::default();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("Cannot read {}", args.file.display()))?;
        let record = serde_json::from_str(&line)
            .with_context(|| format!("{}:{} is no access", args.file.display(), number + 1))?;
        summary.add(&record);
    }
    summary.end_run();
    if summary.times.is_empty() {
        bail!("{} holds no access", args.file.display());
    }
    summary.print(args.top);
    if let Some(path) = &args.plot {
        summary
            .plot(path)
            .map_err(anyhow::Error::from_boxed)
            .with_context(|| format!("Cannot draw {}", path.display()))?;
        println!("\nTime line: {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Clone, Copy, Default)]
struct Count {
    reads: u64,
    writes: u64,
    bytes: u64,
}

/// Loads of one register with nothing between them.
#[derive(Clone)]
struct Run {
    name: String,
    loads: u64,
    from: u64,
    to: u64,
}

#[derive(Default)]
struct Summary {
    bars: HashMap<Bar, Count>,
    registers: HashMap<String, Count>,
    polls: Vec<Run>,
    run: Option<Run>,
    times: Vec<(u64, Bar)>,
}

impl Summary {
    fn add(&mut self, record: &Record) {
        self.times.push((record.t, record.bar));
        let name = record
            .name
            .clone()
            .unwrap_or_else(|| format!("{:#08x}", record.offset));
        let counts = [
            Some(self.bars.entry(record.bar).or_default()),
            (record.bar == Bar::Bar0).then(|| self.registers.entry(name.clone()).or_default()),
        ];
        for count in counts.into_iter().flatten() {
            match record.dir {
                Direction::Read => count.reads += 1,
                Direction::Write => count.writes += 1,
            }
            count.bytes += u64::from(record.width);
        }
        match (&mut self.run, record.dir) {
            (Some(run), Direction::Read) if run.name == name => {
                run.loads += 1;
                run.to = record.t;
            }
            (_, direction) => {
                self.end_run();
                self.run =
                    (direction == Direction::Read && record.bar == Bar::Bar0).then_some(Run {
                        name,
                        loads: 1,
                        from: record.t,
                        to: record.t,
                    });
            }
        }
    }

    fn end_run(&mut self) {
        self.polls
            .extend(self.run.take().filter(|run| run.loads >= POLL));
    }

    fn print(&self, top: usize) {
        let last = self.times.last().map_or(0, |(t, _)| *t);
        println!(
            "{} accesses in {:.3} s\n",
            self.times.len(),
            last as f64 / 1e9
        );
        println!(
            "{:<32} {:>10} {:>10} {:>12}",
            "BAR", "reads", "writes", "bytes"
        );
        let mut bars: Vec<_> = self.bars.iter().collect();
        bars.sort_by_key(|(bar, _)| **bar);
        for (bar, count) in bars {
            print_count(&format!("{bar:?}"), count);
        }

        println!(
            "\n{:<32} {:>10} {:>10} {:>12}",
            "register", "reads", "writes", "bytes"
        );
        let mut registers: Vec<_> = self.registers.iter().collect();
        registers.sort_by_key(|(name, count)| {
            (std::cmp::Reverse(count.reads + count.writes), name.as_str())
        });
        for (name, count) in registers.into_iter().take(top) {
            print_count(name, count);
        }

        println!(
            "\n{:<32} {:>10} {:>14} {:>12}",
            "polled", "loads", "at, ms", "for, ms"
        );
        let mut polls = self.polls.clone();
        polls.sort_by_key(|run| std::cmp::Reverse(run.to - run.from));
        for run in polls.iter().take(top) {
            let ms = |t: u64| t as f64 / 1e6;
            println!(
                "{:<32} {:>10} {:>14.3} {:>12.3}",
                run.name,
                run.loads,
                ms(run.from),
                ms(run.to - run.from)
            );
        }
    }

    /// Accesses per column of time, a line for each BAR.
    fn plot(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let end = self.times.iter().map(|(t, _)| *t).max().unwrap_or(0).max(1);
        let column = |t: u64| (u128::from(t) * (COLUMNS as u128 - 1) / u128::from(end)) as usize;
        let mut columns: HashMap<Bar, Vec<u64>> = HashMap::new();
        for (t, bar) in &self.times {
            columns.entry(*bar).or_insert_with(|| vec![0; COLUMNS])[column(*t)] += 1;
        }
        let most = columns.values().flatten().copied().max().unwrap_or(1) as f64;
        let seconds = end as f64 / 1e9;

        let area = SVGBackend::new(path, (960, 360)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Accesses over time", ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(32)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..seconds, (1.0..most.max(2.0)).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc(format!(
                "accesses per {:.1} ms",
                seconds * 1e3 / COLUMNS as f64
            ))
            .draw()?;
        let mut lines: Vec<_> = columns.into_iter().collect();
        lines.sort_by_key(|(bar, _)| *bar);
        for (index, (bar, counts)) in lines.into_iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let points = counts
                .into_iter()
                .enumerate()
                .filter(|(_, n)| *n > 0)
                .map(|(at, n)| (at as f64 * seconds / (COLUMNS - 1) as f64, n as f64));
            chart
                .draw_series(points.map(|point| Circle::new(point, 2, colour.filled())))?
                .label(format!("{bar:?}"))
                .legend(move |(x, y)| Circle::new((x + 8, y), 3, colour.filled()));
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

fn print_count(name: &str, count: &Count) {
    println!(
        "{name:<32} {:>10} {:>10} {:>12}",
        count.reads, count.writes, count.bytes
    );
}

#[cfg(test)]
mod tests {
    use mmio::VmId;

    use super::*;

    fn record(t: u64, dir: Direction, name: &str) -> Record {
        Record {
            t,
            vm: VmId(0),
            vcpu: 0,
            bar: Bar::Bar0,
            dir,
            offset: 0x9400,
            width: 4,
            value: 0,
            name: Some(name.into()),
            fields: None,
        }
    }

    #[test]
    fn loads_in_a_row_are_a_poll_and_a_store_ends_it() {
        let mut summary = Summary::default();
        for t in 0..POLL {
            summary.add(&record(t, Direction::Read, "PTIMER.TIME_0"));
        }
        summary.add(&record(100, Direction::Write, "PTIMER.TIME_0"));
        summary.add(&record(101, Direction::Read, "PTIMER.TIME_0"));
        summary.end_run();
        assert_eq!(summary.polls.len(), 1);
        assert_eq!(
            (summary.polls[0].loads, summary.polls[0].to),
            (POLL, POLL - 1)
        );
        assert_eq!(summary.registers["PTIMER.TIME_0"].reads, POLL + 1);
    }
}
