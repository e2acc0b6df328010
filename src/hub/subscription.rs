//! A subscription is one session's place in one channel.
//!
//! It decides, for every batch that arrives, whether the session passes it on, has seen it already, or has missed
//! something on the way. What was missed is read from history; only where history does not have it, a gap is declared.
//!
//! ```text
//!             page reaches the head                     batch starts beyond `next`, or is
//!   Joining ────────────────────────▶ Live ◀──────────▶ of another epoch, or was forgotten
//!      │ │                             ▲    page reaches       │
//!      │ │ page ends before the head   │    the head           ▼
//!      │ └────────▶ CatchingUp ────────┘  ◀──────────────── Behind
//!      │            (the client pages)                     (we page)
//!      └────────▶ Volatile   (no history: no positions, nothing to catch up with)
//! ```
//!
//! While history is read, live batches are not kept: the subscription notes how far they went, and reads again if the
//! page ends before that. So catching up needs no buffer, and cannot overflow.

use tidings_protocol::{GapReason, Offset, Position};

use super::{Batch, Page, Span};
use crate::ablation::{Safeguard, ablated};

/// One session's place in one channel.
#[derive(Debug)]
pub struct Subscription {
    state: State,
    noted: Noted,
}

/// What went by while history was being read.
#[derive(Debug, PartialEq)]
enum Noted {
    Nothing,
    UpTo(Position),
    /// Something was forgotten on the way, and nobody knows how far it went.
    Unknown,
}

#[derive(Debug, PartialEq)]
enum State {
    Joining,
    Volatile,
    CatchingUp { position: Position, waiting_bytes: usize },
    Live { position: Position },
    Behind { position: Position },
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Pass it on; where `from` is given, without what comes before that offset.
    Deliver {
        /// The first offset that the client has not seen.
        from: Option<Offset>,
    },
    /// The client has all of it already.
    Duplicate,
    /// History is being read, or must be: what this batch holds will come from there.
    Held,
    /// Something before this batch is missing: history must be read.
    Behind,
    /// Whoever published this batch keeps the channel's history otherwise than this instance does: it has positions where
    /// there are none, or none where there are some. Nobody can say where it belongs, and no history has it: a gap must be
    /// declared.
    Lost,
    /// The client has not caught up in time; the subscription goes on at this position.
    Overflow(Position),
}

/// What must follow when something was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallen {
    /// History must be read.
    Read,
    /// History is being read already.
    Reading,
    /// There is no history: a gap must be declared.
    Gap,
}

/// What a page of history means for the subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The subscription is live.
    Live,
    /// There is more to read.
    More,
    /// History does not continue the subscription, which goes on at the head.
    Gap(GapReason, Position),
}

impl Subscription {
    /// A subscription that waits for its history. The hub must already deliver to it: listening before reading
    /// history makes a publication between the two seen twice, never missed.
    pub fn joining() -> Self {
        Subscription { state: State::Joining, noted: Noted::Nothing }
    }

    /// The channel turned out to keep no history.
    pub fn go_volatile(&mut self) {
        self.state = State::Volatile;
    }

    /// Whether the subscription waits for its first history.
    pub fn is_joining(&self) -> bool {
        self.state == State::Joining
    }

    /// Whether it is for the client to ask for more history.
    pub fn is_catching_up(&self) -> bool {
        matches!(self.state, State::CatchingUp { .. })
    }

    /// Whether `page` joins what the client has of this recovery: none is missing between the two.
    pub fn is_reached_by(&self, page: &Page) -> bool {
        let reaches = |position: &Position| match position.epoch == page.from.epoch {
            true => page.from.offset <= position.offset,
            // Another numbering continues this very position, or tells nothing about it.
            false => page.from.offset == position.offset,
        };
        page.gap.is_some() || self.position().is_some_and(reaches)
    }

    /// The position that `page` continues under another numbering, if it does so.
    pub fn renamed_by(&self, page: &Page) -> Option<&Position> {
        let renamed = |position: &&Position| position.epoch != page.from.epoch && page.gap.is_none();
        self.position().filter(renamed)
    }

    /// Whether everything up to its position was passed on, and nothing else is known of.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// Whether history must be read for it.
    pub fn is_behind(&self) -> bool {
        matches!(self.state, State::Behind { .. })
    }

    /// The last position passed on; `None` while joining and for a volatile channel.
    pub fn position(&self) -> Option<&Position> {
        match &self.state {
            State::Joining | State::Volatile => None,
            State::CatchingUp { position, .. } | State::Live { position } | State::Behind { position } => {
                Some(position)
            }
        }
    }

    /// Judges one batch. `waiting_max` bounds the bytes that go by while the client pages.
    pub fn accept(&mut self, batch: &Batch, waiting_max: usize) -> Accept {
        self.judge(batch.span.as_ref(), batch.bytes, waiting_max, !ablated(Safeguard::RangeCheck))
    }

    /// Judges publications by the offsets that they cover alone; `None` for those of a volatile channel.
    pub fn accept_span(&mut self, span: Option<&Span>, bytes: usize, waiting_max: usize) -> Accept {
        self.judge(span, bytes, waiting_max, true)
    }

