//! A session is one connection as the hub sees it: who it is, what it subscribed to, and what it is to be told.
//!
//! Its task owns it; nobody locks it. Whatever happens is handed in by a `handle_*` function; what must be done comes out
//! of [`Session::poll_action`] (one at a time, each answered by [`Session::handle_answer`]) and what must be said out of
//! [`Session::poll_transmit`].
//!
//! ```text
//!   Waiting (no credential yet) ──── connect ────▶ Open ──── close, expiry, silence ────▶ Closed
//!        └───────────── 5 s without connect, or a bad credential ────────────────────────────▲
//! ```
//!
//! It does not encode, does not write, and does not know how history is stored.

mod answer;
mod begin;
mod credentials;
mod opening;
mod outage;
mod passes;
mod presence;
#[cfg(test)]
mod tests;
mod watching;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use indexmap::map::MutableKeys;
use tidings_protocol::{
    Channel, CloseCode, Code, Command, CommandRefused, Frame, GapReason, HelloFrame, LogName, Position,
    Problem, SubscribeCommand,
};

use super::subscription::{Accept, Fallen, Subscription};
use watching::Watching;

use super::{
    Action, Batch, BrokerState, ChannelGrant, Close, Due, Grant, Heartbeat, Liveness, PageLimit, Time,
    Transmit,
};

/// Room for things to say that a session keeps while it has none: enough for one window, 48 bytes each.
const IDLE_TRANSMITS: usize = 4;

/// How a session behaves; the same for all of one transport.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// What the client is told first, but for the session's own name.
    pub hello: HelloFrame,
    /// What the broker is called in `degraded` and `restored`.
    pub broker: &'static str,
    /// Who asks for the rest of a recovery that does not fit one page.
    pub catch_up: CatchUp,
    /// Pings and the longest silence.
    pub heartbeat: Heartbeat,
    /// How long a connection may stay without a credential where one is demanded.
    pub hello_timeout: Duration,
    /// How old a connection becomes, give or take a tenth; `None` for any age.
    pub age_max: Option<Duration>,
    /// How long to wait before history is asked again after it failed.
    pub retry_after: Duration,
    /// The most subscriptions.
    pub channels_max: usize,
    /// The most members in one list.
    pub members_max: usize,
    /// The most tags and groups in one command.
    pub tags_per_command_max: usize,
    /// How long a confirmation lets a client serve what it watches.
    pub lease: Duration,
    /// The most commands that wait for their turn.
    pub commands_max: usize,
    /// The most bytes of data that a publish may carry.
    pub message_bytes_max: usize,
    /// The most bytes that go by while a client pages.
    pub waiting_bytes_max: usize,
    /// The bounds of a page of history.
    pub page: PageLimit,
}

/// Who pages through a long recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// The client, by `history` commands: WebSocket.
    ByClient,
    /// The server: SSE, whose clients cannot ask.
    ByServer,
}

/// What the client of a stream brought back from an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorState {
    /// Nothing: it is new.
    None,
    /// A cursor. Channels that keep no history are in none, so whoever comes back to one has missed something for all
    /// that anybody knows.
    Read,
    /// A cursor that cannot be read: a gap in every channel.
    Unreadable,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    name: String,
    state: State,
    grant: Grant,
    /// Tokens for single channels, each of a subscription that is held or about to be: no more than those.
    passes: Vec<ChannelGrant>,
    subscriptions: IndexMap<Channel, Subscription>,
    liveness: Liveness,
    /// When it is old enough to be made anew.
    ends_at: Option<Time>,
    commands: VecDeque<(Option<u64>, Result<Command, Problem>)>,
    /// Subscriptions whose history must be read.
    behind: VecDeque<Channel>,
    /// Channels that the grant no longer covers.
    lost: VecDeque<Channel>,
    /// Reading history failed; not before this.
    retry_at: Option<Time>,
    /// The action that is out.
    asked: Option<Asked>,
    /// Joins that must be answered before an SSE client is greeted.
    greet_after: usize,
    /// Whether the client was here before.
    cursor: CursorState,
    /// The broker as the client was told, or will be with the greeting.
    broker: BrokerState,
    /// Where, from 0 to 1, it is among those who came together: what all would do at once is spread by it.
    jitter: f64,
    watching: Watching,
    transmits: VecDeque<Transmit>,
}

