//! What a WebSocket client says and concludes: several channels on one connection, each resumed where it was.
//!
//! What is missing of a channel is for its [`Continuity`] to say; here commands get their ids, and answers find their channel.
//! It reads no socket and does not wait.

use std::time::Duration;

use indexmap::IndexMap;
use tidings_protocol::{
    BatchFrame, Channel, Command, ContinuedFrame, Continuity, DisconnectFrame, Envelope, Epoch, ErrorFrame,
    Frame, GapFrame, HelloFrame, HistoryCommand, HistoryFrame, Position, Reaction, SubscribeCommand,
    SubscribedFrame, UnsubscribedFrame,
};

use super::step::{End, Shown, Step};

/// How much longer than the server's ping interval silence may last: one lost packet's retransmissions, and jitter.
const GRACE: Duration = Duration::from_secs(15);

/// The server's interval until it says another: 25 s.
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// The longest interval that is believed.
const PING_INTERVAL_MAX: Duration = Duration::from_secs(600);

/// The channels of one client over all its connections.
pub(super) struct Conversation {
    feeds: IndexMap<Channel, Feed>,
    last_id: u64,
    idle: Duration,
    /// How long the server asked to stay away.
    after: Option<Duration>,
}

struct Feed {
    continuity: Continuity,
    /// The command that is out. Answers to others are not for this reader: a credential subscribes to channels by itself,
    /// at their heads.
    asked: Option<u64>,
}

impl Conversation {
    /// Channels of which nothing is known, but `since` of the only one.
    pub(super) fn new(channels: Vec<Channel>, since: Option<Position>) -> Self {
        let continuity = since.map_or_else(Continuity::new, Continuity::since);
        let feed = |channel| (channel, Feed { continuity: continuity.clone(), asked: None });
        Conversation {
            feeds: channels.into_iter().map(feed).collect(),
            last_id: 0,
            idle: PING_INTERVAL + GRACE,
            after: None,
        }
    }

    /// How long the server may be silent before it counts as gone.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    /// The connection is gone.
    pub(super) fn handle_disconnected(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for index in 0..self.feeds.len() {
            let feed = &mut self.feeds[index];
            feed.asked = None;
            let reactions = feed.continuity.disconnected();
            steps.extend(self.react(index, None, reactions));
        }
        steps
    }

    /// How long the server asked to stay away, if it did.
    pub(super) fn take_pause(&mut self) -> Option<Duration> {
        self.after.take()
    }

    /// What to do about a frame.
    pub(super) fn handle_frame(&mut self, envelope: Envelope) -> Vec<Step> {
        let Envelope { id, frame } = envelope;
        match frame {
            Frame::Hello(hello) => self.greeted(&hello),
            Frame::Subscribed(frame) => self.subscribed(id, &frame),
            Frame::Batch(frame) => self.batch(&frame),
            Frame::History(frame) => self.history(id, &frame),
            Frame::Gap(frame) => self.gap(&frame),
            Frame::Continued(frame) => self.continued(&frame),
            Frame::Unsubscribed(frame) => self.unsubscribed(&frame),
            Frame::Error(frame) => self.failed(id, &frame),
            Frame::Disconnect(frame) => self.disconnect(&frame),
            Frame::Degraded(frame) => vec![Step::Degraded(frame)],
            Frame::Restored(frame) => vec![Step::Restored(frame)],
            // Nothing that was asked for here.
            Frame::Presence(_)
            | Frame::Published(_)
            | Frame::Refreshed(_)
            | Frame::Watched(_)
            | Frame::Unwatched {}
            | Frame::Invalidated(_)
            | Frame::At(_)
            | Frame::Reset(_)
            | Frame::Pong { .. } => Vec::new(),
        }
    }

    fn greeted(&mut self, hello: &HelloFrame) -> Vec<Step> {
        self.idle = Duration::from_millis(hello.ping_interval_ms).min(PING_INTERVAL_MAX) + GRACE;
        (0..self.feeds.len()).map(|index| self.subscribe(index)).collect()
    }

    fn subscribe(&mut self, index: usize) -> Step {
        let (channel, since) = (self.channel(index), self.feeds[index].continuity.position().cloned());
        self.ask(index, Command::Subscribe(SubscribeCommand::new(channel, since)))
    }

    fn ask(&mut self, index: usize, command: Command) -> Step {
        self.last_id += 1;
        self.feeds[index].asked = Some(self.last_id);
        Step::Say(Some(self.last_id), command)
    }

