//! Whether Redis can be reached: all connections to all servers answer, or some have not for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::shards::Shards;
use crate::broker::BrokerEvent;
use crate::clock::Clock;
use crate::hub::BrokerState;

/// How often it is looked.
const TICK: Duration = Duration::from_millis(100);

/// Whether Redis can be reached, for those who ask.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Milliseconds since 1970 when it was lost; 0 while it is not.
    down_since: AtomicU64,
}

impl Standing {
    pub(super) fn state(&self) -> BrokerState {
        match self.down_since.load(Ordering::Acquire) {
            0 => BrokerState::Up,
            since_ms => BrokerState::Down { since_ms },
        }
    }
}

/// Watches over all servers and says what changes.
pub(super) struct Monitor {
    pub(super) shards: Arc<Shards>,
    pub(super) clock: Clock,
    pub(super) standing: Arc<Standing>,
    pub(super) events: mpsc::Sender<BrokerEvent>,
}

impl Monitor {
    /// Runs until the node is gone.
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let map = self.shards.map();
            let lost = map.shards.iter().find(|shard| shard.is_lost());
            let since_ms = match (self.standing.state(), lost) {
                (BrokerState::Up, Some(shard)) => {
                    let server = shard.server.as_ref().map(ToString::to_string).unwrap_or_default();
                    warn!(%server, "redis cannot be reached: what it holds can neither be published to nor resumed");
                    self.clock.unix_ms().max(1)
                }
                (BrokerState::Down { .. }, _) if map.shards.iter().all(|shard| shard.is_well()) => {
                    info!("redis can be reached again");
                    0
                }
                _ => continue,
            };
            self.standing.down_since.store(since_ms, Ordering::Release);
            if self.events.send(BrokerEvent::State(self.standing.state())).await.is_err() {
                return;
            }
        }
    }
}
