//! What the memory broker holds: streams by channel, and idempotency keys. Pure: time and the epochs' seed come in.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use sha2::{Digest, Sha256};
use tidings_protocol::{Ack, Channel, Epoch, LogName, MutateCommand, Position, Publication, PublishCommand};

use super::BrokerError;
use crate::ablation::{Safeguard, ablated};
use crate::freshness::{Snapshot, VersionTable};
use crate::hub::{Lineage, Page, PageLimit, Published, Retention, Stream, Time};

/// The bounds of a store.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    /// The most channels with a stream. At the limit the longest idle ones are forgotten, if any is idle; then further
    /// channels are refused.
    pub channels_max: usize,
    /// The most bytes of history in all channels together; above, the oldest publications go.
    pub bytes_max: usize,
    /// The most idempotency keys; at the limit, further keys are refused.
    pub keys_max: usize,
    /// How long a key is remembered.
    pub key_age: Duration,
}

/// All that was published and is still kept.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    seed: Arc<str>,
    /// Counts the times that streams were forgotten, so that no epoch is ever used for two numberings of a channel.
    generation: u64,
    streams: IndexMap<Channel, Kept>,
    bytes: usize,
    tables: HashMap<LogName, VersionTable>,
    keys: HashMap<(Channel, Arc<str>), Remembered>,
    /// Keys by age: all live equally long.
    keys_by_age: VecDeque<(Time, (Channel, Arc<str>))>,
}

#[derive(Debug)]
struct Kept {
    stream: Stream,
    used: Time,
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

impl Store {
    /// An empty store. `seed` makes its epochs unlike those of any other start: 1 to 40 characters of an epoch's alphabet.
    pub fn new(limits: StoreLimits, seed: &str) -> Self {
        let seed = if ablated(Safeguard::EpochOnRestart) { "same" } else { seed };
        Store {
            limits,
            seed: seed.into(),
            generation: 1,
            streams: IndexMap::new(),
            bytes: 0,
            tables: HashMap::new(),
            keys: HashMap::new(),
            keys_by_age: VecDeque::new(),
        }
    }

    /// Stores a publication, in one step with looking its key up. `unix_ms` is what subscribers see as its time.
    pub fn publish(
        &mut self,
        command: PublishCommand,
        retention: &Retention,
        unix_ms: u64,
        now: Time,
    ) -> Result<Stored, BrokerError> {
        let hash = Sha256::digest(command.payload.as_bytes()).into();
        self.put(command, hash, retention, unix_ms, now)
    }

    /// Stores a mutation, in one step with looking its key up and touching the log's table, which has so many `slots`.
    pub fn mutate(
        &mut self,
        command: &MutateCommand,
        retention: &Retention,
        slots: usize,
        unix_ms: u64,
        now: Time,
    ) -> Result<Stored, BrokerError> {
        let hash = Sha256::digest(command.said.as_bytes()).into();
        let stored = self.put(command.publication(), hash, retention, unix_ms, now)?;
        if let Stored::New { publication, .. } = &stored {
            let offset = publication.offset.expect("a log's mutations have offsets");
            let table = self.tables.entry(command.log.clone()).or_insert_with(|| VersionTable::new(slots));
            command.tags.iter().for_each(|tag| table.touch(tag, offset));
        }
        Ok(stored)
    }

    /// The log as it stands.
    pub fn snapshot(&mut self, log: &LogName, slots: usize, now: Time) -> Result<Snapshot, BrokerError> {
        let position = self.kept(&log.channel(), now)?.stream.head();
        let table = self.tables.get(log).cloned().unwrap_or_else(|| VersionTable::new(slots));
        Ok(Snapshot { position, lineage: Lineage::default(), table })
    }

