//! One instance: the real hub, mailboxes and sessions, driven as a node and its connections drive them.

use std::collections::BTreeMap;

use tidings::hub::{Grant, Hub, Sealed, SessionId, Time, Wake};
use tidings_protocol::{Channel, Position};

use super::broker::{Announcement, Broker};
use super::bugs::Bug;
use super::connection::{Connection, Written};
use super::context::{Context, Plan};
use super::link::{Down, Up, Wires};
use super::session_rules::SessionRules;
use crate::history::{ChannelId, ClientId};

/// The hub with everything around it.
pub(crate) struct Instance {
    pub(crate) hub: Hub<SessionId>,
    connections: BTreeMap<SessionId, Connection>,
    /// The last position that the broker announced, by channel.
    heads: BTreeMap<ChannelId, Position>,
    woken: Vec<SessionId>,
    window_planned: Option<Time>,
    rules: SessionRules,
}

impl Instance {
    /// An instance that nobody is connected to.
    pub(crate) fn new() -> Self {
        Instance {
            hub: Hub::default(),
            connections: BTreeMap::new(),
            heads: BTreeMap::new(),
            woken: Vec::new(),
            window_planned: None,
            rules: SessionRules::new(),
        }
    }

    /// A WebSocket; without a grant its client has to send `connect`.
    pub(crate) fn accept_socket(
        &mut self,
        id: SessionId,
        client: ClientId,
        grant: Option<Grant>,
        context: &mut Context,
    ) {
        let session = self.rules.socket(id, grant, context);
        self.connections.insert(id, Connection::socket(client, session));
        self.woken.push(id);
    }

    /// An event stream of these channels.
    pub(crate) fn accept_stream(
        &mut self,
        id: SessionId,
        client: ClientId,
        channels: Vec<(Channel, Option<Position>)>,
        cursor_lost: bool,
        context: &mut Context,
    ) {
        let session = self.rules.stream(id, channels, cursor_lost, context);
        self.connections.insert(id, Connection::stream(client, session));
        self.woken.push(id);
    }

    /// Something of the broker came.
    pub(crate) fn handle_announcement(&mut self, announcement: Announcement, context: &mut Context) {
        match announcement {
            Announcement::Publication { channel, epoch, publication } => {
                if let (Some(epoch), Some(offset)) = (&epoch, publication.offset) {
                    self.heads.insert(channel, epoch.at(offset));
                }
                let now = context.now();
                let sealed = self.hub.publish(&context.spec(channel).channel, epoch, publication, now);
                self.deliver(sealed, context);
            }
            Announcement::Lost(channel) => self.forget(channel, context),
            Announcement::Heads(heads) => {
                for (channel, head) in heads {
                    if head.offset.0 > 0 && self.heads.get(&channel) != Some(&head) {
                        self.heads.insert(channel, head);
                        self.forget(channel, context);
                    }
                }
            }
        }
    }

    fn forget(&mut self, channel: ChannelId, context: &Context) {
        if context.has_bug(Bug::LossIgnored) {
            return;
        }
        let name = &context.spec(channel).channel;
        for id in self.hub.subscribers(name) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.forget(name) == Wake::Now {
                connection.wake();
                self.woken.push(*id);
            }
        }
    }

    /// Time has come for batches.
    pub(crate) fn handle_window_end(&mut self, context: &mut Context) {
        if self.window_planned.is_some_and(|planned| planned <= context.now()) {
            self.window_planned = None;
        }
        let sealed = self.hub.seal_due(context.now());
        self.deliver(sealed, context);
    }

    fn deliver(&mut self, sealed: Vec<Sealed>, context: &mut Context) {
        let now = context.now();
        for Sealed { batch, urgency } in sealed {
            for id in self.hub.subscribers(&batch.channel) {
                let Some(connection) = self.connections.get_mut(id) else { continue };
                match connection.mailbox.offer(&batch, urgency, now) {
                    // A wake-up that gets lost on its way.
                    Wake::Now if context.has_bug(Bug::LostWakeUp) && context.random.chance(20) => {}
                    Wake::Now => {
                        connection.wake();
                        self.woken.push(*id);
                    }
                    Wake::At(time) => context.schedule.at(time, Plan::Call(*id)),
                    Wake::No => {}
                }
            }
        }
        if let Some(due) = self.hub.next_due()
            && self.window_planned.is_none_or(|planned| due < planned)
        {
            self.window_planned = Some(due);
            context.schedule.at(due, Plan::WindowEnds);
        }
    }

    /// The moment of a `Wake::At`.
    pub(crate) fn handle_call(&mut self, id: SessionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.mailbox.call() == Wake::Now {
            connection.wake();
            self.woken.push(id);
        }
    }

    /// The next step of what a session asked for.
    pub(crate) fn handle_action_step(&mut self, id: SessionId, broker: &mut Broker, context: &mut Context) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.step(id, &mut self.hub, broker, context);
        self.woken.push(id);
    }

    /// A session's timer.
    pub(crate) fn handle_session_timeout(&mut self, id: SessionId, context: &Context) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.handle_timeout(context.now());
        self.woken.push(id);
    }

    /// Something can be read from the connection, or written to it.
    pub(crate) fn handle_ready(&mut self, id: SessionId) {
        self.woken.push(id);
    }

    /// These commands came just before the connection was cut.
    pub(crate) fn hear(&mut self, id: SessionId, heard: impl Iterator<Item = Up>, now: Time) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        heard.for_each(|up| connection.hear_one(up, now));
        self.woken.push(id);
    }

    /// The connection had time to write since `reads` was counted; ended if it wrote nothing.
    pub(crate) fn handle_write_deadline(
        &mut self,
        id: SessionId,
        reads: u64,
        wires: &mut Wires,
        context: &mut Context,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.is_stuck(reads, &wires[&id]) {
            context.count(super::faults::Fault::SlowConsumer, Some(connection.client));
            self.hang_up(id, wires, context);
        } else {
            self.woken.push(id);
        }
    }

    /// The connection is over.
    pub(crate) fn hang_up(&mut self, id: SessionId, wires: &mut Wires, context: &mut Context) {
        let Some(connection) = self.connections.remove(&id) else { return };
        for channel in connection.attached {
            self.hub.detach(&channel, id);
        }
        match wires.get_mut(&id) {
            Some(wire) if !wire.is_cut => wire.send_down(id, Down::End, 0, context),
            _ => drop(wires.remove(&id)),
        }
    }

    /// Lets every connection that was told to look do all it can.
    pub(crate) fn settle(&mut self, wires: &mut Wires, context: &mut Context) {
        while let Some(id) = self.woken.pop() {
            let (Some(connection), Some(wire)) = (self.connections.get_mut(&id), wires.get_mut(&id)) else {
                continue;
            };
            match connection.run(id, wire, context) {
                Written::All => {}
                Written::Last => self.hang_up(id, wires, context),
            }
        }
    }
}
