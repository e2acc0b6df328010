//! Distributions of durations: recorded in microseconds, reported in milliseconds.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// 3 digits from 1 µs to 1 hour: 0.1 % error, some 200 KiB.
const HIGHEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Durations as they come in.
#[derive(Debug)]
pub(crate) struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("constant bounds are legal");
        Latency { histogram }
    }

    /// Records a duration given in nanoseconds; over an hour counts as an hour.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds / 1000);
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        let milliseconds = |us: u64| us as f64 / 1000.0;
        LatencySummary {
            count: self.histogram.len(),
            p50_ms: milliseconds(self.histogram.value_at_quantile(0.5)),
            p99_ms: milliseconds(self.histogram.value_at_quantile(0.99)),
            max_ms: milliseconds(self.histogram.max()),
        }
    }
}

/// What a distribution comes down to, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Number of durations.
    pub count: u64,
    /// Half were at most this.
    pub p50_ms: f64,
    /// 99 of 100 were at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl fmt::Display for LatencySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => write!(f, "none"),
            count => write!(
                f,
                "p50 {:.2} ms   p99 {:.2} ms   max {:.2} ms   ({count})",
                self.p50_ms, self.p99_ms, self.max_ms
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new();
        (1..=100u64).for_each(|ms| latency.record(ms * 1_000_000));
        let summary = latency.summary();
        assert_eq!(summary.count, 100);
        for (seen, expected) in [(summary.p50_ms, 50.0), (summary.p99_ms, 99.0), (summary.max_ms, 100.0)] {
            assert!((seen - expected).abs() < expected * 0.002, "{seen} is about {expected}");
        }
    }

    #[test]
    fn nothing_recorded_reads_as_none() {
        assert_eq!(Latency::new().summary().to_string(), "none");
    }
}
