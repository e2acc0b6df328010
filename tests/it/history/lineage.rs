//! Which epochs of a channel are one numbering, and how far.
//!
//! Clients are told of it one place at a time: "what you know as e1.12 is e2.12". So e1 and e2 hold the same publications up
//! to 12 at least, and so do all that either of them shares with a third epoch, as far as both reach. What nobody was told is
//! not assumed: two epochs may share more than is known here, never less.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::Offset;

use super::{ChannelId, Event, Record};

/// What is known of all channels.
#[derive(Default)]
pub(crate) struct Lineage {
    channels: BTreeMap<ChannelId, Family>,
}

/// The epochs of one channel that were said to continue each other.
#[derive(Default)]
struct Family {
    /// For each epoch the others that share something with it, and their last place in common.
    kin: BTreeMap<String, BTreeMap<String, Offset>>,
    /// For each epoch those that continue it, or continue what continues it.
    later: BTreeMap<String, BTreeSet<String>>,
}

impl Lineage {
    /// What the clients of a history were told, and what is known of the broker.
    pub(crate) fn of(history: &[Record]) -> Lineage {
        let mut lineage = Lineage::default();
        for record in history {
            let (Event::Continued { channel, from, position, .. }
            | Event::Forked { channel, from, position }) = &record.event
            else {
                continue;
            };
            let family = lineage.channels.entry(*channel).or_default();
            family.tell(from.epoch.as_str(), position.epoch.as_str(), from.offset.min(position.offset));
        }
        lineage
    }

    /// The last place that two epochs have in common: 0 where there is none, the end of all numbers where they are one.
    pub(crate) fn shared(&self, channel: ChannelId, epoch: &str, other: &str) -> Offset {
        if epoch == other {
            return Offset(u64::MAX);
        }
        self.kin(channel, epoch).find(|(known, _)| *known == other).map_or(Offset(0), |(_, shared)| shared)
    }

    /// The other epochs that share something with this one, and their last place in common.
    pub(crate) fn kin(&self, channel: ChannelId, epoch: &str) -> impl Iterator<Item = (&str, Offset)> {
        let kin = self.channels.get(&channel).and_then(|family| family.kin.get(epoch));
        kin.into_iter().flatten().map(|(other, shared)| (other.as_str(), *shared))
    }

    /// The epochs that continue this one, by however many steps.
    pub(crate) fn later(&self, channel: ChannelId, epoch: &str) -> impl Iterator<Item = &str> {
        let later = self.channels.get(&channel).and_then(|family| family.later.get(epoch));
        later.into_iter().flatten().map(String::as_str)
    }
}

impl Family {
    /// `child` continues `parent`, and both have the same up to `last`. All conclusions are drawn at once: whatever shares
    /// something with one of them shares it with the other, as far as both reach.
    fn tell(&mut self, parent: &str, child: &str, last: Offset) {
        let is_later = self.later.get(parent).is_some_and(|later| later.contains(child));
        if is_later && self.shared(parent, child) >= last {
            return;
        }
        let [parents, children] = [self.kin_and_itself(parent), self.kin_and_itself(child)];
        for (one, upto) in &parents {
            for (other, also) in children.iter().filter(|(other, _)| other != one) {
                let last = last.min(*upto).min(*also);
                self.share(one, other, last);
                self.share(other, one, last);
            }
        }
        let mut further = self.later.get(child).cloned().unwrap_or_default();
        further.insert(child.to_owned());
        self.later.entry(parent.to_owned()).or_default();
        for (epoch, later) in &mut self.later {
            if epoch == parent || later.contains(parent) {
                later.extend(further.iter().cloned());
            }
        }
    }

    fn shared(&self, one: &str, other: &str) -> Offset {
        self.kin.get(one).and_then(|kin| kin.get(other)).copied().unwrap_or_default()
    }

    fn share(&mut self, one: &str, other: &str, last: Offset) {
        let known = self.kin.entry(one.to_owned()).or_default().entry(other.to_owned()).or_default();
        *known = last.max(*known);
    }

    fn kin_and_itself(&self, epoch: &str) -> Vec<(String, Offset)> {
        let kin = self.kin.get(epoch).into_iter().flatten().map(|(other, last)| (other.clone(), *last));
        kin.chain([(epoch.to_owned(), Offset(u64::MAX))]).collect()
    }
}

#[cfg(test)]
mod tests {
    use tidings::hub::Time;
    use tidings_protocol::Position;

    use super::*;
    use crate::history::ClientId;

    const CHANNEL: ChannelId = ChannelId(0);

    fn lineage(told: &[(&str, &str)]) -> Lineage {
        let position = |text: &&str| text.parse::<Position>().unwrap();
        let record = |(from, to): &(&str, &str)| Record {
            time: Time::ZERO,
            event: Event::Continued {
                client: ClientId(0),
                channel: CHANNEL,
                from: position(from),
                position: position(to),
            },
        };
        Lineage::of(&told.iter().map(record).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_shared_is_what_anybody_was_told_and_what_follows_from_it() {
        let lineage = lineage(&[("a.5", "b.5"), ("a.7", "b.7"), ("b.9", "c.9"), ("x.1", "y.1")]);
        for (one, other, shared) in
            [("a", "b", 7), ("b", "a", 7), ("b", "c", 9), ("a", "c", 7), ("a", "x", 0), ("z", "a", 0)]
        {
            assert_eq!(lineage.shared(CHANNEL, one, other), Offset(shared), "{one} {other}");
        }
        assert_eq!(lineage.shared(CHANNEL, "z", "z"), Offset(u64::MAX));
        assert_eq!(
            lineage.shared(ChannelId(1), "a", "b"),
            Offset(0),
            "channels have nothing to do with each other"
        );
    }

    #[test]
    fn later_is_what_continues_by_however_many_steps_and_never_back() {
        let lineage = lineage(&[("c.9", "d.9"), ("a.7", "b.7"), ("b.9", "c.9")]);
        for (epoch, later) in [("a", vec!["b", "c", "d"]), ("c", vec!["d"]), ("d", vec![]), ("z", vec![])] {
            assert_eq!(lineage.later(CHANNEL, epoch).collect::<Vec<_>>(), later, "{epoch}");
        }
    }
}
