//! The client's share of gap-free delivery: what it has of one channel, and what it makes of each frame (R15-R21).
//!
//! ```text
//!               subscribed                    history{more: false}, gap
//!   Asking ─────────────────────▶ Live ◀──────────────────────────────── Paging
//!    ▲ ▲ │                         │                                     ▲  │
//!    │ │ └─ subscribed{more: true} ┼─────────────────────────────────────┘  │
//!    │ └──── disconnected, a hole ─┘                                        │
//!    └─────── disconnected, a hole ─────────────────────────────────────────┘
//!
//!   Ended: refused, or ended by the server (from anywhere; final).
//! ```
//!
//! It sends nothing and keeps no publications; a client gives it every frame of the channel and does what it answers.
//! Once connected, the client says `subscribe` with `since` at [`Continuity::position`].

use std::sync::Arc;

use crate::{
    BatchFrame, Code, ContinuedFrame, ErrorFrame, GapFrame, GapReason, HistoryFrame, Offset, Position,
    Publication, SubscribedFrame,
};

/// One channel as a client has it.
#[derive(Clone, Debug, Default)]
pub struct Continuity {
    position: Option<Position>,
    phase: Phase,
    /// A resume failed, and the `gap` that says so is on its way; the reason in case it never comes.
    gap_owed: Option<GapReason>,
    /// The connection was cut while there was no position: nobody can say what was missed.
    missed: bool,
    /// Where a resume was asked to close a hole: the same place twice means that it cannot.
    repaired_at: Option<Position>,
    /// The held subscription was given up once, after `already_subscribed`.
    renewed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Asking,
    Paging,
    Live,
    Ended,
}

/// What a client does next.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Hand this publication to the application.
    Deliver(Arc<Publication>),
    /// Tell the application that something is lost.
    Gap(GapReason),
    /// Ask on with `history{since}` from here.
    AskHistory(Position),
    /// Unsubscribe and subscribe again, with `since` at this position or, without one, at the head: the server skipped
    /// something that it may still have.
    Resubscribe(Option<Position>),
}

/// The command whose answer a channel waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outstanding {
    /// `subscribe`.
    Subscribe,
    /// `history`.
    History,
}

impl Continuity {
    /// A channel of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// A channel of which the client has everything up to `position`.
    pub fn since(position: Position) -> Self {
        Continuity { position: Some(position), ..Self::default() }
    }

    /// What to send as `since`: the last publication that the application has, or the place where it began.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether the channel was refused or ended by the server: nothing of it comes any more.
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The command whose answer decides what comes next; what to send again after a retryable error.
    pub fn outstanding(&self) -> Option<Outstanding> {
        match self.phase {
            Phase::Asking => Some(Outstanding::Subscribe),
            Phase::Paging => Some(Outstanding::History),
            Phase::Live | Phase::Ended => None,
        }
    }

    /// The connection was cut.
    pub fn disconnected(&mut self) -> Vec<Reaction> {
        let reactions = self.settle_gap();
        self.missed |= self.phase == Phase::Live && self.position.is_none();
        self.repaired_at = None;
        if self.phase != Phase::Ended {
            self.phase = Phase::Asking;
        }
        reactions
    }

    /// A subscription began. A channel without history that was subscribed before has lost something in between
    /// for all that anybody knows (R18).
    pub fn subscribed(&mut self, frame: &SubscribedFrame) -> Vec<Reaction> {
        let mut reactions = match self.phase {
            Phase::Asking => Vec::new(),
            // Only a cut that nobody told of brings a second answer.
            Phase::Paging | Phase::Live => self.disconnected(),
            Phase::Ended => return Vec::new(),
        };
        self.phase = Phase::Live;
        self.renewed = false;
        let Some(since) = self.position.take() else {
            self.position = frame.position.clone();
            reactions.extend(std::mem::take(&mut self.missed).then_some(Reaction::Gap(GapReason::Lost)));
            return reactions;
        };
        match (&frame.position, frame.recovered) {
            (Some(position), Some(true)) => {
                self.position = Some(position.epoch.at(since.offset));
                self.take(&frame.publications, since.offset.next(), &mut reactions);
                match frame.more {
                    true => reactions.extend(self.ask_page()),
                    false => self.advance(position.offset),
                }
            }
            (position, _) => self.fail(GapReason::Lost, position.clone()),
        }
        reactions
    }

    /// A page of what was missed came (R21).
    pub fn history(&mut self, frame: &HistoryFrame) -> Vec<Reaction> {
        if self.phase != Phase::Paging {
            return Vec::new();
        }
        if let Some(reason) = frame.gap {
            // The server goes on at the head, so what such a page still holds is part of the gap.
            self.fail(reason, Some(frame.position.clone()));
            return Vec::new();
        }
        let mut reactions = Vec::new();
        self.take_page(frame, &mut reactions);
        reactions
    }

    /// A live batch came (R19, R20).
    pub fn batch(&mut self, frame: &BatchFrame) -> Vec<Reaction> {
        let (Some(epoch), Some(first)) = (&frame.epoch, frame.first) else {
            return self.volatile_batch(frame);
        };
        // What an old subscription still sends while a new one is asked for is part of what the answer brings.
        if matches!(self.phase, Phase::Asking | Phase::Ended) {
            return Vec::new();
        }
        let mut reactions = self.settle_gap();
        let position = self.position.get_or_insert_with(|| epoch.at(first.previous()));
        if position.epoch != *epoch || first > position.offset.next() {
            reactions.extend(self.repair());
            return reactions;
        }
        self.take(&frame.publications, first, &mut reactions);
        let counted = Offset(first.0 + frame.publications.len() as u64).previous();
        self.advance(frame.last.unwrap_or(counted));
        reactions
    }

