//! How results are shown.

use guest::copy::Engine;
use serde::Serialize;

/// Way of a copy: host is GART, device is VRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// Host to device.
    HtoD,
    /// Device to host.
    DtoH,
    /// Within the device.
    DtoD,
}

impl Direction {
    /// All of them.
    pub const ALL: [Direction; 3] = [Direction::HtoD, Direction::DtoH, Direction::DtoD];

    fn name(self) -> &'static str {
        match self {
            Direction::HtoD => "HtoD",
            Direction::DtoH => "DtoH",
            Direction::DtoD => "DtoD",
        }
    }
}

/// One line of the output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// How far the benchmark is.
    Progress {
        /// Measurements done.
        done: usize,
        /// Measurements in all.
        total: usize,
        /// The one that comes next.
        what: String,
    },
    /// Bandwidth of a copy.
    Copy(Bandwidth),
    /// Time from a submission to the moment when the CPU knows that it is done.
    Latency(Latency),
}

/// Bandwidth of copies of one size.
#[derive(Debug, Serialize)]
pub struct Bandwidth {
    /// The engine's name.
    pub engine: &'static str,
    /// Which way.
    pub direction: Direction,
    /// Bytes of each copy.
    pub bytes: u64,
    /// Copies measured.
    pub copies: u64,
    /// MiB per second.
    pub mib_per_s: f64,
}

/// Latency of one kind of small operation.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// What is submitted: a host semaphore alone, or a copy of 4 bytes by an engine.
    pub operation: &'static str,
    /// How the CPU learns of the end: `poll` of a semaphore, `interrupt` through the kernel.
    pub wait: &'static str,
    /// Operations measured.
    pub samples: usize,
    /// Median, microseconds.
    pub median_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
}

/// Collects lines, and shows them at once (JSON) or as a table in the end.
#[derive(Debug)]
pub struct Report {
    json: bool,
    bandwidths: Vec<Bandwidth>,
    latencies: Vec<Latency>,
}

impl Report {
    /// An empty report.
    pub fn new(json: bool) -> Report {
        Report {
            json,
            bandwidths: Vec::new(),
            latencies: Vec::new(),
        }
    }

    /// Takes a line.
    pub fn add(&mut self, line: Line) -> serde_json::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(&line)?);
            return Ok(());
        }
        match line {
            Line::Progress { done, total, what } => println!("# {done}/{total} {what}"),
            Line::Copy(bandwidth) => self.bandwidths.push(bandwidth),
            Line::Latency(latency) => self.latencies.push(latency),
        }
        Ok(())
    }

    /// The tables; empty for JSON.
    pub fn tables(&self) -> String {
        if self.json {
            return String::new();
        }
        let mut text = String::from("Bandwidth, MiB/s\n");
        text += &format!("{:>9}", "size");
        for engine in Engine::ALL {
            for direction in Direction::ALL {
                text += &format!("{:>11}", format!("{} {}", engine.name(), direction.name()));
            }
        }
        let mut sizes: Vec<u64> = self.bandwidths.iter().map(|b| b.bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for bytes in sizes {
            text += &format!("\n{:>9}", size(bytes));
            for engine in Engine::ALL {
                for direction in Direction::ALL {
                    let cell = self.bandwidths.iter().find(|b| {
                        (b.engine, b.direction, b.bytes) == (engine.name(), direction, bytes)
                    });
                    text +=
                        &cell.map_or(format!("{:>11}", "-"), |b| format!("{:>11.1}", b.mib_per_s));
                }
            }
        }
        text += &format!(
            "\n\nLatency of submission and wait, microseconds\n{:<10}{:<11}{:>10}{:>10}\n",
            "operation", "wait", "median", "99 %"
        );
        for latency in &self.latencies {
            text += &format!(
                "{:<10}{:<11}{:>10.1}{:>10.1}\n",
                latency.operation, latency.wait, latency.median_us, latency.p99_us
            );
        }
        text
    }
}

/// A size in the largest unit that divides it.
pub fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bandwidth(engine: Engine, direction: Direction, bytes: u64) -> Line {
        Line::Copy(Bandwidth {
            engine: engine.name(),
            direction,
            bytes,
            copies: 1,
            mib_per_s: 1234.5,
        })
    }

    #[test]
    fn table_has_a_row_per_size_and_a_dash_for_what_was_not_measured() {
        let mut report = Report::new(false);
        for bytes in [1 << 20, 4 << 10] {
            report
                .add(bandwidth(Engine::Ce0, Direction::HtoD, bytes))
                .unwrap();
        }
        let tables = report.tables();
        let rows: Vec<&str> = tables.lines().skip(2).take(2).collect();
        assert!(
            rows[0].starts_with("    4 KiB     1234.5          -"),
            "{tables}"
        );
        assert!(rows[1].starts_with("    1 MiB"), "{tables}");
    }

    #[test]
    fn json_line_names_its_type() {
        let line = bandwidth(Engine::M2mf, Direction::DtoD, 4096);
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"type":"copy","engine":"m2mf","direction":"DtoD","bytes":4096,"copies":1,"mib_per_s":1234.5}"#
        );
    }

    #[test]
    fn sizes_are_shown_in_the_largest_whole_unit() {
        assert_eq!(
            [4, 4096, 3 << 20].map(size),
            ["4 B", "4 KiB", "3 MiB"].map(String::from)
        );
    }
}
