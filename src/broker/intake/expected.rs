//! A head that others told of, and the moment by which this instance must have reached it.

use tidings_protocol::Position;

use crate::hub::Time;

/// What is awaited, and what was told meanwhile. The first moment stays: where heads are told all the time, too, it comes.
#[derive(Debug)]
pub(super) struct ExpectedHead {
    told: Told,
    since: Option<Told>,
}

/// A head, or an unknown place, and by when it must have been reached.
#[derive(Debug)]
struct Told {
    head: Option<Position>,
    by: Time,
}

impl ExpectedHead {
    pub(super) fn new(head: Option<Position>, by: Time) -> Self {
        ExpectedHead { told: Told { head, by }, since: None }
    }

    /// Another head was told; reaching the first one is not enough any more.
    pub(super) fn follow(&mut self, head: Option<Position>, by: Time) {
        let head = match self.since.take() {
            Some(since) => farther(since.head, head),
            None => head,
        };
        self.since = Some(Told { head, by });
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.told.by <= now
    }

    pub(super) fn head(&self) -> Option<&Position> {
        self.told.head.as_ref()
    }

    /// What is awaited once this one was reached.
    pub(super) fn next(self) -> Option<ExpectedHead> {
        self.since.map(|told| ExpectedHead { told, since: None })
    }
}

/// The later one of two heads: instances tell of theirs in any order. Of two numberings nobody knows which is later.
fn farther(one: Option<Position>, other: Option<Position>) -> Option<Position> {
    let (one, other) = one.zip(other)?;
    let is_comparable = one.epoch == other.epoch;
    is_comparable.then(|| if one.offset >= other.offset { one } else { other })
}
