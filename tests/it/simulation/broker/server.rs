//! One Redis server: streams, each bound to the replication id under which its epoch was made, and idempotency keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings::hub::{Stream, Time};
use tidings_protocol::{Epoch, Payload, Position, Publication};

use crate::history::ChannelId;
use crate::simulation::channels::ChannelSpec;

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
}

/// What a key was used for first.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) payload: Payload,
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
    /// There are no keys any more.
    ForgetKeys,
}

impl Server {
    /// A server that holds nothing.
    pub(super) fn empty(replication_id: u64) -> Self {
        Server { replication_id, kept: BTreeMap::new(), keys: BTreeMap::new() }
    }

    /// Changes what is held.
    pub(super) fn apply(&mut self, write: &Write, channels: &[ChannelSpec]) {
        match write.clone() {
            Write::Begin { channel, epoch, bound_to } => match self.kept.get_mut(&channel) {
                Some(kept) => {
                    kept.stream.fork(epoch);
                    kept.bound_to = bound_to;
                }
                None => drop(self.kept.insert(channel, Kept { stream: Stream::new(epoch), bound_to })),
            },
            Write::Append { channel, publication, at } => {
                let kept = self.kept.get_mut(&channel).expect("an epoch begins before it is appended to");
                kept.stream.append(publication, &channels[channel.0].retention, at);
            }
            Write::Remember { channel, key, first } => drop(self.keys.insert((channel, key), first)),
            Write::Forget(channel) => drop(self.kept.remove(&channel)),
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

    /// The channels that have a stream.
    pub(super) fn channels(&self) -> Vec<ChannelId> {
        self.kept.keys().copied().collect()
    }

    /// What the channel's key was used for.
    pub(super) fn remembered(&self, channel: ChannelId, key: &Arc<str>) -> Option<&Remembered> {
        self.keys.get(&(channel, key.clone()))
    }
}
