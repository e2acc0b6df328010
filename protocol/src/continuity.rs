//! The client's share of gap-free delivery: what it has of one channel, and what it makes of each frame.
//!
//! ```text
//!              subscribed                      history{more: false}
//!   Waiting ───────────────▶ Live ◀──────────────────────────────── CatchingUp
//!      │ ▲                    │                                        ▲
//!      │ └── disconnected ────┘                 subscribed{more: true} │
//!      └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! It sends nothing and keeps no publications; a client gives it every frame of the channel and does what it answers.

use std::sync::Arc;

use crate::{
    BatchFrame, ContinuedFrame, GapFrame, GapReason, HistoryFrame, Offset, Position, Publication,
    SubscribedFrame,
};

/// One channel as a client has it.
#[derive(Clone, Debug, Default)]
pub struct Continuity {
    position: Option<Position>,
    subscribed_before: bool,
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
    /// Unsubscribe and subscribe again with `since` at this position: the server skipped something that it may still have.
    Resubscribe(Position),
}

impl Continuity {
    /// A channel of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// A channel of which the client has everything up to `position`.
    pub fn since(position: Position) -> Self {
        Continuity { position: Some(position), subscribed_before: false }
    }

    /// What to send as `since`: the last publication that the application has, or the place where it began.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// A subscription began. A channel without history that was subscribed before has lost something in between
    /// for all that anybody knows (R18).
    pub fn subscribed(&mut self, frame: &SubscribedFrame) -> Vec<Reaction> {
        let again = std::mem::replace(&mut self.subscribed_before, true);
        let Some(position) = &frame.position else {
            let lost = again || self.position.take().is_some();
            return if lost { vec![Reaction::Gap(GapReason::Lost)] } else { Vec::new() };
        };
        let mut reactions = Vec::new();
        match frame.recovered {
            Some(true) => self.read(&frame.publications, &mut reactions),
            // The gap that follows names its reason.
            Some(false) => self.position = Some(position.clone()),
            None => self.position = Some(position.clone()),
        }
        match frame.more {
            true => reactions.push(Reaction::AskHistory(self.position.clone().unwrap_or(position.clone()))),
            false => self.position = Some(position.clone()),
        }
        reactions
    }

    /// A page of what was missed came.
    pub fn history(&mut self, frame: &HistoryFrame) -> Vec<Reaction> {
        let mut reactions = Vec::new();
        if frame.gap.is_none() {
            self.read(&frame.publications, &mut reactions);
        }
        self.position = Some(frame.position.clone());
        if frame.more {
            reactions.push(Reaction::AskHistory(frame.position.clone()));
        }
        reactions
    }

    /// A live batch came.
    pub fn batch(&mut self, frame: &BatchFrame) -> Vec<Reaction> {
        let (Some(epoch), Some(first)) = (&frame.epoch, frame.first) else {
            return frame.publications.iter().cloned().map(Reaction::Deliver).collect();
        };
        let Some(position) = &mut self.position else { return Vec::new() };
        if position.epoch != *epoch || first > position.offset.next() {
            return vec![Reaction::Resubscribe(position.clone())];
        }
        let offsets = (first.0..).map(Offset);
        let last = frame.last.unwrap_or(Offset(first.0 + frame.publications.len() as u64 - 1));
        let seen = position.offset;
        position.offset = seen.max(last);
        let fresh =
            frame.publications.iter().zip(offsets).filter(|(p, offset)| p.offset.unwrap_or(*offset) > seen);
        fresh
            .map(|(p, offset)| {
                let mut publication = Publication::clone(p);
                publication.offset.get_or_insert(offset);
                Reaction::Deliver(publication.into())
            })
            .collect()
    }

    /// The server declared a gap.
    pub fn gap(&mut self, frame: &GapFrame) -> Vec<Reaction> {
        self.position = frame.position.clone();
        vec![Reaction::Gap(frame.reason)]
    }

    /// The numbering changed and nothing was lost.
    pub fn continued(&mut self, frame: &ContinuedFrame) {
        self.position = Some(frame.position.clone());
    }

    fn read(&mut self, publications: &[Arc<Publication>], reactions: &mut Vec<Reaction>) {
        for publication in publications {
            let Some(offset) = publication.offset else { continue };
            if self.position.as_ref().is_some_and(|position| offset <= position.offset) {
                continue;
            }
            if let Some(position) = &mut self.position {
                position.offset = offset;
            }
            reactions.push(Reaction::Deliver(publication.clone()));
        }
    }
}
