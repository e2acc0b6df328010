//! The one loop that owns the hub: commands of connections and events of the broker go in, batches go into mailboxes.

use std::sync::Arc;

use tidings_protocol::{Channel, LogName, Position, Tag};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::SharedMailbox;
use super::cluster::Cluster;
use super::connections::Connections;
use super::logs::{LogRequest, Logs};
use super::wakes::Wakes;
use crate::broker::{Broker, BrokerEvent};
use crate::clock::Clock;
use crate::hub::{Attach, Attached, Attachments, BatchRules, BrokerState, Sealed, SessionId, Time};
use crate::observe::Metrics;

/// Events taken in before the windows are looked at again: a busy broker must not hold up a tick.
const EVENTS_PER_ROUND: usize = 1_024;

/// What connections ask of the hub.
pub(super) enum NodeCommand {
    /// Deliver the channel to the session; answered once the broker listens to it.
    Attach { channel: Channel, session: SessionId, rules: Arc<BatchRules>, done: oneshot::Sender<Attached> },
    /// Stop delivering the channel and its companion.
    Detach { channel: Channel, session: SessionId, done: oneshot::Sender<()> },
    /// Deliver what was announced and what waits for its window now.
    Flush { done: oneshot::Sender<()> },
    /// Ask something of a mutation log; answered at once with whether there is room for it.
    Log { log: LogName, request: LogRequest, taken: oneshot::Sender<()> },
    /// A mutation was acknowledged.
    Acknowledged { log: LogName, position: Position, tags: Arc<[Tag]> },
    /// The connection ended: its session is attached to nothing and watches nothing any more. Comes after everything else
    /// that the session asked for.
    Gone { session: SessionId },
    /// The channels with subscribers here, at most `limit`.
    Channels { limit: usize, done: oneshot::Sender<Vec<(Channel, usize)>> },
}

pub(super) struct EventLoop {
    pub(super) attachments: Attachments<Arc<SharedMailbox>, oneshot::Sender<Attached>>,
    pub(super) connections: Arc<Connections>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) commands: mpsc::Receiver<NodeCommand>,
    pub(super) events: mpsc::Receiver<BrokerEvent>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) logs: Logs,
    pub(super) wakes: Wakes,
}

