//! A mutation log as one instance holds it: what was touched, who is to be told, and up to where that is certain.
//!
//! ```text
//!   unknown ──snapshot──▶ current ──a hole, another epoch, loss──▶ behind ──snapshot──▶ current
//!                            │                                                             │
//!                            └───── mutations that the log has lost ◀── another epoch ─────┘
//!                                   are written again; until then no lease is confirmed
//! ```
//!
//! Mutations come in the order of their offsets, as announced. Where one is missing, or the numbering is another one, the
//! broker's snapshot says for every watched tag whether it was touched meanwhile: a loss on the way costs time, never
//! truth. Where the log itself has lost mutations (its numbering forked below what this instance saw or acknowledged, or another began that
//! follows from nothing while a deposed primary went on with this one), the instance writes them again; of those that it does not hold any
//! more it writes that everything was touched.
//!
//! Pure: time comes in, what must be done comes out of the `poll_*` functions, and what watchers must be told goes to
//! `tell`.

mod known;
mod lost;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{Epoch, Offset, Position, Tag, WatchGroup};

use super::confirm::Confirmations;
use super::recent::Event;
use super::watch::{Admitted, WatchIndex};
use crate::ablation::{Safeguard, ablated};
use crate::hub::{LogNews, SessionId, Time, Watched};
use known::Known;

/// How long after a failed attempt the next one is made.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Mutations that wait for a snapshot, or that were acknowledged and not yet announced. Of those above it the next snapshot
/// tells; should the log have lost any by then, it is written that everything was touched.
const WAITING_MAX: usize = 16_384;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// A mutation touched what was watched.
    Touched {
        /// As it was watched.
        tag: &'a Tag,
        /// The mutation.
        offset: Offset,
        /// How many watch the same.
        watchers: usize,
    },
    /// The numbering is another one, and means the same up to here.
    Continued(Position),
    /// Nobody knows what was touched.
    Reset {
        /// How many watch anything.
        watchers: usize,
    },
    /// Everything that was touched before this ping came was told.
    Confirmed(u64),
}

impl News<'_> {
    /// Puts it to what a connection is to be told.
    pub fn put_into(self, news: &mut LogNews) {
        match self {
            News::Touched { tag, offset, .. } => news.touch(tag, offset),
            News::Continued(from) => news.go_on(from),
            News::Reset { .. } => news.reset(),
            News::Confirmed(ping) => news.confirmed = Some(ping),
        }
    }
}

/// Where what watchers are told goes: to whom, as of where, and what.
pub type Tell<'a, M> = &'a mut dyn FnMut(&M, &Position, News<'_>);

/// What one session may watch.
#[derive(Clone, Copy, Debug)]
pub struct Allowance<'a> {
    /// What its credential covers.
    pub granted: &'a [Tag],
    /// The most tags.
    pub tags_max: usize,
}

/// A mutation that the log has lost, to be written again. The key is the same wherever it is written from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// What it touched.
    pub tags: Arc<[Tag]>,
    /// What makes several instances write it once.
    pub key: Arc<str>,
}

/// What must be done outside; each is answered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Take a snapshot: [`Log::handle_snapshot`].
    Snapshot,
    /// Ask the broker where the log stands: [`Log::handle_confirmed`].
    Confirm(u64),
    /// Write a mutation again: [`Log::handle_rewritten`].
    Write(Rewrite),
}

/// See the module. `M` is how a watcher is reached.
#[derive(Debug)]
pub struct Log<M> {
    events_max: usize,
    known: Option<Known>,
    /// Nothing after the known head is certain.
    is_behind: bool,
    /// What was announced since, in that order.
    waiting: VecDeque<(Epoch, Event)>,
    /// Mutations that this instance acknowledged and that were not announced yet.
    acknowledged: VecDeque<(Epoch, Event)>,
    /// The last mutation that was announced or acknowledged and did not find room in either of these.
    unheld: Option<Position>,
    index: WatchIndex<M>,
    confirmations: Confirmations<M>,
    lost: VecDeque<Rewrite>,
    is_snapshot_out: bool,
    is_write_out: bool,
    retry_at: Time,
}

