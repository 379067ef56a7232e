//! A port at which a guest marks moments: what had been counted until then is kept, so that what lies
//! between two of them can be told apart from the rest of the guest's life.
//!
//! A guest that wants it stores a byte of its choice, for example by
//! `printf '\001' | dd of=/dev/port bs=1 seek=1776`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use vm_device::DevicePio;
use vm_device::bus::{PioAddress, PioAddressOffset};

use crate::metrics::Metrics;

/// Most marks of a machine; it makes no more.
const MOST: usize = 256;

/// A moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// What the guest stored.
    pub mark: u8,
    /// What had been counted, by name.
    pub counters: BTreeMap<String, u64>,
}

/// The marks of a machine, in their order.
pub type Marks = Arc<Mutex<Vec<Mark>>>;

/// The port.
pub struct Marker {
    metrics: Metrics,
    marks: Marks,
}

impl Marker {
    /// A port that adds what `metrics` say to `marks`.
    pub fn new(metrics: Metrics, marks: Marks) -> Self {
        Self { metrics, marks }
    }
}

impl DevicePio for Marker {
    fn pio_read(&self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
        data.fill(0);
    }

    fn pio_write(&self, _base: PioAddress, _offset: PioAddressOffset, data: &[u8]) {
        let &[mark] = data else { return };
        let mut marks = self.marks.lock();
        if marks.len() < MOST {
            let counters = self.metrics.snapshot();
            marks.push(Mark { mark, counters });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_has_what_was_counted_until_then_and_there_are_not_too_many() {
        let metrics = Metrics::default();
        let counter = metrics.counter("exits_total", &[]);
        let marks = Marks::default();
        let marker = Marker::new(metrics, marks.clone());
        for value in 0..=u8::MAX {
            counter.increment();
            marker.pio_write(PioAddress(0), 0, &[value]);
        }
        marker.pio_write(PioAddress(0), 0, &[7]);

        let marks = marks.lock();
        assert_eq!(marks.len(), MOST);
        assert_eq!((marks[9].mark, marks[9].counters["exits_total"]), (9, 10));
    }
}
