//! Counters: one atomic each, no lock where they are counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A count that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<Alone>);

/// What one processor counts in shares no cache line, nor one that is fetched along with it, with
/// what another one does.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Alone(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// A count that is kept elsewhere: its name, its labels and its value.
pub type Sample<'a> = (&'a str, &'a [(&'a str, &'a str)], u64);

/// Tells the counts that somebody keeps.
type Source = Box<dyn Fn(&mut dyn FnMut(Sample<'_>)) + Send + Sync>;

/// Name and labels of a count.
type Key = (Cow<'static, str>, String);

#[derive(Default)]
struct Registry {
    counters: Mutex<BTreeMap<Key, Counter>>,
    sources: Mutex<Vec<(String, Source)>>,
}

/// All counters of a process by name and labels, or those of one machine.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// A label that all of them have, if any.
    base: String,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.base).finish()
    }
}

impl Metrics {
    /// The same counters, but only those of machine `name`, which are labelled so.
    pub fn of_vm(&self, name: &str) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
            base: format!("vm=\"{name}\""),
        }
    }

    /// The counter `name` with `labels`, for example `("exits_total", &[("vcpu", "0")])`.
    pub fn counter(&self, name: &'static str, labels: &[(&str, &str)]) -> Counter {
        let key = (name.into(), join(&self.base, labels));
        self.registry
            .counters
            .lock()
            .entry(key)
            .or_default()
            .clone()
    }

    /// Adds counts that are kept elsewhere: `source` tells them whenever they are asked for.
    pub fn add_source(&self, source: impl Fn(&mut dyn FnMut(Sample<'_>)) + Send + Sync + 'static) {
        let mut sources = self.registry.sources.lock();
        sources.push((self.base.clone(), Box::new(source)));
    }

    fn all(&self) -> BTreeMap<Key, u64> {
        let mut all: BTreeMap<Key, u64> = BTreeMap::new();
        for (key, counter) in self.registry.counters.lock().iter() {
            all.insert(key.clone(), counter.get());
        }
        for (base, source) in self.registry.sources.lock().iter() {
            source(&mut |(name, labels, value)| {
                all.insert((name.to_owned().into(), join(base, labels)), value);
            });
        }
        all.retain(|(_, labels), _| labels.starts_with(&self.base));
        all
    }

    /// Every count, by the name that [`Metrics::prometheus`] gives it without the prefix.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        self.all()
            .into_iter()
            .map(|((name, labels), value)| (series(&name, &labels), value))
            .collect()
    }

    /// Every count in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let mut family = "";
        for ((name, labels), value) in &self.all() {
            if name != family {
                family = name;
                // Writing to a string does not fail.
                let _ = writeln!(text, "# TYPE gpuvm_{name} counter");
            }
            let _ = writeln!(text, "gpuvm_{} {value}", series(name, labels));
        }
        text
    }
}

fn join(base: &str, labels: &[(&str, &str)]) -> String {
    let labels = labels
        .iter()
        .map(|(key, value)| format!("{key}=\"{value}\""));
    let base = Some(base.to_owned()).filter(|base| !base.is_empty());
    base.into_iter().chain(labels).collect::<Vec<_>>().join(",")
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
    fn machine_sees_its_own_counts_and_its_sources() {
        let metrics = Metrics::default();
        let (a, b) = (metrics.of_vm("a"), metrics.of_vm("b"));
        a.counter("exits_total", &[("vcpu", "0")]).add(3);
        b.counter("exits_total", &[]).increment();
        b.add_source(|tell| tell(("doorbells_total", &[("channel", "7")], 9)));

        let of_b = b.snapshot();

        assert_eq!(of_b.len(), 2);
        assert_eq!(of_b["doorbells_total{vm=\"b\",channel=\"7\"}"], 9);
        assert_eq!(metrics.snapshot().len(), 3);
    }

    #[test]
    fn same_name_and_labels_are_one_counter() {
        let metrics = Metrics::default();
        metrics.counter("a", &[]).increment();
        metrics.counter("a", &[]).increment();

        assert_eq!(metrics.snapshot()["a"], 2);
    }
}
