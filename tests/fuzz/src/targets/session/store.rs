//! Two channels that keep a little, one that keeps nothing, and what was ever published at which place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings::hub::{BatchRules, Page, PageLimit, Retention, Stream, Time};
use tidings_protocol::{Channel, Epoch, Offset, Payload, Position, Publication};

/// The last one keeps no history.
pub(super) const NAMES: [&str; 3] = ["a", "b", "v"];

pub(super) struct Store {
    streams: BTreeMap<&'static str, Stream>,
    retention: Retention,
    pub(super) rules: Arc<BatchRules>,
    /// By channel and offset.
    published: BTreeMap<(&'static str, u64), Vec<String>>,
    count: usize,
    epochs: usize,
}

impl Default for Store {
    fn default() -> Store {
        let stream = |name: &&'static str| (*name, Stream::new(epoch(0)));
        Store {
            streams: NAMES[..2].iter().map(stream).collect(),
            retention: Retention { publications_max: 6, bytes_max: 4_000, age_max: Duration::from_secs(30) },
            rules: Arc::new(BatchRules {
                window: Some(Duration::from_millis(100)),
                leading: true,
                publications_max: 3,
                bytes_max: 300,
            }),
            published: BTreeMap::new(),
            count: 0,
            epochs: 0,
        }
    }
}

pub(super) fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("a name")
}

fn epoch(number: usize) -> Epoch {
    Epoch::parse(&format!("e{number}")).expect("an epoch")
}

impl Store {
    /// Publishes so many bytes and a number of their own.
    pub(super) fn publish(
        &mut self,
        name: &'static str,
        bytes: usize,
        now: Time,
    ) -> (Option<Epoch>, Arc<Publication>) {
        self.count += 1;
        let text = format!("{} {}", self.count, "x".repeat(bytes));
        let payload = Payload::text(text.as_bytes()).expect("it is UTF-8");
        let publication = Publication { offset: None, time: 0, id: None, key: None, payload };
        let Some(stream) = self.streams.get_mut(name) else { return (None, Arc::new(publication)) };
        let publication = stream.append(publication, &self.retention, now);
        let head = stream.head();
        self.published.entry((name, head.offset.0)).or_default().push(text);
        (Some(head.epoch), publication)
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.streams.values_mut().for_each(|stream| stream.expire(now));
    }

    /// Drops the oldest ones.
    pub(super) fn forget(&mut self, name: &str, count: usize) {
        if let Some(stream) = self.streams.get_mut(name) {
            for _ in 0..count {
                if !stream.is_empty() {
                    stream.drop_oldest();
                }
            }
        }
    }

    /// Another numbering goes on from here.
    pub(super) fn fork(&mut self, name: &str) {
        self.epochs += 1;
        if let Some(stream) = self.streams.get_mut(name) {
            stream.fork(epoch(self.epochs));
        }
    }

    /// `None` for a channel that keeps nothing.
    pub(super) fn read(&self, channel: &Channel, since: Option<&Position>, limit: PageLimit) -> Option<Page> {
        Some(self.streams.get(channel.as_str())?.read(since, limit))
    }

    /// Where a channel stands; `None` where it has no places.
    pub(super) fn head(&self, name: &str) -> Option<Position> {
        Some(self.streams.get(name)?.head())
    }

    /// What was published at a place, in any epoch: one that continues another has what that one had.
    pub(super) fn texts_at(&self, name: &'static str, offset: Offset) -> &[String] {
        self.published.get(&(name, offset.0)).map_or(&[], Vec::as_slice)
    }

    /// Where the mutation log stands.
    pub(super) fn log_position(&self, mutations: u64) -> Position {
        epoch(0).at(Offset(mutations))
    }
}
