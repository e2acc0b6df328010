//! Those who publish: one thing at a time, tried again until its outcome is known.

use std::time::Duration;

use tidings_protocol::{Ack, Payload};

use super::context::{CALM, Context, Outcome, Plan, Start};
use super::faults::Fault;
use crate::history::{ChannelId, Event, PublishId};

/// Quiet channels get their last messages until so long after the faults: while clients that were cut come back.
const LAST_MESSAGES: Duration = Duration::from_millis(700);

/// Who publishes, with what is not known to be stored or refused yet.
pub(crate) struct Author {
    name: u32,
    number: u32,
    current: Option<Current>,
}

struct Current {
    publish: PublishId,
    channel: ChannelId,
    bytes: usize,
    /// An earlier try may have been stored.
    is_doubtful: bool,
}

impl Author {
    /// An author who published nothing yet.
    pub(crate) fn new(name: u32) -> Self {
        Author { name, number: 0, current: None }
    }

    /// What is to be published now.
    pub(crate) fn current(&self) -> Option<(PublishId, ChannelId, Payload)> {
        let current = self.current.as_ref()?;
        Some((current.publish, current.channel, current.publish.payload(current.bytes)))
    }

    /// What is on its way, with the size of its filling.
    fn on_its_way(&self) -> Option<(PublishId, ChannelId, usize)> {
        self.current.as_ref().map(|current| (current.publish, current.channel, current.bytes))
    }

    /// Something for a busy channel, unless something is on its way.
    pub(crate) fn think_of_something(&mut self, context: &mut Context) {
        let busy = context.channels.iter().filter(|spec| !spec.is_quiet).count();
        let channel = ChannelId(context.random.below(busy));
        self.think_of(channel, context);
    }

    /// Something for this channel, unless something is on its way.
    pub(crate) fn think_of(&mut self, channel: ChannelId, context: &mut Context) {
        if self.current.is_none() {
            self.number += 1;
            let publish = PublishId { author: self.name, number: self.number };
            let bytes = context.random.below(200);
            self.current = Some(Current { publish, channel, bytes, is_doubtful: false });
        }
    }

    /// What was tried may be stored, and nobody will say.
    pub(crate) fn doubt(&mut self) {
        if let Some(current) = &mut self.current {
            current.is_doubtful = true;
        }
    }

    /// An answer came. True if it must be tried again.
    pub(crate) fn handle_outcome(&mut self, outcome: Outcome, context: &mut Context) -> bool {
        let Some(current) = &self.current else { return false };
        let (publish, channel) = (current.publish, current.channel);
        match outcome {
            Outcome::Stored(position) => {
                context.record(Event::Acked { publish, channel, position, ack: Ack::Stored });
            }
            // Surely not stored, and no earlier try is in doubt: some give it up.
            Outcome::Refused if !current.is_doubtful && context.random.chance(500) => {
                context.record(Event::Failed { publish, channel });
            }
            Outcome::Refused => return true,
            Outcome::Unknown => {
                self.doubt();
                return true;
            }
        }
        self.current = None;
        false
    }
}

/// A publish over HTTP on its way.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) publish: PublishId,
    pub(crate) channel: ChannelId,
    pub(crate) bytes: usize,
    pub(crate) attempt: u32,
    /// The start of the instance that it was sent to: it does not survive its end.
    pub(crate) to: Start,
}

/// A backend that publishes over HTTP.
pub(crate) struct Publisher {
    index: usize,
    author: Author,
    attempt: u32,
    /// Of channels that are published on seldom: who misses a message there hears of no next one.
    is_quiet: bool,
    /// What it publishes one after the other without a pause.
    burst: usize,
}

impl Publisher {
    /// The publisher of that number.
    pub(crate) fn new(index: usize, is_quiet: bool) -> Self {
        Publisher { index, author: Author::new(index as u32), attempt: 0, is_quiet, burst: 0 }
    }

    /// Thinks of something if nothing is on its way, and tries it (again).
    pub(crate) fn turn(&mut self, context: &mut Context) {
        if self.author.on_its_way().is_none() {
            match self.is_quiet {
                true => {
                    let quiet: Vec<usize> =
                        (0..context.channels.len()).filter(|id| context.channels[*id].is_quiet).collect();
                    let channel = ChannelId(context.random.pick(&quiet));
                    self.author.think_of(channel, context);
                }
                false => self.author.think_of_something(context),
            }
        }
        self.send(context);
    }

    /// Tries it with any instance.
    fn send(&mut self, context: &mut Context) {
        let Some((publish, channel, bytes)) = self.author.on_its_way() else { return };
        self.attempt += 1;
        let attempt = self.attempt;
        let to = context.some_instance();
        let late = context.inject(Fault::RequestLate, context.profile.late);
        let arrives = Plan::RequestArrives(Request { publish, channel, bytes, attempt, to });
        match late {
            true => context.soon(300, 900, arrives),
            false => context.soon(1, 10, arrives),
        }
        context.soon(250, 300, Plan::RequestTimedOut { publish, attempt });
    }

    /// The answer to one of its attempts.
    pub(crate) fn handle_answer(
        &mut self,
        publish: PublishId,
        attempt: u32,
        outcome: Outcome,
        context: &mut Context,
    ) {
        let answers = self.author.on_its_way().is_some_and(|(current, ..)| current == publish);
        if !answers || attempt != self.attempt {
            return;
        }
        let again = self.author.handle_outcome(outcome, context);
        match again {
            true => context.soon(50, 150, Plan::PublisherTurn(self.index)),
            false => self.rest(context),
        }
    }

    /// No answer came: tried again with the same key.
    pub(crate) fn handle_timeout(&mut self, publish: PublishId, attempt: u32, context: &mut Context) {
        let waits = self.author.on_its_way().is_some_and(|(current, ..)| current == publish);
        if waits && attempt == self.attempt {
            self.author.doubt();
            self.send(context);
        }
    }

    /// Waits for the next thing to publish; the last ones fall into the beginning of the calm.
    fn rest(&mut self, context: &mut Context) {
        if context.now() > CALM.after(Duration::from_secs(2))
            || (self.is_quiet && context.now() > CALM.after(LAST_MESSAGES))
        {
            return;
        }
        let turn = Plan::PublisherTurn(self.index);
        if self.is_quiet {
            return context.soon(50, 1_500, turn);
        }
        if self.burst == 0 && context.random.chance(60) {
            self.burst = 25;
        }
        self.burst = self.burst.saturating_sub(1);
        match self.burst {
            0 => context.soon(20, 400, turn),
            _ => context.soon(0, 5, turn),
        }
    }
}