    fn judge(&mut self, span: Option<&Span>, bytes: usize, waiting_max: usize, compares: bool) -> Accept {
        let Some(span) = span else {
            return match self.state {
                State::Volatile => Accept::Deliver { from: None },
                // What follows the first history is all that was promised.
                State::Joining => Accept::Held,
                State::CatchingUp { .. } | State::Live { .. } | State::Behind { .. } => Accept::Lost,
            };
        };
        match &mut self.state {
            State::Volatile => Accept::Lost,
            State::Joining | State::Behind { .. } => {
                self.note(span.epoch.at(span.last));
                Accept::Held
            }
            State::CatchingUp { waiting_bytes, .. } => {
                let head = span.epoch.at(span.last);
                *waiting_bytes += bytes;
                if *waiting_bytes > waiting_max {
                    self.resume_at(head.clone());
                    return Accept::Overflow(head);
                }
                self.note(head);
                Accept::Held
            }
            State::Live { position } => {
                let next = position.offset.next();
                let unbroken = position.epoch == span.epoch && span.first <= next;
                if !unbroken && compares {
                    let position = position.clone();
                    self.note(span.epoch.at(span.last));
                    self.state = State::Behind { position };
                    return Accept::Behind;
                }
                if unbroken && span.last < next {
                    return Accept::Duplicate;
                }
                *position = span.epoch.at(span.last);
                Accept::Deliver { from: (span.first < next && unbroken).then_some(next) }
            }
        }
    }

    /// Something of the channel was forgotten on the way to this session.
    pub fn fall_behind(&mut self) -> Fallen {
        match &self.state {
            State::Volatile => Fallen::Gap,
            State::Live { position } => {
                self.state = State::Behind { position: position.clone() };
                Fallen::Read
            }
            State::Joining | State::CatchingUp { .. } | State::Behind { .. } => {
                // A page on its way may be older than what was forgotten: another must follow it.
                self.noted = Noted::Unknown;
                Fallen::Reading
            }
        }
    }

    /// A page continues the subscription that has `position` (or joined without one); `by_client` tells who asks for
    /// the rest.
    pub fn advance(&mut self, page: &Page, by_client: bool) -> Progress {
        let position = if page.gap.is_some() { page.head() } else { page.end() };
        let more = page.gap.is_none() && page.more();
        if more && by_client {
            self.state = State::CatchingUp { position, waiting_bytes: 0 };
            return Progress::More;
        }
        let more = more || self.noted.is_past(&position);
        self.resume_at(position.clone());
        if more {
            self.state = State::Behind { position: position.clone() };
        }
        match page.gap {
            Some(reason) => Progress::Gap(reason, position),
            None if more => Progress::More,
            None => Progress::Live,
        }
    }

    fn resume_at(&mut self, position: Position) {
        self.noted = Noted::Nothing;
        self.state = State::Live { position };
    }

    fn note(&mut self, position: Position) {
        if self.noted != Noted::Unknown {
            self.noted = Noted::UpTo(position);
        }
    }
}

