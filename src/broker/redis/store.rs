//! What is asked of Redis as a store: publish and read, each one script.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::types::{Key, Value};
use sha2::{Digest, Sha256};
use tidings_protocol::{Channel, Position, PublishCommand, encode_stored};

use super::answer::{self, Failed, Garbage};
use super::keys::Keys;
use super::script::Scripts;
use super::shard::Shard;
use super::shards::Shards;
use crate::broker::BrokerError;
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
    scripts: Scripts,
    lives: Lives,
    /// This instance's id. Makes names of new epochs.
    pub(super) seed: String,
    epochs: AtomicU64,
    /// `PUBLISH`, or `SPUBLISH` where channels are announced per shard.
    announce: &'static str,
}

impl RedisStore {
    /// `seed` is unlike that of any other start of any instance.
    pub(super) fn new(keys: Keys, lives: Lives, seed: &str, is_cluster: bool) -> Self {
        let announce = if is_cluster { "SPUBLISH" } else { "PUBLISH" };
        let (scripts, epochs) = (Scripts::new(), AtomicU64::new(1));
        RedisStore { keys, scripts, lives, seed: seed.to_owned(), epochs, announce }
    }

    /// Stores and announces.
    pub(super) async fn publish(
        &self,
        client: &Client,
        command: &PublishCommand,
        retention: &Retention,
    ) -> Result<Published, Failed> {
        let PublishCommand { channel, payload, key, id, idempotency_key, .. } = command;
        let stored: Value = Bytes::from(encode_stored(payload, id.as_deref(), key.as_deref())).into();
        let hash = match idempotency_key {
            Some(_) => Bytes::copy_from_slice(&Sha256::digest(payload.as_bytes())),
            None => Bytes::new(),
        };
        let remembered = self.keys.idempotency(channel, idempotency_key.as_deref().unwrap_or_default());
        let announcements: Value = self.keys.announcements(channel).into();
        let announce: Value = self.announce.into();
        let answer = if retention.publications_max == 0 {
            let args = vec![stored, hash.into(), millis(self.lives.key), announcements, announce];
            self.scripts.publish_volatile.run(client, vec![remembered], args).await
        } else {
            let args = vec![
                self.new_epoch(),
                stored,
                hash.into(),
                millis(self.lives.key),
                number(retention.publications_max),
                number(retention.bytes_max),
                millis(retention.age_max),
                millis(self.lives.meta),
                announcements,
                announce,
            ];
            let keys = vec![self.keys.meta(channel), self.keys.stream(channel), remembered];
            self.scripts.publish.run(client, keys, args).await
        };
        answer.map_err(|error| answer::write_failed(&error)).and_then(answer::published)
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
        let keys: Vec<Key> = vec![self.keys.meta(channel), self.keys.stream(channel)];
        let (epoch, offset) = match since {
            Some(since) => (since.epoch.as_str().into(), since.offset.to_string().into()),
            None => ("".into(), "".into()),
        };
        let args = vec![
            self.new_epoch(),
            epoch,
            offset,
            number(limit.publications),
            number(limit.bytes),
            millis(self.lives.meta),
            if reader == Reader::OfHistory { "all".into() } else { "".into() },
        ];
        let answer = self.scripts.read.run(client, keys, args).await;
        let answer = answer.map_err(|error| answer::read_failed(&error))?;
        answer::page(answer).map_err(|Garbage| Failed::Broker(BrokerError::Unavailable))
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

    fn new_epoch(&self) -> Value {
        format!("{}-{}", self.epochs.fetch_add(1, Ordering::Relaxed), self.seed).into()
    }
}

fn number(number: usize) -> Value {
    number.to_string().into()
}

fn millis(duration: Duration) -> Value {
    duration.as_millis().max(1).to_string().into()
}