    /// The server declared a gap (R17).
    pub fn gap(&mut self, frame: &GapFrame) -> Vec<Reaction> {
        // While asking, the answer decides whether anything is lost.
        if matches!(self.phase, Phase::Asking | Phase::Ended) {
            return Vec::new();
        }
        self.phase = Phase::Live;
        self.gap_owed = None;
        // Offsets never go back within an epoch, so what is known stays known.
        let is_behind =
            |known: &Position, told: &Position| known.epoch == told.epoch && told.offset < known.offset;
        let behind = self.position.as_ref().zip(frame.position.as_ref());
        if !behind.is_some_and(|(known, told)| is_behind(known, told)) {
            self.position = frame.position.clone();
        }
        vec![Reaction::Gap(frame.reason)]
    }

    /// The numbering changed and nothing was lost.
    pub fn continued(&mut self, frame: &ContinuedFrame) -> Vec<Reaction> {
        let known = self.position.as_ref().is_some_and(|position| position.epoch == frame.position.epoch);
        if known || matches!(self.phase, Phase::Asking | Phase::Ended) {
            return Vec::new();
        }
        if self.position.as_ref().is_some_and(|position| *position != frame.from) {
            return self.repair();
        }
        self.position = Some(frame.position.clone());
        Vec::new()
    }

    /// The outstanding command was refused. After a retryable error nothing changes: ask again after a while.
    pub fn refused(&mut self, frame: &ErrorFrame) -> Vec<Reaction> {
        match (self.phase, frame.code) {
            _ if frame.retryable => Vec::new(),
            (Phase::Live | Phase::Ended, _) => Vec::new(),
            (Phase::Paging, _) => self.restart(),
            // A channel that the credential subscribes to is held before anybody asks; it knows no `since`.
            (Phase::Asking, Code::AlreadySubscribed) if !self.renewed => {
                self.renewed = true;
                self.resubscribe()
            }
            (Phase::Asking, _) => self.ended(),
        }
    }

    /// The server ended the subscription (R26).
    pub fn ended(&mut self) -> Vec<Reaction> {
        self.phase = Phase::Ended;
        self.settle_gap()
    }

    fn volatile_batch(&mut self, frame: &BatchFrame) -> Vec<Reaction> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        let mut reactions = self.settle_gap();
        reactions.extend(frame.publications.iter().cloned().map(Reaction::Deliver));
        reactions
    }

    fn take_page(&mut self, frame: &HistoryFrame, reactions: &mut Vec<Reaction>) {
        let Some(position) = self.position.clone().filter(|known| known.epoch == frame.position.epoch) else {
            return reactions.extend(self.repair());
        };
        let unbroken = unbroken(&frame.publications, position.offset);
        self.take(&frame.publications[..unbroken], position.offset.next(), reactions);
        let end = self.position.as_ref().map_or(position.offset, |position| position.offset);
        // A page that brings nothing but promises more, or ends below its position, hides something.
        let short = if frame.more { end == position.offset } else { frame.position.offset > end };
        if short || unbroken < frame.publications.len() {
            return reactions.extend(self.repair());
        }
        match frame.more {
            true => reactions.extend(self.ask_page()),
            false => self.phase = Phase::Live,
        }
    }

    /// Delivers what is new; publications without an offset are numbered from `next` on.
    fn take(&mut self, publications: &[Arc<Publication>], mut next: Offset, reactions: &mut Vec<Reaction>) {
        for publication in publications {
            let offset = publication.offset.unwrap_or(next);
            next = offset.next();
            if self.position.as_ref().is_some_and(|position| offset > position.offset) {
                self.advance(offset);
                let numbered = match publication.offset {
                    Some(_) => publication.clone(),
                    None => Arc::new(Publication { offset: Some(offset), ..Publication::clone(publication) }),
                };
                reactions.push(Reaction::Deliver(numbered));
            }
        }
    }

    fn advance(&mut self, offset: Offset) {
        if let Some(position) = &mut self.position {
            position.offset = position.offset.max(offset);
        }
    }

    /// Offsets are missing, or the epoch is unknown: the server is asked once for each place before a gap is declared.
    fn repair(&mut self) -> Vec<Reaction> {
        if self.repaired_at.is_some() && self.repaired_at == self.position {
            return self.restart();
        }
        self.repaired_at = self.position.clone();
        self.resubscribe()
    }

    fn restart(&mut self) -> Vec<Reaction> {
        self.position = None;
        let mut reactions = vec![Reaction::Gap(GapReason::Lost)];
        reactions.extend(self.resubscribe());
        reactions
    }

    fn resubscribe(&mut self) -> Vec<Reaction> {
        self.phase = Phase::Asking;
        vec![Reaction::Resubscribe(self.position.clone())]
    }

    fn ask_page(&mut self) -> Option<Reaction> {
        self.phase = Phase::Paging;
        self.position.clone().map(Reaction::AskHistory)
    }

    /// A resume failed: the `gap` frame that follows says so.
    fn fail(&mut self, reason: GapReason, position: Option<Position>) {
        self.phase = Phase::Live;
        self.gap_owed = Some(reason);
        self.position = position;
    }

    /// The gap of a failed resume, where its frame did not come in time.
    fn settle_gap(&mut self) -> Vec<Reaction> {
        self.gap_owed.take().map(Reaction::Gap).into_iter().collect()
    }
}

/// How many of a page's publications follow each other, and the position before them, without a hole.
fn unbroken(publications: &[Arc<Publication>], mut before: Offset) -> usize {
    let follows = |publication: &Arc<Publication>| {
        let offset = publication.offset.unwrap_or(before.next());
        let follows = offset <= before.next();
        before = offset;
        follows
    };
    publications.iter().map(follows).take_while(|follows| *follows).count()
}
