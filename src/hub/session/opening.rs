//! How a session begins: with a credential or without, and with all that a stream will ever be.

use std::collections::VecDeque;
use std::sync::Arc;

use indexmap::IndexMap;
use tidings_protocol::{Command, Envelope, Frame, HelloFrame, SubscribeCommand, WatchCommand};

use super::watching::Watching;
use super::{CursorState, Session, SessionConfig, State};
use crate::hub::{BrokerState, Grant, Liveness, Time, Transmit};

impl Session {
    /// A session that just connected. Without a grant it waits for `connect`. `jitter` (0 to 1) spreads its pings
    /// and its comeback.
    pub fn new(
        config: Arc<SessionConfig>,
        name: String,
        grant: Option<Grant>,
        jitter: f64,
        now: Time,
    ) -> Self {
        let mut session = Session {
            state: State::Waiting { until: now.after(config.hello_timeout) },
            liveness: Liveness::new(config.heartbeat, jitter, now),
            // From 0.9 to 1.1: those who came together do not go together.
            ends_at: config.age_max.map(|age| now.after(age.mul_f64(0.9 + jitter.clamp(0.0, 1.0) / 5.0))),
            config,
            name,
            grant: Grant::default(),
            passes: Vec::new(),
            subscriptions: IndexMap::new(),
            commands: VecDeque::new(),
            behind: VecDeque::new(),
            lost: VecDeque::new(),
            retry_at: None,
            asked: None,
            greet_after: 0,
            cursor: CursorState::None,
            broker: BrokerState::Up,
            jitter,
            watching: Watching::default(),
            transmits: VecDeque::new(),
        };
        if let Some(grant) = grant {
            session.open(grant);
        }
        session
    }

    /// A session that subscribes to all it will ever subscribe to before it is greeted, as SSE does: to each channel since
    /// the position that the client's cursor has for it. What it watches it watches after that.
    pub fn with_channels(
        mut self,
        subscribes: Vec<SubscribeCommand>,
        watches: Vec<WatchCommand>,
        cursor: CursorState,
    ) -> Self {
        if !subscribes.is_empty() {
            // It is greeted once more, after them.
            self.transmits.clear();
        }
        self.commands.clear();
        self.greet_after = subscribes.len();
        self.cursor = cursor;
        let commands = subscribes.into_iter().map(|subscribe| (None, Ok(Command::Subscribe(subscribe))));
        self.commands.extend(commands);
        self.commands.extend(watches.into_iter().map(|watch| (None, Ok(Command::Watch(watch)))));
        self
    }

    /// Goes on, or begins, with this grant: greets, and subscribes to what it names.
    pub(super) fn open(&mut self, grant: Grant) {
        match self.state {
            // It was let in without a credential, and may have subscribed already.
            State::Open => {
                self.narrow(grant);
                self.say(None, Frame::Hello(self.hello()));
            }
            State::Waiting { .. } | State::Closed => {
                self.state = State::Open;
                self.grant = grant;
                self.greet();
            }
        }
        for channel in self.grant.channels.clone() {
            let subscribe = SubscribeCommand::new(channel, None);
            self.commands.push_back((None, Ok(Command::Subscribe(subscribe))));
        }
    }

    pub(super) fn greet(&mut self) {
        self.say_outage_first();
        let hello = Envelope { id: None, frame: Frame::Hello(self.hello()) };
        self.transmits.push_front(Transmit::Frame(Box::new(hello)));
    }

    fn hello(&self) -> HelloFrame {
        HelloFrame { session: self.name.clone(), ..self.config.hello.clone() }
    }
}
