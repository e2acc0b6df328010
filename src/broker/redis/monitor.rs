//! Whether Redis can be used: of each server, whether all connections to it answer and its announcements arrive.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::shard::Shard;
use super::shards::Shards;
use crate::broker::BrokerEvent;
use crate::clock::Clock;
use crate::hub::{BrokerServers, BrokerState};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(100);

/// Whether Redis can be reached, for those who ask.
#[derive(Debug)]
pub(super) struct Standing(Mutex<(BrokerState, BrokerServers)>);

impl Default for Standing {
    fn default() -> Self {
        Standing(Mutex::new((BrokerState::Up, BrokerServers { lost: 0, of: 1 })))
    }
}

impl Standing {
    pub(super) fn state(&self) -> BrokerState {
        self.0.lock().expect("nobody panics with it").0
    }

    pub(super) fn servers(&self) -> BrokerServers {
        self.0.lock().expect("nobody panics with it").1
    }

    fn set(&self, state: BrokerState, servers: BrokerServers) {
        *self.0.lock().expect("nobody panics with it") = (state, servers);
    }
}

/// How a server is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It answers, and what it announces arrives.
    Well,
    /// Something is wrong, and not yet for so long that it is lost.
    Doubtful,
    /// It cannot be used.
    Lost,
}

/// The servers that are lost, by number: each from the moment it is lost until it is well.
#[derive(Debug, Default)]
struct Outages(BTreeSet<u64>);

impl Outages {
    /// Looks at all servers that hold something.
    fn look(&mut self, servers: &[(u64, Look)]) -> BrokerServers {
        self.0.retain(|lost| servers.iter().any(|(number, _)| number == lost));
        for (number, look) in servers {
            match look {
                Look::Well => drop(self.0.remove(number)),
                Look::Doubtful => {}
                Look::Lost => drop(self.0.insert(*number)),
            }
        }
        BrokerServers { lost: self.0.len(), of: servers.len() }
    }
}

/// Watches over all servers and says what changes.
pub(super) struct Monitor {
    shards: Arc<Shards>,
    clock: Clock,
    standing: Arc<Standing>,
    events: mpsc::Sender<BrokerEvent>,
    outages: Outages,
}

impl Monitor {
    pub(super) fn new(
        shards: &Arc<Shards>,
        clock: Clock,
        standing: &Arc<Standing>,
        events: mpsc::Sender<BrokerEvent>,
    ) -> Self {
        let (shards, standing) = (shards.clone(), standing.clone());
        Monitor { shards, clock, standing, events, outages: Outages::default() }
    }

    /// Runs until the node is gone.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            let Some(state) = self.change() else { continue };
            if self.events.send(BrokerEvent::State(state)).await.is_err() {
                return;
            }
        }
    }

    /// The state, where it is another one than before.
    fn change(&mut self) -> Option<BrokerState> {
        let map = self.shards.map();
        let looks: Vec<_> = map.shards.iter().map(|shard| (shard.number, look_at(shard))).collect();
        let (before, known) = (self.standing.state(), self.standing.servers());
        let servers = self.outages.look(&looks);
        if servers.lost > known.lost {
            map.shards.iter().filter(|shard| self.outages.0.contains(&shard.number)).for_each(say_lost);
        }
        let state = match (before.is_up(), servers.lost) {
            (_, 0) => BrokerState::Up,
            (true, _) => BrokerState::Down { since_ms: self.clock.unix_ms().max(1) },
            (false, _) => before,
        };
        self.standing.set(state, servers);
        if state.is_up() && !before.is_up() {
            info!("redis can be used again");
        }
        (state != before).then_some(state)
    }
}

fn look_at(shard: &Arc<Shard>) -> Look {
    if shard.is_deaf() || shard.is_lost() {
        Look::Lost
    } else if shard.trouble().is_some() {
        Look::Doubtful
    } else {
        Look::Well
    }
}

fn say_lost(shard: &Arc<Shard>) {
    let server = shard.server.as_ref().map(ToString::to_string).unwrap_or_default();
    let reason = shard.trouble().unwrap_or_else(|| "announcements do not arrive".to_owned());
    warn!(server, reason, "redis cannot be used: what it holds can neither be published to nor resumed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_lost_until_it_is_well_and_others_are_not() {
        let mut outages = Outages::default();
        let mut lost = |looks: &[(u64, Look)]| {
            let BrokerServers { lost, of } = outages.look(looks);
            assert_eq!(of, looks.len());
            lost
        };
        use Look::{Doubtful, Lost, Well};
        assert_eq!(lost(&[(1, Well), (2, Doubtful), (3, Well)]), 0, "not yet");
        assert_eq!(lost(&[(1, Well), (2, Lost), (3, Well)]), 1);
        assert_eq!(lost(&[(1, Lost), (2, Doubtful), (3, Well)]), 2, "one that answers in part is not back");
        assert_eq!(lost(&[(1, Well), (2, Doubtful), (3, Well)]), 1);
        assert_eq!(lost(&[(1, Well), (2, Well), (3, Well)]), 0);
        assert_eq!(lost(&[(1, Well), (2, Lost), (3, Well)]), 1);
        assert_eq!(lost(&[(1, Well), (4, Well), (3, Well)]), 0, "another server holds what it held");
    }
}
