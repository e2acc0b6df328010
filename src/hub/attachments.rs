//! Who is attached to which channel, and who waits until the broker listens to it. It alone says what the broker is to
//! listen to: a channel is of interest exactly while somebody is attached to it.
//!
//! ```text
//!   attach ──▶ attached ──the broker does not listen yet──▶ waiting ──the broker listens──▶ Attached::Listening
//!                 │                                          │   └──── LISTEN_TIMEOUT ───▶ Attached::TimedOut
//!                 └──the broker listens──▶ Attached::Listening └── the session is gone ──▶ no answer
//! ```
//!
//! Nothing is counted, and nothing must be called in pairs: `detach` and `remove` may come twice, or without an `attach`.
//! It does not know what the broker is, and tells it by the function that each change is handed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use tidings_protocol::Channel;

use super::{BatchRules, Hub, SessionId, Time};
use crate::ablation::{Safeguard, ablated};

/// How long somebody waits until a channel is listened to: what an outage may take (P10).
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Somebody who wants a channel. `W` is who gets the answer.
#[derive(Debug)]
pub struct Attach<M, W> {
    /// The channel.
    pub channel: Channel,
    /// Whose attachment it is.
    pub session: SessionId,
    /// How it is reached.
    pub mailbox: M,
    /// How the channel batches.
    pub rules: Arc<BatchRules>,
    /// Who gets the answer.
    pub waiter: W,
}

/// The answer to an [`Attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// What is published from now on is announced here, and delivered.
    Listening,
    /// The broker did not listen in time. The session stays attached until it is detached.
    TimedOut,
}

/// The hub, with those who wait for the broker. See the module.
#[derive(Debug)]
pub struct Attachments<M, W> {
    /// Who is attached.
    pub hub: Hub<M>,
    waiting: IndexMap<Channel, IndexMap<SessionId, Waiting<W>>>,
    deadlines: BTreeSet<(Time, SessionId, Channel)>,
    answers: VecDeque<(W, Attached)>,
}

#[derive(Debug)]
struct Waiting<W> {
    /// What the broker called its promise to listen.
    number: u64,
    until: Time,
    waiter: W,
}

impl<M, W> Default for Attachments<M, W> {
    fn default() -> Self {
        Attachments {
            hub: Hub::default(),
            waiting: IndexMap::new(),
            deadlines: BTreeSet::new(),
            answers: VecDeque::new(),
        }
    }
}

impl<M, W> Attachments<M, W> {
    /// Attaches a session. `set_interest` tells the broker whether it is to listen to a channel, and returns the number that
    /// [`Attachments::handle_listening`] will be called with, or `None` where there is nothing to wait for.
    pub fn attach(
        &mut self,
        attach: Attach<M, W>,
        now: Time,
        set_interest: impl FnOnce(&Channel, bool) -> Option<u64>,
    ) {
        let Attach { channel, session, mailbox, rules, waiter } = attach;
        self.hub.attach(&channel, session, mailbox, &rules);
        // Also where others are attached: whoever comes second must not read history before the first one's listening is
        // confirmed, nor while the broker has lost its connection.
        match set_interest(&channel, true) {
            None => self.answers.push_back((waiter, Attached::Listening)),
            Some(number) => {
                self.stop_waiting(&channel, session);
                let until = now.after(LISTEN_TIMEOUT);
                self.deadlines.insert((until, session, channel.clone()));
                let waiting = Waiting { number, until, waiter };
                self.waiting.entry(channel).or_default().insert(session, waiting);
            }
        }
    }

    /// Detaches a session from a channel.
    pub fn detach(
        &mut self,
        channel: &Channel,
        session: SessionId,
        set_interest: impl FnOnce(&Channel, bool) -> Option<u64>,
    ) {
        self.stop_waiting(channel, session);
        if self.hub.detach(channel, session) {
            set_interest(channel, false);
        }
    }

    /// The session is gone: it is detached from all its channels.
    pub fn remove(
        &mut self,
        session: SessionId,
        mut set_interest: impl FnMut(&Channel, bool) -> Option<u64>,
    ) {
        for (channel, was_last) in self.hub.remove(session) {
            let was_waiting = self.stop_waiting(&channel, session);
            if was_last || (was_waiting && ablated(Safeguard::Interest)) {
                set_interest(&channel, false);
            }
        }
    }

    /// The broker listens to the channel, as it was asked to by the call of that number and by those before.
    pub fn handle_listening(&mut self, channel: &Channel, number: u64) {
        let Some(waiting) = self.waiting.get_mut(channel) else { return };
        let (answered, rest) = std::mem::take(waiting).into_iter().partition(|(_, of)| of.number <= number);
        *waiting = rest;
        if waiting.is_empty() {
            self.waiting.swap_remove(channel);
        }
        let answered: IndexMap<_, Waiting<W>> = answered;
        for (session, Waiting { until, waiter, .. }) in answered {
            self.deadlines.remove(&(until, session, channel.clone()));
            self.answers.push_back((waiter, Attached::Listening));
        }
    }

    /// When [`Attachments::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first().map(|(until, ..)| *until)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        while self.poll_timeout().is_some_and(|until| until <= now)
            && let Some((_, session, channel)) = self.deadlines.pop_first()
        {
            let waiting = self.take_waiting(&channel, session);
            self.answers.extend(waiting.map(|waiting| (waiting.waiter, Attached::TimedOut)));
        }
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(W, Attached)> {
        self.answers.pop_front()
    }

    /// The number of those who wait for the broker.
    pub fn waiting(&self) -> usize {
        self.deadlines.len()
    }

    /// Forgets that the session waits for the channel. Whether it did.
    fn stop_waiting(&mut self, channel: &Channel, session: SessionId) -> bool {
        let Some(waiting) = self.take_waiting(channel, session) else { return false };
        self.deadlines.remove(&(waiting.until, session, channel.clone()));
        true
    }

    fn take_waiting(&mut self, channel: &Channel, session: SessionId) -> Option<Waiting<W>> {
        let waiting = self.waiting.get_mut(channel)?;
        let taken = waiting.swap_remove(&session);
        if waiting.is_empty() {
            self.waiting.swap_remove(channel);
        }
        taken
    }
}

#[cfg(test)]
mod tests;
