//! What a session does about tags: it passes on what the client asks of mutation logs, and what the logs have to tell.
//!
//! Which tags are watched only the logs know; the session knows which logs, up to where the client was told, and the
//! client's pings that wait to be confirmed.

use std::collections::VecDeque;

use indexmap::IndexMap;
use tidings_protocol::{
    AtFrame, Code, ContinuedFrame, Epoch, Frame, InvalidatedFrame, LogName, Offset, Position, Problem,
    ResetFrame, ResetReason, ResetScope, Tag, UnwatchCommand, WatchCommand, WatchedFrame,
};

use super::{Asked, CatchUp, Session, State};
use crate::hub::{Action, LogNews, Time, Watched};

/// Tags in one frame: with the longest of them it stays below 200 KiB.
const TAGS_PER_FRAME: usize = 512;

/// Pings that wait; an older one gives no longer lease than the last.
const PINGS_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Watching {
    logs: IndexMap<LogName, Followed>,
    /// The number of each ping, and what it said.
    pings: VecDeque<(u64, Option<u64>)>,
    last_ping: u64,
    /// What the last ping said that came before any log was asked for.
    early: Option<u64>,
    /// There may be a ping that a log has not been asked to confirm.
    unasked: bool,
    /// Logs that may hold watches which the credential no longer covers.
    narrowed: VecDeque<LogName>,
    /// The clock of a client that cannot ping, as it was at a moment.
    clock: Option<(u64, Time)>,
    /// When the session pings for such a client.
    next_ping: Option<Time>,
}

/// A log that the client asked for.
#[derive(Debug, Default)]
struct Followed {
    /// The last position that the client was told.
    told: Option<Position>,
    /// The numbering before that one, if the client was told that it ended.
    left: Option<Epoch>,
    /// The last ping that the log was asked to confirm.
    asked: u64,
}

impl Followed {
    fn tell(&mut self, at: Position) -> Option<Position> {
        let before = self.told.replace(at.clone());
        if let Some(before) = before.as_ref().filter(|before| before.epoch != at.epoch) {
            self.left = Some(before.epoch.clone());
        }
        before
    }
}

impl Session {
    /// The client of a stream has this clock, in milliseconds: what is confirmed for it gives it a lease.
    pub fn with_clock(mut self, c: u64, now: Time) -> Self {
        self.watching.clock = Some((c, now));
        self
    }

    pub(super) fn begin_watch(&mut self, id: Option<u64>, watch: WatchCommand) -> Result<Action, Problem> {
        let WatchCommand { log, groups } = watch;
        let most = self.config.tags_per_command_max;
        let count: usize = groups.iter().map(|group| group.tags.len().max(1)).sum();
        if count > most {
            let message = format!("a command has at most {most} tags and groups, this one has {count}");
            return Err(Problem::new(Code::TooManyItems, message));
        }
        self.watching.logs.entry(log.clone()).or_default();
        if let Some(c) = self.watching.early.take() {
            self.note_ping(Some(c));
        }
        self.asked = Some(Asked::Watch { id, log: log.clone() });
        Ok(Action::Watch { log, groups, granted: self.grant.watch.clone() })
    }

    pub(super) fn begin_unwatch(&mut self, id: Option<u64>, unwatch: UnwatchCommand) -> Action {
        self.asked = Some(Asked::Unwatch { id });
        let UnwatchCommand { log, tags, escalated } = unwatch;
        Action::Unwatch { log, tags, escalated }
    }

    pub(super) fn watched(&mut self, id: Option<u64>, log: LogName, watched: Watched) {
        let Watched { at, stale, denied, escalated, spread_ms, watchers: _ } = watched;
        let Some(followed) = self.watching.logs.get_mut(&log) else { return };
        if followed.left.as_ref() == Some(&at.epoch) {
            // The answer is of a numbering whose end the client was told meanwhile: what is later in it was lost.
            let message = "the mutation log has begun another numbering meanwhile: ask again";
            return self.not_watched(id, &log, Problem::new(Code::BrokerUnavailable, message));
        }
        // What was told meanwhile is newer, and named these tags as well; the answer is as of where the log was looked at.
        let is_newer = |told: &Position| told.epoch == at.epoch && told.offset > at.offset;
        if !followed.told.as_ref().is_some_and(is_newer) {
            followed.tell(at.clone());
        }
        self.watching.unasked |= self.watching.last_ping > 0;
        let no_room = denied.iter().filter(|tag| self.grant.may_watch(tag)).cloned().collect();
        let frame = WatchedFrame { ns: log, at, stale, denied, no_room, escalated, spread_ms };
        let frame = Frame::Watched(frame);
        match self.config.catch_up {
            CatchUp::ByClient => self.reply(id, frame),
            CatchUp::ByServer => self.say(None, frame),
        }
    }

    pub(super) fn not_watched(&mut self, id: Option<u64>, log: &LogName, problem: Problem) {
        if self.watching.logs.get(log).is_some_and(|followed| followed.told.is_none()) {
            self.watching.logs.shift_remove(log);
        }
        match self.config.catch_up {
            CatchUp::ByClient => self.refuse(id, problem),
            // A stream without what it was opened for would look as if nothing happened.
            CatchUp::ByServer => self.close(crate::hub::Close::for_now(problem.to_string(), self.jitter)),
        }
    }

