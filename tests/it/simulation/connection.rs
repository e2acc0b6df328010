//! One connection as its task drives it: say what is to be said, then take mail, then act, and never run ahead of the
//! peer.

use std::collections::{BTreeSet, VecDeque};

use tidings::ablation::{Safeguard, ablated};
use tidings::hub::{
    Action, Answer, Batch, Grant, Hub, Mailbox, Page, Published, Session, SessionId, Time, Transmit, Wake,
};
use tidings_protocol::{
    Ack, BatchFrame, Channel, Code, Envelope, Frame, Offset, Problem, Publication,
};

use super::broker::Broker;
use super::bugs::Bug;
use super::context::{Context, Plan};
use super::faults::Fault;
use super::history::{ClientId, PublishId};
use super::link::{Down, Up, Wire};
use super::session_rules::{MAILBOX_BYTES_MAX, WRITE_DEADLINE};

/// The instance's end of a connection.
pub(crate) struct Connection {
    pub(crate) client: ClientId,
    pub(crate) mailbox: Mailbox,
    pub(crate) attached: BTreeSet<Channel>,
    session: Session,
    is_stream: bool,
    acting: Option<Acting>,
    timeout_planned: Option<Time>,
    /// The client's reads when the last write deadline was planned.
    deadline_planned: Option<u64>,
    /// Channels that lost something elsewhere than in the mailbox.
    lost: BTreeSet<Channel>,
    /// There is mail.
    is_woken: bool,
}

/// How far a run came.
#[derive(Debug, PartialEq)]
pub(crate) enum Written {
    /// All that can be done is done.
    All,
    /// The last word is written.
    Last,
}

/// An action on its way.
struct Acting {
    action: Action,
    steps: VecDeque<Step>,
    read: Option<Result<Option<Page>, Problem>>,
    published: Option<Result<Published, Problem>>,
}

#[derive(Clone, Copy)]
enum Step {
    Attach,
    Detach,
    Read,
    Publish,
    Answer,
}

/// The steps of a join. Listen before reading history: a publication between the two is then seen twice, never missed.
fn join_steps() -> [Step; 2] {
    match ablated(Safeguard::ListenBeforeRead) {
        true => [Step::Read, Step::Attach],
        false => [Step::Attach, Step::Read],
    }
}

