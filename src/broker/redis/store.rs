//! What is asked of Redis as a store, each one script.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::prelude::FredResult;
use fred::types::{Key, Value};
use sha2::{Digest, Sha256};
use tidings_protocol::{Channel, Position, PublishCommand, Tag, encode_stored};
use tracing::debug;

use super::answer::{self, Failed, Garbage};
use super::directory::run;
use super::keys::Keys;
use super::numbering::{Reading, is_unborn};
use super::script::Scripts;
use super::shard::Shard;
use super::shards::Shards;
use super::write::Write;
use crate::broker::{BrokerError, Retentions};
use crate::freshness::{Snapshot, slots_touched};
use crate::hub::{Page, PageLimit, Published, Retention};

/// How long what is stored lives.
#[derive(Clone, Debug)]
pub(super) struct Lives {
    /// An idempotency key.
    pub(super) key: Duration,
    /// The numbering of a channel that nobody touches.
    pub(super) meta: Duration,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Somebody who wants to see what is kept.
    OfHistory,
    /// Somebody who wants to go on from where it was.
    Subscriber,
}

/// The scripts with their arguments.
pub(super) struct RedisStore {
    pub(super) keys: Keys,
    pub(super) retentions: Retentions,
    pub(super) scripts: Scripts,
    lives: Lives,
    /// This instance's id.
    pub(super) seed: String,
    /// Seeds that were made up here: no two are alike.
    seeds: AtomicU64,
    /// `PUBLISH`, or `SPUBLISH` where channels are announced per shard.
    pub(super) announce: &'static str,
}

impl RedisStore {
    /// `seed` is unlike that of any other start of any instance.
    pub(super) fn new(
        keys: Keys,
        retentions: Retentions,
        lives: Lives,
        seed: &str,
        is_cluster: bool,
    ) -> Self {
        let announce = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let (scripts, seeds) = (Scripts::new(is_cluster), AtomicU64::new(1));
        RedisStore { keys, retentions, scripts, lives, seed: seed.to_owned(), seeds, announce }
    }

    /// Writes; where `waits`, replicas are about to be waited for.
    pub(super) async fn put(&self, client: &Client, write: &Write, waits: bool) -> Result<Published, Failed> {
        match write {
            Write::Publish(command, retention) if retention.publications_max == 0 => {
                self.announce(client, command).await
            }
            Write::Publish(command, retention) => {
                let said = command.payload.as_bytes();
                stored(self.append(client, command, said, retention, Vec::new()).await)
            }
            Write::Mutate(command, retention) => {
                let (publication, said) = (command.publication(), command.said.as_bytes());
                let table = vec![self.slots(&publication.channel), packed(&command.tags).into()];
                stored(self.append(client, &publication, said, retention, table).await)
            }
            Write::Confirm(log) => self.confirm(client, &log.channel(), waits).await,
        }
    }

    /// Announces what is not kept.
    async fn announce(&self, client: &Client, command: &PublishCommand) -> Result<Published, Failed> {
        let PublishCommand { channel, payload, key, id, idempotency_key, .. } = command;
        let args = vec![
            Bytes::from(encode_stored(payload, id.as_deref(), key.as_deref())).into(),
            hash(idempotency_key.as_deref(), payload.as_bytes()),
            millis(self.lives.key),
            self.keys.announcements(channel).into(),
            self.announce.into(),
        ];
        let keys = self.idempotency(command);
        stored(self.scripts.publish_volatile.run(client, keys, args).await)
    }

    /// Appends to the channel and announces. `said` is what an idempotency key stands for; `table` is what the script is told
    /// of the table of a log.
    pub(super) async fn append(
        &self,
        client: &Client,
        command: &PublishCommand,
        said: &[u8],
        retention: &Retention,
        table: Vec<Value>,
    ) -> FredResult<Value> {
        let PublishCommand { channel, payload, key, id, idempotency_key, .. } = command;
        let mut args = vec![
            self.new_seed(),
            Bytes::from(encode_stored(payload, id.as_deref(), key.as_deref())).into(),
            hash(idempotency_key.as_deref(), said),
            millis(self.lives.key),
            number(retention.publications_max),
            number(retention.bytes_max),
            millis(retention.age_max),
            self.meta_life(channel),
            self.keys.announcements(channel).into(),
            self.announce.into(),
        ];
        args.extend(table);
        let mut keys = vec![self.keys.meta(channel), self.keys.stream(channel)];
        keys.extend(self.idempotency(command));
        keys.extend(self.table_key(channel));
        let mut answer = self.scripts.publish.run(client, keys.clone(), args.clone()).await;
        if matches!(&answer, Ok(answer) if is_unborn(answer)) {
            keys.extend([self.keys.births(channel), self.keys.index(channel)]);
            answer = self.scripts.publish.run(client, keys, args).await;
        }
        answer
    }

    /// Where the log stands; written again where `written`.
    async fn confirm(&self, client: &Client, channel: &Channel, written: bool) -> Result<Published, Failed> {
        let keys = vec![self.keys.meta(channel), self.keys.versions(channel)];
        let mode: Value = if written { "write".into() } else { "".into() };
        let reading = Reading { script: &self.scripts.confirm, keys, args: vec![mode], writes: written };
        self.numbered(client, channel, reading).await.and_then(answer::published)
    }

