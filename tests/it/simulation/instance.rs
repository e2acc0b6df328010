//! One instance: the real hub, mailboxes and sessions, driven as a node and its connections drive them, and its uplink to
//! Redis.

mod commands;
mod log_keeper;
mod strays;
mod uplink;

use std::collections::BTreeMap;

use tidings::broker::BrokerEvent;
use tidings::freshness::{Log, Tell};
use tidings::hub::{Attach, Attachments, Grant, Sealed, SessionId, Time, Wake};
use tidings_protocol::{Channel, LogName, Position};

use super::broker::Redis;
use super::bugs::Bug;
use super::channels::WINDOW;
use super::connection::{Connection, Written};
use super::context::{Context, Plan, Start};
use super::faults::Moment;
use super::link::{Down, Up, Wires};
use super::session_rules::SessionRules;
use crate::history::ClientId;
pub(crate) use commands::{Commands, NodeCommand};
pub(crate) use log_keeper::{CONFIRM_TIMEOUT, LogAnswer, LogKeeper, Question};
pub(crate) use uplink::Uplink;

/// The hub with everything around it.
pub(crate) struct Instance {
    attachments: Attachments<SessionId, SessionId>,
    commands: Commands,
    pub(crate) uplink: Uplink,
    /// Its mutation log.
    pub(crate) keeper: LogKeeper,
    of: Start,
    /// It has not ended.
    pub(crate) is_up: bool,
    connections: BTreeMap<SessionId, Connection>,
    woken: Vec<SessionId>,
    window_planned: Option<Time>,
    timeout_planned: Option<Time>,
    /// Something is not as it must be, and that is written down.
    is_astray: bool,
    rules: SessionRules,
}

