//! One Redis server: streams, each bound to the replication id under which its epoch was made, and idempotency keys.

use std::collections::BTreeMap;
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
    kept: BTreeMap<ChannelId, Kept>,
    keys: BTreeMap<(ChannelId, Arc<str>), Remembered>,
}

#[derive(Clone)]
struct Kept {
    stream: Stream,
    bound_to: u64,
    lineage: Lineage,
    /// Of a log what was touched; `None` of any other channel.
    table: Option<VersionTable>,
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
    /// The channel has a new epoch: after what it holds, or empty where it holds nothing.
    Begin { channel: ChannelId, epoch: Epoch, bound_to: u64 },
    /// The channel has one publication more.
    Append { channel: ChannelId, publication: Publication, at: Time },
    /// The key was used.
    Remember { channel: ChannelId, key: Arc<str>, first: Remembered },
    /// The channel holds nothing any more, and has no epoch.
    Forget(ChannelId),
    /// The channel's publications are gone, and nothing else.
    ForgetPublications(ChannelId),
    /// There are no keys any more.
    ForgetKeys,
}

impl Server {
    /// A server that holds nothing.
    pub(super) fn empty(replication_id: u64) -> Self {
        Server { replication_id, kept: BTreeMap::new(), keys: BTreeMap::new() }
    }

    fn begin(&mut self, channel: ChannelId, epoch: Epoch, bound_to: u64, is_log: bool) {
        match self.kept.get_mut(&channel) {
            Some(kept) => {
                kept.lineage.push(kept.stream.head());
                kept.stream.fork(epoch);
                kept.bound_to = bound_to;
            }
            None => {
                let table = is_log.then(|| VersionTable::new(SLOTS));
                let (stream, lineage) = (Stream::new(epoch), Lineage::default());
                self.kept.insert(channel, Kept { stream, bound_to, lineage, table });
            }
        }
    }

    /// Changes what is held.
    pub(super) fn apply(&mut self, write: &Write, channels: &[ChannelSpec]) {
        match write.clone() {
            Write::Begin { channel, epoch, bound_to } => {
                self.begin(channel, epoch, bound_to, channels[channel.0].channel.is_log());
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
            Write::ForgetKeys => self.keys.clear(),
        }
    }

    /// The channel's stream, if there is one.
    pub(super) fn stream(&mut self, channel: ChannelId) -> Option<&mut Stream> {
        self.kept.get_mut(&channel).map(|kept| &mut kept.stream)
    }

    /// Where the channel stands, and whether its epoch was made under this server's replication id.
    pub(super) fn standing(&self, channel: ChannelId) -> Option<(Position, bool)> {
        let kept = self.kept.get(&channel)?;
        Some((kept.stream.head(), kept.bound_to == self.replication_id))
    }

    /// The log as it stands.
    pub(super) fn snapshot(&self, log: ChannelId) -> Option<Snapshot> {
        let Kept { stream, lineage, table, .. } = self.kept.get(&log)?;
        Some(Snapshot { position: stream.head(), lineage: lineage.clone(), table: table.clone()? })
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
