//! One connection as its task drives it: say what is to be said, then take mail, then act, and never run ahead of the
//! peer.

mod acting;
mod wire_form;

use std::collections::BTreeSet;

use tidings::freshness::Log;
use tidings::hub::{Attached, Mail, Mailbox, Session, SessionId, Time, Wake};
use tidings_protocol::Channel;

use super::broker::Redis;
use super::bugs::Bug;
use super::context::{Context, Plan};
use super::faults::{Fault, Moment};
use super::instance::{Commands, Uplink};
use super::link::{Down, Up, Wire};
use super::session_rules::{MAILBOX_BYTES_MAX, WRITE_DEADLINE};
use crate::history::ClientId;
use acting::{Acting, Place, Progress};

/// The instance's end of a connection.
pub(crate) struct Connection {
    pub(crate) client: ClientId,
    pub(crate) mailbox: Mailbox,
    session: Session,
    is_stream: bool,
    /// Something was said to the client.
    has_spoken: bool,
    acting: Option<Acting>,
    timeout_planned: Option<Time>,
    /// The client's reads when the last write deadline was planned.
    deadline_planned: Option<u64>,
    /// Channels that lost something elsewhere than in the mailbox.
    lost: BTreeSet<Channel>,
    /// There is mail.
    is_woken: bool,
    /// What was taken out of the mailbox; empty in between.
    mail: Mail,
}

/// How far a run came.
#[derive(Debug, PartialEq)]
pub(crate) enum Written {
    /// All that can be done is done.
    All,
    /// The last word is written.
    Last,
}

impl Connection {
    /// A WebSocket's.
    pub(crate) fn socket(client: ClientId, session: Session) -> Self {
        Connection {
            client,
            mailbox: Mailbox::new(MAILBOX_BYTES_MAX),
            session,
            is_stream: false,
            has_spoken: false,
            acting: None,
            timeout_planned: None,
            deadline_planned: None,
            lost: BTreeSet::new(),
            is_woken: false,
            mail: Mail::default(),
        }
    }

    /// An event stream's.
    pub(crate) fn stream(client: ClientId, session: Session) -> Self {
        Connection { is_stream: true, ..Connection::socket(client, session) }
    }

    /// The channel lost something on its way to the node.
    pub(crate) fn forget(&mut self, channel: &Channel) -> Wake {
        self.lost.insert(channel.clone());
        self.mailbox.forget(channel)
    }

    /// Tells the connection to look into its mailbox.
    pub(crate) fn wake(&mut self) {
        self.is_woken = true;
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.timeout_planned = None;
        self.session.handle_timeout(now);
    }

    /// Whether nothing was read since `reads`, and nothing can be written.
    pub(crate) fn is_stuck(&mut self, reads: u64, wire: &Wire) -> bool {
        self.deadline_planned = None;
        wire.reads == reads && !wire.down.has_room()
    }

    /// Does all that can be done now.
    pub(crate) fn run(&mut self, id: SessionId, wire: &mut Wire, context: &mut Context) -> Written {
        while self.make_room(id, wire, context) {
            let said = self.say_all(id, wire, context);
            if self.session.is_closed() {
                return Written::Last;
            }
            let progress =
                said || self.take_mail(context) || self.act(id, context) || self.hear(wire, context);
            if !progress {
                break;
            }
        }
        self.plan_timeout(id, context);
        Written::All
    }

    /// Whether something can be written; if not, the peer has until a deadline to read something.
    fn make_room(&mut self, id: SessionId, wire: &Wire, context: &mut Context) -> bool {
        if wire.down.has_room() {
            return true;
        }
        if context.has_bug(Bug::DropOnFullQueue) {
            self.take_mail(context);
            while self.session.poll_transmit().is_some() {}
        }
        if self.deadline_planned.is_none() {
            self.deadline_planned = Some(wire.reads);
            context.schedule.after(WRITE_DEADLINE, Plan::WriteDeadline(id, wire.reads));
        }
        false
    }

