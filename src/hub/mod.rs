//! The hub: who subscribed to what, and which publications leave together.
//!
//! Everything in here is pure: no clock, no I/O, no async, no randomness, no locks. Time is an argument, outcomes are
//! values (loss among them), and iteration follows the order of insertion, so that one seed replays a whole history.
//! `node.rs` runs these machines against a real clock; the simulation runs them against a model.

mod action;
mod attachments;
mod batch;
mod batcher;
mod broker_state;
mod grant;
mod lineage;
mod liveness;
mod mailbox;
mod news;
mod revocations;
mod session;
mod stream;
mod subscription;
mod time;

pub use action::{Action, Answer, Close, Holder, Published, Transmit, Watched, come_back_after};
pub use attachments::{Attach, Attached, Attachments, LISTEN_TIMEOUT};
pub use batch::{Batch, Format, Span};
pub use batcher::{BatchRules, Batcher, Sealed, Urgency};
pub use broker_state::{BrokerServers, BrokerState};
pub use grant::{ChannelGrant, Credential, Expiry, Grant, Pattern, PatternInvalid};
pub use lineage::Lineage;
pub use liveness::{Due, Heartbeat, Liveness};
pub use mailbox::{Batches, Mail, Mailbox, Wake};
pub use news::LogNews;
pub use revocations::{Revocations, RevocationsFull};
pub use session::{CatchUp, CursorState, Session, SessionConfig};
pub use stream::{Page, PageLimit, Retention, Stream};
pub use subscription::{Accept, Fallen, Progress, Subscription};
pub use time::Time;

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use tidings_protocol::{Channel, Epoch, Publication};

/// Names a session within its process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// The channels that somebody here subscribed to. `M` is how a subscriber is reached; the hub only keeps it.
#[derive(Debug)]
pub struct Hub<M> {
    channels: IndexMap<Channel, Audience<M>>,
    /// The channels of every session that is attached to any.
    sessions: IndexMap<SessionId, Vec<Channel>>,
    /// Channels in which something waits, by the end of its window.
    due: BTreeMap<Time, Vec<Channel>>,
}

#[derive(Debug)]
struct Audience<M> {
    subscribers: IndexMap<SessionId, M>,
    batcher: Batcher,
}

impl<M> Default for Hub<M> {
    fn default() -> Self {
        Hub { channels: IndexMap::new(), sessions: IndexMap::new(), due: BTreeMap::new() }
    }
}

impl<M> Hub<M> {
    /// Adds a subscriber to a channel. True if it is the channel's first.
    pub fn attach(
        &mut self,
        channel: &Channel,
        session: SessionId,
        mailbox: M,
        rules: &Arc<BatchRules>,
    ) -> bool {
        let audience = self.channels.entry(channel.clone()).or_insert_with(|| {
            let batcher = Batcher::new(channel.clone(), rules.clone());
            Audience { subscribers: IndexMap::new(), batcher }
        });
        let is_first = audience.subscribers.is_empty();
        if audience.subscribers.insert(session, mailbox).is_none() {
            self.sessions.entry(session).or_default().push(channel.clone());
        }
        is_first
    }

    /// Removes a subscriber; a channel without any is forgotten. True if it was the channel's last.
    pub fn detach(&mut self, channel: &Channel, session: SessionId) -> bool {
        if let Some(channels) = self.sessions.get_mut(&session) {
            channels.retain(|attached| attached != channel);
            if channels.is_empty() {
                self.sessions.swap_remove(&session);
            }
        }
        self.remove_subscriber(channel, session)
    }

    /// Removes a session from all its channels. Returns them, each with whether the session was its last subscriber.
    pub fn remove(&mut self, session: SessionId) -> Vec<(Channel, bool)> {
        let channels = self.sessions.swap_remove(&session).unwrap_or_default().into_iter();
        let removed = channels.map(|channel| {
            let was_last = self.remove_subscriber(&channel, session);
            (channel, was_last)
        });
        removed.collect()
    }

    fn remove_subscriber(&mut self, channel: &Channel, session: SessionId) -> bool {
        let Some(audience) = self.channels.get_mut(channel) else { return false };
        let was_attached = audience.subscribers.swap_remove(&session).is_some();
        let is_empty = audience.subscribers.is_empty();
        if is_empty {
            self.channels.swap_remove(channel);
        }
        was_attached && is_empty
    }

    /// Takes in what the broker published; returns the batches that are sealed by it.
    pub fn publish(
        &mut self,
        channel: &Channel,
        epoch: Option<Epoch>,
        publication: Arc<Publication>,
        now: Time,
    ) -> Vec<Sealed> {
        let Some(audience) = self.channels.get_mut(channel) else { return Vec::new() };
        let (sealed, due) = audience.batcher.push(epoch, publication, now);
        if let Some(due) = due {
            self.due.entry(due).or_default().push(channel.clone());
        }
        sealed
    }