impl<M: Clone> Log<M> {
    /// A log of which nothing is known yet, and that keeps so many mutations word for word.
    pub fn new(events_max: usize) -> Self {
        Log {
            events_max,
            known: None,
            is_behind: true,
            waiting: VecDeque::new(),
            acknowledged: VecDeque::new(),
            unheld: None,
            index: WatchIndex::default(),
            confirmations: Confirmations::default(),
            lost: VecDeque::new(),
            is_snapshot_out: false,
            is_write_out: false,
            retry_at: Time::ZERO,
        }
    }

    /// Where the log stands, as far as this instance knows; `None` before the first snapshot.
    pub fn position(&self) -> Option<Position> {
        self.known.as_ref().map(Known::position)
    }

    /// Everyone who watches anything.
    pub fn watchers(&self) -> impl Iterator<Item = &M> {
        self.index.sessions()
    }

    /// The number of watches.
    pub fn watches(&self) -> usize {
        self.index.watches()
    }

    /// Whether any of the tags was touched after the group's `since`, or nobody knows: as where there is no `since`. `None` before
    /// the first snapshot.
    pub fn is_stale(&self, group: &WatchGroup) -> Option<bool> {
        let known = self.known.as_ref()?;
        let Some(since) = &group.since else { return Some(true) };
        Some(group.tags.iter().any(|tag| known.is_touched(tag, since, group.except.as_ref())))
    }

    /// A mutation was announced. Returns how many were told of it.
    pub fn handle_event(&mut self, epoch: Epoch, event: Event, tell: Tell<'_, M>) -> usize {
        let next = |known: &&mut Known| known.epoch == epoch && known.head.next() == event.offset;
        match self.known.as_mut().filter(|_| !self.is_behind) {
            Some(known) if known.epoch == epoch && event.offset <= known.head => 0,
            Some(known) if next(&known) || (known.epoch == epoch && ablated(Safeguard::LogRepair)) => {
                let told = self.apply(event, tell);
                self.release(tell);
                told
            }
            _ => {
                self.is_behind = true;
                match self.waiting.len() < WAITING_MAX {
                    true => self.waiting.push_back((epoch, event)),
                    false => self.unheld = Some(epoch.at(event.offset)),
                }
                0
            }
        }
    }

    fn apply(&mut self, event: Event, tell: Tell<'_, M>) -> usize {
        let Some(known) = &mut self.known else { return 0 };
        known.take(&event);
        self.acknowledged.retain(|(epoch, of)| *epoch != known.epoch || of.offset > event.offset);
        let (at, offset) = (known.position(), event.offset);
        let told = |touched| {
            self.index.each_watcher(touched, |mailbox, tag, watchers| {
                tell(mailbox, &at, News::Touched { tag, offset, watchers });
            })
        };
        event.tags.iter().map(told).sum()
    }

    /// This instance told somebody that a mutation is written.
    pub fn handle_acknowledged(&mut self, position: &Position, tags: Arc<[Tag]>) {
        let is_known = |known: &Known| known.epoch == position.epoch && position.offset <= known.head;
        if self.known.as_ref().is_some_and(is_known) {
            return;
        }
        let event = Event { offset: position.offset, tags, key: None };
        match self.acknowledged.len() < WAITING_MAX {
            true => self.acknowledged.push_back((position.epoch.clone(), event)),
            false => self.unheld = Some(position.clone()),
        }
    }

    /// Announcements may have been lost.
    pub fn handle_lost(&mut self) {
        self.is_behind |= !ablated(Safeguard::LogRepair);
    }

    /// The session asks to watch; `None` before the first snapshot.
    pub fn watch(
        &mut self,
        session: SessionId,
        mailbox: &M,
        groups: &[WatchGroup],
        allowance: Allowance<'_>,
    ) -> Option<Watched> {
        let known = self.known.as_ref()?;
        let mut watched = Watched::nothing(known.position());
        for group in groups {
            for tag in &group.tags {
                match self.index.admit(session, mailbox, tag, allowance) {
                    Admitted::Watched => {}
                    Admitted::Escalated(subtree) if watched.escalated.contains(&subtree) => {}
                    Admitted::Escalated(subtree) | Admitted::MadeRoom(subtree) => {
                        watched.escalated.push(subtree);
                    }
                    Admitted::Denied => {
                        watched.denied.push(tag.clone());
                        continue;
                    }
                }
                let since = group.since.as_ref().filter(|_| !ablated(Safeguard::WatchSince));
                if since.is_some_and(|since| known.is_touched(tag, since, group.except.as_ref())) {
                    let watchers = self.index.watchers(tag, known.means(since));
                    watched.watchers = watched.watchers.max(watchers);
                    watched.stale.push(tag.clone());
                }
            }
        }
        Some(watched)
    }

