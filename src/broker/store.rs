//! What the memory broker holds: streams by channel, and idempotency keys. Pure: time and the epochs' seed come in.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tidings_protocol::{Ack, Channel, Epoch, LogName, MutateCommand, Position, Publication, PublishCommand};

use super::BrokerError;
use super::streams::Streams;
use crate::ablation::{Safeguard, ablated};
use crate::freshness::{Snapshot, VersionTable};
use crate::hub::{Lineage, Page, PageLimit, Published, Retention, Time};
use crate::limits::{Caller, Shares};

/// The bounds of a store.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    /// The most channels with a stream. At the limit the idle ones are forgotten, if any is idle; then further channels are
    /// refused. One caller makes no more than are free.
    pub channels_max: usize,
    /// The most bytes of history in all channels together; above, those lose history who have most.
    pub bytes_max: usize,
    /// How long a key is remembered.
    pub key_age: Duration,
}

/// All that was published and is still kept.
#[derive(Debug)]
pub struct Store {
    key_age: Duration,
    streams: Streams,
    tables: HashMap<LogName, VersionTable>,
    keys: HashMap<(Channel, Arc<str>), Remembered>,
    /// Keys by age: all live equally long.
    keys_by_age: VecDeque<(Time, (Channel, Arc<str>))>,
}

#[derive(Debug)]
struct Remembered {
    hash: [u8; 32],
    published: Published,
}

/// What became of a publish.
#[derive(Clone, Debug)]
pub enum Stored {
    /// It is new: announce it.
    New {
        /// The answer.
        published: Published,
        /// The numbering; `None` for a volatile channel.
        epoch: Option<Epoch>,
        /// As it is kept.
        publication: Arc<Publication>,
    },
    /// Its key was seen before, with the same data: the first answer again.
    Repeated(Published),
}

/// Who publishes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Publisher<'a> {
    /// Whom what is stored is counted to.
    pub caller: &'a Caller,
    /// The time that subscribers see, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The moment.
    pub now: Time,
}

impl Store {
    /// An empty store. `seed` makes its epochs unlike those of any other start.
    pub fn new(limits: StoreLimits, seed: &str) -> Self {
        let seed = if ablated(Safeguard::EpochOnRestart) { "same" } else { seed };
        Store {
            key_age: limits.key_age,
            streams: Streams::new(seed, limits.channels_max, limits.bytes_max),
            tables: HashMap::new(),
            keys: HashMap::new(),
            keys_by_age: VecDeque::new(),
        }
    }

    /// Stores a publication, in one step with looking its key up.
    pub fn publish(
        &mut self,
        command: PublishCommand,
        retention: &Retention,
        publisher: Publisher<'_>,
    ) -> Result<Stored, BrokerError> {
        let hash = Sha256::digest(command.payload.as_bytes()).into();
        self.put(command, hash, retention, publisher)
    }

    /// Stores a mutation, in one step with looking its key up and touching the log's table, which has so many `slots`.
    pub fn mutate(
        &mut self,
        command: &MutateCommand,
        retention: &Retention,
        slots: usize,
        publisher: Publisher<'_>,
    ) -> Result<Stored, BrokerError> {
        let hash = Sha256::digest(command.said.as_bytes()).into();
        let stored = self.put(command.publication(), hash, retention, publisher)?;
        if let Stored::New { publication, .. } = &stored {
            let offset = publication.offset.expect("a log's mutations have offsets");
            let table = self.tables.entry(command.log.clone()).or_insert_with(|| VersionTable::new(slots));
            command.tags.iter().for_each(|tag| table.touch(tag, offset));
        }
        Ok(stored)
    }

    /// The log as it stands. One that nobody has written to is empty, and stays unknown.
    pub fn snapshot(&self, log: &LogName, slots: usize) -> Snapshot {
        let position = self.streams.head(&log.channel());
        let table = self.tables.get(log).cloned().unwrap_or_else(|| VersionTable::new(slots));
        Snapshot { position, lineage: Lineage::default(), table }
    }

    fn put(
        &mut self,
        command: PublishCommand,
        hash: [u8; 32],
        retention: &Retention,
        publisher: Publisher<'_>,
    ) -> Result<Stored, BrokerError> {
        let PublishCommand { channel, payload, key, id, idempotency_key, .. } = command;
        let Publisher { caller, unix_ms, now } = publisher;
        let name = idempotency_key.map(|key| (channel.clone(), key));
        self.forget_keys(now);
        if let Some(name) = &name {
            match self.keys.get(name) {
                Some(first) if first.hash == hash => {
                    return Ok(Stored::Repeated(Published { duplicate: true, ..first.published.clone() }));
                }
                Some(_) => return Err(BrokerError::IdempotencyMismatch),
                None => {}
            }
        }
        let publication = Publication { offset: None, time: unix_ms, id, key, payload };
        let (epoch, publication) = match retention.publications_max {
            0 => (None, Arc::new(publication)),
            _ => {
                let (epoch, publication) =
                    self.streams.append(&channel, publication, retention, caller, now)?;
                (Some(epoch), publication)
            }
        };
        let position = epoch.as_ref().zip(publication.offset).map(|(epoch, offset)| epoch.at(offset));
        let published = Published { position, ack: Ack::Stored, duplicate: false };
        if let Some(name) = name {
            self.keys_by_age.push_back((now.after(self.key_age), name.clone()));
            if let Entry::Vacant(entry) = self.keys.entry(name) {
                entry.insert(Remembered { hash, published: published.clone() });
            }
        }
        Ok(Stored::New { published, epoch, publication })
    }

    /// What the channel holds after `since`; `None` for a volatile channel. One that nobody has published to is empty, and
    /// stays unknown.
    pub fn read(
        &mut self,
        channel: &Channel,
        retention: &Retention,
        since: Option<&Position>,
        limit: PageLimit,
        now: Time,
    ) -> Option<Page> {
        (retention.publications_max > 0).then(|| self.streams.read(channel, since, limit, now))
    }

    /// Whether somebody is attached to the channel from now on: then its numbering is not forgotten.
    pub fn set_attached(&mut self, channel: &Channel, attached: bool) {
        self.streams.set_attached(channel, attached);
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Time) {
        self.forget_keys(now);
        self.streams.expire(now);
    }

    /// The channels with a stream that clients can name, and their heads.
    pub fn heads(&self) -> impl Iterator<Item = (&Channel, Position)> {
        self.streams.heads()
    }

    /// Who made how many channels.
    pub fn channels(&self) -> &Shares {
        self.streams.channels()
    }

    /// Who has how many bytes of history.
    pub fn history(&self) -> &Shares {
        self.streams.history()
    }

    fn forget_keys(&mut self, now: Time) {
        while self.keys_by_age.front().is_some_and(|(expires, _)| *expires <= now) {
            if let Some((_, name)) = self.keys_by_age.pop_front() {
                self.keys.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
