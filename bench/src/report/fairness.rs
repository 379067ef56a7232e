//! What samples of several guests say.

use crate::record::{Record, Sample};

/// Over how long fairness is judged, in milliseconds.
const WINDOW_MS: u64 = 1000;

/// The guests of one run while all of them worked.
#[derive(Debug, PartialEq)]
pub struct Fairness {
    /// Shares of each window, by guest.
    pub shares: Vec<Vec<f64>>,
    /// Jain's index of each window.
    pub jain: Vec<f64>,
    /// How far shares are from equal ones, in percentage points on average.
    pub error: f64,
    /// Milliseconds of the run at which the first window begins.
    pub begin_ms: u64,
}

impl Fairness {
    /// Those of the samples between the moment when the last guest began and the moment when the
    /// first one ended; `None` if that is less than a window.
    pub fn new(samples: &[Sample]) -> Option<Self> {
        let guests = samples.last()?.engine_ns.len();
        let changes = |guest: usize| {
            samples
                .windows(2)
                .enumerate()
                .filter(move |(_, pair)| {
                    pair[1].engine_ns.get(guest) > pair[0].engine_ns.get(guest)
                })
                .map(|(n, _)| n)
        };
        // The probe of the driver uses the card for a moment: the work is what comes last.
        let (mut first, mut last) = (0, samples.len());
        for guest in 0..guests {
            // Up to the sample behind its first change it may have begun at any time.
            first = first.max(busy_run(changes(guest))?.0 + 1);
            last = last.min(busy_run(changes(guest))?.1 + 1);
        }
        let mut shares = Vec::new();
        let mut from = samples.get(first)?;
        let begin_ms = from.ms;
        for sample in samples.get(first..last)? {
            if sample.ms - from.ms < WINDOW_MS {
                continue;
            }
            let worked = |n: usize| (sample.engine_ns[n] - from.engine_ns[n]) as f64;
            let total: f64 = (0..guests).map(worked).sum();
            if total > 0.0 {
                shares.push((0..guests).map(|n| worked(n) / total).collect::<Vec<_>>());
            }
            from = sample;
        }
        let jain = shares.iter().map(|shares| jain(shares)).collect();
        let even = 1.0 / guests as f64;
        let errors: Vec<f64> = shares.iter().flatten().map(|s| (s - even).abs()).collect();
        let error = 100.0 * errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        (!shares.is_empty()).then_some(Self {
            shares,
            jain,
            error,
            begin_ms,
        })
    }

    /// The worst window.
    pub fn worst(&self) -> f64 {
        self.jain.iter().copied().fold(1.0, f64::min)
    }
}

/// The longest stretch of numbers with gaps of at most a window's samples: its ends.
fn busy_run(numbers: impl Iterator<Item = usize>) -> Option<(usize, usize)> {
    const GAP: usize = 8;
    let (mut best, mut run) = (None::<(usize, usize)>, None::<(usize, usize)>);
    for n in numbers {
        run = match run {
            Some((begin, end)) if n - end <= GAP => Some((begin, n)),
            _ => Some((n, n)),
        };
        let length = |(begin, end): (usize, usize)| end - begin;
        if best.is_none_or(|b| run.map_or(0, length) > length(b)) {
            best = run;
        }
    }
    best
}

/// Jain's index of fairness.
///
/// Source: Jain, Chiu, Hawe, DEC-TR-301, 1984.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// Bytes of a copy and copies per second, of each load of a run's guests.
pub fn rates(record: &Record) -> Vec<(u64, f64)> {
    let lines = record.guests.iter().flat_map(|guest| &guest.lines);
    let rates = lines.filter_map(|line| {
        let bytes = line.get("bytes")?.as_u64()?;
        let number = |name: &str| line.get(name)?.as_f64();
        Some((bytes, number("copies")? / number("seconds")?))
    });
    rates.collect()
}

/// The longest 99th percentile of latency among a run's guests, in milliseconds.
pub fn latency_p99_ms(record: &Record) -> f64 {
    let lines = record.guests.iter().flat_map(|guest| &guest.lines);
    lines
        .filter_map(|line| line.get("p99_us")?.as_f64())
        .fold(0.0, f64::max)
        / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rates: [[u64; 2]; 40]) -> Vec<Sample> {
        let mut engine_ns = vec![0, 0];
        rates
            .iter()
            .enumerate()
            .map(|(n, rate)| {
                for (sum, more) in engine_ns.iter_mut().zip(rate) {
                    *sum += more;
                }
                Sample {
                    ms: n as u64 * 250,
                    engine_ns: engine_ns.clone(),
                }
            })
            .collect()
    }

    #[test]
    fn only_the_time_counts_in_which_all_work() {
        let mut rates = [[0, 0]; 40];
        rates[5..35].fill([9, 0]);
        rates[15..30].fill([3, 3]);
        let fairness = Fairness::new(&samples(rates)).unwrap();
        assert_eq!(fairness.begin_ms, 15 * 250);
        assert!(fairness.worst() > 0.999, "{fairness:?}");
        assert!(fairness.error < 0.1);
    }

    #[test]
    fn guest_that_began_within_a_sample_is_not_judged_by_it() {
        let mut rates = [[4, 0]; 40];
        rates[8] = [4, 1];
        rates[9..].fill([4, 4]);
        let fairness = Fairness::new(&samples(rates)).unwrap();
        assert!(fairness.worst() > 0.999, "{fairness:?}");
    }

    #[test]
    fn unequal_shares_have_an_index_below_one() {
        let fairness = Fairness::new(&samples([[3, 1]; 40])).unwrap();
        assert!((fairness.worst() - 0.8).abs() < 1e-9);
        assert!((fairness.error - 25.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_said_of_guests_that_never_met() {
        let mut rates = [[0, 0]; 40];
        rates[2..10].fill([5, 0]);
        rates[30..38].fill([0, 5]);
        assert_eq!(Fairness::new(&samples(rates)), None);
    }
}
