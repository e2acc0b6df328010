//! The phase that the server is in, and what its parts report.

use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It does not serve yet.
    Starting = 0,
    /// It serves.
    Ready = 1,
    /// It is about to end: balancers should look elsewhere.
    Draining = 2,
}

/// The server's phase, shared by those who change it and those who report it.
#[derive(Debug, Default)]
pub struct Health {
    phase: AtomicU8,
}

/// What `/health` answers.
#[derive(Debug, Serialize)]
pub struct HealthReport {
    /// `ok` or `degraded`.
    pub status: &'static str,
    /// Where the server is in its life.
    pub phase: Phase,
    /// The program's version.
    pub version: &'static str,
    /// The parts, by name.
    pub components: Vec<Component>,
}

/// One part.
#[derive(Debug, Serialize)]
pub struct Component {
    /// What it is.
    pub component: &'static str,
    /// `ok` or `degraded`.
    pub status: &'static str,
    /// A number that says how it is.
    pub detail: String,
}

impl Health {
    /// Where the server is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// The server moved on.
    pub fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The whole report. A server that is not ready is degraded.
    /// `broker` is its name, and whether what it announces is taken and delivered.
    pub fn report(
        &self,
        (broker, broker_up): (&'static str, bool),
        connections: usize,
        connections_max: usize,
    ) -> HealthReport {
        let phase = self.phase();
        let full = connections >= connections_max;
        let status = |good| if good { "ok" } else { "degraded" };
        HealthReport {
            status: status(phase == Phase::Ready && broker_up && !full),
            phase,
            version: env!("CARGO_PKG_VERSION"),
            components: vec![
                Component { component: "broker", status: status(broker_up), detail: broker.to_owned() },
                Component {
                    component: "connections",
                    status: status(!full),
                    detail: format!("{connections} of {connections_max}"),
                },
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_degraded_where_a_part_is() {
        let health = Health::default();
        let status = |up, connections| health.report(("memory", up), connections, 10).status;
        assert_eq!(status(true, 0), "degraded", "it only starts");
        health.set(Phase::Ready);
        assert_eq!((status(true, 9), status(true, 10), status(false, 0)), ("ok", "degraded", "degraded"));
        assert_eq!(health.report(("memory", false), 0, 10).components[0].status, "degraded");
    }
}
