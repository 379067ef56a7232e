//! What a run leaves behind: one line of JSON.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::job::Job;

/// The file of results in their directory.
pub const RESULTS: &str = "results.jsonl";

/// The counters of the time that engines worked: the scheduler's, and those of whoever looked.
pub const ENGINE_TIME: [&str; 2] = ["gpu_sched_busy_ns_total", "gpu_engine_ns_total"];

/// Counters by name.
pub type Counters = BTreeMap<String, u64>;

/// The machine that measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Its processor.
    pub cpu: String,
    /// Its processors' number.
    pub cores: usize,
    /// Its kernel.
    pub kernel: String,
    /// The version of `gpuvm`.
    pub gpuvm: String,
    /// The guests' kernel.
    pub guest_kernel: String,
}

/// What one guest of a run did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestResult {
    /// Guest's seconds until nouveau had probed the card.
    pub probe_s: f64,
    /// Guest's seconds that the benchmark took.
    pub bench_s: f64,
    /// The lines of JSON that it printed.
    pub lines: Vec<serde_json::Value>,
    /// What the virtual GPU counted at the end.
    pub counters: Counters,
}

/// Counters while several guests run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds since the guests were started.
    pub ms: u64,
    /// By guest, the nanoseconds that engines had worked for it.
    pub engine_ns: Vec<u64>,
}

impl Sample {
    /// Milliseconds between two of them.
    pub const INTERVAL_MS: u64 = 250;

    /// What `counters`, by guest, say after `ms` milliseconds. The scheduler's account is taken
    /// where there is one: it knows better than a look now and then who had an engine.
    pub fn new(ms: u64, counters: &[Counters]) -> Self {
        let time = |counters: &Counters| {
            let sum = |name: &str| -> Option<u64> {
                let named = || counters.iter().filter(|(key, _)| key.starts_with(name));
                named()
                    .next()
                    .map(|_| named().map(|(_, value)| value).sum())
            };
            let [scheduled, seen] = ENGINE_TIME;
            sum(scheduled).or_else(|| sum(seen)).unwrap_or(0)
        };
        Self {
            ms,
            engine_ns: counters.iter().map(time).collect(),
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What was run.
    pub job: Job,
    /// Where.
    pub host: HostInfo,
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// When the machine came up in which the guests ran, in seconds since 1970; 0: this host.
    #[serde(default)]
    pub machine: u64,
    /// How long it took, in milliseconds.
    pub wall_ms: u64,
    /// The guests.
    pub guests: Vec<GuestResult>,
    /// While they ran.
    #[serde(default)]
    pub samples: Vec<Sample>,
    /// Why there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Record {
    /// One of `job`, of nothing yet, in this host.
    pub fn new(job: Job) -> Self {
        Self {
            job,
            host: HostInfo::default(),
            time: 0,
            machine: 0,
            wall_ms: 0,
            guests: Vec::new(),
            samples: Vec::new(),
            error: None,
        }
    }
}

impl HostInfo {
    /// This machine.
    pub fn this(guest_kernel: String) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu
                .map_or("an unnamed processor", |(_, name)| name)
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            gpuvm: env!("CARGO_PKG_VERSION").to_owned(),
            guest_kernel,
        }
    }
}

/// The records of a directory; none if nothing was run there. A line that an interruption cut short
/// is left out.
///
/// # Errors
///
/// The file cannot be read, or a line before the last makes no sense.
pub fn read_all(directory: &Path) -> Result<Vec<Record>> {
    let path = directory.join(RESULTS);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.with_context(|| format!("Cannot read {}", path.display()))?,
    };
    let lines: Vec<String> = BufReader::new(file).lines().collect::<Result<_, _>>()?;
    let mut records = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if n + 1 == lines.len() => {}
            Err(error) => {
                let at = format!("Line {} of {} makes no sense", n + 1, path.display());
                return Err(error).context(at);
            }
        }
    }
    Ok(records)
}
