//! The measurement as two tables.

use std::fmt;

use serde::Serialize;

use crate::measurement::Measurement;

/// What one kind of publication costs, in CPU microseconds each, which is CPU seconds per million.
#[derive(Clone, Debug, Serialize)]
pub struct CostRow {
    /// Bytes of a payload.
    pub bytes: usize,
    /// Whether it had an idempotency key.
    pub has_key: bool,
    /// CPU microseconds of the instance that took it.
    pub publishing_us: Measurement,
    /// CPU microseconds of an instance that delivered it to one subscriber.
    pub receiving_us: Measurement,
    /// CPU microseconds of Redis, where its process is known.
    pub redis_us: Option<Measurement>,
    /// Publications a second of the whole, on two cores.
    pub per_second: Measurement,
    /// Publications in a CPU second of the instance that took them: what one core could do.
    pub per_cpu_second: Measurement,
}

/// From sending a publish to its receipt.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRow {
    /// Where the subscribers were.
    pub subscribers_on: String,
    /// Half of the deliveries took at most so many milliseconds.
    pub p50_ms: Measurement,
    /// 99 of 100 took at most so many.
    pub p99_ms: Measurement,
    /// What was wanted.
    pub budget: Option<Budget>,
}

/// Latencies that were wanted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Budget {
    /// For half of the deliveries.
    pub p50_ms: f64,
    /// For 99 of 100.
    pub p99_ms: f64,
}

/// The outcome of `cluster`.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterReport {
    /// Rounds measured.
    pub rounds: u32,
    /// Publishers at once while cost was measured.
    pub publishers: u32,
    /// Publications of each kind and round.
    pub publications: u32,
    /// Channels that they went to.
    pub channels: u32,
    /// Cost by kind of publication.
    pub costs: Vec<CostRow>,
    /// Subscribers while latency was measured.
    pub clients: u32,
    /// Publications a second while latency was measured.
    pub rate: u32,
    /// Seconds of it.
    pub seconds: u32,
    /// Latency by place of the subscribers.
    pub latencies: Vec<LatencyRow>,
}

impl fmt::Display for CostRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = format!("{} bytes{}", self.bytes, if self.has_key { ", with a key" } else { "" });
        let redis = self.redis_us.map_or("unknown".to_owned(), |redis| redis.to_string());
        write!(f, "{what:<32}{:<26}{:<26}{redis:<26}", self.publishing_us, self.receiving_us)?;
        write!(f, "{:<26}{}", whole(&self.per_second), whole(&self.per_cpu_second))
    }
}

impl fmt::Display for LatencyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<32}{:<26}{:<26}", self.subscribers_on, self.p50_ms, self.p99_ms)?;
        match self.budget {
            None => Ok(()),
            Some(Budget { p50_ms, p99_ms }) => {
                let is_kept = self.p50_ms.median <= p50_ms && self.p99_ms.median <= p99_ms;
                let verdict = if is_kept { "kept" } else { "MISSED" };
                write!(f, "p50 <= {p50_ms}, p99 <= {p99_ms}: {verdict}")
            }
        }
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "CPU µs per publication, {} publishers, {} publications, {} channels; median (range) of {} rounds",
            self.publishers, self.publications, self.channels, self.rounds
        )?;
        write!(f, "{:<32}{:<26}{:<26}{:<26}", "", "publishing instance", "receiving instance", "redis")?;
        writeln!(f, "{:<26}a CPU second of the publishing instance", "a second")?;
        for row in &self.costs {
            writeln!(f, "{row}")?;
        }
        writeln!(
            f,
            "\nms from publish to receipt, {} WebSocket subscribers, {} publications a second for {} s",
            self.clients, self.rate, self.seconds
        )?;
        writeln!(f, "{:<32}{:<26}{:<26}budget", "subscribers on", "p50", "p99")?;
        for row in &self.latencies {
            writeln!(f, "{}", row.to_string().trim_end())?;
        }
        Ok(())
    }
}

/// A measurement of large numbers.
fn whole(measurement: &Measurement) -> String {
    let Measurement { median, min, max } = measurement;
    format!("{median:.0} ({min:.0}-{max:.0})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_stands_beside_the_figures_with_what_became_of_it() {
        let at = |ms: f64| Measurement { median: ms, min: ms, max: ms };
        let budget = Some(Budget { p50_ms: 8.0, p99_ms: 20.0 });
        let row = |p50: f64, p99: f64| {
            let row = LatencyRow { subscribers_on: "x".into(), p50_ms: at(p50), p99_ms: at(p99), budget };
            row.to_string()
        };
        assert!(row(8.0, 20.0).ends_with("p50 <= 8, p99 <= 20: kept"), "{}", row(8.0, 20.0));
        assert!(row(8.1, 20.0).ends_with("MISSED") && row(8.0, 20.1).ends_with("MISSED"));
    }
}
