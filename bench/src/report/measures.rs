//! Numbers out of records.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::job::{Mode, Size, Suite, Way};
use crate::record::{Counters, GuestResult, Record};

/// What records have in common whose figures can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// How guests were run.
    pub way: Way,
    /// Whether accesses of the card cost what they cost over PCIe.
    pub pcie: bool,
    /// How much there was to do.
    pub size: Size,
}

impl Group {
    /// That of a record.
    pub const fn of(record: &Record) -> Self {
        Self {
            way: record.job.way,
            pcie: record.job.pcie,
            size: record.job.size,
        }
    }

    /// Those of records, in their order.
    pub fn all(records: &[Record]) -> Vec<Self> {
        let mut groups = Vec::new();
        for group in records.iter().map(Self::of) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// The name of a picture of the group.
    pub fn name(self, picture: &str) -> String {
        let size = match self.size {
            Size::Small => String::new(),
            size => format!("-{size}"),
        };
        let pcie = if self.pcie { "-pcie" } else { "" };
        format!("{picture}-{}{size}{pcie}", self.way)
    }

    /// In words.
    pub fn describe(self) -> String {
        let way = match self.way {
            Way::Kvm => "gpuvm run on KVM",
            Way::Nested => "gpuvm run on KVM in an interpreted machine",
            Way::VfioUser => "interpreted by QEMU, card over vfio-user",
        };
        let pcie = match self.pcie {
            true => ", accesses as slow as over PCIe",
            false => "",
        };
        format!("{way}, size {}{pcie}", self.size)
    }
}

/// A benchmark. Those of a family stand together, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Benchmark {
    /// Its suite.
    pub suite: Suite,
    /// What it has in common with others: of copies engine and direction, of phases the workload.
    pub family: String,
    /// Its place among those: the size of a copy, the number of contexts; of phases that in time,
    /// from 1 on, behind their sum.
    pub place: u64,
    /// Its name.
    pub name: String,
}

impl Benchmark {
    /// One that stands alone.
    fn alone(suite: Suite, name: String) -> Self {
        Self {
            suite,
            family: name.clone(),
            place: 0,
            name,
        }
    }

    /// Of a part of another one, which part.
    pub fn phase(&self) -> Option<&'static str> {
        let part = usize::try_from(self.place).ok()?.checked_sub(1)?;
        PHASES
            .get(part)
            .copied()
            .filter(|_| self.suite == Suite::Rodinia)
    }
}

/// What was measured: time or the inverse of a rate, so that less is better and ratios are
/// slow-downs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// As it was reported.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// More is better.
    pub rate: bool,
}

impl Measure {
    const fn time(value: f64, unit: &'static str) -> Self {
        Self {
            value,
            unit,
            rate: false,
        }
    }

    const fn rate(value: f64, unit: &'static str) -> Self {
        Self {
            value,
            unit,
            rate: true,
        }
    }

    /// How much slower this is than `base`.
    pub fn slowdown(&self, base: &Self) -> Option<f64> {
        let (more, less) = match self.rate {
            true => (base.value, self.value),
            false => (self.value, base.value),
        };
        (more > 0.0 && less > 0.0).then(|| more / less)
    }

    fn better(self, other: Self) -> Self {
        match (self.rate, self.value > other.value) {
            (true, true) | (false, false) => self,
            _ => other,
        }
    }
}

/// The best of all repetitions, by benchmark and mode.
#[derive(Debug, Default)]
pub struct Measures {
    /// The figures.
    pub best: BTreeMap<Benchmark, BTreeMap<Mode, Measure>>,
    /// The same by the machine in which guests ran.
    within: BTreeMap<Benchmark, BTreeMap<u64, BTreeMap<Mode, Measure>>>,
    /// Modes in the order in which they were run first.
    pub modes: Vec<Mode>,
}

impl Measures {
    /// Those of the records of a group with one guest.
    pub fn new(records: &[Record], group: Group) -> Self {
        let mut all = Self::default();
        let alone = |record: &&Record| {
            Group::of(record) == group
                && record.error.is_none()
                && record.job.suite != Suite::Sharing
        };
        for record in records.iter().filter(alone) {
            let mode = &record.job.mode;
            if !all.modes.contains(mode) {
                all.modes.push(mode.clone());
            }
            for guest in &record.guests {
                for (benchmark, measure) in of_guest(record.job.suite, guest) {
                    let machines = all.within.entry(benchmark.clone()).or_default();
                    let here = machines.entry(record.machine).or_default();
                    for modes in [here, all.best.entry(benchmark).or_default()] {
                        let best = modes.entry(mode.clone()).or_insert(measure);
                        *best = best.better(measure);
                    }
                }
            }
        }
        all
    }

