//! The hub: who subscribed to what, and which publications leave together.
//!
//! Everything in here is pure: no clock, no I/O, no async, no randomness, no locks. Time is an argument, outcomes are
//! values (loss among them), and iteration follows the order of insertion, so that one seed replays a whole history.
//! `node.rs` runs these machines against a real clock; the simulation runs them against a model.

mod action;
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

pub use action::{Action, Answer, Close, Published, Transmit, Watched, come_back_after};
pub use batch::{Batch, Format, Span};
pub use batcher::{BatchRules, Batcher, Sealed, Urgency};
pub use broker_state::BrokerState;
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
        Hub { channels: IndexMap::new(), due: BTreeMap::new() }
    }
}

impl<M> Hub<M> {
    /// Adds a subscriber to a channel.
    pub fn attach(&mut self, channel: &Channel, session: SessionId, mailbox: M, rules: &Arc<BatchRules>) {
        let audience = self.channels.entry(channel.clone()).or_insert_with(|| {
            let batcher = Batcher::new(channel.clone(), rules.clone());
            Audience { subscribers: IndexMap::new(), batcher }
        });
        audience.subscribers.insert(session, mailbox);
    }

    /// Removes a subscriber; a channel without any is forgotten.
    pub fn detach(&mut self, channel: &Channel, session: SessionId) {
        let Some(audience) = self.channels.get_mut(channel) else { return };
        audience.subscribers.swap_remove(&session);
        if audience.subscribers.is_empty() {
            self.channels.swap_remove(channel);
        }
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
        hub.detach(&channel, SessionId(1));
        assert_eq!(hub.subscribers(&channel).collect::<Vec<_>>(), [&2]);
        hub.detach(&channel, SessionId(2));
        assert_eq!(hub.channels().count(), 0);
        hub.detach(&channel, SessionId(2));
    }

    #[test]
    fn what_nobody_subscribed_to_is_not_kept() {
        let mut hub = hub_with(&[("a", 1)]);
        publish(&mut hub, "b", 0);
        assert_eq!(hub.next_due(), None);
    }
}
