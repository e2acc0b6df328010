//! One client's share of a history: the client's rule for one channel, and the events that its application learns by it.
//!
//! It sends nothing: what is to be asked comes back to whoever holds the connection.

use tidings_protocol::{
    BatchFrame, ContinuedFrame, Continuity, GapFrame, HistoryFrame, Offset, Outstanding, Position, Reaction,
    SubscribedFrame,
};

use super::{ChannelId, ClientId, Event, PublishId};

/// One client on one channel.
pub(crate) struct Witness {
    client: ClientId,
    channel: ChannelId,
    continuity: Continuity,
    /// The application has seen where the channel begins.
    has_begun: bool,
}

/// What one frame, or the end of a connection, comes to.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) events: Vec<Event>,
    pub(crate) want: Option<Want>,
}

/// What is to be asked next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Want {
    /// The next page of history.
    Page,
    /// The subscription anew.
    Again,
}

impl Witness {
    /// A client that knows nothing of the channel yet.
    pub(crate) fn new(client: ClientId, channel: ChannelId) -> Self {
        Witness { client, channel, continuity: Continuity::new(), has_begun: false }
    }

    pub(crate) fn channel(&self) -> ChannelId {
        self.channel
    }

    /// What to send as `since`.
    pub(crate) fn position(&self) -> Option<&Position> {
        self.continuity.position()
    }

    /// The command whose answer decides what comes next.
    pub(crate) fn outstanding(&self) -> Option<Outstanding> {
        self.continuity.outstanding()
    }

    /// The client wants nothing more, and forgets where it stood.
    pub(crate) fn leave(&mut self) -> Event {
        let (client, channel) = (self.client, self.channel);
        *self = Witness::new(client, channel);
        Event::Left { client, channel }
    }

    pub(crate) fn disconnected(&mut self) -> Step {
        let reactions = self.continuity.disconnected();
        self.tell(None, reactions)
    }

    pub(crate) fn subscribed(&mut self, frame: &SubscribedFrame) -> Step {
        let (client, channel) = (self.client, self.channel);
        let before = self.continuity.position().cloned();
        let first = match (&frame.position, std::mem::replace(&mut self.has_begun, true)) {
            (position, false) => Some(Event::Began { client, channel, position: position.clone() }),
            (Some(position), true) if before.is_none() => {
                Some(Event::Resumed { client, channel, position: position.clone() })
            }
            // A resume that succeeds in another epoch continues in it.
            (Some(position), true) if frame.recovered == Some(true) => self.continued_in(before, position),
            (_, true) => None,
        };
        let reactions = self.continuity.subscribed(frame);
        self.tell(first, reactions)
    }

    pub(crate) fn continued(&mut self, frame: &ContinuedFrame) -> Step {
        let before = self.continuity.position().cloned();
        let reactions = self.continuity.continued(frame);
        let is_taken = self.continuity.position() == Some(&frame.position);
        let first = self.continued_in(before.filter(|_| is_taken), &frame.position);
        self.tell(first, reactions)
    }

    pub(crate) fn batch(&mut self, frame: &BatchFrame) -> Step {
        let reactions = self.continuity.batch(frame);
        self.tell(None, reactions)
    }

    pub(crate) fn gap(&mut self, frame: &GapFrame) -> Step {
        let reactions = self.continuity.gap(frame);
        self.tell(None, reactions)
    }

    pub(crate) fn history(&mut self, frame: &HistoryFrame) -> Step {
        let reactions = self.continuity.history(frame);
        self.tell(None, reactions)
    }

    fn continued_in(&self, before: Option<Position>, position: &Position) -> Option<Event> {
        let from = before.filter(|before| before.epoch != position.epoch)?;
        let position = position.epoch.at(from.offset);
        Some(Event::Continued { client: self.client, channel: self.channel, from, position })
    }

    fn tell(&self, first: Option<Event>, reactions: Vec<Reaction>) -> Step {
        let (client, channel) = (self.client, self.channel);
        let now = self.continuity.position().cloned();
        let at = |offset: Option<Offset>| now.as_ref().zip(offset).map(|(now, offset)| now.epoch.at(offset));
        let mut step = Step { events: first.into_iter().collect(), want: None };
        let mut reactions = reactions.into_iter().peekable();
        while let Some(reaction) = reactions.next() {
            match reaction {
                Reaction::Deliver(publication) => {
                    let publish = PublishId::of(&publication.payload);
                    let position = at(publication.offset);
                    step.events.push(Event::Delivered { client, channel, position, publish });
                }
                Reaction::Gap(reason) => {
                    // A gap ends before what is delivered next; without that, where the channel stands now.
                    let position = match reactions.peek() {
                        Some(Reaction::Deliver(next)) => at(next.offset.map(Offset::previous)),
                        _ => now.clone(),
                    };
                    step.events.push(Event::Gap { client, channel, reason, position });
                }
                Reaction::AskHistory(_) => step.want = Some(Want::Page),
                Reaction::Resubscribe(_) => step.want = Some(Want::Again),
            }
        }
        step
    }
}
