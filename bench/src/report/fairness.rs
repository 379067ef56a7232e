//! What samples of several guests say.

use serde::Deserialize;

use crate::record::{GuestResult, Record, Sample};

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
    /// The part of the time in which engines worked.
    pub busy: f64,
    /// Milliseconds of the run between which all worked.
    pub together: (u64, u64),
    /// Milliseconds of the run at which guests began.
    pub begins: Vec<u64>,
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
        let mut begins = Vec::new();
        for guest in 0..guests {
            let (begin, end) = busy_run(changes(guest))?;
            // Up to the sample behind its first change it may have begun at any time.
            first = first.max(begin + 1);
            last = last.min(end + 1);
            begins.push(samples[begin].ms);
        }
        let within = samples.get(first..last)?;
        let (begin, end) = (within.first()?, within.last()?);
        let mut shares = Vec::new();
        let mut from = begin;
        for sample in within {
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
        let total = |sample: &Sample| sample.engine_ns.iter().sum::<u64>() as f64;
        (!shares.is_empty()).then(|| Self {
            shares,
            jain,
            error,
            busy: (total(end) - total(begin)) / (1e6 * (end.ms - begin.ms) as f64),
            together: (begin.ms, end.ms),
            begins,
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

/// What a guest's load did.
#[derive(Clone, Debug, Deserialize)]
pub struct Done {
    /// Bytes of a copy, turns of a kernel.
    pub size: u64,
    /// Copies or kernels that were over at the end, and by second.
    count: u64,
    counts: Vec<u64>,
    /// How long it took.
    seconds: f64,
    /// From a submission to its end, in microseconds.
    pub median_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
}

impl Done {
    /// What was over after so many seconds.
    fn by(&self, seconds: f64) -> f64 {
        let at = |second: usize| match second.checked_sub(1) {
            None => 0.0,
            Some(n) => *self.counts.get(n).unwrap_or(&self.count) as f64,
        };
        if seconds >= self.counts.len() as f64 {
            return self.count as f64;
        }
        let second = seconds.max(0.0);
        let (before, after) = (at(second as usize), at(second as usize + 1));
        before + (after - before) * second.fract()
    }

    /// Copies or kernels per second between two of its seconds.
    fn rate(&self, from: f64, to: f64) -> f64 {
        let (from, to) = (from.max(0.0), to.min(self.counts.len() as f64));
        match to - from >= 1.0 {
            true => (self.by(to) - self.by(from)) / (to - from),
            false => self.count as f64 / self.seconds,
        }
    }

    /// The same while it was alone: the median of what it was over a few seconds each, as a busy
    /// host may take something from some of them.
    pub fn rate_alone(&self) -> f64 {
        const SPAN: usize = 3;
        let begins = 1..self.counts.len().saturating_sub(SPAN);
        let rates = begins.map(|n| self.rate(n as f64, (n + SPAN) as f64));
        let mut rates: Vec<_> = rates.collect();
        rates.sort_by(f64::total_cmp);
        let whole = || self.rate(1.0, f64::INFINITY);
        rates.get(rates.len() / 2).copied().unwrap_or_else(whole)
    }
}

/// What the loads of a run's guests did, by guest.
pub fn loads(record: &Record) -> Vec<Vec<Done>> {
    let of_guest = |guest: &GuestResult| {
        let lines = guest.lines.iter().cloned();
        lines
            .filter_map(|line| serde_json::from_value(line).ok())
            .collect()
    };
    record.guests.iter().map(of_guest).collect()
}

/// Sizes of what guests did, and how many per second while all of them worked.
pub fn rates_together(record: &Record, fairness: &Fairness) -> Vec<(u64, f64)> {
    let guests = loads(record);
    let rates = guests
        .iter()
        .zip(&fairness.begins)
        .flat_map(|(loads, begin)| {
            let second = |ms: u64| (ms as f64 - *begin as f64) / 1e3;
            let (from, to) = fairness.together;
            loads
                .iter()
                .map(move |load| (load.size, load.rate(second(from), second(to))))
        });
    rates.collect()
}

/// Median, 99th percentile and longest latency of submissions, in milliseconds: each that of the
/// guest for which it was longest.
pub fn latencies_ms(record: &Record) -> [f64; 3] {
    let all = loads(record);
    let worst = |of: fn(&Done) -> f64| all.iter().flatten().map(of).fold(0.0, f64::max) / 1e3;
    [
        worst(|done| done.median_us),
        worst(|done| done.p99_us),
        worst(|done| done.max_us),
    ]
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
        assert_eq!(fairness.together, (15 * 250, 28 * 250));
        assert_eq!(fairness.begins, [4 * 250, 14 * 250]);
        assert!((fairness.busy - 6.0 / 250e6).abs() < 1e-12);
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

    #[test]
    fn rates_are_those_of_the_time_together() {
        // In its first ten seconds the guest is twice as fast as later.
        let counts = (1..=30u64).map(|n| 20 * n.min(10) + 10 * n.saturating_sub(10));
        let done = Done {
            size: 28,
            count: 400,
            counts: counts.collect(),
            seconds: 30.0,
            median_us: 0.0,
            p99_us: 0.0,
            max_us: 0.0,
        };
        assert!((done.rate(12.5, 28.25) - 10.0).abs() < 1e-9);
        assert!((done.rate(-3.0, 5.5) - 20.0).abs() < 1e-9);
        assert!((done.rate_alone() - 10.0).abs() < 1e-9);
        // Too short to say anything about a part of it.
        assert!((done.rate(29.5, 30.0) - 400.0 / 30.0).abs() < 1e-9);
    }
}
