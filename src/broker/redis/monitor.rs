//! Whether Redis can be reached: both connections answer pings, or have not for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::prelude::*;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::broker::BrokerEvent;
use crate::clock::Clock;
use crate::hub::{BrokerState, Time};

/// The pause between two pings of a connection.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// Without an answer for so long, Redis counts as out of reach: subscribers are to know within 2.5 s, and publishes fail by
/// themselves until then.
const DOWN_AFTER: Duration = Duration::from_secs(2);

/// Whether Redis can be reached, for those who ask.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Milliseconds since 1970 when it was lost; 0 while it is not.
    down_since: AtomicU64,
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
}

/// When a connection last answered, in milliseconds since the process started.
struct Pulse {
    client: Client,
    last: AtomicU64,
    /// Whether the last ping was answered.
    answers: AtomicBool,
    clock: Clock,
}

impl Pulse {
    fn new(client: Client, clock: Clock) -> Arc<Self> {
        let last = AtomicU64::new(clock.now().0.as_millis() as u64);
        Arc::new(Pulse { client, last, answers: AtomicBool::new(true), clock })
    }

    async fn feel(self: Arc<Self>) {
        loop {
            let answer = tokio::time::timeout(PING_TIMEOUT, ping(&self.client)).await;
            let answered = matches!(answer, Ok(Ok(())));
            if answered {
                self.last.store(self.clock.now().0.as_millis() as u64, Ordering::Release);
            }
            self.answers.store(answered, Ordering::Release);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn is_lost(&self, now: Time) -> bool {
        Time(Duration::from_millis(self.last.load(Ordering::Acquire))).after(DOWN_AFTER) <= now
    }

    fn is_well(&self) -> bool {
        self.answers.load(Ordering::Acquire)
    }
}

/// Every primary answers: in a cluster each holds channels that no other does.
async fn ping(client: &Client) -> FredResult<()> {
    let Some(cluster) = client.cached_cluster_state() else { return client.ping(None).await };
    let nodes = cluster.unique_primary_nodes();
    let pings = nodes.into_iter().map(|node| async move { client.with_cluster_node(node).ping(None).await });
    futures::future::try_join_all(pings).await.map(|_: Vec<()>| ())
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
        let pulses: Vec<_> = self.clients.into_iter().map(|client| Pulse::new(client, self.clock)).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for pulse in &pulses {
            tasks.spawn(pulse.clone().feel());
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let now = self.clock.now();
            let state = match self.reach.is_down() {
                false if pulses.iter().any(|pulse| pulse.is_lost(now)) => {
                    warn!("redis cannot be reached: nothing can be published or resumed");
                    BrokerState::Down { since_ms: self.clock.unix_ms().max(1) }
                }
                true if pulses.iter().all(|pulse| pulse.is_well()) => {
                    info!("redis can be reached again");
                    BrokerState::Up
                }
                _ => continue,
            };
            let since = if let BrokerState::Down { since_ms } = state { since_ms } else { 0 };
            self.reach.down_since.store(since, Ordering::Release);
            if self.events.send(BrokerEvent::State(state)).await.is_err() {
                return;
            }
        }
    }
}
