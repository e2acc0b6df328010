//! One connection's machines over any history: the session, its mailbox, a hub, and streams that forget, fork and fail.
//! The client gets everything in order, or is told of a gap.

mod client;
mod store;

use std::sync::Arc;
use std::time::Duration;

use tidings::hub::{
    Action, Answer, BrokerState, CatchUp, ChannelGrant, Close, Credential, Expiry, Grant, Heartbeat, Hub,
    LogNews, Mail, Mailbox, PageLimit, Published, Session, SessionConfig, SessionId, Time, Transmit, Wake,
    Watched,
};
use tidings_protocol::{
    Ack, Channel, Code, Command, HelloFrame, LogName, Offset, Position, PresenceMembers, Problem, Tag,
    decode_command,
};

use self::client::Client;
use self::store::{NAMES, Store, channel};
use crate::choices::Choices;

/// Longer histories tell nothing that shorter ones do not.
const STEPS_MAX: usize = 200;

const SESSION: SessionId = SessionId(1);

pub(crate) fn session(data: &[u8]) {
    let mut world = World::new();
    let mut choices = Choices::new(data);
    for _ in 0..STEPS_MAX {
        if choices.is_empty() {
            break;
        }
        world.step(&mut choices);
        world.settle(&mut choices);
    }
    world.rest();
}

struct World {
    session: Session,
    mailbox: Mailbox,
    hub: Hub<()>,
    store: Store,
    client: Client,
    now: Time,
    mutations: u64,
    /// When the mail is to be called for.
    calls: Vec<Time>,
}

fn config() -> SessionConfig {
    let hello = HelloFrame {
        session: String::new(),
        ping_interval_ms: 25_000,
        timeout_ms: 60_000,
        batch_ms: 100,
        lease_ms: 15_000,
        message_bytes_max: 100,
        command_bytes_max: 65_536,
    };
    SessionConfig {
        hello,
        broker: "memory",
        catch_up: CatchUp::ByClient,
        heartbeat: Heartbeat { interval: Duration::from_secs(25), timeout: Some(Duration::from_secs(60)) },
        age_max: None,
        hello_timeout: Duration::from_secs(5),
        retry_after: Duration::from_secs(1),
        channels_max: 4,
        members_max: 4,
        tags_per_command_max: 4,
        lease: Duration::from_secs(15),
        commands_max: 8,
        message_bytes_max: 100,
        waiting_bytes_max: 600,
        page: PageLimit { publications: 3, bytes: 1_000 },
    }
}

impl World {
    fn new() -> World {
        let grant = Some(Grant::open());
        let session = Session::new(Arc::new(config()), "s".to_owned(), grant, 0.0, Time::ZERO);
        World {
            session,
            mailbox: Mailbox::new(400),
            hub: Hub::default(),
            store: Store::default(),
            client: Client::default(),
            now: Time::ZERO,
            mutations: 0,
            calls: Vec::new(),
        }
    }

    /// Something happens.
    fn step(&mut self, choices: &mut Choices<'_>) {
        let name = *choices.of(&NAMES);
        match choices.below(12) {
            0..=3 => {
                let published = self.store.publish(name, choices.below(100), self.now);
                let sealed = self.hub.publish(&channel(name), published.0, published.1, self.now);
                sealed.iter().for_each(|sealed| self.offer(sealed));
            }
            4 => self.pass(choices.number().min(100_000)),
            5 => {
                let command = self.client.subscribe(name, choices);
                self.say(command);
            }
            6 => {
                let command = self.client.unsubscribe(name);
                self.say(command);
            }
            7 => self.hear_any(&choices.text()),
            8 => self.store.forget(name, choices.below(4)),
            9 => {
                self.store.fork(name);
                self.mailbox.forget(&channel(name));
            }
            10 => {
                let state = match choices.flag() {
                    true => BrokerState::Up,
                    false => BrokerState::Down { since_ms: choices.number() },
                };
                self.mailbox.set_broker_state(state);
            }
            _ => self.tell(choices),
        }
    }

