//! Once a second an instance tells the others that it is there, and which heads it advanced.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fred::error::{Error, ErrorKind};
use fred::prelude::{FredResult, PubsubInterface};
use indexmap::IndexMap;
use tidings_protocol::{Beacon, Channel, ClusterMessage, InstanceInfo, Position};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::shard::Shard;
use super::shards::Shards;
use crate::broker::{InstanceCard, Peer, Peers};

/// How often a beacon is sent.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a server may take to send one; in a cluster the next one is asked then, since any of them reaches all.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Heads in one beacon; more go into further ones.
const HEADS_PER_BEACON: usize = 512;

/// Heads that wait for the next beacon. Above, those of further channels are not told; what is lost of them is found by the
/// publication that follows.
const HEADS_MAX: usize = 65_536;

/// The heads that this instance advanced since its last beacon; `None` where it does not know.
#[derive(Debug, Default)]
pub(super) struct Advanced(Mutex<IndexMap<Channel, Option<Position>>>);

impl Advanced {
    /// A publish ended: at that position, or nobody knows where.
    pub(super) fn note(&self, channel: &Channel, head: Option<Position>) {
        let mut heads = self.0.lock().expect("nobody panics with the heads");
        if heads.len() < HEADS_MAX || heads.contains_key(channel) {
            heads.insert(channel.clone(), head);
        }
    }

    fn take(&self) -> IndexMap<Channel, Option<Position>> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with the heads"))
    }
}

pub(super) struct Beacons {
    pub(super) shards: Arc<Shards>,
    /// The server that sent the last one.
    pub(super) sender: u64,
    /// The pub/sub channel of all instances.
    pub(super) name: String,
    pub(super) card: Arc<InstanceCard>,
    pub(super) advanced: Arc<Advanced>,
    /// Asks for the last beacon.
    pub(super) leaving: mpsc::Receiver<oneshot::Sender<()>>,
    pub(super) number: u64,
    /// Whom it hears of.
    pub(super) peers: Arc<Mutex<Peers>>,
    pub(super) unlike: Unlike,
}

/// Instances that have something otherwise than this one, and what: each is warned of once.
#[derive(Debug, Default)]
pub(super) struct Unlike(HashMap<Arc<str>, Vec<&'static str>>);

impl Unlike {
    /// What is new among what differs in others.
    fn news<'a>(
        &mut self,
        here: &InstanceInfo,
        peers: impl Iterator<Item = &'a Peer>,
    ) -> Vec<Unlikeness<'a>> {
        let mut known = HashMap::new();
        let mut news = Vec::new();
        for peer in peers {
            let differences = here.alike.differences(&peer.info.alike);
            if differences.is_empty() {
                continue;
            }
            if self.0.get(&peer.info.id) != Some(&differences) {
                news.push(Unlikeness { info: &peer.info, differences: differences.clone() });
            }
            known.insert(peer.info.id.clone(), differences);
        }
        self.0 = known;
        news
    }
}

struct Unlikeness<'a> {
    info: &'a InstanceInfo,
    differences: Vec<&'static str>,
}

impl Beacons {
    /// Sends until dropped, or until the instance leaves.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    self.compare();
                    self.send().await;
                }
                Some(done) = self.leaving.recv() => {
                    self.send().await;
                    if let Err(error) = self.tell(std::iter::empty(), true).await {
                        debug!(%error, "the others are not told that this instance leaves");
                    }
                    done.send(()).ok();
                    return;
                }
            }
        }
    }

    /// Warns of instances that were started otherwise than this one: what one stores the other may not understand.
    fn compare(&mut self) {
        let here = self.card.info();
        let peers = self.peers.lock().expect("nobody panics with the peers");
        for Unlikeness { info, differences } in self.unlike.news(&here, peers.iter()) {
            warn!(
                instance = %info.id,
                address = info.address,
                version = info.version,
                differences = differences.join(", "),
                "an instance of this cluster is configured otherwise: start all with the same namespaces and secrets, and with versions of one format"
            );
        }
    }

    async fn send(&mut self) {
        let mut heads = self.advanced.take();
        loop {
            let rest = heads.split_off(HEADS_PER_BEACON.min(heads.len()));
            let told =
                self.tell(heads.iter().map(|(channel, head)| (channel.clone(), head.clone())), false).await;
            if let Err(error) = told {
                debug!(%error, "a beacon could not be sent");
                heads.extend(rest);
                return heads.into_iter().for_each(|(channel, head)| self.advanced.note(&channel, head));
            }
            if rest.is_empty() {
                return;
            }
            heads = rest;
        }
    }

    /// A number is used up whether or not its beacon arrives: who misses it looks for what else is missing.
    async fn tell(
        &mut self,
        heads: impl Iterator<Item = (Channel, Option<Position>)>,
        leaving: bool,
    ) -> FredResult<()> {
        self.number += 1;
        let beacon =
            Beacon { instance: self.card.info(), number: self.number, heads: heads.collect(), leaving };
        let message = Bytes::from(ClusterMessage::Beacon(beacon).encode());
        self.publish(message).await
    }

    async fn publish(&mut self, message: Bytes) -> FredResult<()> {
        let map = self.shards.map();
        let is_sender = |shard: &&Arc<Shard>| shard.number == self.sender;
        let sender = map.shards.iter().find(is_sender);
        let others = map.shards.iter().filter(|shard| !is_sender(shard));
        // One that is known not to answer comes last: each takes its time.
        let mut asked: Vec<_> = sender.into_iter().chain(others).collect();
        asked.sort_by_key(|shard| shard.trouble().is_some());
        let mut last = Error::new(ErrorKind::Cluster, "there is no server");
        for shard in asked {
            let publish = shard.commands.publish(self.name.clone(), message.clone());
            match tokio::time::timeout(SEND_TIMEOUT, publish).await {
                Ok(Ok(())) => {
                    self.sender = shard.number;
                    return Ok(());
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::new(ErrorKind::Timeout, "the beacon is not sent in time"),
            }
        }
        Err(last)
    }
}
