//! All servers that hold channels, and which channel is on which.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fred::error::Error;
use fred::types::config::Server;
use fred::util::redis_keyslot;
use tidings_protocol::Channel;
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::answer::Failed;
use super::script::asking;
use super::shard::{Reach, Shard};
use crate::broker::BrokerError;

/// How many milliseconds something waits, time after time, for a channel that is on its way to another server; the last of them
/// again and again.
const MOVING_PAUSES: [u64; 3] = [20, 50, 100];

/// So long it is tried to find a channel that is on its way: with one more attempt, it is answered within 2 s.
const MOVING_MAX: Duration = Duration::from_millis(1_500);

/// Slots of a cluster that one server holds, from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) server: Server,
}

/// Who holds what at the moment.
#[derive(Default)]
pub(super) struct Map {
    pub(super) shards: Vec<Arc<Shard>>,
    /// `None` where one server holds everything.
    ranges: Option<Vec<Range>>,
}

impl Map {
    /// Where a channel is; `None` where no server says that it has it.
    pub(super) fn of(&self, channel: &Channel) -> Option<&Arc<Shard>> {
        // All its keys have the channel's name as their hash tag; those of a companion have that of its channel.
        let companion_of = channel.presence_of();
        self.of_tag(companion_of.as_ref().unwrap_or(channel).as_str())
    }

    /// Where the keys with this hash tag are.
    fn of_tag(&self, tag: &str) -> Option<&Arc<Shard>> {
        let Some(ranges) = &self.ranges else { return self.shards.first() };
        let slot = redis_keyslot(tag.as_bytes());
        let range = ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        self.shards.iter().find(|shard| shard.server.as_ref() == Some(&range.server))
    }

    /// Whether the slots are held like this.
    pub(super) fn is_divided_like(&self, ranges: &[Range]) -> bool {
        self.ranges.as_deref() == Some(ranges)
    }

    /// The slots that a server holds; one for all where there is no cluster.
    pub(super) fn slots_of(&self, shard: &Shard) -> Vec<u16> {
        let Some(ranges) = &self.ranges else { return vec![0] };
        let held = ranges.iter().filter(|range| shard.server.as_ref() == Some(&range.server));
        held.flat_map(|range| range.first..=range.last).collect()
    }

    /// The number of the server that a channel is on.
    pub(super) fn number_of(&self, channel: &Channel) -> Option<u64> {
        self.of(channel).map(|shard| shard.number)
    }
}

/// All servers.
pub(super) struct Shards {
    reach: Reach,
    map: watch::Sender<Arc<Map>>,
    last_number: AtomicU64,
    /// Held by who makes another map.
    changing: Mutex<()>,
    /// Somebody saw that the map is not right.
    pub(super) stale: Notify,
}

impl Shards {
    /// The one server that the configuration leads to.
    pub(super) fn single(reach: Reach) -> Result<Shards, Error> {
        let shard = Arc::new(Shard::connect(&reach, 1, None)?);
        Ok(Shards::new(reach, Map { shards: vec![shard], ranges: None }))
    }

    /// A cluster whose slots are held like this.
    pub(super) fn cluster(reach: Reach, ranges: Vec<Range>) -> Result<Shards, Error> {
        let shards = Shards::new(reach, Map { shards: Vec::new(), ranges: Some(Vec::new()) });
        shards.divide(ranges)?;
        Ok(shards)
    }

    fn new(reach: Reach, map: Map) -> Shards {
        Shards {
            reach,
            map: watch::Sender::new(Arc::new(map)),
            last_number: AtomicU64::new(1),
            changing: Mutex::default(),
            stale: Notify::new(),
        }
    }