    /// A ping came, or is made up for a client that cannot: `c` is to be said once everything up to now was told.
    pub(super) fn note_ping(&mut self, c: Option<u64>) {
        let watching = &mut self.watching;
        if watching.logs.is_empty() {
            // The client may send it together with its first `watch`, and that may wait for other commands.
            watching.early = c;
            return;
        }
        watching.last_ping += 1;
        watching.pings.push_back((watching.last_ping, c));
        if watching.pings.len() > PINGS_MAX {
            watching.pings.pop_front();
        }
        watching.unasked = true;
    }

    /// What is to be done about the logs, if anything is.
    pub(super) fn poll_watching(&mut self) -> Option<Action> {
        if let Some(log) = self.watching.narrowed.pop_front() {
            self.asked = Some(Asked::Narrow { log: log.clone() });
            return Some(Action::Narrow { log, granted: self.grant.watch.clone() });
        }
        if std::mem::take(&mut self.watching.unasked) {
            let ping = self.watching.last_ping;
            // A log that is not known yet is asked with the answer to its first `watch`.
            let unasked = |followed: &Followed| followed.told.is_some() && followed.asked < ping;
            let logs = self.watching.logs.iter_mut().filter(|(_, followed)| unasked(followed));
            let logs: Vec<LogName> = logs
                .map(|(log, followed)| {
                    followed.asked = ping;
                    log.clone()
                })
                .collect();
            if !logs.is_empty() {
                self.asked = Some(Asked::Confirm);
                return Some(Action::Confirm { logs, ping });
            }
        }
        None
    }

    /// The grant is another one, and may cover less.
    pub(super) fn narrow_watches(&mut self) {
        self.watching.narrowed = self.watching.logs.keys().cloned().collect();
    }

    pub(super) fn narrowed(&mut self, log: LogName, tags: Vec<Tag>) {
        let at = self.watching.logs.get(&log).and_then(|followed| followed.told.clone());
        if let Some(at) = at.filter(|_| !tags.is_empty()) {
            let (scope, reason) = (ResetScope::Tags(tags), ResetReason::Auth);
            self.say(None, Frame::Reset(ResetFrame { ns: log, scope, at, reason, spread_ms: 0 }));
        }
    }

    /// A log has something to tell.
    pub fn handle_news(&mut self, log: LogName, news: LogNews) {
        let is_closed = self.state == State::Closed;
        let Some(followed) = self.watching.logs.get_mut(&log).filter(|_| !is_closed) else { return };
        let LogNews { at, reset, continued, touched, spread_ms, confirmed } = news;
        let before = followed.tell(at.clone());
        // Up to where everything was told before this, in the numbering of `at`.
        let mut told = before.clone().filter(|told| told.epoch == at.epoch);
        if let Some(from) = continued {
            let from =
                before.filter(|told| told.epoch == from.epoch && told.offset < from.offset).unwrap_or(from);
            let position = at.epoch.at(from.offset);
            let ns = Some(log.clone());
            told = Some(position.clone());
            self.say(None, Frame::Continued(ContinuedFrame { channel: None, ns, from, position }));
        }
        if reset {
            let (scope, reason) = (ResetScope::All, ResetReason::Epoch);
            let reset = ResetFrame { ns: log.clone(), scope, at: at.clone(), reason, spread_ms };
            told = Some(at.clone());
            self.say(None, Frame::Reset(reset));
        }
        let pings = self.watching.pings.iter().rev();
        let ping = confirmed.and_then(|number| pings.into_iter().find(|(of, _)| *of <= number));
        let c = ping.and_then(|(_, c)| *c);
        let touched: Vec<(Tag, Offset)> = touched.into_iter().collect();
        let mut chunks = touched.chunks(TAGS_PER_FRAME).peekable();
        if chunks.peek().is_none() && ping.is_some() {
            self.say(None, Frame::At(AtFrame { ns: log.clone(), position: at.clone(), c }));
        }
        let told = told.unwrap_or_else(|| at.epoch.at(Offset(0)));
        while let Some(tags) = chunks.next() {
            // Only the last of several says that all is told: a client may be cut off between two.
            let is_last = chunks.peek().is_none();
            let (c, at) = (c.filter(|_| is_last), if is_last { &at } else { &told });
            let (ns, at, tags) = (log.clone(), at.clone(), tags.to_vec());
            self.say(None, Frame::Invalidated(InvalidatedFrame { ns, at, tags, spread_ms, c }));
        }
    }

    /// When the session pings for a client that cannot.
    pub(super) fn next_own_ping(&self) -> Option<Time> {
        self.watching.next_ping
    }

    /// Pings for a client that cannot, where that is due.
    pub(super) fn ping_by_itself(&mut self, now: Time) {
        let can_ping = self.config.catch_up == CatchUp::ByClient;
        let is_early = self.watching.next_ping.is_some_and(|at| at > now);
        if can_ping || is_early || self.watching.logs.is_empty() {
            return;
        }
        let interval = match self.watching.clock {
            Some(_) => self.config.lease / 3,
            None => self.config.heartbeat.interval,
        };
        self.watching.next_ping = Some(now.after(interval));
        let c = self.watching.clock.map(|(c, at)| c.saturating_add(now.since(at).as_millis() as u64));
        self.note_ping(c);
    }
}

#[cfg(test)]
mod tests;