#[derive(Debug, PartialEq)]
enum State {
    Waiting { until: Time },
    Open,
    Closed,
}

/// What an answer is for.
#[derive(Debug)]
enum Asked {
    Connect { id: Option<u64> },
    Refresh { id: Option<u64> },
    Admission { id: Option<u64>, command: SubscribeCommand },
    Join { id: Option<u64>, channel: Channel, since: Option<Position>, presence: bool },
    Leave,
    History { id: Option<u64>, channel: Channel },
    BackFill { channel: Channel },
    Members { id: Option<u64> },
    Publish { id: Option<u64> },
    Watch { id: Option<u64>, log: LogName },
    Unwatch { id: Option<u64> },
    Narrow { log: LogName },
    Confirm,
}

impl Session {
    /// The session's subscriptions that have a position, with the last one passed on.
    pub fn positions(&self) -> impl Iterator<Item = (&Channel, &Position)> {
        self.subscriptions
            .iter()
            .filter_map(|(channel, subscription)| Some((channel, subscription.position()?)))
    }

    /// The channels that the session is attached to.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.subscriptions.keys()
    }

    /// Who the session is.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether no more commands should be read for now: enough of them wait, or enough data with them.
    pub fn is_full(&self) -> bool {
        let bytes = |(_, command): &(Option<u64>, Result<Command, Problem>)| match command {
            Ok(Command::Publish(publish)) => publish.payload.as_bytes().len(),
            Ok(_) | Err(_) => 0,
        };
        let waiting = self.commands.len();
        waiting >= self.config.commands_max
            || (waiting > 0
                && self.commands.iter().map(bytes).sum::<usize>() >= self.config.message_bytes_max)
    }

    /// Whether its credential was accepted, and still holds.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the last word is spoken.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Bytes came.
    pub fn handle_received(&mut self, now: Time) {
        self.liveness.hear(now);
    }

    /// A command came. It waits for its turn: replies keep the order of commands, but for `pong`.
    pub fn handle_command(&mut self, id: Option<u64>, command: Command) {
        match command {
            Command::Ping { c } => {
                self.note_ping(Some(c));
                self.say(id, Frame::Pong { c });
            }
            command => self.commands.push_back((id, Ok(command))),
        }
    }

    /// Something came that is no command; the session survives, and its answer keeps the order too.
    pub fn handle_refused(&mut self, refused: CommandRefused) {
        self.commands.push_back((refused.id, Err(refused.problem)));
    }

    /// A batch came out of the mailbox.
    pub fn handle_batch(&mut self, batch: &Arc<Batch>) {
        if self.state == State::Closed {
            return;
        }
        if self.greet_after > 0 {
            // Nothing is said before the greeting: what comes so early is read from history after it.
            return self.handle_forgotten(&batch.channel, GapReason::Overflow);
        }
        let Some((_, name, subscription)) = self.subscriptions.get_full_mut2(&batch.channel) else { return };
        if !name.is_copy_of(&batch.channel) {
            // The client's own copy of the name gives way to the hub's, which all batches share: the next is found by
            // comparing two addresses.
            name.clone_from(&batch.channel);
        }
        match subscription.accept(batch, self.config.waiting_bytes_max) {
            Accept::Deliver { from } => {
                self.transmits.push_back(Transmit::Batch { batch: batch.clone(), from })
            }
            Accept::Duplicate | Accept::Held => {}
            Accept::Behind => self.behind.push_back(batch.channel.clone()),
            Accept::Lost => {
                let position = subscription.position().cloned();
                self.declare_gap(&batch.channel, GapReason::Lost, position);
            }
            Accept::Overflow(position) => {
                self.declare_gap(&batch.channel, GapReason::Overflow, Some(position))
            }
        }
    }

    /// The mailbox forgot something of this channel, or the broker lost it; `why` is told where no history makes it good.
    pub fn handle_forgotten(&mut self, channel: &Channel, why: GapReason) {
        let Some(subscription) = self.subscriptions.get_mut(channel) else { return };
        match subscription.fall_behind() {
            Fallen::Read => self.behind.push_back(channel.clone()),
            Fallen::Reading => {}
            // A channel without history begins with the greeting.
            Fallen::Gap if self.greet_after > 0 => {}
            Fallen::Gap => self.declare_gap(channel, why, None),
        }
    }

    /// When [`Session::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let waiting = match self.state {
            State::Waiting { until } => Some(until),
            State::Open => self.grant.expires.map(|expiry| expiry.at),
            State::Closed => return None,
        };
        let due = self.liveness.due_at();
        let passes = self.passes_due_at();
        let moments = [waiting, Some(due), self.ends_at, self.retry_at, self.next_own_ping(), passes];
        moments.into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.state == State::Closed {
            return;
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if matches!(self.state, State::Waiting { until } if until <= now) {
            return self
                .turn_away(None, Problem::new(Code::Unauthorized, "no `connect` command came in time"));
        }
        self.end_expired(now);
        if self.state == State::Closed {
            return;
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            return self.close(Close::for_age(self.jitter));
        }
        self.ping_by_itself(now);
        match self.liveness.check(now) {
            Due::Ping => self.transmits.push_back(Transmit::Ping),
            Due::Dead => self.close(Close::new(CloseCode::TimedOut, "nothing was heard for too long")),
            Due::Nothing => {}
        }
    }

    /// Ends what was granted until now: asked for before anything that came meanwhile is handed in, so that nothing of it is
    /// passed on.
    pub fn end_expired(&mut self, now: Time) {
        match self.state {
            State::Open if self.grant.expires.is_some_and(|expiry| expiry.at <= now) => {
                self.turn_away(None, Code::TokenExpired.into());
            }
            State::Open => self.end_expired_passes(now),
            State::Waiting { .. } | State::Closed => {}
        }
    }

    /// Ends the session after what is already to be said.
    pub fn close(&mut self, close: Close) {
        if self.state != State::Closed {
            self.state = State::Closed;
            if std::mem::take(&mut self.greet_after) > 0 {
                // A gap that was told without a greeting, hence without a cursor, is told again.
                self.transmits.clear();
            }
            self.commands.clear();
            self.behind.clear();
            self.passes.clear();
            self.transmits.push_back(Transmit::Close(close));
        }
    }

    /// Whether something is to be said.
    pub fn has_transmits(&self) -> bool {
        self.greet_after == 0 && !self.transmits.is_empty()
    }

    /// The next thing to say; nothing before the greeting. A stream's cursor that was written earlier would lack the
    /// channels that are still joining, and a client that came back with it would miss what they hold.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if self.greet_after > 0 {
            return None;
        }
        let next = self.transmits.pop_front();
        if self.transmits.is_empty() && self.transmits.capacity() > IDLE_TRANSMITS {
            // An idle session keeps no large buffer: thousands of them are idle.
            self.transmits = VecDeque::new();
        }
        next
    }

    /// The next thing to do, once the last one was answered. Ask when all that was to be said is written: then a slow
    /// reader slows down its own catching up, and nobody's memory.
    pub fn poll_action(&mut self) -> Option<Action> {
        while self.asked.is_none() && self.state != State::Closed {
            if let Some(channel) = self.lost.pop_front() {
                self.asked = Some(Asked::Leave);
                return Some(Action::Leave { channel });
            }
            let own = self.poll_back_fill().or_else(|| self.poll_watching());
            if own.is_some() {
                return own;
            }
            let (id, command) = self.commands.pop_front()?;
            if self.commands.is_empty() {
                // Nor one for commands: what holds four of them is as large as the rest of the session.
                self.commands = VecDeque::new();
            }
            match command.and_then(|command| self.begin(id, command)) {
                Ok(action) => return Some(action),
                Err(problem) => self.refuse(id, problem),
            }
        }
        None
    }

    fn poll_back_fill(&mut self) -> Option<Action> {
        while self.retry_at.is_none() && self.greet_after == 0 {
            let channel = self.behind.pop_front()?;
            let Some(subscription) = self.subscriptions.get(&channel) else { continue };
            if let (true, Some(since)) = (subscription.is_behind(), subscription.position().cloned()) {
                self.asked = Some(Asked::BackFill { channel: channel.clone() });
                return Some(Action::Resume { channel, since, limit: self.config.page });
            }
        }
        None
    }
}