    fn put(
        &mut self,
        command: PublishCommand,
        hash: [u8; 32],
        retention: &Retention,
        unix_ms: u64,
        now: Time,
    ) -> Result<Stored, BrokerError> {
        let PublishCommand { channel, payload, key, id, idempotency_key, .. } = command;
        let name = idempotency_key.map(|key| (channel.clone(), key));
        self.forget_keys(now);
        if let Some(name) = &name {
            match self.keys.get(name) {
                Some(first) if first.hash == hash => return Ok(Stored::Repeated(first.published.clone())),
                Some(_) => return Err(BrokerError::IdempotencyMismatch),
                None if self.keys.len() >= self.limits.keys_max => return Err(BrokerError::TooManyKeys),
                None => {}
            }
        }
        let publication = Publication { offset: None, time: unix_ms, id, key, payload };
        let (epoch, publication) = self.append(&channel, publication, retention, now)?;
        let position = epoch.as_ref().zip(publication.offset).map(|(epoch, offset)| epoch.at(offset));
        let published = Published { position, ack: Ack::Stored };
        if let Some(name) = name {
            self.keys_by_age.push_back((now.after(self.limits.key_age), name.clone()));
            if let Entry::Vacant(entry) = self.keys.entry(name) {
                entry.insert(Remembered { hash, published: published.clone() });
            }
        }
        Ok(Stored::New { published, epoch, publication })
    }

    /// What the channel holds after `since`; `None` for a volatile channel.
    pub fn read(
        &mut self,
        channel: &Channel,
        retention: &Retention,
        since: Option<&Position>,
        limit: PageLimit,
        now: Time,
    ) -> Result<Option<Page>, BrokerError> {
        if retention.publications_max == 0 {
            return Ok(None);
        }
        let kept = self.kept(channel, now)?;
        let before = kept.stream.bytes();
        kept.stream.expire(now);
        let freed = before - kept.stream.bytes();
        let page = kept.stream.read(since, limit);
        self.bytes -= freed;
        Ok(Some(page))
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, now: Time) {
        self.forget_keys(now);
        for kept in self.streams.values_mut() {
            let before = kept.stream.bytes();
            kept.stream.expire(now);
            self.bytes -= before - kept.stream.bytes();
        }
    }

    /// The channels with a stream that clients can name, and their heads.
    pub fn channels(&self) -> impl Iterator<Item = (&Channel, Position)> {
        let named = self.streams.iter().filter(|(channel, _)| !channel.is_log());
        named.map(|(channel, kept)| (channel, kept.stream.head()))
    }

    /// The bytes of history kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn append(
        &mut self,
        channel: &Channel,
        publication: Publication,
        retention: &Retention,
        now: Time,
    ) -> Result<(Option<Epoch>, Arc<Publication>), BrokerError> {
        if retention.publications_max == 0 {
            return Ok((None, Arc::new(publication)));
        }
        let kept = self.kept(channel, now)?;
        kept.used = now;
        let before = kept.stream.bytes();
        let publication = kept.stream.append(publication, retention, now);
        let epoch = kept.stream.epoch().clone();
        let after = kept.stream.bytes();
        self.bytes = self.bytes - before + after;
        if self.bytes > self.limits.bytes_max {
            self.shrink();
        }
        Ok((Some(epoch), publication))
    }

    fn kept(&mut self, channel: &Channel, now: Time) -> Result<&mut Kept, BrokerError> {
        if !self.streams.contains_key(channel)
            && !channel.is_log()
            && self.streams.len() >= self.limits.channels_max
        {
            self.forget_idle();
            if self.streams.len() >= self.limits.channels_max {
                return Err(BrokerError::TooManyChannels);
            }
        }
        let epoch = || Epoch::parse(&format!("{}-{}", self.generation, self.seed));
        Ok(self.streams.entry(channel.clone()).or_insert_with(|| {
            let epoch = epoch().expect("a counter and a seed of an epoch's alphabet are an epoch");
            Kept { stream: Stream::new(epoch), used: now }
        }))
    }

    /// Drops the streams that hold nothing, but for those of logs: their tables go on. Positions in them become gaps: a stream that comes back has a new epoch.
    fn forget_idle(&mut self) {
        self.generation += 1;
        self.streams.retain(|channel, kept| channel.is_log() || !kept.stream.is_empty());
    }

