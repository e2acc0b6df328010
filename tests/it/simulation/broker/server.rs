//! One Redis server: streams, each bound to the replication id under which its epoch was made, and idempotency keys.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use tidings::freshness::{Snapshot, VersionTable};
use tidings::hub::{Lineage, Stream, Time};
use tidings_protocol::{Epoch, Position, Publication, decode_tags};

use crate::history::ChannelId;
use crate::simulation::channels::ChannelSpec;

/// Slots of a log's version table: few enough that some tags seem to be touched when others were.
const SLOTS: usize = 1 << 10;

/// What a server holds.
#[derive(Clone)]
pub(super) struct Server {
    /// Another id than before means that what came last may be lost.
    pub(super) replication_id: u64,
    births: Option<Births>,
    kept: BTreeMap<ChannelId, Kept>,
    keys: BTreeMap<(ChannelId, Arc<str>), Remembered>,
}

/// What epochs of channels follow from that have none yet.
#[derive(Clone, Debug)]
pub(super) struct Births {
    seed: u64,
    bound_to: u64,
    /// Seeds before it, the oldest first.
    earlier: Vec<u64>,
    /// How often a channel's numbering was begun.
    begun: BTreeMap<ChannelId, u64>,
}

/// A channel's numbering, and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) stream: Stream,
    bound_to: u64,
    lineage: Lineage,
    /// Of a log what was touched; `None` of any other channel.
    table: Option<VersionTable>,
}

/// What a script reads, and a write stores first, where it is not what is kept.
#[derive(Clone, Debug)]
pub(super) struct Coming {
    pub(super) kept: Kept,
    /// Where the channel stood in the epoch before, if there was one.
    pub(super) from: Option<Position>,
    /// Of a channel that has none yet.
    births: Option<Births>,
}

/// What a key was used for first.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) said: Bytes,
    /// What was answered; `None` of a channel without positions.
    pub(super) position: Option<Position>,
}

/// What a script changes, as the replica is told of it.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// Epochs of channels that have none yet follow from this.
    Seed { seed: u64, bound_to: u64 },
    /// The channel has a new epoch: after what it holds, or empty where it holds nothing.
    Begin { channel: ChannelId, coming: Box<Coming> },
    /// The channel has one publication more.
    Append { channel: ChannelId, publication: Publication, at: Time },
    /// The key was used.
    Remember { channel: ChannelId, key: Arc<str>, first: Remembered },
    /// The channel holds nothing any more, and has no epoch.
    Forget(ChannelId),
    /// The channel's publications are gone, and nothing else.
    ForgetPublications(ChannelId),
    /// There are no keys any more, and no seed.
    ForgetTheRest,
}

impl Server {
    /// A server that holds nothing.
    pub(super) fn empty(replication_id: u64) -> Self {
        Server { replication_id, births: None, kept: BTreeMap::new(), keys: BTreeMap::new() }
    }

    pub(super) fn has_seed(&self) -> bool {
        self.births.is_some()
    }

    /// What goes on under this server's replication id; `None` where the channel's epoch was made under it, or it has none.
    pub(super) fn forked(&self, channel: ChannelId) -> Option<Coming> {
        let mut kept = self.kept.get(&channel).filter(|kept| kept.bound_to != self.replication_id)?.clone();
        let from = kept.stream.head();
        kept.lineage.push(from.clone());
        kept.stream.fork(derived((from.epoch.as_str(), from.offset.0, self.replication_id)));
        kept.bound_to = self.replication_id;
        Some(Coming { kept, from: Some(from), births: None })
    }

    /// What a channel begins with that has no epoch. Without a seed, one that is made up stands in for it.
    pub(super) fn unborn(&self, channel: ChannelId, is_log: bool, stand_in: u64) -> Coming {
        let bound_to = self.replication_id;
        let new = || Births { seed: stand_in, bound_to, earlier: Vec::new(), begun: BTreeMap::new() };
        let mut births = self.births.clone().unwrap_or_else(new);
        if births.bound_to != bound_to {
            births.earlier.push(births.seed);
            births.seed = hashed((births.seed, bound_to));
            births.bound_to = bound_to;
        }
        let times = births.begun.entry(channel).or_default();
        let epoch = |seed: u64| derived((seed, channel.0, *times));
        let mut epochs = births.earlier.iter().map(|seed| epoch(*seed)).chain([epoch(births.seed)]);
        let mut stream = Stream::new(epochs.next().expect("there is a seed"));
        let mut lineage = Lineage::default();
        for next in epochs {
            lineage.push(stream.head());
            stream.fork(next);
        }
        *times += 1;
        let table = is_log.then(|| VersionTable::new(SLOTS));
        Coming { kept: Kept { stream, bound_to, lineage, table }, from: None, births: Some(births) }
    }

    /// Changes what is held.
    pub(super) fn apply(&mut self, write: &Write, channels: &[ChannelSpec]) {
        match write.clone() {
            Write::Seed { seed, bound_to } => {
                self.births = Some(Births { seed, bound_to, earlier: Vec::new(), begun: BTreeMap::new() });
            }
            Write::Begin { channel, coming } => {
                let Coming { kept, births, .. } = *coming;
                self.kept.insert(channel, kept);
                self.births = births.or(self.births.take());
            }
            Write::Append { channel, publication, at } => {
                let kept = self.kept.get_mut(&channel).expect("an epoch begins before it is appended to");
                let tags = decode_tags(&publication.payload).filter(|_| kept.table.is_some());
                kept.stream.append(publication, &channels[channel.0].retention, at);
                if let Some(table) = &mut kept.table {
                    let offset = kept.stream.head().offset;
                    tags.iter().flatten().for_each(|tag| table.touch(tag, offset));
                }
            }
            Write::Remember { channel, key, first } => drop(self.keys.insert((channel, key), first)),
            Write::Forget(channel) => drop(self.kept.remove(&channel)),
            Write::ForgetPublications(channel) => {
                let stream = self.stream(channel).into_iter();
                stream.for_each(|stream| while stream.drop_oldest() > 0 {});
            }
            Write::ForgetTheRest => {
                self.keys.clear();
                self.births = None;
            }
        }
    }

    /// The channel's stream, if there is one.
    pub(super) fn stream(&mut self, channel: ChannelId) -> Option<&mut Stream> {
        self.kept.get_mut(&channel).map(|kept| &mut kept.stream)
    }

    /// Where the channel stands, where it has an epoch.
    pub(super) fn standing(&self, channel: ChannelId) -> Option<Position> {
        self.kept.get(&channel).map(|kept| kept.stream.head())
    }

    /// The log as it stands.
    pub(super) fn snapshot(&self, log: ChannelId) -> Option<Snapshot> {
        self.kept.get(&log)?.snapshot()
    }

    /// The channels that have a stream.
    pub(super) fn channels(&self) -> Vec<ChannelId> {
        self.kept.keys().copied().collect()
    }

    /// What the channel's key was used for.
    pub(super) fn remembered(&self, channel: ChannelId, key: &Arc<str>) -> Option<&Remembered> {
        self.keys.get(&(channel, key.clone()))
    }
}

impl Kept {
    /// The log as it stands; `None` of any other channel.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let Kept { stream, lineage, table, .. } = self;
        Some(Snapshot { position: stream.head(), lineage: lineage.clone(), table: table.clone()? })
    }
}

/// The same number for the same words, on every server.
fn hashed(words: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

fn derived(words: impl Hash) -> Epoch {
    Epoch::parse(&format!("e{:x}", hashed(words))).expect("a letter and digits are an epoch")
}