    /// How much slower `mode` is than `base`, in machines that ran both: on (geometric) average,
    /// where there were several.
    pub fn slowdown(&self, benchmark: &Benchmark, mode: &Mode, base: &Mode) -> Option<f64> {
        let machines = self.within.get(benchmark)?.values();
        let ratios = machines.filter_map(|modes| modes.get(mode)?.slowdown(modes.get(base)?));
        let ratios: Vec<f64> = ratios.collect();
        (!ratios.is_empty()).then(|| geometric_mean(ratios.into_iter()))
    }

    /// How much slower `mode` is than `base`, by benchmark.
    pub fn slowdowns(&self, mode: &Mode, base: &Mode) -> Vec<(&Benchmark, f64)> {
        let each = self.best.keys();
        each.filter_map(|benchmark| Some((benchmark, self.slowdown(benchmark, mode, base)?)))
            .collect()
    }
}

/// The geometric mean; 1 of nothing.
pub fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value.ln();
        count += 1.0;
    }
    if count == 0.0 {
        1.0
    } else {
        f64::exp(sum / count)
    }
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line.get(name).and_then(Value::as_str).unwrap_or("?")
}

fn number(line: &Value, name: &str) -> Option<f64> {
    line.get(name).and_then(Value::as_f64)
}

/// Every guest has booted; those with a Debian have more to unpack before.
fn of_guest(suite: Suite, guest: &GuestResult) -> Vec<(Benchmark, Measure)> {
    let lines = guest.lines.iter();
    let mut all: Vec<_> = lines.flat_map(|line| of_line(suite, line)).collect();
    if suite != Suite::Rodinia {
        let probe = Benchmark::alone(Suite::Boot, "nouveau's probe".into());
        all.push((probe, Measure::time(guest.probe_s, "s")));
    }
    all
}

/// The phases of an OpenCL workload, in the order of their time.
pub const PHASES: [&str; 6] = ["init", "build", "htod", "launch", "dtoh", "close"];

fn of_line(suite: Suite, line: &Value) -> Vec<(Benchmark, Measure)> {
    let alone = |name: String| Benchmark::alone(suite, name);
    if let Some(rate) = number(line, "mib_per_s") {
        let bytes = number(line, "bytes").unwrap_or(0.0) as u64;
        let family = format!("{} {}", text(line, "engine"), text(line, "direction"));
        let benchmark = Benchmark {
            suite,
            name: format!("{family} {}", size(bytes)),
            family,
            place: bytes,
        };
        return vec![(benchmark, Measure::rate(rate, "MiB/s"))];
    }
    if let Some(median) = number(line, "median_us").filter(|_| line.get("operation").is_some()) {
        let name = format!("{} {} latency", text(line, "operation"), text(line, "wait"));
        return vec![(alone(name), Measure::time(median, "µs"))];
    }
    if let Some(uptime) = number(line, "uptime_s") {
        let name = "from the kernel's start to a probed card".to_owned();
        return vec![(alone(name), Measure::time(uptime, "s"))];
    }
    if let (Some(channels), Some(copies), Some(seconds)) = (
        number(line, "channels"),
        number(line, "count"),
        number(line, "seconds"),
    ) {
        let plural = if channels == 1.0 { "" } else { "s" };
        let benchmark = Benchmark {
            suite,
            family: "contexts".into(),
            place: channels as u64,
            name: format!("{channels} context{plural}"),
        };
        return vec![(benchmark, Measure::rate(copies / seconds, "copies/s"))];
    }
    if let Some(phases) = line.get("phases") {
        return of_phases(suite, text(line, "workload"), phases);
    }
    Vec::new()
}

/// An OpenCL workload and its phases.
fn of_phases(suite: Suite, workload: &str, phases: &Value) -> Vec<(Benchmark, Measure)> {
    let each = PHASES.map(|phase| {
        let ms = number(phases, &format!("{phase}_ns")).unwrap_or(0.0) / 1e6;
        (phase, ms)
    });
    // The compiler runs on the guest's processor and has nothing to do with the card.
    let total = each
        .iter()
        .filter(|(phase, _)| *phase != "build")
        .map(|(_, ms)| ms)
        .sum();
    let whole = Benchmark::alone(suite, workload.to_owned());
    let parts = (1..).zip(each).map(|(place, (phase, ms))| {
        let part = Benchmark {
            place,
            name: format!("{workload} · {phase}"),
            ..whole.clone()
        };
        (part, Measure::time(ms, "ms"))
    });
    let mut all: Vec<_> = parts.collect();
    all.insert(0, (whole, Measure::time(total, "ms")));
    all
}