    /// Nothing happens any more, and nothing fails: then the client has everything, or was told of what it has not.
    fn rest(&mut self) {
        for _ in 0..4 {
            self.pass(1_000);
            self.settle(&mut Choices::new(&[]));
        }
        if !self.session.is_closed() {
            self.client.has_everything(&self.store);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.store.expire(self.now);
        let sealed = self.hub.seal_due(self.now);
        sealed.iter().for_each(|sealed| self.offer(sealed));
        if self.calls.iter().any(|at| *at <= self.now) {
            self.calls.retain(|at| *at > self.now);
            self.mailbox.call();
        }
        self.session.handle_timeout(self.now);
    }

    fn offer(&mut self, sealed: &tidings::hub::Sealed) {
        if self.hub.subscribers(&sealed.batch.channel).next().is_some() {
            let wake = self.mailbox.offer(&sealed.batch, sealed.urgency, self.now);
            self.note(wake);
        }
    }

    fn tell(&mut self, choices: &mut Choices<'_>) {
        self.mutations += 1;
        let at = self.store.log_position(self.mutations);
        let tag = Tag::parse(["a", "a:1", "b"][choices.below(3)]).expect("a tag");
        let offset = Offset(self.mutations);
        let confirmed = choices.flag().then(|| choices.number());
        let wake = self.mailbox.tell(&LogName::default(), &at, self.now, self.now, |news: &mut LogNews| {
            news.touch(&tag, offset);
            news.confirmed = confirmed.or(news.confirmed);
        });
        self.note(wake);
    }

    /// Calls for the mail when that is owed.
    fn note(&mut self, wake: Wake) {
        if let Wake::At(at) = wake {
            self.calls.push(at);
        }
    }

    fn say(&mut self, command: Option<String>) {
        if let Some(command) = command {
            self.hear(&command);
        }
    }

    fn hear(&mut self, text: &str) {
        self.session.handle_received(self.now);
        if self.session.is_full() || self.session.is_closed() {
            return self.client.unheard(text);
        }
        match decode_command(text) {
            Ok((id, command)) => self.session.handle_command(id, command),
            Err(refused) => self.session.handle_refused(refused),
        }
    }

    /// What somebody says who keeps no books, and so leaves those of the client alone.
    fn hear_any(&mut self, text: &str) {
        let is_booked = |command| {
            matches!(command, Command::Subscribe(_) | Command::Unsubscribe { .. } | Command::History(_))
        };
        if !decode_command(text).is_ok_and(|(_, command)| is_booked(command)) {
            self.hear(text);
        }
    }

    /// Moves everything that moves: what is said reaches the client, actions are answered, mail is taken.
    fn settle(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..1_000 {
            while let Some(transmit) = self.session.poll_transmit() {
                for command in self.client.hear(&transmit, &self.store) {
                    self.hear(&command);
                }
                if let Transmit::Close(_) = transmit {
                    assert!(self.session.is_closed() && self.session.poll_transmit().is_none());
                    return;
                }
            }
            if let Some(action) = self.session.poll_action() {
                let answer = self.perform(action, choices);
                self.session.handle_answer(answer, self.now);
                continue;
            }
            if !self.collect_mail() && !self.session.has_transmits() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn collect_mail(&mut self) -> bool {
        let mut mail = Mail::default();
        if !self.mailbox.take(&mut mail) {
            return false;
        }
        for batch in &mail.batches {
            self.session.handle_batch(batch);
        }
        for (channel, why) in mail.forgotten {
            self.session.handle_forgotten(&channel, why);
        }
        for (log, news) in mail.news {
            self.session.handle_news(log, news);
        }
        if let Some(state) = mail.broker {
            self.session.handle_broker_state(state);
        }
        mail.close.into_iter().for_each(|close: Close| self.session.close(close));
        true
    }
}

/// What the world outside does for the session.
impl World {
    fn perform(&mut self, action: Action, choices: &mut Choices<'_>) -> Answer {
        // Nothing outside is sure to work.
        let fails = choices.below(8) == 7;
        let problem = || Problem::from(Code::BrokerUnavailable);
        match action {
            Action::Authenticate { .. } if fails => Answer::Authenticated(Err(Code::Unauthorized.into())),
            Action::Authenticate { .. } => Answer::Authenticated(Ok(Grant::open())),
            Action::Admit { token } => Answer::Admitted(self.admit(&token)),
            Action::Join { presence: true, .. } => Answer::Joined(Err(Code::PresenceDisabled.into())),
            Action::Join { .. } if fails => Answer::Joined(Err(problem())),
            Action::Join { channel, since, limit, .. } => {
                self.hub.attach(&channel, SESSION, (), &self.store.rules);
                Answer::Joined(Ok(self.store.read(&channel, since.as_ref(), limit)))
            }
            Action::Leave { channel } => {
                self.hub.detach(&channel, SESSION);
                Answer::Left
            }
            Action::Resume { .. } | Action::Read { .. } if fails => Answer::Read(Err(problem())),
            Action::Resume { channel, since, limit } => self.read(&channel, Some(&since), limit),
            Action::Read { channel, since, limit } => self.read(&channel, since.as_ref(), limit),
            Action::Members { .. } if fails => Answer::Members(Err(Code::PresenceDisabled.into())),
            Action::Members { .. } => Answer::Members(Ok(PresenceMembers::default())),
            Action::Publish(_) => {
                Answer::Published(Ok(Published { position: None, ack: Ack::Stored, duplicate: false }))
            }
            Action::Watch { .. } if fails => Answer::Watched(Err(problem())),
            Action::Watch { groups, .. } => {
                let at = self.store.log_position(self.mutations);
                let stale = groups.into_iter().flat_map(|group| group.tags).collect();
                let (denied, escalated) = (Vec::new(), Vec::new());
                Answer::Watched(Ok(Watched { stale, denied, escalated, ..Watched::nothing(at) }))
            }
            Action::Unwatch { .. } => Answer::Unwatched,
            Action::Narrow { .. } => Answer::Narrowed(Vec::new()),
            Action::Confirm { .. } => Answer::Asked,
        }
    }

    /// A token is the name of its channel, and good for a day.
    fn admit(&self, token: &str) -> Result<ChannelGrant, Problem> {
        let channel = Channel::parse(token).map_err(|_| Code::Unauthorized)?;
        let expires = Expiry { at: self.now.after(Duration::from_secs(86_400)), exp: 86_400 };
        Ok(ChannelGrant { channel, user: "".into(), credential: Credential::default(), expires })
    }

    fn read(&self, channel: &Channel, since: Option<&Position>, limit: PageLimit) -> Answer {
        let page = self.store.read(channel, since, limit);
        Answer::Read(page.ok_or_else(|| Code::HistoryDisabled.into()))
    }
}
