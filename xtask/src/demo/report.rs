//! The demo's report.

use std::{
    fmt::{self, Write},
    fs,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use e2e::{Kernel, Outcome};

/// A line of `gpubench --json`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// How far it is.
    Progress {
        /// Measurements done.
        done: u64,
        /// Measurements in all.
        total: u64,
        /// The next one.
        what: String,
    },
    /// Bandwidth of one kind of copy.
    Copy(Copy),
    /// Latency of one kind of operation.
    Latency(Latency),
}

/// Bandwidth of one kind of copy.
#[derive(Debug, Deserialize)]
pub struct Copy {
    engine: String,
    direction: String,
    bytes: u64,
    mib_per_s: f64,
}

/// Latency of one kind of operation.
#[derive(Debug, Deserialize)]
pub struct Latency {
    operation: String,
    wait: String,
    median_us: f64,
    p99_us: f64,
}

/// What the demo found.
pub struct Report {
    kernel: Kernel,
    cpu: String,
    probe: Vec<String>,
    copies: Vec<Copy>,
    latencies: Vec<Latency>,
    seconds: f64,
}

impl Report {
    /// Takes what is to be shown out of a run.
    ///
    /// # Errors
    ///
    /// When the benchmark failed or measured nothing.
    pub fn new(kernel: Kernel, outcome: &Outcome) -> Result<Self> {
        let lines = outcome.dmesg.lines.iter();
        let probe = lines
            .filter(|line| line.text.contains("nouveau"))
            .map(ToString::to_string);
        let (mut copies, mut latencies) = (Vec::new(), Vec::new());
        for line in outcome.step("benchmark")?.output.lines() {
            match serde_json::from_str(line) {
                Ok(Event::Copy(copy)) => copies.push(copy),
                Ok(Event::Latency(latency)) => latencies.push(latency),
                _ => {}
            }
        }
        copies.first().context("The benchmark measured nothing")?;
        Ok(Self {
            kernel,
            cpu: cpu(),
            probe: probe.collect(),
            copies,
            latencies,
            seconds: outcome.wall.as_secs_f64(),
        })
    }

    /// The report as a Markdown document.
    pub fn markdown(&self) -> String {
        let Self {
            kernel,
            cpu,
            seconds,
            ..
        } = self;
        let mut text = format!(
            "# A stock guest on the software GF100\n\n\
             Debian's kernel {kernel}, unmodified, under QEMU's emulation (TCG) on {cpu}; the card \
             is `gpuvm gpu`, a process that QEMU sees as a PCI function over vfio-user. The \
             machine ran for {seconds:.1} s.\n\n## What nouveau says\n\n```\n"
        );
        for line in &self.probe {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(
            "```\n\n## Copies\n\n\
             Measured in the guest, through nouveau's DRM interface. Submissions run under \
             emulation, so small sizes say little about the card.\n\n\
             | engine | direction | size | MiB/s |\n|---|---|--:|--:|\n",
        );
        for Copy {
            engine,
            direction,
            bytes,
            mib_per_s,
        } in &self.copies
        {
            let size = size(*bytes);
            let _ = writeln!(text, "| {engine} | {direction} | {size} | {mib_per_s:.1} |");
        }
        text.push_str(
            "\n## Small operations\n\n\
             | operation | wait | median µs | 99 % µs |\n|---|---|--:|--:|\n",
        );
        for Latency {
            operation,
            wait,
            median_us,
            p99_us,
        } in &self.latencies
        {
            let _ = writeln!(
                text,
                "| {operation} | {wait} | {median_us:.1} | {p99_us:.1} |"
            );
        }
        text
    }
}

/// The short form for a terminal: the probe, and the largest copy each way.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.probe {
            writeln!(f, "{line}")?;
        }
        writeln!(f)?;
        let largest = self.copies.iter().map(|copy| copy.bytes).max().unwrap_or(0);
        for Copy {
            engine,
            direction,
            bytes,
            mib_per_s,
        } in &self.copies
        {
            if *bytes == largest {
                writeln!(
                    f,
                    "{engine:6} {direction:5} {:>8} {mib_per_s:8.1} MiB/s",
                    size(*bytes)
                )?;
            }
        }
        Ok(())
    }
}

/// Bytes in the largest unit that is whole.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// The host's processor, as it calls itself.
fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{cores} cores of {}",
        name.map_or("an unnamed processor", |(_, name)| name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_gpubench_writes_them() {
        let line = r#"{"type":"copy","engine":"CE0","direction":"HtoD","bytes":4096,"copies":9,"mib_per_s":1.5}"#;
        let Ok(Event::Copy(copy)) = serde_json::from_str(line) else {
            panic!("no copy")
        };
        assert_eq!((copy.engine.as_str(), copy.bytes), ("CE0", 4096));
        let line = r#"{"type":"progress","done":1,"total":4,"what":"CE0 HtoD"}"#;
        let event = serde_json::from_str(line);
        assert!(matches!(
            event,
            Ok(Event::Progress {
                done: 1,
                total: 4,
                ..
            })
        ));
    }

    #[test]
    fn size_is_in_the_largest_whole_unit() {
        assert_eq!([4, 4096, 64 << 20].map(size), ["4 B", "4 KiB", "64 MiB"]);
    }
}