    /// When the next window with something in it ends.
    pub fn next_due(&self) -> Option<Time> {
        self.due.first_key_value().map(|(due, _)| *due)
    }

    /// Seals every batch whose window has ended.
    pub fn seal_due(&mut self, now: Time) -> Vec<Sealed> {
        let mut sealed = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= now) {
            for channel in entry.remove() {
                let audience = self.channels.get_mut(&channel);
                sealed.extend(audience.and_then(|audience| audience.batcher.seal(Urgency::Tick, now)));
            }
        }
        sealed
    }

    /// Seals everything that waits, whatever its window.
    pub fn seal_all(&mut self, now: Time) -> Vec<Sealed> {
        self.due.clear();
        self.channels.values_mut().filter_map(|audience| audience.batcher.seal(Urgency::Now, now)).collect()
    }

    /// The subscribers of a channel.
    pub fn subscribers(&self, channel: &Channel) -> impl Iterator<Item = &M> {
        self.channels.get(channel).into_iter().flat_map(|audience| audience.subscribers.values())
    }

    /// The channels that a session is attached to.
    pub fn channels_of(&self, session: SessionId) -> &[Channel] {
        self.sessions.get(&session).map_or(&[], Vec::as_slice)
    }

    /// The sessions that are attached to any channel.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    /// The channels with the number of their subscribers here.
    pub fn channels(&self) -> impl Iterator<Item = (&Channel, usize)> {
        self.channels.iter().map(|(channel, audience)| (channel, audience.subscribers.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tidings_protocol::{Offset, Payload};

    fn hub_with(subscribers: &[(&str, u64)]) -> Hub<u64> {
        let window = Some(Duration::from_millis(100));
        let rules = BatchRules { window, leading: false, publications_max: 512, bytes_max: 1 << 18 };
        let rules = Arc::new(rules);
        let mut hub = Hub::default();
        for (channel, session) in subscribers {
            hub.attach(&Channel::parse(channel).unwrap(), SessionId(*session), *session, &rules);
        }
        hub
    }

    fn publish(hub: &mut Hub<u64>, channel: &str, at_ms: u64) {
        let payload = Payload::text(b"x").unwrap();
        let publication = Publication { offset: Some(Offset(1)), time: 0, id: None, key: None, payload };
        let epoch = Some(Epoch::parse("a").unwrap());
        let now = Time(Duration::from_millis(at_ms));
        hub.publish(&Channel::parse(channel).unwrap(), epoch, publication.into(), now);
    }

    #[test]
    fn windows_of_all_channels_end_together() {
        let mut hub = hub_with(&[("a", 1), ("b", 1), ("b", 2)]);
        publish(&mut hub, "a", 110);
        publish(&mut hub, "b", 190);
        assert_eq!(hub.next_due(), Some(Time(Duration::from_millis(200))));
        assert!(hub.seal_due(Time(Duration::from_millis(199))).is_empty());
        let sealed = hub.seal_due(Time(Duration::from_millis(200)));
        let channels: Vec<_> = sealed.iter().map(|sealed| sealed.batch.channel.as_str()).collect();
        assert_eq!(channels, ["a", "b"]);
        assert_eq!(hub.next_due(), None);
    }

    #[test]
    fn a_channel_is_kept_as_long_as_somebody_subscribes_to_it() {
        let mut hub = hub_with(&[("a", 1), ("a", 2)]);
        let channel = Channel::parse("a").unwrap();
        assert!(!hub.detach(&channel, SessionId(1)), "another one is attached");
        assert!(!hub.detach(&channel, SessionId(1)), "a second time it changes nothing");
        assert_eq!(hub.subscribers(&channel).collect::<Vec<_>>(), [&2]);
        assert!(hub.detach(&channel, SessionId(2)));
        assert_eq!((hub.channels().count(), hub.sessions().count()), (0, 0));
        assert!(!hub.detach(&channel, SessionId(2)));
    }

    #[test]
    fn a_session_that_ends_leaves_all_its_channels_and_no_other() {
        let mut hub = hub_with(&[("a", 1), ("b", 1), ("a", 2), ("a", 1)]);
        let removed: Vec<_> = hub
            .remove(SessionId(1))
            .into_iter()
            .map(|(channel, was_last)| (channel.to_string(), was_last))
            .collect();
        assert_eq!(removed, [("a".to_owned(), false), ("b".to_owned(), true)]);
        assert!(hub.remove(SessionId(1)).is_empty(), "a second time it changes nothing");
        assert_eq!(
            hub.channels().map(|(channel, count)| (channel.as_str(), count)).collect::<Vec<_>>(),
            [("a", 1)]
        );
        assert!(hub.channels_of(SessionId(1)).is_empty());
        assert_eq!(hub.channels_of(SessionId(2)).len(), 1);
    }

    #[test]
    fn what_nobody_subscribed_to_is_not_kept() {
        let mut hub = hub_with(&[("a", 1)]);
        publish(&mut hub, "b", 0);
        assert_eq!(hub.next_due(), None);
    }
}