    fn say_all(&mut self, id: SessionId, wire: &mut Wire, context: &mut Context) -> bool {
        let mut said = Vec::new();
        while let Some(transmit) = self.session.poll_transmit() {
            said.extend(match self.is_stream {
                true => wire_form::stream_events(transmit),
                false => wire_form::socket_frames(transmit),
            });
        }
        let any = !said.is_empty();
        self.has_spoken |= any;
        if self.is_stream && any {
            let positions = self.session.positions();
            let cursor = positions.map(|(channel, position)| (channel.clone(), position.clone())).collect();
            let place = if context.has_bug(Bug::CursorTooEarly) { 0 } else { said.len() };
            said.insert(place, (Down::Cursor(cursor), 40));
        }
        for (down, bytes) in said {
            wire.send_down(id, down, bytes, context);
        }
        any
    }

    fn take_mail(&mut self, context: &mut Context) -> bool {
        if !std::mem::take(&mut self.is_woken) || !self.mailbox.take(&mut self.mail) {
            return false;
        }
        for batch in self.mail.batches.drain(..) {
            self.session.handle_batch(&batch);
        }
        if self.mail.forgotten.keys().any(|channel| !self.lost.contains(channel)) {
            context.count(Fault::MailboxOverflow, Some(self.client));
        }
        self.lost.clear();
        for (channel, why) in self.mail.forgotten.drain(..) {
            self.session.handle_forgotten(&channel, why);
        }
        for (log, news) in self.mail.news.drain(..) {
            self.session.handle_news(log, news);
        }
        if let Some(state) = self.mail.broker.take() {
            self.session.handle_broker_state(state);
        }
        if let Some(close) = self.mail.close.take() {
            self.session.close(close);
        }
        true
    }

    fn hear(&mut self, wire: &mut Wire, context: &Context) -> bool {
        let mut heard = false;
        while !wire.is_cut && !self.session.is_full() && !self.session.is_closed() {
            let Some(up) = wire.up.receive(context.now()) else { break };
            heard = true;
            self.hear_one(up, context.now());
        }
        heard
    }

    /// The client said something.
    pub(crate) fn hear_one(&mut self, up: Up, now: Time) {
        self.session.handle_received(now);
        match up {
            Up::Command(id, command) => self.session.handle_command(Some(id), command),
            Up::Pong => {}
        }
    }

    fn act(&mut self, id: SessionId, context: &mut Context) -> bool {
        if self.acting.is_some() {
            return false;
        }
        let Some(action) = self.session.poll_action() else { return false };
        self.acting = Some(Acting::begin(action));
        context.step(Plan::ActionStep(id));
        true
    }

    /// The next step of the action that is out.
    pub(crate) fn step(
        &mut self,
        id: SessionId,
        commands: &mut Commands,
        uplink: &mut Uplink,
        log: &mut Log<SessionId>,
        redis: &mut Redis,
        context: &mut Context,
    ) {
        let mut acting = self.acting.take().expect("steps are planned for an action that is out");
        let mut place = Place { id, commands, uplink, log, redis };
        match acting.step(&mut place, context) {
            Progress::Done => return self.session.handle_answer(acting.answer(), context.now()),
            Progress::Waits => {}
            Progress::On => context.step(Plan::ActionStep(id)),
        }
        self.acting = Some(acting);
    }

    /// The event loop has attached the session, and waits for the broker.
    pub(crate) fn handle_waiting(&mut self, id: SessionId, context: &mut Context) {
        if let Some(acting) = &mut self.acting {
            acting.handle_waiting();
            context.may_drop(id, Moment::Listening);
        }
    }

    /// The event loop has attached the session, or could not; or has detached it (`None`).
    pub(crate) fn handle_answered(
        &mut self,
        id: SessionId,
        attached: Option<Attached>,
        context: &mut Context,
    ) {
        if let Some(acting) = &mut self.acting
            && acting.handle_answered(attached)
        {
            context.may_drop(id, Moment::Reading);
            context.step(Plan::ActionStep(id));
        }
    }

    /// Whether it is just there, of the moments at which connections are dropped.
    pub(crate) fn is_at(&self, moment: Moment) -> bool {
        match moment {
            Moment::Unanswered => self.is_stream && !self.has_spoken,
            _ => self.acting.as_ref().is_some_and(|acting| acting.is_at(moment)),
        }
    }

    fn plan_timeout(&mut self, id: SessionId, context: &mut Context) {
        let Some(due) = self.session.poll_timeout() else { return };
        if self.timeout_planned.is_none_or(|planned| due < planned) {
            self.timeout_planned = Some(due);
            context.schedule.at(due, Plan::SessionTimeout(id));
        }
    }
}
