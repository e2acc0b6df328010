//! Whether Redis can be used: all connections to all servers answer, or some have not for too long, and announcements arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Whether announcements do not arrive, not even by another connection.
    is_deaf: AtomicBool,
}

impl Standing {
    pub(super) fn state(&self) -> BrokerState {
        match self.down_since.load(Ordering::Acquire) {
            0 => BrokerState::Up,
            since_ms => BrokerState::Down { since_ms },
        }
    }

    /// Whether announcements arrive, as the receiver knows.
    pub(super) fn set_deaf(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::Release);
    }

    /// Whether nobody would hear of what is stored.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Acquire)
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
            let Some(state) = self.change() else { continue };
            let since = if let BrokerState::Down { since_ms } = state { since_ms } else { 0 };
            self.standing.down_since.store(since, Ordering::Release);
            if self.events.send(BrokerEvent::State(state)).await.is_err() {
                return;
            }
        }
    }

    /// The state, where it is another one than before.
    fn change(&self) -> Option<BrokerState> {
        let map = self.shards.map();
        let trouble = map.shards.iter().find_map(|shard| Some((shard, shard.trouble()?)));
        let is_deaf = self.standing.is_deaf();
        if !self.standing.state().is_up() {
            if is_deaf || trouble.is_some() {
                return None;
            }
            info!("redis can be used again");
            return Some(BrokerState::Up);
        }
        if !is_deaf && !map.shards.iter().any(|shard| shard.is_lost()) {
            return None;
        }
        let server = trouble.as_ref().and_then(|(shard, _)| shard.server.as_ref());
        let server = server.map(ToString::to_string).unwrap_or_default();
        let reason = trouble.map_or_else(|| "announcements do not arrive".to_owned(), |(_, trouble)| trouble);
        warn!(server, reason, "redis cannot be used: what it holds can neither be published to nor resumed");
        Some(BrokerState::Down { since_ms: self.clock.unix_ms().max(1) })
    }
}