    fn subscribed(&mut self, id: Option<u64>, frame: &SubscribedFrame) -> Vec<Step> {
        let Some(index) = self.answered(id) else { return Vec::new() };
        let reactions = self.feeds[index].continuity.subscribed(frame);
        let epoch = frame.position.as_ref().map(|position| &position.epoch);
        let mut steps = vec![Step::Up];
        steps.extend(self.react(index, epoch, reactions));
        steps
    }

    fn history(&mut self, id: Option<u64>, frame: &HistoryFrame) -> Vec<Step> {
        let Some(index) = self.answered(id) else { return Vec::new() };
        let reactions = self.feeds[index].continuity.history(frame);
        self.react(index, Some(&frame.position.epoch), reactions)
    }

    fn batch(&mut self, frame: &BatchFrame) -> Vec<Step> {
        let Some(index) = self.feeds.get_index_of(&frame.channel) else { return Vec::new() };
        let reactions = self.feeds[index].continuity.batch(frame);
        self.react(index, frame.epoch.as_ref(), reactions)
    }

    fn gap(&mut self, frame: &GapFrame) -> Vec<Step> {
        let Some(index) = self.feeds.get_index_of(&frame.channel) else { return Vec::new() };
        let reactions = self.feeds[index].continuity.gap(frame);
        self.react(index, None, reactions)
    }

    fn continued(&mut self, frame: &ContinuedFrame) -> Vec<Step> {
        let index = frame.channel.as_ref().and_then(|channel| self.feeds.get_index_of(channel));
        let Some(index) = index else { return Vec::new() };
        let reactions = self.feeds[index].continuity.continued(frame);
        self.react(index, None, reactions)
    }

    fn unsubscribed(&mut self, frame: &UnsubscribedFrame) -> Vec<Step> {
        let UnsubscribedFrame { channel, code } = frame;
        let (Some(index), Some(code)) = (self.feeds.get_index_of(channel), code) else { return Vec::new() };
        let reactions = self.feeds[index].continuity.ended();
        let mut steps = self.react(index, None, reactions);
        let words = format!("{code}: the subscription to {channel} ended: {}", code.meaning());
        steps.push(Step::End(End::Refused(words)));
        steps
    }

    fn failed(&mut self, id: Option<u64>, frame: &ErrorFrame) -> Vec<Step> {
        let Some(index) = self.answered(id) else { return Vec::new() };
        let ErrorFrame { code, message, retryable, .. } = frame;
        let words = format!("{code}: {message}");
        if code.status() >= 500 {
            return vec![Step::End(End::cut(words))];
        }
        let reactions = self.feeds[index].continuity.refused(frame);
        let mut steps = self.react(index, None, reactions);
        // Limits may be lifted one day, but a reader that shows nothing until then looks like a quiet channel.
        if *retryable || self.feeds[index].continuity.has_ended() {
            steps.push(Step::End(End::Refused(words)));
        }
        steps
    }

    fn disconnect(&mut self, frame: &DisconnectFrame) -> Vec<Step> {
        self.after = frame.after_ms.map(Duration::from_millis);
        match frame.reconnect {
            true => Vec::new(),
            false => vec![Step::End(End::Refused(frame.reason.clone()))],
        }
    }

    /// The channel whose command is answered by this.
    fn answered(&mut self, id: Option<u64>) -> Option<usize> {
        let index = self.feeds.values().position(|feed| id.is_some() && feed.asked == id)?;
        self.feeds[index].asked = None;
        Some(index)
    }

    fn channel(&self, index: usize) -> Channel {
        self.feeds.get_index(index).expect("indices come from the map itself").0.clone()
    }

    fn react(&mut self, index: usize, epoch: Option<&Epoch>, reactions: Vec<Reaction>) -> Vec<Step> {
        let mut steps = Vec::with_capacity(reactions.len());
        for reaction in reactions {
            let channel = self.channel(index);
            match reaction {
                Reaction::Deliver(publication) => {
                    steps.push(Step::Show(Shown { channel, epoch: epoch.cloned(), publication }));
                }
                Reaction::Gap(reason) => {
                    let position = self.feeds[index].continuity.position().cloned();
                    steps.push(Step::Gap(GapFrame { channel, reason, position }));
                }
                Reaction::AskHistory(since) => {
                    let history = HistoryCommand { channel, since: Some(since), limit: None };
                    steps.push(self.ask(index, Command::History(history)));
                }
                Reaction::Resubscribe(_) => {
                    steps.push(Step::Say(None, Command::Unsubscribe { channel }));
                    steps.push(self.subscribe(index));
                }
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests;
