//! The phase that the server is in, and what its parts report.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::hub::{BrokerServers, BrokerState};
use crate::limits::{Memory, Pressure};

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It does not serve yet.
    Starting = 0,
    /// It serves.
    Ready = 1,
    /// It is about to end, and serves on until balancers have noticed.
    Draining = 2,
    /// It takes nothing new, and closes its connections.
    #[serde(rename = "draining")]
    Closing = 3,
}

/// What is known of the broker.
#[derive(Clone, Debug)]
pub struct BrokerHealth {
    /// What it is called.
    pub name: &'static str,
    /// Whether it can be reached.
    pub state: BrokerState,
    /// Its servers.
    pub servers: BrokerServers,
    /// Why it stores nothing, where it can be reached and read.
    pub refusal: Option<String>,
    /// Whether what it announces is taken and delivered.
    pub is_delivering: bool,
}

impl BrokerHealth {
    /// Whether what is published arrives.
    pub fn is_up(&self) -> bool {
        self.is_delivering && self.state.is_up() && self.refusal.is_none()
    }

    /// How it is; `unix_ms` is the moment, in milliseconds since 1970.
    fn detail(&self, unix_ms: u64) -> String {
        match (self.state, &self.refusal) {
            (BrokerState::Down { since_ms }, _) => {
                let seconds = unix_ms.saturating_sub(since_ms) / 1_000;
                match self.servers {
                    BrokerServers { lost, of } if lost < of => {
                        format!("{lost} of {of} servers unreachable, the first for {seconds} s")
                    }
                    BrokerServers { .. } => format!("unreachable for {seconds} s"),
                }
            }
            (BrokerState::Up, Some(reason)) => format!("readable, and refuses writes: {reason}"),
            (BrokerState::Up, None) if !self.is_delivering => {
                "its announcements are not delivered".to_owned()
            }
            (BrokerState::Up, None) => "reachable".to_owned(),
        }
    }
}

/// What is known of issuers of tokens, whose keys are fetched.
#[derive(Clone, Copy, Debug)]
pub struct IssuersHealth {
    /// The addresses.
    pub sources: usize,
    /// Those that did not answer as they should when they were asked last.
    pub failing: usize,
    /// For how long the first of them.
    pub failing_for: Duration,
    /// The keys that are known.
    pub keys: usize,
}

impl IssuersHealth {
    fn detail(&self) -> String {
        let IssuersHealth { sources, failing, failing_for, keys } = self;
        match failing {
            0 => format!("{keys} keys"),
            _ => format!("{failing} of {sources} failing for {} s, {keys} keys known", failing_for.as_secs()),
        }
    }
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
    /// What it is: the broker by its name, as clients are told of its outages, `connections` or `memory`.
    pub component: &'static str,
    /// `ok` or `degraded`.
    pub status: &'static str,
    /// A name or a number that says how it is.
    pub detail: String,
}

impl Health {
    /// Where the server is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            _ => Phase::Closing,
        }
    }

    /// The server moved on.
    pub fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The whole report at a moment, in milliseconds since 1970. A server that is not ready is degraded.
    pub fn report(
        &self,
        broker: BrokerHealth,
        connections: usize,
        connections_max: usize,
        memory: &Memory,
        issuers: Option<IssuersHealth>,
        unix_ms: u64,
    ) -> HealthReport {
        let phase = self.phase();
        let full = connections >= connections_max;
        let short = memory.pressure() >= Pressure::Refusing;
        let status = |good| if good { "ok" } else { "degraded" };
        let known = issuers.is_none_or(|issuers| issuers.failing == 0);
        let issuers = issuers.map(|issuers| Component {
            component: "jwks",
            status: status(issuers.failing == 0),
            detail: issuers.detail(),
        });
        HealthReport {
            status: status(phase == Phase::Ready && broker.is_up() && !full && !short && known),
            phase,
            version: env!("CARGO_PKG_VERSION"),
            components: [
                Component {
                    component: broker.name,
                    status: status(broker.is_up()),
                    detail: broker.detail(unix_ms),
                },
                Component {
                    component: "connections",
                    status: status(!full),
                    detail: format!("{connections} of {connections_max}"),
                },
                Component {
                    component: "memory",
                    status: status(!short),
                    detail: format!("{} of {} MiB", memory.used() >> 20, memory.budget() >> 20),
                },
            ]
            .into_iter()
            .chain(issuers)
            .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: BrokerHealth = BrokerHealth {
        name: "redis",
        state: BrokerState::Up,
        refusal: None,
        servers: BrokerServers { lost: 0, of: 3 },
        is_delivering: true,
    };

    #[test]
    fn the_whole_is_degraded_where_a_part_is() {
        let health = Health::default();
        let memory = Memory::new(100);
        let status = |connections| health.report(UP, connections, 10, &memory, None, 0).status;
        assert_eq!(status(0), "degraded", "it only starts");
        health.set(Phase::Ready);
        assert_eq!((status(9), status(10)), ("ok", "degraded"));
        memory.measured(85);
        assert_eq!(status(9), "degraded", "memory is short");
    }

    #[test]
    fn issuers_whose_keys_cannot_be_fetched_are_told() {
        let health = Health::default();
        health.set(Phase::Ready);
        let good = IssuersHealth { sources: 2, failing: 0, failing_for: Duration::ZERO, keys: 5 };
        let bad = IssuersHealth { failing: 1, failing_for: Duration::from_secs(7), ..good };
        for (issuers, status, detail) in
            [(good, "ok", "5 keys"), (bad, "degraded", "1 of 2 failing for 7 s, 5 keys known")]
        {
            let report = health.report(UP, 0, 10, &Memory::new(100), Some(issuers), 0);
            let component = &report.components[3];
            assert_eq!((report.status, component.component), (status, "jwks"));
            assert_eq!((component.status, component.detail.as_str()), (status, detail));
        }
    }

    #[test]
    fn a_broker_without_a_part_of_its_way_is_degraded_and_says_which() {
        let health = Health::default();
        health.set(Phase::Ready);
        let lost = |lost| BrokerHealth {
            state: BrokerState::Down { since_ms: 5_000 },
            servers: BrokerServers { lost, of: 3 },
            ..UP
        };
        let stuck = BrokerHealth { is_delivering: false, ..UP };
        let full = BrokerHealth { refusal: Some("OOM".to_owned()), ..UP };
        for (broker, status, detail) in [
            (UP, "ok", "reachable"),
            (lost(3), "degraded", "unreachable for 12 s"),
            (lost(2), "degraded", "2 of 3 servers unreachable, the first for 12 s"),
            (stuck, "degraded", "its announcements are not delivered"),
            (full, "degraded", "readable, and refuses writes: OOM"),
        ] {
            let report = health.report(broker, 0, 10, &Memory::new(100), None, 17_900);
            let Component { component, status: of_broker, detail: seen } = &report.components[0];
            assert_eq!((report.status, *of_broker, seen.as_str()), (status, status, detail));
            assert_eq!(*component, "redis");
        }
    }
}