    /// The slots are held like this from now on: connects to servers that are new, and leaves those that hold none.
    pub(super) fn divide(&self, ranges: Vec<Range>) -> Result<(), Error> {
        let _one_at_a_time = self.changing.lock().expect("nobody panics with it");
        let before = self.map();
        let mut shards: Vec<Arc<Shard>> = Vec::new();
        for range in &ranges {
            let is_there = |shard: &&Arc<Shard>| shard.server.as_ref() == Some(&range.server);
            if shards.iter().any(|shard| is_there(&shard)) {
                continue;
            }
            let shard = match before.shards.iter().find(is_there) {
                Some(known) => known.clone(),
                None => {
                    let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
                    Arc::new(Shard::connect(&self.reach, number, Some(range.server.clone()))?)
                }
            };
            shards.push(shard);
        }
        self.map.send_replace(Arc::new(Map { shards, ranges: Some(ranges) }));
        Ok(())
    }

    /// The server of that address, to which slots are moved; one that holds none so far is connected to.
    fn reach(&self, server: &Server, from: &Shard) -> Result<Arc<Shard>, Error> {
        let mut server = server.clone();
        if let Some(known) = from.server.as_ref().filter(|_| server.host.is_empty()) {
            server.host = known.host.clone();
        }
        let _one_at_a_time = self.changing.lock().expect("nobody panics with it");
        let map = self.map();
        if let Some(known) = map.shards.iter().find(|shard| shard.server.as_ref() == Some(&server)) {
            return Ok(known.clone());
        }
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let shard = Arc::new(Shard::connect(&self.reach, number, Some(server))?);
        let shards = map.shards.iter().cloned().chain([shard.clone()]).collect();
        self.map.send_replace(Arc::new(Map { shards, ranges: map.ranges.clone() }));
        Ok(shard)
    }

    /// Whether there are several servers, each of which announces its own channels.
    pub(super) fn is_cluster(&self) -> bool {
        self.map().ranges.is_some()
    }

    /// Who holds what.
    pub(super) fn map(&self) -> Arc<Map> {
        self.map.borrow().clone()
    }

    /// The same, with each change of it.
    pub(super) fn maps(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    /// Does something where the channel is; of a channel that moves, where it has moved to.
    pub(super) async fn at<T, Work>(
        &self,
        channel: &Channel,
        work: impl Fn(Arc<Shard>) -> Work,
    ) -> Result<T, BrokerError>
    where
        Work: Future<Output = Result<T, Failed>>,
    {
        let companion_of = channel.presence_of();
        self.at_tag(companion_of.as_ref().unwrap_or(channel).as_str(), work).await
    }

    /// Does something where the keys with this hash tag are.
    pub(super) async fn at_tag<T, Work>(
        &self,
        tag: &str,
        work: impl Fn(Arc<Shard>) -> Work,
    ) -> Result<T, BrokerError>
    where
        Work: Future<Output = Result<T, Failed>>,
    {
        let begun = self.reach.clock.now();
        let mut pauses = MOVING_PAUSES.into_iter();
        let mut pause = Duration::ZERO;
        loop {
            let shard = self.map().of_tag(tag).cloned().filter(|shard| !shard.is_lost());
            let shard = shard.ok_or(BrokerError::Unavailable)?;
            let mut outcome = work(shard.clone()).await;
            if let Err(Failed::MovedTo(server)) = &outcome {
                outcome = match self.reach(server, &shard) {
                    Ok(next) => asking(work(next)).await,
                    Err(error) => {
                        warn!(%error, %server, "a server that a slot moves to cannot be used");
                        Err(Failed::Elsewhere)
                    }
                };
            }
            match outcome {
                Ok(done) => return Ok(done),
                Err(Failed::Broker(error)) => return Err(error),
                // Some of the channel's keys are here and some there, or the map is old.
                Err(Failed::Elsewhere | Failed::MovedTo(_)) => {}
            }
            if begun.after(MOVING_MAX) < self.reach.clock.now() {
                return Err(BrokerError::Unavailable);
            }
            self.stale.notify_one();
            pause = pauses.next().map_or(pause, Duration::from_millis);
            tokio::time::sleep(pause).await;
        }
    }
}
