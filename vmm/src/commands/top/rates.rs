//! What counters say of the time between two looks.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counters of a machine, by the name with its labels.
pub type Counters = BTreeMap<String, u64>;

/// A machine in the time between two looks. Rates are per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineRates {
    /// Its name.
    pub name: String,
    /// Accesses to BARs that came to the hypervisor.
    pub accesses: f64,
    /// The part of the time that engines worked for it; more than 1 if several did.
    pub busy: f64,
    /// Submissions that wait now.
    pub waiting: u64,
    /// TLB flushes.
    pub flushes: f64,
    /// Entries of page tables that syncs read.
    pub scanned: f64,
    /// Entries of shadow tables that syncs wrote.
    pub written: f64,
    /// What the guest was told by interrupt.
    pub events: f64,
    /// Its channels that did something.
    pub channels: Vec<ChannelRates>,
}

/// A channel in the time between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelRates {
    /// The guest's number.
    pub number: u32,
    /// Doorbells per second.
    pub doorbells: f64,
    /// The part of the time that engines worked for it.
    pub busy: f64,
    /// Milliseconds that a doorbell waited, on average.
    pub wait_ms: f64,
}

/// The value of label `label` in `series`.
fn label<'a>(series: &'a str, label: &str) -> Option<&'a str> {
    let (_, labels) = series.split_once('{')?;
    labels.trim_end_matches('}').split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == label).then(|| value.trim_matches('"'))
    })
}

fn is(series: &str, name: &str) -> bool {
    series.split('{').next() == Some(name)
}

impl MachineRates {
    /// What happened between `before` and `now`, which are `elapsed` apart.
    pub fn new(name: &str, before: &Counters, now: &Counters, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let grown = |series: &String| {
            let old = before.get(series).copied().unwrap_or(0);
            now.get(series).map_or(0, |value| value.saturating_sub(old))
        };
        let sum = |names: &[&str], channel: Option<u32>| -> f64 {
            let channel = channel.map(|number| number.to_string());
            let series = now
                .keys()
                .filter(|series| names.iter().any(|name| is(series, name)));
            let series = series.filter(|series| {
                channel.is_none() || label(series, "channel") == channel.as_deref()
            });
            series.map(grown).sum::<u64>() as f64
        };
        let rate = |names: &[&str]| sum(names, None) / seconds;
        let scheduled = now
            .keys()
            .any(|series| is(series, "gpu_sched_busy_ns_total"));
        let time = match scheduled {
            true => "gpu_sched_busy_ns_total",
            false => "gpu_engine_ns_total",
        };
        let mut numbers: Vec<u32> = now
            .keys()
            .filter(|series| is(series, "gpu_doorbells_total") && grown(series) > 0)
            .chain(
                now.keys()
                    .filter(|s| is(s, "gpu_engine_ns_total") && grown(s) > 0),
            )
            .filter_map(|series| label(series, "channel")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let channel = |number: u32| {
            let doorbells = sum(&["gpu_doorbells_total"], Some(number));
            let wait = sum(&["gpu_queue_wait_ns_total"], Some(number));
            ChannelRates {
                number,
                doorbells: doorbells / seconds,
                busy: sum(&["gpu_engine_ns_total"], Some(number)) / 1e9 / seconds,
                wait_ms: if doorbells > 0.0 {
                    wait / doorbells / 1e6
                } else {
                    0.0
                },
            }
        };
        let waiting = now
            .iter()
            .filter(|(series, _)| is(series, "gpu_sched_waiting"));
        Self {
            name: name.to_owned(),
            accesses: rate(&["gpu_reads_total", "gpu_writes_total"]),
            busy: rate(&[time]) / 1e9,
            waiting: waiting.map(|(_, value)| value).sum(),
            flushes: rate(&["gpu_tlb_flushes_total"]),
            scanned: rate(&["gpu_entries_scanned_total"]),
            written: rate(&["gpu_entries_written_total"]),
            events: rate(&["gpu_events_total"]),
            channels: numbers.into_iter().map(channel).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(values: &[(&str, u64)]) -> Counters {
        values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn growth_becomes_rates_by_machine_and_channel() {
        let before = counters(&[
            ("gpu_reads_total{vm=\"a\",bar=\"bar0\",range=\"pmc\"}", 100),
            ("gpu_doorbells_total{vm=\"a\",channel=\"2\"}", 5),
        ]);
        let now = counters(&[
            ("gpu_reads_total{vm=\"a\",bar=\"bar0\",range=\"pmc\"}", 300),
            (
                "gpu_writes_total{vm=\"a\",bar=\"bar1\",range=\"userd\"}",
                10,
            ),
            ("gpu_doorbells_total{vm=\"a\",channel=\"2\"}", 15),
            (
                "gpu_queue_wait_ns_total{vm=\"a\",channel=\"2\"}",
                20_000_000,
            ),
            (
                "gpu_engine_ns_total{vm=\"a\",channel=\"2\",engine=\"gr\"}",
                1_000_000_000,
            ),
            ("gpu_sched_waiting{vm=\"a\"}", 3),
        ]);
        let rates = MachineRates::new("a", &before, &now, Duration::from_secs(2));
        assert_eq!((rates.accesses, rates.busy, rates.waiting), (105.0, 0.5, 3));
        let channel = ChannelRates {
            number: 2,
            doorbells: 5.0,
            busy: 0.5,
            wait_ms: 2.0,
        };
        assert_eq!(rates.channels, [channel]);
    }
}
