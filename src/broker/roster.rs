//! The members of this instance as a shared broker is to know them: what it must be told now, what again, what no more.
//!
//! A broker forgets a member that is not renewed for its life, so that those of an instance that died go by themselves.
//!
//! ```text
//!   enter, exit ──▶ due ──poll_update──▶ out ──handle_updated──▶ told ──an interval later──▶ due
//!                    ▲                    │
//!                    └── a while later ◀──┘ it failed
//! ```
//!
//! Pure: time comes in, what must be told comes out. It holds what connections hold, and of those that are gone what the
//! broker was not told yet, for no longer than a member's life: by then it has forgotten them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tidings_protocol::{Channel, PresenceMember};

use crate::hub::Time;

/// How long after a failed update the next one is tried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Members in one update: each is one step of the broker, and must be short.
const MEMBERS_PER_UPDATE: usize = 256;

/// What the broker must be told of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The channel.
    pub channel: Channel,
    /// Who is here: new to the broker, or to be renewed.
    pub here: Vec<PresenceMember>,
    /// Who is here no more, and until when the broker may think otherwise.
    pub gone: Vec<(PresenceMember, Time)>,
}

/// The members of this instance. See the module.
#[derive(Debug)]
pub struct Roster {
    life: Duration,
    channels: IndexMap<Channel, Entry>,
    /// Channels with something due: what is new, and renewals. By turns, so that neither keeps the other waiting: members that
    /// are not renewed are forgotten.
    fresh: VecDeque<Channel>,
    stale: VecDeque<Channel>,
    /// Whether renewals come next.
    is_stale_next: bool,
    renewals: BTreeMap<Time, Vec<Channel>>,
    retries: VecDeque<(Time, Channel)>,
}

#[derive(Debug)]
struct Entry {
    here: IndexMap<Arc<str>, PresenceMember>,
    due: IndexMap<Arc<str>, Due>,
    renew_at: Time,
    /// An update of this channel is out, or failed just now: the next one waits, so that they keep their order and distance.
    is_held: bool,
}

/// What the broker is to be told of a session.
#[derive(Debug)]
enum Due {
    Here,
    Gone(PresenceMember, Time),
}

impl Roster {
    /// A roster for a broker that forgets members after `life`.
    pub fn new(life: Duration) -> Self {
        Roster {
            life,
            channels: IndexMap::new(),
            fresh: VecDeque::new(),
            stale: VecDeque::new(),
            is_stale_next: false,
            renewals: BTreeMap::new(),
            retries: VecDeque::new(),
        }
    }

    /// How often a member is renewed. Those of a dead instance are seen for their life and this long at most, for whoever
    /// renews notices who expired: with a quarter, a life of 30 s comes to 37.5 s.
    fn interval(&self) -> Duration {
        self.life / 4
    }

    /// A connection subscribed.
    pub fn enter(&mut self, channel: &Channel, member: PresenceMember, now: Time) {
        let renew_at = now.after(self.interval());
        let entry = self.channels.entry(channel.clone()).or_insert_with(|| {
            self.renewals.entry(renew_at).or_default().push(channel.clone());
            Entry { here: IndexMap::new(), due: IndexMap::new(), renew_at, is_held: false }
        });
        entry.due.insert(member.session.clone(), Due::Here);
        entry.here.insert(member.session.clone(), member);
        self.fresh.push_back(channel.clone());
    }

    /// A connection unsubscribed or ended; false if it was not here.
    pub fn exit(&mut self, channel: &Channel, session: &str, now: Time) -> bool {
        let until = now.after(self.life);
        let Some(entry) = self.channels.get_mut(channel) else { return false };
        let Some(member) = entry.here.swap_remove(session) else { return false };
        entry.due.insert(member.session.clone(), Due::Gone(member, until));
        self.fresh.push_back(channel.clone());
        true
    }

    /// The next thing that the broker must be told; answered by [`Roster::handle_updated`].
    pub fn poll_update(&mut self) -> Option<Update> {
        while let Some(channel) = self.next_due() {
            let Some(entry) = self.channels.get_mut(&channel) else { continue };
            if entry.is_held {
                continue;
            }
            if entry.due.is_empty() {
                if entry.here.is_empty() {
                    self.channels.swap_remove(&channel);
                }
                continue;
            }
            let mut update = Update { channel, here: Vec::new(), gone: Vec::new() };
            let count = entry.due.len().min(MEMBERS_PER_UPDATE);
            for (session, due) in entry.due.drain(..count) {
                match due {
                    Due::Here => update.here.extend(entry.here.get(&session).cloned()),
                    Due::Gone(member, until) => update.gone.push((member, until)),
                }
            }
            entry.is_held = true;
            self.is_stale_next = !self.is_stale_next;
            return Some(update);
        }
        None
    }

    fn next_due(&mut self) -> Option<Channel> {
        let (first, second) = match self.is_stale_next {
            true => (&mut self.stale, &mut self.fresh),
            false => (&mut self.fresh, &mut self.stale),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// The broker was told, or could not be.
    pub fn handle_updated(&mut self, update: Update, told: bool, now: Time) {
        let Some(entry) = self.channels.get_mut(&update.channel) else { return };
        if !told {
            // What happened meanwhile is newer, and due already.
            for PresenceMember { session, .. } in update.here {
                if entry.here.contains_key(&session) {
                    entry.due.entry(session).or_insert(Due::Here);
                }
            }
            for (member, until) in update.gone {
                if until > now && !entry.here.contains_key(&member.session) {
                    entry.due.entry(member.session.clone()).or_insert(Due::Gone(member, until));
                }
            }
            return self.retries.push_back((now.after(RETRY_AFTER), update.channel));
        }
        entry.is_held = false;
        if !entry.due.is_empty() {
            self.fresh.push_back(update.channel);
        } else if entry.here.is_empty() {
            self.channels.swap_remove(&update.channel);
        }
    }

    /// When [`Roster::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let renewal = self.renewals.first_key_value().map(|(at, _)| *at);
        let retry = self.retries.front().map(|(at, _)| *at);
        [renewal, retry].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        while self.retries.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, channel)) = self.retries.pop_front() else { return };
            if let Some(entry) = self.channels.get_mut(&channel) {
                entry.is_held = false;
                self.stale.push_back(channel);
            }
        }
        while let Some(renewals) = self.renewals.first_entry().filter(|entry| *entry.key() <= now) {
            let (at, channels) = renewals.remove_entry();
            channels.into_iter().for_each(|channel| self.renew(channel, at, now));
        }
    }

    fn renew(&mut self, channel: Channel, at: Time, now: Time) {
        let next = now.after(self.interval());
        // Whoever was forgotten and came back in between has a renewal of its own.
        let Some(entry) = self.channels.get_mut(&channel).filter(|entry| entry.renew_at == at) else {
            return;
        };
        for session in entry.here.keys() {
            entry.due.entry(session.clone()).or_insert(Due::Here);
        }
        entry.renew_at = next;
        self.renewals.entry(next).or_default().push(channel.clone());
        self.stale.push_back(channel);
    }
}

#[cfg(test)]
mod tests;