/// A size in the largest whole unit.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// The sum of the counters that begin with `prefix`.
pub fn sum(counters: &Counters, prefix: &str) -> u64 {
    let named = counters.iter().filter(|(name, _)| name.starts_with(prefix));
    named.map(|(_, value)| value).sum()
}

/// Accesses by BAR and range.
pub fn accesses(counters: &Counters) -> BTreeMap<String, u64> {
    let mut ranges = BTreeMap::new();
    for (name, value) in counters {
        let mut words = name.split(' ');
        let kind = words.next().unwrap_or("");
        if kind == "reads" || kind == "writes" {
            let range = words.collect::<Vec<_>>().join(" ");
            *ranges.entry(range.replace("Bar", "BAR")).or_default() += value;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::job;

    #[test]
    fn rates_and_times_both_become_slowdowns() {
        let (base, slow) = (Measure::rate(200.0, "MiB/s"), Measure::rate(100.0, "MiB/s"));
        assert_eq!(slow.slowdown(&base), Some(2.0));
        let (base, slow) = (Measure::time(1.0, "s"), Measure::time(3.0, "s"));
        assert_eq!(slow.slowdown(&base), Some(3.0));
        assert_eq!(slow.slowdown(&Measure::time(0.0, "s")), None);
        assert_eq!(base.better(slow), base);
    }

    #[test]
    fn an_opencl_run_has_a_total_without_the_compiler() {
        let line = serde_json::json!({
            "workload": "bfs", "phases": {
                "init_ns": 1e6, "build_ns": 9e6, "htod_ns": 2e6, "launch_ns": 3e6,
                "dtoh_ns": 4e6, "close_ns": 5e6,
            }
        });
        let all = of_line(Suite::Rodinia, &line);
        assert_eq!(
            (&*all[0].0.name, all[0].1),
            ("bfs", Measure::time(15.0, "ms"))
        );
        assert_eq!(all.len(), 7);
        assert_eq!(all[0].0.phase(), None);
        assert_eq!(all[1].0.phase(), Some("init"));
        assert!(all.is_sorted_by_key(|(benchmark, _)| benchmark.clone()));
    }

    #[test]
    fn geometric_mean_of_a_value_and_its_inverse_is_one() {
        assert!((geometric_mean([4.0, 0.25].into_iter()) - 1.0).abs() < 1e-9);
        assert_eq!(geometric_mean(std::iter::empty()), 1.0);
    }

    #[test]
    fn loads_of_contexts_are_rates() {
        let line = serde_json::json!({"type": "load", "channels": 4, "count": 30, "seconds": 2.0});
        let all = of_line(Suite::Contexts, &line);
        let rate = Measure::rate(15.0, "copies/s");
        assert_eq!((&*all[0].0.name, all[0].1), ("4 contexts", rate));
        assert_eq!(all[0].0.phase(), None);
    }

    #[test]
    fn copies_are_in_the_order_of_their_sizes() {
        let copy = |bytes: u64| {
            let line = serde_json::json!({"type": "copy", "engine": "ce0", "direction": "DtoD",
                "bytes": bytes, "mib_per_s": 1.0});
            of_line(Suite::Micro, &line).remove(0).0
        };
        let mut all = [16 << 10, 1 << 20, 4 << 10].map(copy);
        all.sort();
        let names = all.map(|benchmark| benchmark.name);
        assert_eq!(
            names,
            ["ce0 DtoD 4 KiB", "ce0 DtoD 16 KiB", "ce0 DtoD 1 MiB"]
        );
    }

    #[test]
    fn modes_are_only_compared_within_a_machine() {
        let record = |mode: &str, machine, probe_s| {
            let guest = GuestResult {
                probe_s,
                ..GuestResult::default()
            };
            Record {
                machine,
                guests: vec![guest],
                ..Record::new(job(Suite::Boot, mode, 1))
            }
        };
        let records = [
            record("passthrough", 1, 1.0),
            record("fv:all", 1, 2.0),
            record("fv:all", 2, 0.5),
            record("fv:none", 2, 9.0),
        ];
        let measures = Measures::new(&records, Group::of(&records[0]));
        let all = |mode: &str| measures.slowdowns(&mode.parse().unwrap(), &Mode::Passthrough);
        let slowdowns: Vec<f64> = all("fv:all").iter().map(|(_, ratio)| *ratio).collect();
        assert_eq!(slowdowns, [2.0]);
        assert!(all("fv:none").is_empty());
    }
}