impl Connection {
    /// A WebSocket's.
    pub(crate) fn socket(client: ClientId, session: Session) -> Self {
        Connection {
            client,
            mailbox: Mailbox::new(MAILBOX_BYTES_MAX),
            attached: BTreeSet::new(),
            session,
            is_stream: false,
            acting: None,
            timeout_planned: None,
            deadline_planned: None,
            lost: BTreeSet::new(),
            is_woken: false,
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
            self.translate(transmit, &mut said);
        }
        let any = !said.is_empty();
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

    /// What goes over the wire for a transmit, with its bytes. The close itself follows when the instance hangs up.
    fn translate(&self, transmit: Transmit, said: &mut Vec<(Down, usize)>) {
        match transmit {
            Transmit::Frame(envelope) => {
                let bytes = 60 + frame_bytes(&envelope.frame);
                said.push((Down::Frame(*envelope), bytes));
            }
            Transmit::Batch { batch, from } => {
                let part = from.map(|from| batch.from_offset(from));
                let batch = part.as_ref().unwrap_or(&batch);
                match self.is_stream {
                    true => said.extend(stream_events(batch)),
                    false => {
                        let envelope = Envelope { id: None, frame: Frame::Batch(batch_frame(batch)) };
                        said.push((Down::Frame(envelope), 60 + batch.bytes));
                    }
                }
            }
            Transmit::Ping => said.push((Down::Ping, 2)),
            Transmit::Close(_) => {}
        }
    }

    fn take_mail(&mut self, context: &mut Context) -> bool {
        if !std::mem::take(&mut self.is_woken) {
            return false;
        }
        let Some(mail) = self.mailbox.take() else { return false };
        for batch in &mail.batches {
            self.session.handle_batch(batch);
        }
        if mail.forgotten.iter().any(|channel| !self.lost.contains(channel)) {
            context.count(Fault::MailboxOverflow, Some(self.client));
        }
        self.lost.clear();
        for channel in &mail.forgotten {
            self.session.handle_forgotten(channel);
        }
        if let Some(close) = mail.close {
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
        let steps: &[Step] = match action {
            Action::Authenticate { .. } => &[],
            Action::Join { .. } => &join_steps(),
            Action::Leave { .. } => &[Step::Detach],
            Action::Read { .. } => &[Step::Read],
            Action::Publish(_) => &[Step::Publish],
        };
        let steps = steps.iter().copied().chain([Step::Answer]).collect();
        self.acting = Some(Acting { action, steps, read: None, published: None });
        context.step(Plan::ActionStep(id));
        true
    }

    /// The next step of the action that is out.
    pub(crate) fn step(
        &mut self,
        id: SessionId,
        hub: &mut Hub<SessionId>,
        broker: &mut Broker,
        context: &mut Context,
    ) {
        let acting = self.acting.as_mut().expect("steps are planned for an action that is out");
        let step = acting.steps.pop_front().expect("an action ends with its answer");
        match (step, &acting.action) {
            (Step::Attach, Action::Join { channel, .. }) => {
                let rules = context.spec(context.id(channel)).rules.clone();
                hub.attach(channel, id, id, &rules);
                self.attached.insert(channel.clone());
            }
            (Step::Detach, Action::Leave { channel }) => {
                hub.detach(channel, id);
                self.attached.remove(channel);
            }
            (Step::Read, Action::Join { channel, since, limit } | Action::Read { channel, since, limit }) => {
                let channel = context.id(channel);
                acting.read = Some(broker.read(channel, since.as_ref(), *limit, context));
            }
            (Step::Publish, Action::Publish(command)) => {
                let (publish, channel) = (PublishId::of(&command.payload), context.id(&command.channel));
                let stored = broker.publish(publish, channel, command.payload.clone(), context);
                acting.published = Some(stored.map(|position| Published { position, ack: Ack::Stored }));
            }
            (Step::Answer, _) => return self.answer(hub, id, context.now()),
            _ => unreachable!("steps are chosen by their action"),
        }
        context.step(Plan::ActionStep(id));
    }

    fn answer(&mut self, hub: &mut Hub<SessionId>, id: SessionId, now: Time) {
        let acting = self.acting.take().expect("an answer follows an action");
        let answer = match acting.action {
            Action::Authenticate { .. } => Answer::Authenticated(Ok(Grant::open())),
            Action::Join { channel, .. } => {
                let read = acting.read.expect("a join reads");
                if read.is_err() {
                    hub.detach(&channel, id);
                    self.attached.remove(&channel);
                }
                Answer::Joined(read)
            }
            Action::Leave { .. } => Answer::Left,
            Action::Read { .. } => {
                let page = acting.read.expect("a read reads");
                Answer::Read(page.and_then(|page| page.ok_or_else(|| Code::HistoryDisabled.into())))
            }
            Action::Publish(_) => Answer::Published(acting.published.expect("a publish publishes")),
        };
        self.session.handle_answer(answer, now);
    }

    fn plan_timeout(&mut self, id: SessionId, context: &mut Context) {
        let Some(due) = self.session.poll_timeout() else { return };
        if self.timeout_planned.is_none_or(|planned| due < planned) {
            self.timeout_planned = Some(due);
            context.schedule.at(due, Plan::SessionTimeout(id));
        }
    }
}

fn frame_bytes(frame: &Frame) -> usize {
    let publications = match frame {
        Frame::Subscribed(frame) => &frame.publications,
        Frame::History(frame) => &frame.publications,
        _ => return 0,
    };
    publications.iter().map(|publication| publication.json_len()).sum()
}

/// As a client reads it from the wire: the offsets follow from the first.
fn batch_frame(batch: &Batch) -> BatchFrame {
    let plain = |publication: &std::sync::Arc<Publication>| match publication.offset {
        Some(_) => Publication { offset: None, ..Publication::clone(publication) }.into(),
        None => publication.clone(),
    };
    BatchFrame {
        channel: batch.channel.clone(),
        epoch: batch.span.as_ref().map(|span| span.epoch.clone()),
        first: batch.span.as_ref().map(|span| span.first),
        last: None,
        publications: batch.publications.iter().map(plain).collect(),
    }
}

fn stream_events(batch: &Batch) -> impl Iterator<Item = (Down, usize)> {
    batch.publications.iter().map(|publication| {
        let at = |offset: Offset| batch.span.as_ref().map(|span| span.epoch.at(offset));
        let position = publication.offset.and_then(at);
        let event = Down::StreamEvent(batch.channel.clone(), position, publication.clone());
        (event, publication.json_len())
    })
}
