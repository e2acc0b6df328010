//! The measurement as a table.

use std::fmt;

use serde::Serialize;

use crate::measurement::Measurement;

/// CPU per delivery of one kind of load, beside the floor.
#[derive(Clone, Debug, Serialize)]
pub struct CpuRow {
    /// The load.
    pub what: String,
    /// CPU microseconds per delivery of the floor.
    pub floor_us: Measurement,
    /// CPU microseconds per delivery of the server.
    pub ours_us: Measurement,
    /// Ours by the floor of the same round.
    pub ratio: Measurement,
}

/// Memory per connection of one transport.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryRow {
    /// The transport.
    pub what: String,
    /// KiB per idle connection.
    pub idle_kib: Measurement,
    /// KiB per connection after one message of 16 KiB.
    pub after_large_kib: Measurement,
}

/// The outcome of `floor`.
#[derive(Clone, Debug, Serialize)]
pub struct FloorReport {
    /// Rounds measured.
    pub rounds: u32,
    /// Subscribers while CPU was measured.
    pub clients: u32,
    /// Bytes of a payload.
    pub payload: usize,
    /// CPU per delivery.
    pub cpu: Vec<CpuRow>,
    /// Connections while memory was measured.
    pub connections: u32,
    /// Memory per connection.
    pub memory: Vec<MemoryRow>,
}

impl fmt::Display for FloorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "CPU µs per delivery, {} subscribers, {} bytes, windows of 100 ms; median (range) of {} rounds",
            self.clients, self.payload, self.rounds
        )?;
        writeln!(f, "{:<36}{:<22}{:<22}ratio", "", "floor", "ours")?;
        for row in &self.cpu {
            writeln!(f, "{:<36}{:<22}{:<22}{}", row.what, row.floor_us, row.ours_us, row.ratio)?;
        }
        if self.memory.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nRSS KiB per connection, slope from {} to {}",
            self.connections / 10,
            self.connections
        )?;
        writeln!(f, "{:<36}{:<22}after 16 KiB", "", "idle")?;
        for row in &self.memory {
            writeln!(f, "{:<36}{:<22}{}", row.what, row.idle_kib, row.after_large_kib)?;
        }
        Ok(())
    }
}
