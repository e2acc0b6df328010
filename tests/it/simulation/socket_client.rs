//! A WebSocket client: the client's rule for every channel, and the commands that it asks for.

mod held;

use tidings_protocol::{
    Ack, Code, Command, Envelope, ErrorFrame, Frame, HistoryCommand, Outstanding, Position, PublishCommand,
    SubscribeCommand, SubscribedFrame,
};

use super::bugs::Bug;
use super::context::{Context, Outcome, Plan};
use super::link::Up;
use super::publisher::Author;
use crate::history::{ChannelId, ClientId, Event, Step, Want, Witness};
use held::{Held, Phase};

/// A client with its subscriptions and one publish at a time.
pub(crate) struct SocketClient {
    id: ClientId,
    held: Vec<Held>,
    next_command: u64,
    is_greeted: bool,
    sends_connect: bool,
    author: Author,
    /// The command that carries the author's publish on this connection.
    publishing: Option<u64>,
    out: Vec<Up>,
}

impl SocketClient {
    /// A client of some channels.
    pub(crate) fn new(id: ClientId, channels: Vec<ChannelId>, sends_connect: bool) -> Self {
        SocketClient {
            id,
            held: channels.into_iter().map(|channel| Held::new(id, channel)).collect(),
            next_command: 0,
            is_greeted: false,
            sends_connect,
            author: Author::new(100 + id.0 as u32),
            publishing: None,
            out: Vec::new(),
        }
    }

    /// Whether it shows its credential by a command.
    pub(crate) fn sends_connect(&self) -> bool {
        self.sends_connect
    }

    /// What is to be sent.
    pub(crate) fn take_out(&mut self) -> Vec<Up> {
        std::mem::take(&mut self.out)
    }

    /// The connection is open.
    pub(crate) fn handle_open(&mut self) {
        if self.sends_connect {
            self.send(Command::Connect { token: "secret".into() });
        }
    }

    /// The connection is gone; everything starts again on the next one.
    pub(crate) fn handle_gone(&mut self, context: &mut Context) {
        self.is_greeted = false;
        self.publishing = None;
        self.out.clear();
        self.author.doubt();
        for index in 0..self.held.len() {
            let step = self.held[index].witness.disconnected();
            self.take(index, step, context);
            self.held[index].handle_gone();
        }
    }

    /// Answers a ping.
    pub(crate) fn handle_ping(&mut self) {
        self.out.push(Up::Pong);
    }

    /// A frame came.
    pub(crate) fn handle_frame(&mut self, envelope: Envelope, context: &mut Context) {
        let Envelope { id, frame } = envelope;
        match frame {
            Frame::Hello(_) => {
                self.is_greeted = true;
                self.ask_again(context);
            }
            Frame::Subscribed(frame) => self.subscribed(id, &frame, context),
            Frame::Unsubscribed(_) => self.unsubscribed(id, context),
            Frame::Batch(frame) => {
                let channel = context.id(&frame.channel);
                self.continue_with(channel, context, |witness| witness.batch(&frame));
            }
            Frame::Gap(frame) => {
                let channel = context.id(&frame.channel);
                self.continue_with(channel, context, |witness| witness.gap(&frame));
            }
            Frame::History(frame) => {
                let Some(held) = self.held.iter_mut().find(|held| held.reads_by(id)) else {
                    return;
                };
                held.history = None;
                let channel = held.channel();
                self.continue_with(channel, context, |witness| witness.history(&frame));
            }
            Frame::Published(frame) => self.published(id, Outcome::Stored(frame.position), context),
            Frame::Error(frame) => self.refused(id, &frame, context),
            Frame::Continued(frame) => {
                if let Some(channel) = frame.channel.as_ref().map(|channel| context.id(channel)) {
                    self.continue_with(channel, context, |witness| witness.continued(&frame));
                }
            }
            Frame::Presence(_)
            | Frame::Watched(_)
            | Frame::Unwatched {}
            | Frame::Invalidated(_)
            | Frame::At(_)
            | Frame::Reset(_)
            | Frame::Degraded(_)
            | Frame::Restored(_)
            | Frame::Refreshed(_)
            | Frame::Pong { .. }
            | Frame::Disconnect(_) => {}
        }
    }

    fn subscribed(&mut self, id: Option<u64>, frame: &SubscribedFrame, context: &mut Context) {
        let Some(held) = self.held.iter_mut().find(|held| held.subscribes_by(id)) else { return };
        held.phase = Phase::On;
        let channel = held.channel();
        self.continue_with(channel, context, |witness| witness.subscribed(frame));
    }

    fn unsubscribed(&mut self, id: Option<u64>, context: &mut Context) {
        let answers = |held: &&mut Held| id.is_some_and(|id| held.phase == Phase::Leaving(id));
        let Some(held) = self.held.iter_mut().find(answers) else { return };
        held.phase = Phase::Away;
        context.soon(100, 2_500, Plan::AskAgain(self.id));
    }