    /// The session takes watches back, and subtrees that took the place of tags; those stay that it does not call so.
    pub fn unwatch(&mut self, session: SessionId, tags: &[Tag], escalated: &[Tag]) {
        tags.iter().for_each(|tag| self.index.unwatch(session, tag));
        escalated.iter().for_each(|subtree| self.index.unwatch_escalated(session, subtree));
    }

    /// The session may watch only this from now on. Returns what it watches no more.
    pub fn narrow(&mut self, session: SessionId, granted: &[Tag]) -> Vec<Tag> {
        let lost = self.index.tags_of(session, |tag| !granted.iter().any(|grant| grant.covers(tag)));
        lost.iter().for_each(|tag| self.index.revoke(session, tag));
        lost
    }

    /// The session is gone.
    pub fn forget(&mut self, session: SessionId) {
        self.index.forget(session);
        self.confirmations.forget(session);
    }

    /// A client wants to know that it was told everything up to now. `ping` counts its questions.
    pub fn handle_ping(&mut self, session: SessionId, mailbox: M, ping: u64) {
        self.confirmations.ask(session, mailbox, ping);
    }

    /// What must be done next.
    pub fn poll_need(&mut self, now: Time) -> Option<Need> {
        if self.retry_at > now {
            return None;
        }
        if self.is_behind {
            let is_due = !std::mem::replace(&mut self.is_snapshot_out, true);
            return is_due.then_some(Need::Snapshot);
        }
        if let Some(rewrite) = self.lost.front() {
            let is_due = !std::mem::replace(&mut self.is_write_out, true);
            return is_due.then(|| Need::Write(rewrite.clone()));
        }
        self.confirmations.begin(now).map(Need::Confirm)
    }

    /// When [`Log::poll_need`] may have something new, or [`Log::handle_timeout`] something to do; `None` while an answer is
    /// waited for that decides it.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.is_behind {
            return (!self.is_snapshot_out).then_some(self.retry_at);
        }
        let need = match self.lost.is_empty() {
            true => self.confirmations.begin_at().map(|at| at.max(self.retry_at)),
            false => (!self.is_write_out).then_some(self.retry_at),
        };
        [need, self.confirmations.overdue_at()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        // The last mutations before the confirmed head do not arrive, and nobody says that they are lost.
        if self.confirmations.overdue_at().is_some_and(|at| at <= now) {
            self.is_behind = true;
        }
    }

    /// The broker said where the log stands, or did not. `Err` for the latter.
    pub fn handle_confirmed(
        &mut self,
        ticket: u64,
        head: Result<Position, ()>,
        now: Time,
        tell: Tell<'_, M>,
    ) {
        if !self.confirmations.is_answered_by(ticket) {
            return;
        }
        let unproven = self.position().filter(|_| ablated(Safeguard::HeadProbe));
        let Ok(head) = unproven.map_or(head, Ok) else {
            self.confirmations.ask_again();
            self.retry_at = now.after(RETRY_AFTER);
            return;
        };
        if let Some(known) = &mut self.known {
            known.confirm(&head);
        }
        if self.known.as_ref().is_some_and(|known| known.epoch == head.epoch) && self.is_settled() {
            self.confirmations.note(head.offset, now);
            return self.release(tell);
        }
        self.confirmations.ask_again();
        if self.known.as_ref().is_none_or(|known| known.epoch != head.epoch) {
            self.is_behind = true;
        }
    }

    /// Whether everything that the log holds and held is told, or will be announced.
    fn is_settled(&self) -> bool {
        !self.is_behind && self.lost.is_empty()
    }

    fn release(&mut self, tell: Tell<'_, M>) {
        if let Some(known) = self.known.as_ref().filter(|_| self.is_settled()) {
            let at = known.position();
            self.confirmations.release(known.head, |mailbox, ping| tell(mailbox, &at, News::Confirmed(ping)));
        }
    }
}

#[cfg(test)]
mod tests;
