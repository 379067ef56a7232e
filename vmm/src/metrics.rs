//! Counters: one atomic each, no lock where they are counted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A count that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of a machine by name and labels.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<BTreeMap<(&'static str, String), Counter>>);

impl Metrics {
    /// The counter `name` with `labels`, for example `("exits_total", &[("vcpu", "0")])`.
    pub fn counter(&self, name: &'static str, labels: &[(&str, &str)]) -> Counter {
        let labels = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{value}\""))
            .collect::<Vec<_>>()
            .join(",");
        self.0.lock().entry((name, labels)).or_default().clone()
    }

    /// Every count, by the name that [`Metrics::prometheus`] gives it without the prefix.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .iter()
            .map(|((name, labels), counter)| (series(name, labels), counter.get()))
            .collect()
    }

    /// Every count in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let mut family = "";
        for ((name, labels), counter) in self.0.lock().iter() {
            if *name != family {
                family = name;
                // Writing to a string does not fail.
                let _ = writeln!(text, "# TYPE gpuvm_{name} counter");
            }
            let _ = writeln!(text, "gpuvm_{} {}", series(name, labels), counter.get());
        }
        text
    }
}

fn series(name: &str, labels: &str) -> String {
    if labels.is_empty() {
        name.to_owned()
    } else {
        format!("{name}{{{labels}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_has_one_type_line_per_family() {
        let metrics = Metrics::default();
        metrics.counter("exits_total", &[("vcpu", "0")]).add(3);
        metrics.counter("exits_total", &[("vcpu", "1")]).increment();

        assert_eq!(
            metrics.prometheus(),
            "# TYPE gpuvm_exits_total counter\n\
             gpuvm_exits_total{vcpu=\"0\"} 3\n\
             gpuvm_exits_total{vcpu=\"1\"} 1\n"
        );
    }

    #[test]
    fn same_name_and_labels_are_one_counter() {
        let metrics = Metrics::default();
        metrics.counter("a", &[]).increment();
        metrics.counter("a", &[]).increment();

        assert_eq!(metrics.snapshot()["a"], 2);
    }
}