    /// Frees a tenth of the bytes, from the channels that were published to longest ago. A tenth, so that the walk
    /// over all channels is paid by many publishes.
    fn shrink(&mut self) {
        let enough = self.limits.bytes_max / 10 * 9;
        let mut by_age: Vec<usize> = (0..self.streams.len()).collect();
        by_age.sort_by_key(|index| self.streams[*index].used);
        for index in by_age {
            let stream = &mut self.streams[index].stream;
            while self.bytes > enough && !stream.is_empty() {
                self.bytes -= stream.drop_oldest();
            }
        }
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
mod tests {
    use super::*;
    use tidings_protocol::{GapReason, Payload};

    const ALL: PageLimit = PageLimit { publications: 1_000, bytes: 1 << 20 };

    fn retention() -> Retention {
        Retention { publications_max: 100, bytes_max: 1 << 20, age_max: Duration::from_secs(300) }
    }

    fn store(channels_max: usize, bytes_max: usize, keys_max: usize) -> Store {
        let key_age = Duration::from_secs(600);
        Store::new(StoreLimits { channels_max, bytes_max, keys_max, key_age }, "seed")
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    /// Publishes; answers with the position, `=` before it if the answer was a repeated one, or the error.
    fn publish(store: &mut Store, channel: &str, data: &str, key: Option<&str>, at: Time) -> String {
        let command = PublishCommand {
            channel: Channel::parse(channel).unwrap(),
            payload: Payload::text(data.as_bytes()).unwrap(),
            key: None,
            id: None,
            idempotency_key: key.map(Into::into),
            ack: Ack::Stored,
        };
        match store.publish(command, &retention(), 0, at) {
            Ok(Stored::New { published, .. }) => published.position.unwrap().to_string(),
            Ok(Stored::Repeated(published)) => format!("={}", published.position.unwrap()),
            Err(error) => format!("{error:?}"),
        }
    }

    fn read(store: &mut Store, channel: &str, since: &str) -> (usize, Option<GapReason>) {
        let since = since.parse().unwrap();
        let channel = Channel::parse(channel).unwrap();
        let page = store.read(&channel, &retention(), Some(&since), ALL, at(0)).unwrap().unwrap();
        (page.publications.len(), page.gap)
    }

    #[test]
    fn a_key_makes_a_retry_the_same_publication() {
        let mut store = store(10, 1 << 20, 10);
        assert_eq!(publish(&mut store, "a", "x", Some("k"), at(0)), "1-seed.1");
        assert_eq!(publish(&mut store, "a", "x", Some("k"), at(599)), "=1-seed.1");
        assert_eq!(publish(&mut store, "a", "y", Some("k"), at(599)), "IdempotencyMismatch");
        assert_eq!(publish(&mut store, "b", "y", Some("k"), at(599)), "1-seed.1", "keys belong to a channel");
        assert_eq!(publish(&mut store, "a", "y", Some("k"), at(600)), "1-seed.2", "the window is over");
    }

    #[test]
    fn keys_over_the_limit_are_refused_and_never_forgotten_early() {
        let mut store = store(10, 1 << 20, 1);
        publish(&mut store, "a", "x", Some("k1"), at(0));
        assert_eq!(publish(&mut store, "a", "x", Some("k2"), at(1)), "TooManyKeys");
        assert_eq!(publish(&mut store, "a", "x", Some("k1"), at(1)), "=1-seed.1");
        assert_eq!(publish(&mut store, "a", "x", None, at(1)), "1-seed.2");
    }

    #[test]
    fn channels_over_the_limit_displace_only_empty_ones_which_come_back_under_a_new_epoch() {
        let mut store = store(2, 1 << 20, 10);
        publish(&mut store, "a", "x", None, at(0));
        publish(&mut store, "b", "x", None, at(10));
        assert_eq!(publish(&mut store, "c", "x", None, at(20)), "TooManyChannels");
        store.expire(at(300));
        assert_eq!(publish(&mut store, "c", "x", None, at(300)), "3-seed.1", "a has expired, b has not");
        store.expire(at(900));
        publish(&mut store, "d", "x", None, at(900));
        assert_eq!(read(&mut store, "a", "1-seed.1"), (0, Some(GapReason::Epoch)));
    }

    #[test]
    fn the_longest_idle_channel_makes_room_for_bytes() {
        let mut store = store(10, 3_000, 10);
        let data = "x".repeat(872);
        for (n, channel) in ["a", "b", "a"].iter().enumerate() {
            publish(&mut store, channel, &data, None, at(n as u64));
        }
        assert_eq!(store.bytes(), 3_000);
        publish(&mut store, "c", &data, None, at(3));
        assert_eq!(read(&mut store, "b", "1-seed.0"), (0, Some(GapReason::Trimmed)));
        assert_eq!(read(&mut store, "c", "1-seed.0"), (1, None));
        assert!(store.bytes() <= 2_700, "{}", store.bytes());
    }
}
