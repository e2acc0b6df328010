//! Whether Redis can be used: both connections answer, or have not for too long, and announcements arrive.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::clients::Client;
use fred::prelude::*;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::directory::{run, servers};
use crate::broker::BrokerEvent;
use crate::clock::Clock;
use crate::hub::{BrokerState, Time};

/// The pause between two probes of a connection.
const PAUSE: Duration = Duration::from_millis(250);

/// What every script begins with. Where this is not allowed (any more), nothing can be published or read, though a PING
/// would be answered.
const PROBE: &str = "return #redis.call('INFO', 'replication')";

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Without an answer for so long, Redis counts as out of reach: subscribers are to know within 2.5 s, and publishes fail by
/// themselves until then.
const DOWN_AFTER: Duration = Duration::from_secs(2);

/// Whether Redis can be reached, for those who ask.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Milliseconds since 1970 when it was lost; 0 while it is not.
    down_since: AtomicU64,
    /// Whether announcements do not arrive, not even by another connection.
    is_deaf: AtomicBool,
}

impl Reach {
    pub(super) fn state(&self) -> BrokerState {
        match self.down_since.load(Ordering::Acquire) {
            0 => BrokerState::Up,
            since_ms => BrokerState::Down { since_ms },
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.state() != BrokerState::Up
    }

    /// Whether announcements arrive, as the receiver knows.
    pub(super) fn set_deaf(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::Release);
    }

    fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Acquire)
    }
}

/// When a connection last answered, in milliseconds since the process started.
struct Pulse {
    client: Client,
    last: AtomicU64,
    /// Why the last probe failed, if it did.
    trouble: Mutex<Option<String>>,
    clock: Clock,
}

impl Pulse {
    fn new(client: Client, clock: Clock) -> Arc<Self> {
        let last = AtomicU64::new(clock.now().0.as_millis() as u64);
        Arc::new(Pulse { client, last, trouble: Mutex::default(), clock })
    }

    async fn feel(self: Arc<Self>) {
        loop {
            let trouble = match tokio::time::timeout(PROBE_TIMEOUT, probe(&self.client)).await {
                Ok(Ok(())) => {
                    self.last.store(self.clock.now().0.as_millis() as u64, Ordering::Release);
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {PROBE_TIMEOUT:?}")),
            };
            *self.trouble.lock().expect("nobody panics with it") = trouble;
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn is_lost(&self, now: Time) -> bool {
        Time(Duration::from_millis(self.last.load(Ordering::Acquire))).after(DOWN_AFTER) <= now
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("nobody panics with it").clone()
    }
}

/// Every primary answers: in a cluster each holds channels that no other does.
async fn probe(client: &Client) -> FredResult<()> {
    let probes = servers(client).into_iter().map(|server| async move {
        run(client, server.as_ref(), "EVAL", vec![PROBE.into(), "0".into()]).await
    });
    futures::future::try_join_all(probes).await.map(|_: Vec<_>| ())
}

/// Watches over connections and says what changes.
pub(super) struct Monitor {
    pub(super) clients: Vec<Client>,
    pub(super) clock: Clock,
    pub(super) reach: Arc<Reach>,
    pub(super) events: mpsc::Sender<BrokerEvent>,
}

impl Monitor {
    /// Runs until the node is gone.
    pub(super) async fn run(self) {
        let pulses: Vec<_> =
            self.clients.iter().map(|client| Pulse::new(client.clone(), self.clock)).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for pulse in &pulses {
            tasks.spawn(pulse.clone().feel());
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let Some(state) = self.change(&pulses) else { continue };
            let since = if let BrokerState::Down { since_ms } = state { since_ms } else { 0 };
            self.reach.down_since.store(since, Ordering::Release);
            if self.events.send(BrokerEvent::State(state)).await.is_err() {
                return;
            }
        }
    }

    /// The state, where it is another one than before.
    fn change(&self, pulses: &[Arc<Pulse>]) -> Option<BrokerState> {
        let now = self.clock.now();
        let trouble = || pulses.iter().find_map(|pulse| pulse.trouble());
        if self.reach.is_down() {
            if self.reach.is_deaf() || trouble().is_some() {
                return None;
            }
            info!("redis can be used again");
            return Some(BrokerState::Up);
        }
        let is_lost = pulses.iter().any(|pulse| pulse.is_lost(now));
        if !is_lost && !self.reach.is_deaf() {
            return None;
        }
        let reason = trouble().unwrap_or_else(|| "announcements do not arrive".to_owned());
        warn!(reason, "redis cannot be used: nothing can be published or resumed");
        Some(BrokerState::Down { since_ms: self.clock.unix_ms().max(1) })
    }
}