impl Instance {
    /// An instance that nobody is connected to.
    pub(crate) fn new(of: Start, now: Time) -> Self {
        Instance {
            attachments: Attachments::default(),
            commands: Commands::new(of),
            uplink: Uplink::new(of, now),
            keeper: LogKeeper::new(of),
            of,
            is_up: true,
            connections: BTreeMap::new(),
            woken: Vec::new(),
            window_planned: None,
            timeout_planned: None,
            is_astray: false,
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
        context.may_drop(id, Moment::Unanswered);
        self.woken.push(id);
    }

    /// Whether it is the instance's end of that connection.
    pub(crate) fn holds(&self, id: SessionId) -> bool {
        self.connections.contains_key(&id)
    }

    fn handle_broker_event(&mut self, event: BrokerEvent, context: &mut Context) {
        match event {
            BrokerEvent::Publication { channel, epoch, publication } if channel.is_log() => {
                self.with_log(context, |log, tell| log_keeper::take(log, epoch, &publication, tell));
            }
            BrokerEvent::Lost(channel) if channel.is_log() => self.keeper.log.handle_lost(),
            BrokerEvent::Listening { channel, .. } if channel.is_log() => self.keeper.is_listening = true,
            BrokerEvent::Listening { channel, number } => {
                self.attachments.handle_listening(&channel, number);
            }
            BrokerEvent::Publication { channel, epoch, publication } => {
                let sealed = self.attachments.hub.publish(&channel, epoch, publication, context.now());
                self.deliver(sealed, context);
            }
            BrokerEvent::Lost(channel) => self.forget(&channel, context),
            other => unreachable!("{other:?} is none of what an intake tells"),
        }
    }

    /// Lets the mutation log do something, and puts what it has to tell into mailboxes.
    fn with_log(
        &mut self,
        context: &mut Context,
        act: impl FnOnce(&mut Log<SessionId>, Tell<'_, SessionId>),
    ) {
        let Instance { keeper, connections, woken, .. } = self;
        let (now, name) = (context.now(), LogName::default());
        let until = now.window_end(WINDOW);
        act(&mut keeper.log, &mut |id, at, news| {
            let Some(connection) = connections.get_mut(id) else { return };
            match connection.mailbox.tell(&name, at, until, now, |inside| news.put_into(inside)) {
                Wake::Now => {
                    connection.wake();
                    woken.push(*id);
                }
                Wake::At(time) => context.schedule.at(time, Plan::Call(*id)),
                Wake::No => {}
            }
        });
    }

    /// Something about its mutation log is due.
    pub(crate) fn handle_log(&mut self, plan: Plan, redis: &mut Redis, context: &mut Context) {
        if let Some(answer) = self.keeper.handle(plan, &mut self.uplink, redis, context) {
            let now = context.now();
            self.with_log(context, |log, tell| answer.give(log, now, tell));
        }
    }

    fn forget(&mut self, name: &Channel, context: &Context) {
        if context.has_bug(Bug::LossIgnored) {
            return;
        }
        for id in self.attachments.hub.subscribers(name) {
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
        let sealed = self.attachments.hub.seal_due(context.now());
        self.deliver(sealed, context);
    }

    fn deliver(&mut self, sealed: Vec<Sealed>, context: &mut Context) {
        let now = context.now();
        for Sealed { batch, urgency } in sealed {
            for id in self.attachments.hub.subscribers(&batch.channel) {
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
        if let Some(due) = self.attachments.hub.next_due()
            && self.window_planned.is_none_or(|planned| due < planned)
        {
            self.window_planned = Some(due);
            context.schedule.at(due, Plan::WindowEnds(self.of));
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
    pub(crate) fn handle_action_step(&mut self, id: SessionId, redis: &mut Redis, context: &mut Context) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (commands, uplink, log) = (&mut self.commands, &mut self.uplink, &mut self.keeper.log);
        connection.step(id, commands, uplink, log, redis, context);
        self.woken.push(id);
    }

    /// The event loop looks at the next thing that it was asked, as a node's does.
    pub(crate) fn handle_command(&mut self, context: &mut Context) {
        let (uplink, now) = (&mut self.uplink, context.now());
        match self.commands.next() {
            Some(NodeCommand::Attach { channel, session }) => {
                let Some(connection) = self.connections.get_mut(&session) else { return };
                let rules = context.spec(context.id(&channel)).rules.clone();
                let attach = Attach { channel, session, mailbox: session, rules, waiter: session };
                self.attachments.attach(attach, now, |of, wanted| uplink.set_interest(of, wanted));
                connection.handle_waiting(session, context);
            }
            Some(NodeCommand::Detach { channel, session }) => {
                self.attachments.detach(&channel, session, |of, wanted| uplink.set_interest(of, wanted));
                if let Some(connection) = self.connections.get_mut(&session) {
                    connection.handle_answered(session, None, context);
                }
            }
            Some(NodeCommand::Gone { session }) => {
                self.attachments.remove(session, |of, wanted| uplink.set_interest(of, wanted));
                self.keeper.log.forget(session);
            }
            None => unreachable!("a look is planned for each command"),
        }
    }

    /// Somebody has waited long enough.
    pub(crate) fn handle_attach_timeout(&mut self, now: Time) {
        self.timeout_planned = None;
        self.attachments.handle_timeout(now);
    }

    /// Gives the answers to those who asked to be attached.
    fn answer_attached(&mut self, context: &mut Context) {
        while let Some((session, attached)) = self.attachments.poll_answer() {
            if let Some(connection) = self.connections.get_mut(&session) {
                connection.handle_answered(session, Some(attached), context);
            }
        }
        if let Some(due) = self.attachments.poll_timeout()
            && self.timeout_planned.is_none_or(|planned| due < planned)
        {
            self.timeout_planned = Some(due);
            context.schedule.at(due, Plan::AttachTimeout(self.of));
        }
    }

    /// Whether the connection is just there, of the moments at which connections are dropped.
    pub(crate) fn has_at(&self, id: SessionId, moment: Moment) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.is_at(moment))
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
        if self.connections.remove(&id).is_none() {
            return;
        }
        if !context.has_bug(Bug::EndUnheard) {
            self.commands.send(NodeCommand::Gone { session: id }, context);
        }
        match wires.get_mut(&id) {
            Some(wire) if !wire.is_cut => wire.send_down(id, Down::End, 0, context),
            _ => drop(wires.remove(&id)),
        }
    }

    /// Takes in what came, and lets every connection that was told to look do all it can.
    pub(crate) fn settle(&mut self, redis: &mut Redis, wires: &mut Wires, context: &mut Context) {
        for event in self.uplink.pump(redis, context) {
            self.handle_broker_event(event, context);
        }
        self.answer_attached(context);
        if self.is_up {
            self.keeper.pursue(&mut self.uplink, context);
        }
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