impl EventLoop {
    /// Runs until the node and the broker are gone.
    pub(super) async fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_PER_ROUND);
        loop {
            let next_due = self.next_due().map(|due| self.clock.instant(due));
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                count = self.events.recv_many(&mut events, EVENTS_PER_ROUND), if !self.events.is_closed() => {
                    self.metrics.broker_events(count);
                    for event in events.drain(..) {
                        self.handle_event(event);
                    }
                },
                report = self.logs.report() => self.logs.handle_report(report, &mut self.wakes),
                () = sleep_until(next_due) => {}
            }
            self.handle_due();
            self.wakes.wake_all();
        }
    }

    fn next_due(&self) -> Option<Time> {
        let (hub, waiting) = (self.attachments.hub.next_due(), self.attachments.poll_timeout());
        [hub, waiting, self.wakes.next_due(), self.logs.next_due()].into_iter().flatten().min()
    }

    fn handle_command(&mut self, command: NodeCommand) {
        // Whoever asked may be gone by now; then nobody needs the answer.
        match command {
            NodeCommand::Attach { channel, session, rules, done } => {
                self.attach(channel, session, rules, done)
            }
            NodeCommand::Detach { channel, session, done } => {
                let broker = &self.broker;
                for channel in [channel.presence(), channel] {
                    self.attachments.detach(&channel, session, |of, wanted| broker.set_interest(of, wanted));
                }
                self.show_channels(session);
                done.send(()).ok();
            }
            NodeCommand::Flush { done } => {
                // What was accepted may still wait among the announcements; no more are made.
                while let Ok(event) = self.events.try_recv() {
                    self.handle_event(event);
                }
                let sealed = self.attachments.hub.seal_all(self.clock.now());
                self.deliver(sealed);
                done.send(()).ok();
            }
            NodeCommand::Log { log, request, taken } => {
                self.logs.handle_request(&log, request);
                taken.send(()).ok();
            }
            NodeCommand::Acknowledged { log, position, tags } => {
                self.logs.handle_acknowledged(&log, &position, tags);
            }
            NodeCommand::Gone { session } => {
                let broker = &self.broker;
                self.attachments.remove(session, |of, wanted| broker.set_interest(of, wanted));
                self.logs.forget(session);
            }
            NodeCommand::Channels { limit, done } => {
                let channels = self.attachments.hub.channels();
                let channels = channels
                    .filter(|(channel, _)| !channel.is_presence())
                    .take(limit)
                    .map(|(channel, count)| (channel.clone(), count));
                done.send(channels.collect()).ok();
            }
        }
    }

    fn attach(
        &mut self,
        channel: Channel,
        session: SessionId,
        rules: Arc<BatchRules>,
        waiter: oneshot::Sender<Attached>,
    ) {
        // A connection that ended is attached to nothing any more, in whatever order this is heard of.
        let Some(mailbox) = self.connections.mailbox(session) else { return };
        let (broker, now) = (&self.broker, self.clock.now());
        let attach = Attach { channel, session, mailbox, rules, waiter };
        self.attachments.attach(attach, now, |of, wanted| broker.set_interest(of, wanted));
        self.show_channels(session);
    }

    /// Lets operators see how many channels the session is attached to.
    fn show_channels(&self, session: SessionId) {
        if let Some(mailbox) = self.connections.mailbox(session) {
            let channels = self.attachments.hub.channels_of(session).iter();
            mailbox.profile().set_channels(channels.filter(|channel| !channel.is_presence()).count());
        }
    }

    fn answer_attached(&mut self) {
        while let Some((waiter, attached)) = self.attachments.poll_answer() {
            // Whoever asked may be gone by now.
            waiter.send(attached).ok();
        }
    }

    fn handle_event(&mut self, event: BrokerEvent) {
        match event {
            BrokerEvent::Publication { channel, epoch, publication } => {
                if let Some(log) = channel.log() {
                    return self.logs.handle_publication(&log, epoch, &publication, &mut self.wakes);
                }
                let sealed = self.attachments.hub.publish(&channel, epoch, publication, self.clock.now());
                self.deliver(sealed);
            }
            BrokerEvent::Listening { channel, number } => match channel.log() {
                Some(log) => self.logs.handle_listening(&log),
                None => self.attachments.handle_listening(&channel, number),
            },
            BrokerEvent::Lost(channel) => {
                self.metrics.lost();
                if let Some(log) = channel.log() {
                    return self.logs.handle_lost(&log);
                }
                for mailbox in self.attachments.hub.subscribers(&channel) {
                    self.wakes.note(mailbox, mailbox.with(|inside| inside.forget(&channel)));
                }
            }
            BrokerEvent::Interrupted(interruption) => self.metrics.interrupted(interruption.as_str()),
            BrokerEvent::Told(message) => self.cluster.handle_message(message),
            BrokerEvent::State(state) => self.handle_broker_state(state),
        }
    }

    fn handle_broker_state(&mut self, state: BrokerState) {
        let (broker, connections) = (self.broker.name(), self.connections.len());
        match state {
            BrokerState::Up => info!(broker, connections, "restored"),
            BrokerState::Down { since_ms } => warn!(broker, since_ms, connections, "degraded"),
        }
        self.connections.tell(state, &mut self.wakes);
    }

    fn handle_due(&mut self) {
        let now = self.clock.now();
        let sealed = self.attachments.hub.seal_due(now);
        self.deliver(sealed);
        self.logs.handle_timeout(now);
        self.wakes.call_due(now);
        self.attachments.handle_timeout(now);
        self.answer_attached();
    }

    fn deliver(&mut self, sealed: Vec<Sealed>) {
        let now = self.clock.now();
        let Self { attachments, wakes, metrics, .. } = self;
        for Sealed { batch, urgency } in sealed {
            metrics.sealed(&batch);
            for mailbox in attachments.hub.subscribers(&batch.channel) {
                wakes.note(mailbox, mailbox.with(|inside| inside.offer(&batch, urgency, now)));
            }
        }
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