    /// The log as it stands.
    pub(super) async fn snapshot(&self, client: &Client, channel: &Channel) -> Result<Snapshot, Failed> {
        let keys = vec![self.keys.meta(channel), self.keys.versions(channel)];
        let args = vec![self.slots(channel)];
        let reading = Reading { script: &self.scripts.snapshot, keys, args, writes: false };
        let answer = self.numbered(client, channel, reading).await?;
        answer::snapshot(answer).map_err(|Garbage| Failed::Broker(BrokerError::Unavailable))
    }

    /// Reads what follows `since`; where history does not continue it, what there is for a reader of history, and nothing for
    /// a subscriber, who goes on at the head.
    pub(super) async fn read(
        &self,
        client: &Client,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
        reader: Reader,
    ) -> Result<Page, Failed> {
        let (epoch, offset) = match since {
            Some(since) => (since.epoch.as_str().into(), since.offset.to_string().into()),
            None => ("".into(), "".into()),
        };
        let mut args = vec![
            epoch,
            offset,
            number(limit.publications),
            number(limit.bytes),
            self.meta_life(channel),
            if reader == Reader::OfHistory { "all".into() } else { "".into() },
            millis(self.retentions.of(channel).age_max),
        ];
        let mut keys = vec![self.keys.meta(channel), self.keys.stream(channel)];
        if let Some(table) = self.table_key(channel) {
            keys.push(table);
            args.push("1".into());
        }
        let reading = Reading { script: &self.scripts.read, keys, args, writes: false };
        let mut answer = self.numbered(client, channel, reading).await?;
        if let Value::Array(words) = &mut answer
            && words.pop_if(|word| word.as_str().as_deref() == Some("renew")).is_some()
        {
            self.renew(client, channel).await;
        }
        answer::page(answer).map_err(|Garbage| Failed::Broker(BrokerError::Unavailable))
    }

    /// The numbering of a channel lives longer: somebody reads it. Where that is refused, nothing is lost yet.
    async fn renew(&self, client: &Client, channel: &Channel) {
        let args = vec![self.keys.meta(channel).into(), self.meta_life(channel)];
        if let Err(error) = run(client, "PEXPIRE", args).await {
            debug!(%error, "a numbering is not renewed");
        }
    }

    /// The same, wherever the channel is.
    pub(super) async fn read_at(
        &self,
        shards: &Shards,
        channel: &Channel,
        since: Option<&Position>,
        limit: PageLimit,
        reader: Reader,
    ) -> Result<Page, BrokerError> {
        let read = |shard: Arc<Shard>| async move {
            self.read(&shard.commands, channel, since, limit, reader).await
        };
        shards.at(channel, read).await
    }

    /// The key under which the idempotency key is remembered, if there is one.
    fn idempotency(&self, command: &PublishCommand) -> Vec<Key> {
        let key = command.idempotency_key.as_deref();
        key.map(|key| self.keys.idempotency(&command.channel, key)).into_iter().collect()
    }

    fn table_key(&self, channel: &Channel) -> Option<Key> {
        channel.is_log().then(|| self.keys.versions(channel))
    }

    /// Slots of a new table of a log's versions.
    fn slots(&self, channel: &Channel) -> Value {
        channel.log().map_or_else(|| "".into(), |log| number(self.retentions.table_slots(&log)))
    }

    /// That of a log lives for ever: a table that is forgotten makes everything stale.
    fn meta_life(&self, channel: &Channel) -> Value {
        if channel.is_log() { "".into() } else { millis(self.lives.meta) }
    }

    pub(super) fn new_seed(&self) -> Value {
        format!("{}-{}", self.seeds.fetch_add(1, Ordering::Relaxed), self.seed).into()
    }
}

/// What a script that writes came to.
fn stored(answer: FredResult<Value>) -> Result<Published, Failed> {
    answer.map_err(|error| answer::write_failed(&error)).and_then(answer::published)
}

/// The hash of what an idempotency key stands for; empty without a key.
fn hash(key: Option<&str>, said: &[u8]) -> Value {
    match key {
        Some(_) => Bytes::copy_from_slice(&Sha256::digest(said)).into(),
        None => Bytes::new().into(),
    }
}

/// The slots that the tags touch, each once, as the script takes them: four bytes each, the most significant first, of a table
/// so large that any other has the low bits of them.
fn packed(tags: &[Tag]) -> Bytes {
    let slots: BTreeSet<u32> = tags.iter().flat_map(|tag| slots_touched(tag, 1 << u32::BITS)).collect();
    slots.into_iter().flat_map(u32::to_be_bytes).collect()
}

fn number(number: usize) -> Value {
    number.to_string().into()
}

fn millis(duration: Duration) -> Value {
    duration.as_millis().max(1).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_several_tags_touch_is_written_once_and_fits_every_table() {
        let tags = ["a:b", "a:c", "a:b"].map(|tag| Tag::parse(tag).unwrap());
        let packed = packed(&tags);
        let slots: Vec<u32> =
            packed.chunks_exact(4).map(|slot| u32::from_be_bytes(slot.try_into().unwrap())).collect();
        assert_eq!(slots.len(), 6, "two tags, what is below each, below `a` and below the root");
        for table in [1 << 10, 1 << 20] {
            let low: BTreeSet<u32> = slots.iter().map(|slot| slot % table as u32).collect();
            let touched = tags.iter().flat_map(|tag| slots_touched(tag, table));
            assert_eq!(low, touched.collect());
        }
    }
}
