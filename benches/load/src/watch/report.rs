//! The measurement as a table.

use std::fmt;

use serde::Serialize;

use crate::measurement::Measurement;

/// A latency that is wanted, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchBudget {
    /// For half of the clients.
    P50Ms(f64),
    /// For 99 of 100.
    P99Ms(f64),
}

/// What mutations at one pace came to, for clients at one place.
#[derive(Clone, Debug, Serialize)]
pub struct WatchRow {
    /// Where the clients were.
    pub clients_on: String,
    /// The pace.
    pub pace: String,
    /// Mutations acknowledged in a second.
    pub per_second: Measurement,
    /// Half of the clients knew after so many milliseconds.
    pub p50_ms: Measurement,
    /// 99 of 100 knew after so many.
    pub p99_ms: Measurement,
    /// What was wanted.
    pub budget: WatchBudget,
    /// CPU microseconds of all instances for a mutation, where their processes are known.
    pub mutation_us: Option<Measurement>,
    /// The same for a client that was told.
    pub delivery_us: Option<Measurement>,
    /// Clients told, in all rounds.
    pub delivered: u64,
    /// Clients that were not told, in all rounds.
    pub lost: u64,
}

/// The outcome of `watch`.
#[derive(Clone, Debug, Serialize)]
pub struct WatchReport {
    /// Rounds measured.
    pub rounds: u32,
    /// Clients.
    pub clients: u32,
    /// Tags that each of them watches.
    pub tags_per_client: u32,
    /// Tags in all.
    pub tags: u32,
    /// Results by place of the clients and pace.
    pub rows: Vec<WatchRow>,
}

impl WatchReport {
    /// Whether everybody was told everything.
    pub fn has_passed(&self) -> bool {
        self.rows.iter().all(|row| row.lost == 0)
    }
}

impl fmt::Display for WatchRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = format!("{}, {}", self.clients_on, self.pace);
        let cost = |cost: Option<Measurement>| cost.map_or("unknown".to_owned(), |cost| cost.to_string());
        write!(f, "{what:<36}{:<24}{:<24}", self.p50_ms, self.p99_ms)?;
        write!(f, "{:<30}{:<28}", cost(self.mutation_us), cost(self.delivery_us))?;
        write!(f, "{:<28}{:<10}{:<6}", self.per_second, self.delivered, self.lost)?;
        let (name, is_kept, most) = match self.budget {
            WatchBudget::P50Ms(most) => ("p50", self.p50_ms.median <= most, most),
            WatchBudget::P99Ms(most) => ("p99", self.p99_ms.median <= most, most),
        };
        write!(f, "{name} <= {most}: {}", if is_kept { "kept" } else { "MISSED" })
    }
}

impl fmt::Display for WatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} clients with {} of {} tags each; from mutation to client in ms, CPU in µs; median (range) of {} rounds",
            self.clients, self.tags_per_client, self.tags, self.rounds
        )?;
        write!(f, "{:<36}{:<24}{:<24}", "clients on", "p50", "p99")?;
        write!(f, "{:<30}{:<28}", "CPU per mutation", "CPU per client told")?;
        writeln!(f, "{:<28}{:<10}{:<6}budget", "mutations a second", "told", "lost")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
