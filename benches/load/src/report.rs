//! What a fan-out run found, as a value that prints itself.

use std::fmt;

use serde::Serialize;

use crate::latency::LatencySummary;
use crate::link::Transport;

/// The outcome of `fanout`. Counts are sums over all subscribers.
#[derive(Clone, Debug, Serialize)]
pub struct FanoutReport {
    /// How the subscribers were connected.
    pub transport: Transport,
    /// Subscribers.
    pub clients: u32,
    /// Channels.
    pub channels: u32,
    /// Bytes of a payload as asked for.
    pub payload: u32,
    /// Publications a second as asked for.
    pub rate_asked: u32,
    /// Publications a second as acknowledged.
    pub rate_achieved: f64,
    /// Publications acknowledged.
    pub published: u64,
    /// Attempts to publish that failed and were repeated under the same key.
    pub publish_retries: u64,
    /// Why publishing ended early.
    pub publish_failure: Option<String>,
    /// Deliveries owed: the acknowledged publications of each subscriber's channel.
    pub expected: u64,
    /// Deliveries made, each counted once.
    pub delivered: u64,
    /// Deliveries missing without a word.
    pub lost: u64,
    /// Gaps declared by the server.
    pub gaps: u64,
    /// Deliveries missing inside declared gaps.
    pub missing_in_gaps: u64,
    /// Deliveries made again without a right to.
    pub duplicates: u64,
    /// Deliveries made again after an SSE reconnect, between the last cursor and the cut, as promised.
    pub repeats: u64,
    /// Deliveries made after a later one.
    pub disorder: u64,
    /// Payloads that were not published, or not at that position.
    pub foreign: u64,
    /// Positions that do not follow from the one before.
    pub discontinuities: u64,
    /// Connections that failed or ended other than by a planned cut.
    pub errors: u64,
    /// Planned cuts.
    pub cuts: u64,
    /// Connections made again.
    pub reconnects: u64,
    /// Reconnects that recovered without a gap.
    pub resumed: u64,
    /// From publish to delivery, for subscribers connected when the publication was sent.
    pub steady: LatencySummary,
    /// From publish to delivery of what was sent before the subscriber was back.
    pub catch_up: LatencySummary,
    /// From publish to its acknowledgement.
    pub acknowledgement: LatencySummary,
    /// CPU seconds of this generator per million deliveries.
    pub generator_cpu_per_million: f64,
    /// The server's cost, where its process id was given.
    pub server: Option<ServerCost>,
    /// What was wrong, in words; the first of many.
    pub findings: Vec<String>,
}

/// What the run cost the server.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerCost {
    /// CPU seconds per million deliveries (= CPU microseconds per delivery), publishing included.
    pub cpu_per_million: f64,
    /// Resident memory with everybody subscribed, before the first publication, in KiB.
    pub resident_before_kib: u64,
    /// Resident memory after the last delivery, in KiB.
    pub resident_after_kib: u64,
}

impl FanoutReport {
    /// Whether everything published was delivered to everybody, once, in order and unaltered.
    pub fn has_passed(&self) -> bool {
        let wrong =
            self.lost + self.gaps + self.duplicates + self.disorder + self.foreign + self.discontinuities;
        wrong == 0 && self.publish_failure.is_none()
    }
}

impl fmt::Display for FanoutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Ws => "WebSocket",
            Transport::Sse => "SSE",
        };
        let mut line = |name: &str, value: String| writeln!(f, "{name:<16}{value}");
        line(
            "load",
            format!(
                "{} {transport} subscribers, {} channel(s), {} bytes",
                self.clients, self.channels, self.payload
            ),
        )?;
        line(
            "published",
            format!(
                "{} at {:.1}/s of {}/s asked, {} retries",
                self.published, self.rate_achieved, self.rate_asked, self.publish_retries
            ),
        )?;
        line("acknowledged", self.acknowledgement.to_string())?;
        line("delivered", format!("{} of {} expected", self.delivered, self.expected))?;
        line("lost", self.lost.to_string())?;
        line("gaps", format!("{}, {} deliveries missing in them", self.gaps, self.missing_in_gaps))?;
        line("duplicates", self.duplicates.to_string())?;
        line("repeats", format!("{} (SSE, after a reconnect: allowed)", self.repeats))?;
        line("disorder", self.disorder.to_string())?;
        line("foreign", self.foreign.to_string())?;
        line("discontinuous", self.discontinuities.to_string())?;
        line("errors", self.errors.to_string())?;
        line(
            "reconnects",
            format!("{} after {} cuts, {} resumed without a gap", self.reconnects, self.cuts, self.resumed),
        )?;
        line("steady", self.steady.to_string())?;
        line("catch-up", self.catch_up.to_string())?;
        line("generator", format!("{:.2} CPU s per million deliveries", self.generator_cpu_per_million))?;
        if let Some(server) = &self.server {
            line(
                "server",
                format!(
                    "{:.2} CPU s per million deliveries, RSS {} KiB before, {} KiB after",
                    server.cpu_per_million, server.resident_before_kib, server.resident_after_kib
                ),
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "! {finding}")?;
        }
        if let Some(failure) = &self.publish_failure {
            writeln!(f, "! publishing ended early: {failure}")?;
        }
        writeln!(f, "{}", if self.has_passed() { "passed" } else { "FAILED" })
    }
}