    fn published(&mut self, id: Option<u64>, outcome: Outcome, context: &mut Context) {
        if id.is_some() && self.publishing == id {
            self.publishing = None;
            if self.author.handle_outcome(outcome, context) {
                context.soon(50, 300, Plan::AskAgain(self.id));
            }
        }
    }

    /// A command was refused: asked again after a while.
    fn refused(&mut self, id: Option<u64>, frame: &ErrorFrame, context: &mut Context) {
        let is_unknown = frame.code == Code::OutcomeUnknown;
        self.published(id, if is_unknown { Outcome::Unknown } else { Outcome::Refused }, context);
        for held in &mut self.held {
            let subscribes = held.subscribes_by(id);
            if subscribes || held.reads_by(id) {
                assert!(frame.retryable, "nothing here is forbidden: {frame:?}");
                held.phase = if subscribes { Phase::Wanted } else { held.phase };
                held.history = None;
                context.soon(50, 300, Plan::AskAgain(self.id));
            }
        }
    }

    fn continue_with(
        &mut self,
        channel: ChannelId,
        context: &mut Context,
        step: impl FnOnce(&mut Witness) -> Step,
    ) {
        let Some(index) = self.held.iter().position(|held| held.channel() == channel) else { return };
        // What comes while another subscription is on its way belongs to the one before it.
        if self.held[index].phase == Phase::On {
            let step = step(&mut self.held[index].witness);
            self.take(index, step, context);
        }
    }

    fn take(&mut self, index: usize, step: Step, context: &mut Context) {
        for event in step.events {
            if !(context.has_bug(Bug::GapSwallowed) && matches!(event, Event::Gap { .. })) {
                context.record(event);
            }
        }
        match step.want {
            Some(Want::Page) => self.ask_history(index, context),
            Some(Want::Again) => {
                let channel = context.spec(self.held[index].channel()).channel.clone();
                self.send(Command::Unsubscribe { channel });
                self.subscribe(index, context);
            }
            None => {}
        }
    }

    fn ask_history(&mut self, index: usize, context: &Context) {
        let held = &self.held[index];
        let (channel, since) =
            (context.spec(held.channel()).channel.clone(), held.witness.position().cloned());
        let id = self.send(Command::History(HistoryCommand { channel, since, limit: None }));
        self.held[index].history = Some(id);
    }

    fn subscribe(&mut self, index: usize, context: &Context) {
        let channel = context.spec(self.held[index].channel()).channel.clone();
        let since = self.held[index].witness.position().cloned();
        let id = self.send(Command::Subscribe(SubscribeCommand::new(channel, since)));
        let held = &mut self.held[index];
        (held.phase, held.history) = (Phase::Subscribing(id), None);
    }

    /// Asks for all that is wanted and was not asked for yet.
    pub(crate) fn ask_again(&mut self, context: &mut Context) {
        for held in self.held.iter_mut().filter(|held| held.phase == Phase::Away) {
            held.phase = Phase::Wanted;
        }
        if !self.is_greeted {
            return;
        }
        for index in 0..self.held.len() {
            let held = &self.held[index];
            let pages = held.witness.outstanding() == Some(Outstanding::History);
            match held.phase {
                Phase::Wanted => self.subscribe(index, context),
                Phase::On if pages && held.history.is_none() => self.ask_history(index, context),
                _ => {}
            }
        }
        self.publish(context);
    }

    /// The application wants to publish.
    pub(crate) fn publish_something(&mut self, context: &mut Context) {
        self.author.think_of_something(context);
        self.publish(context);
    }

    fn publish(&mut self, context: &Context) {
        if !self.is_greeted || self.publishing.is_some() {
            return;
        }
        let Some((publish, channel, payload)) = self.author.current() else { return };
        let channel = context.spec(channel).channel.clone();
        let key = Some(publish.key());
        let (id, ack) = (None, Ack::Stored);
        let command = PublishCommand { channel, payload, key: None, id, idempotency_key: key, ack };
        self.publishing = Some(self.send(Command::Publish(command)));
    }

    /// Leaves one channel for a while; without its position it begins anew.
    pub(crate) fn leave_one(&mut self, context: &mut Context) -> bool {
        let index = context.random.below(self.held.len());
        if self.held[index].phase != Phase::On {
            return false;
        }
        let channel = context.spec(self.held[index].channel()).channel.clone();
        let id = self.send(Command::Unsubscribe { channel });
        let step = self.held[index].witness.disconnected();
        self.take(index, step, context);
        let held = &mut self.held[index];
        (held.phase, held.history) = (Phase::Leaving(id), None);
        if context.random.chance(300) {
            context.record(held.witness.leave());
        }
        true
    }

    fn send(&mut self, command: Command) -> u64 {
        self.next_command += 1;
        self.out.push(Up::Command(self.next_command, command));
        self.next_command
    }

    /// How far each subscription got; nowhere, where there is none that should be.
    pub(crate) fn positions(&self) -> Vec<(ChannelId, Option<Position>)> {
        self.held.iter().map(|held| (held.channel(), held.position())).collect()
    }
}