impl Noted {
    /// Whether something went by that a reader at `position` does not have.
    fn is_past(&self, position: &Position) -> bool {
        match self {
            Noted::Nothing => false,
            Noted::UpTo(noted) => noted.epoch != position.epoch || noted.offset > position.offset,
            Noted::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tidings_protocol::{Channel, Epoch, Payload, Publication};

    fn publications(first: u64, last: u64) -> Vec<Arc<Publication>> {
        let one = |offset| Publication {
            offset: Some(Offset(offset)),
            time: 0,
            id: None,
            key: None,
            payload: Payload::text(b"x").unwrap(),
        };
        (first..=last).map(|offset| Arc::new(one(offset))).collect()
    }

    fn batch(epoch: &str, first: u64, last: u64) -> Batch {
        let epoch = Epoch::parse(epoch).unwrap();
        Batch::new(Channel::parse("c").unwrap(), Some(epoch), publications(first, last))
    }

    fn page(from: &str, last: u64, head: u64, gap: Option<GapReason>) -> Page {
        let from: Position = from.parse().unwrap();
        Page { publications: publications(from.offset.0 + 1, last), from, head: Offset(head), gap }
    }

    fn live_at_10() -> Subscription {
        let mut subscription = Subscription::joining();
        assert_eq!(subscription.advance(&page("a.10", 10, 10, None), true), Progress::Live);
        subscription
    }

    fn check(arrives: Batch, expected: Accept, then: &str) {
        let mut subscription = live_at_10();
        assert_eq!(subscription.accept(&arrives, 1_000), expected, "{arrives:?} after offset 10 of epoch a");
        assert_eq!(subscription.position().unwrap().to_string(), then);
    }

    #[test]
    fn a_batch_is_delivered_skipped_or_missed_by_its_range_alone() {
        check(batch("a", 11, 13), Accept::Deliver { from: None }, "a.13");
        check(batch("a", 9, 12), Accept::Deliver { from: Some(Offset(11)) }, "a.12");
        check(batch("a", 8, 10), Accept::Duplicate, "a.10");
        check(batch("a", 12, 12), Accept::Behind, "a.10");
        check(batch("b", 11, 11), Accept::Behind, "a.10");
    }

    #[test]
    fn a_batch_of_another_kind_than_the_channel_is_a_loss_and_changes_nothing() {
        let without = || Batch::new(Channel::parse("c").unwrap(), None, publications(11, 11));
        check(without(), Accept::Lost, "a.10");
        let mut volatile = Subscription::joining();
        assert_eq!(volatile.accept(&without(), 1_000), Accept::Held, "it is not known yet what it is");
        volatile.go_volatile();
        assert_eq!(volatile.accept(&batch("a", 11, 11), 1_000), Accept::Lost);
        assert_eq!(volatile.accept(&without(), 1_000), Accept::Deliver { from: None });
    }

    #[test]
    fn a_page_under_another_numbering_renames_the_position_or_is_a_gap() {
        let mut subscription = live_at_10();
        assert_eq!(subscription.accept(&batch("b", 13, 13), 1_000), Accept::Behind);
        let continues = page("b.10", 13, 13, None);
        assert_eq!(subscription.renamed_by(&continues).unwrap().to_string(), "a.10");
        assert_eq!(subscription.renamed_by(&page("b.8", 13, 13, Some(GapReason::Epoch))), None);
        assert_eq!(subscription.advance(&continues, false), Progress::Live);
        assert_eq!(subscription.accept(&batch("b", 14, 14), 1_000), Accept::Deliver { from: None });
        assert_eq!(subscription.accept(&batch("a", 11, 11), 1_000), Accept::Behind, "a late one of the old");
    }

    #[test]
    fn what_goes_by_while_history_is_read_makes_it_read_again() {
        for (seen, expected) in [(10, Progress::Live), (11, Progress::More)] {
            let mut subscription = Subscription::joining();
            assert_eq!(subscription.accept(&batch("a", 9, seen), 1_000), Accept::Held);
            assert_eq!(subscription.advance(&page("a.8", 10, 10, None), true), expected);
        }
    }

    #[test]
    fn a_hole_that_history_fills_is_no_gap_and_one_that_it_does_not_is() {
        let mut subscription = live_at_10();
        subscription.accept(&batch("a", 13, 14), 1_000);
        assert_eq!(subscription.advance(&page("a.10", 12, 14, None), false), Progress::More);
        assert_eq!(subscription.accept(&batch("a", 15, 15), 1_000), Accept::Held);
        assert_eq!(subscription.advance(&page("a.12", 15, 15, None), false), Progress::Live);
        assert_eq!(subscription.accept(&batch("a", 16, 16), 1_000), Accept::Deliver { from: None });

        subscription.accept(&batch("a", 20, 20), 1_000);
        let trimmed = page("a.18", 20, 20, Some(GapReason::Trimmed));
        let head = "a.20".parse().unwrap();
        assert_eq!(subscription.advance(&trimmed, false), Progress::Gap(GapReason::Trimmed, head));
        assert_eq!(subscription.accept(&batch("a", 21, 21), 1_000), Accept::Deliver { from: None });
    }

    #[test]
    fn a_client_that_does_not_page_on_is_told_of_its_gap() {
        let mut subscription = Subscription::joining();
        assert_eq!(subscription.advance(&page("a.0", 3, 9, None), true), Progress::More);
        let bytes = batch("a", 10, 10).bytes;
        assert_eq!(subscription.accept(&batch("a", 10, 10), 2 * bytes), Accept::Held);
        assert_eq!(subscription.accept(&batch("a", 11, 11), 2 * bytes), Accept::Held);
        let head = "a.12".parse().unwrap();
        assert_eq!(subscription.accept(&batch("a", 12, 12), 2 * bytes), Accept::Overflow(head));
        assert_eq!(subscription.accept(&batch("a", 13, 13), 2 * bytes), Accept::Deliver { from: None });
    }

    #[test]
    fn a_volatile_channel_is_delivered_as_it_comes() {
        let volatile = Batch::new(Channel::parse("c").unwrap(), None, publications(0, 0));
        let mut subscription = Subscription::joining();
        assert_eq!(subscription.accept(&volatile, 1_000), Accept::Held, "the reply comes first");
        subscription.go_volatile();
        assert_eq!(subscription.accept(&volatile, 1_000), Accept::Deliver { from: None });
        assert_eq!(subscription.fall_behind(), Fallen::Gap);
    }

    #[test]
    fn what_was_forgotten_while_a_page_was_on_its_way_makes_it_read_again() {
        let mut subscription = live_at_10();
        assert_eq!(subscription.fall_behind(), Fallen::Read);
        assert_eq!(subscription.fall_behind(), Fallen::Reading);
        assert_eq!(subscription.advance(&page("a.10", 12, 12, None), false), Progress::More);
        assert_eq!(subscription.advance(&page("a.12", 12, 12, None), false), Progress::Live);
    }
}
