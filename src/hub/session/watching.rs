//! What a session does about tags: it passes on what the client asks of mutation logs, and what the logs have to tell.
//!
//! Which tags are watched only the logs know; the session knows which logs, up to where the client was told, and the
//! client's pings that wait to be confirmed.

use std::collections::VecDeque;

use indexmap::IndexMap;
use tidings_protocol::{
    AtFrame, Code, ContinuedFrame, Frame, InvalidatedFrame, LogName, Offset, Position, Problem, ResetFrame,
    ResetReason, ResetScope, Tag, UnwatchCommand, WatchCommand, WatchedFrame,
};

use super::{Asked, CatchUp, Session, State};
use crate::hub::{Action, LogNews, Time, Watched};

/// Tags in one frame: with the longest of them it stays below 200 KiB.
const TAGS_PER_FRAME: usize = 512;

/// Pings that wait; an older one gives no longer lease than the last.
const PINGS_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Watching {
    /// The logs that the client asked for, each with the last position that it was told.
    logs: IndexMap<LogName, Option<Position>>,
    /// The number of each ping, and what it said.
    pings: VecDeque<(u64, Option<u64>)>,
    last_ping: u64,
    /// A ping that is to be confirmed.
    unasked: bool,
    /// Logs that may hold watches which the credential no longer covers.
    narrowed: VecDeque<LogName>,
    /// The clock of a client that cannot ping, as it was at a moment.
    clock: Option<(u64, Time)>,
    /// When the session pings for such a client.
    next_ping: Option<Time>,
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
        self.asked = Some(Asked::Watch { id, log: log.clone() });
        Ok(Action::Watch { log, groups, granted: self.grant.watch.clone() })
    }

    pub(super) fn begin_unwatch(&mut self, id: Option<u64>, unwatch: UnwatchCommand) -> Action {
        self.asked = Some(Asked::Unwatch { id });
        Action::Unwatch { log: unwatch.log, tags: unwatch.tags }
    }

    pub(super) fn watched(&mut self, id: Option<u64>, log: LogName, watched: Watched) {
        let Watched { at, stale, denied, escalated } = watched;
        let Some(told) = self.watching.logs.get_mut(&log) else { return };
        // What was told meanwhile is newer, and named these tags as well.
        let is_newer = |told: &Position| told.epoch != at.epoch || told.offset > at.offset;
        let at = told.take_if(|told| is_newer(told)).unwrap_or(at);
        *told = Some(at.clone());
        let no_room = denied.iter().filter(|tag| self.grant.may_watch(tag)).cloned().collect();
        let frame = Frame::Watched(WatchedFrame { ns: log, at, stale, denied, no_room, escalated });
        match self.config.catch_up {
            CatchUp::ByClient => self.reply(id, frame),
            CatchUp::ByServer => self.say(None, frame),
        }
    }

    pub(super) fn not_watched(&mut self, id: Option<u64>, log: &LogName, problem: Problem) {
        if self.watching.logs.get(log).is_some_and(Option::is_none) {
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
            self.asked = Some(Asked::Confirm);
            let logs = self.watching.logs.keys().cloned().collect();
            return Some(Action::Confirm { logs, ping: self.watching.last_ping });
        }
        None
    }

    /// The grant is another one, and may cover less.
    pub(super) fn narrow_watches(&mut self) {
        self.watching.narrowed = self.watching.logs.keys().cloned().collect();
    }

    pub(super) fn narrowed(&mut self, log: LogName, tags: Vec<Tag>) {
        let at = self.watching.logs.get(&log).cloned().flatten();
        if let Some(at) = at.filter(|_| !tags.is_empty()) {
            let scope = ResetScope::Tags(tags);
            self.say(None, Frame::Reset(ResetFrame { ns: log, scope, at, reason: ResetReason::Auth }));
        }
    }

    /// A log has something to tell.
    pub fn handle_news(&mut self, log: LogName, news: LogNews) {
        let Some(told) = self.watching.logs.get_mut(&log).filter(|_| self.state != State::Closed) else {
            return;
        };
        let LogNews { at, reset, continued, touched, spread_ms, confirmed } = news;
        let before = told.replace(at.clone());
        if let Some(from) = continued {
            let from =
                before.filter(|told| told.epoch == from.epoch && told.offset < from.offset).unwrap_or(from);
            let position = at.epoch.at(from.offset);
            let ns = Some(log.clone());
            self.say(None, Frame::Continued(ContinuedFrame { channel: None, ns, from, position }));
        }
        if reset {
            let (scope, reason) = (ResetScope::All, ResetReason::Epoch);
            let reset = ResetFrame { ns: log.clone(), scope, at: at.clone(), reason };
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
        while let Some(tags) = chunks.next() {
            // Only the last of several says that all is told.
            let c = c.filter(|_| chunks.peek().is_none());
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
