//! A channel as its broker keeps it: an append-only stream with positions, bounded by count, bytes and age.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{Epoch, GapReason, Offset, Position, Publication};

use super::{Lineage, Time};

/// How much of a channel is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The most publications; 0 makes the channel volatile: it has no positions at all.
    pub publications_max: usize,
    /// The most bytes of data.
    pub bytes_max: usize,
    /// The longest time.
    pub age_max: Duration,
}

/// How much a read may return. At least one publication is returned where there is one and any is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// The most publications; 0 asks only where things stand.
    pub publications: usize,
    /// The most bytes in a JSON frame.
    pub bytes: usize,
}

/// What a read returns.
#[derive(Clone, Debug)]
pub struct Page {
    /// The position before the first publication.
    pub from: Position,
    /// The publications that follow `from`, without a hole.
    pub publications: Vec<Arc<Publication>>,
    /// The last offset of the channel.
    pub head: Offset,
    /// Why `from` is not the position that was asked for; `None` where it is, or none was.
    pub gap: Option<GapReason>,
}

impl Page {
    /// The position of the last publication returned.
    pub fn end(&self) -> Position {
        self.publications
            .last()
            .and_then(|p| p.offset)
            .map_or(self.from.clone(), |last| self.from.epoch.at(last))
    }

    /// The position of the channel's last publication.
    pub fn head(&self) -> Position {
        self.from.epoch.at(self.head)
    }

    /// Whether the channel holds more after the last publication returned.
    pub fn more(&self) -> bool {
        self.end().offset < self.head
    }
}

/// The kept part of one channel, and its numbering.
#[derive(Clone, Debug)]
pub struct Stream {
    epoch: Epoch,
    lineage: Lineage,
    head: Offset,
    kept: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Kept {
    publication: Arc<Publication>,
    expires: Time,
}

impl Stream {
    /// An empty stream of a new epoch.
    pub fn new(epoch: Epoch) -> Self {
        Self::after(epoch.at(Offset(0)))
    }

    /// An empty stream that goes on after `head`.
    pub fn after(head: Position) -> Self {
        let Position { epoch, offset } = head;
        Stream { epoch, lineage: Lineage::default(), head: offset, kept: VecDeque::new(), bytes: 0 }
    }

    /// Begins another numbering here: what is kept is all that is left of the one before.
    pub fn fork(&mut self, epoch: Epoch) {
        self.lineage.push(self.head());
        self.epoch = epoch;
    }

    /// The stream's numbering.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The position of the last publication.
    pub fn head(&self) -> Position {
        self.epoch.at(self.head)
    }

    /// The bytes of what is kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of publications that are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Gives the publication the next offset and keeps it; what is over the bounds goes.
    pub fn append(
        &mut self,
        mut publication: Publication,
        retention: &Retention,
        now: Time,
    ) -> Arc<Publication> {
        publication.offset = Some(self.head.next());
        let publication = Arc::new(publication);
        self.push(publication.clone(), retention, now);
        publication
    }

    /// Keeps a publication that has the next offset already; what is over the bounds goes.
    pub fn push(&mut self, publication: Arc<Publication>, retention: &Retention, now: Time) {
        debug_assert_eq!(publication.offset, Some(self.head.next()));
        self.head = self.head.next();
        let memory = publication.memory();
        self.bytes += memory;
        self.kept.push_back(Kept { publication, expires: now.after(retention.age_max) });
        while self.kept.len() > retention.publications_max || self.bytes > retention.bytes_max.max(memory) {
            self.drop_oldest();
        }
        self.expire(now);
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now: Time) {
        while self.kept.front().is_some_and(|kept| kept.expires <= now) {
            self.drop_oldest();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// Drops the oldest publication; returns its bytes.
    pub fn drop_oldest(&mut self) -> usize {
        let bytes = self.kept.pop_front().map_or(0, |kept| kept.publication.memory());
        self.bytes -= bytes;
        bytes
    }

    /// What follows `since`, or without it the newest. Where the stream does not reach back to `since`, what it has,
    /// with the reason.
    pub fn read(&self, since: Option<&Position>, limit: PageLimit) -> Page {
        let oldest = Offset(self.head.0 - self.kept.len() as u64);
        let (from, gap) = match since {
            None => (Offset(self.head.0.saturating_sub(limit.publications as u64)).max(oldest), None),
            Some(since) if !self.counts(since) => (oldest, Some(GapReason::Epoch)),
            Some(since) if since.offset > self.head => (self.head, Some(GapReason::Lost)),
            Some(since) if since.offset < oldest => (oldest, Some(GapReason::Trimmed)),
            Some(since) => (since.offset, None),
        };
        let skip = (from.0 - oldest.0) as usize;
        let mut publications = Vec::new();
        let mut bytes = 0;
        for kept in self.kept.iter().skip(skip).take(limit.publications) {
            bytes += kept.publication.json_len();
            if bytes > limit.bytes && !publications.is_empty() {
                break;
            }
            publications.push(kept.publication.clone());
        }
        Page { from: self.epoch.at(from), publications, head: self.head, gap }
    }

    /// Whether all that `since` stands for is kept or was, in this numbering or in one that led to it.
    fn counts(&self, since: &Position) -> bool {
        since.epoch == self.epoch || self.lineage.reach(&since.epoch).is_some_and(|fork| since.offset <= fork)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_protocol::Payload;

    #[test]
    fn a_fork_keeps_what_is_below_it_and_gives_up_what_is_above() {
        let mut stream = stream(10, 4);
        stream.fork(Epoch::parse("b").unwrap());
        stream.append(publication(), &retention(5), Time::ZERO);
        assert_eq!(stream.head().to_string(), "b.11");
        for (since, offsets, gap) in [
            ("a.8", vec![9, 10, 11], None),
            ("a.10", vec![11], None),
            ("a.11", vec![7, 8, 9, 10, 11], Some(GapReason::Epoch)),
            ("a.5", vec![7, 8, 9, 10, 11], Some(GapReason::Trimmed)),
            ("b.10", vec![11], None),
        ] {
            assert_eq!(read(&stream, Some(since), ALL), (offsets, false, gap), "since {since}");
        }
    }

    const ALL: PageLimit = PageLimit { publications: 1_000, bytes: 1 << 20 };

    fn retention(publications_max: usize) -> Retention {
        Retention { publications_max, bytes_max: 1 << 20, age_max: Duration::from_secs(300) }
    }

    fn publication() -> Publication {
        Publication { offset: None, time: 0, id: None, key: None, payload: Payload::text(b"x").unwrap() }
    }

    /// A stream of epoch "a" with offsets 1 to `n`, of which the last `kept` are still there.
    fn stream(n: usize, kept: usize) -> Stream {
        let mut stream = Stream::new(Epoch::parse("a").unwrap());
        for _ in 0..n {
            stream.append(publication(), &retention(kept), Time::ZERO);
        }
        stream
    }

    /// The offsets read after `since`, whether there is more, and the gap.
    fn read(stream: &Stream, since: Option<&str>, limit: PageLimit) -> (Vec<u64>, bool, Option<GapReason>) {
        let since = since.map(|since| since.parse().unwrap());
        let page = stream.read(since.as_ref(), limit);
        let offsets = page.publications.iter().map(|p| p.offset.unwrap().0).collect();
        (offsets, page.more(), page.gap)
    }

    #[test]
    fn a_read_continues_or_says_why_not() {
        let stream = stream(10, 4);
        for (since, offsets, gap) in [
            ("a.10", vec![], None),
            ("a.8", vec![9, 10], None),
            ("a.6", vec![7, 8, 9, 10], None),
            ("a.5", vec![7, 8, 9, 10], Some(GapReason::Trimmed)),
            ("a.0", vec![7, 8, 9, 10], Some(GapReason::Trimmed)),
            ("a.11", vec![], Some(GapReason::Lost)),
            ("b.8", vec![7, 8, 9, 10], Some(GapReason::Epoch)),
        ] {
            assert_eq!(read(&stream, Some(since), ALL), (offsets, false, gap), "since {since}");
        }
    }

    #[test]
    fn a_page_is_bounded_and_says_that_there_is_more() {
        let stream = stream(10, 10);
        let three = PageLimit { publications: 3, ..ALL };
        assert_eq!(read(&stream, Some("a.2"), three), (vec![3, 4, 5], true, None));
        assert_eq!(read(&stream, None, three), (vec![8, 9, 10], false, None), "without since: the newest");
        let nothing = PageLimit { publications: 0, ..ALL };
        assert_eq!(read(&stream, Some("a.2"), nothing), (vec![], true, None));
        assert_eq!(read(&stream, None, nothing), (vec![], false, None));
        let one_byte = PageLimit { bytes: 1, ..ALL };
        assert_eq!(read(&stream, Some("a.2"), one_byte), (vec![3], true, None), "one always fits");
    }

    #[test]
    fn an_empty_stream_stands_at_offset_zero() {
        let stream = stream(0, 4);
        assert_eq!(stream.head().to_string(), "a.0");
        assert_eq!(read(&stream, Some("a.0"), ALL), (vec![], false, None));
        assert_eq!(read(&stream, Some("a.1"), ALL), (vec![], false, Some(GapReason::Lost)));
    }

    #[test]
    fn age_and_bytes_trim_and_the_numbering_goes_on() {
        let mut stream = stream(3, 10);
        stream.expire(Time(Duration::from_secs(299)));
        assert_eq!(read(&stream, Some("a.0"), ALL).0, [1, 2, 3]);
        stream.expire(Time(Duration::from_secs(300)));
        assert_eq!(read(&stream, Some("a.0"), ALL), (vec![], false, Some(GapReason::Trimmed)));
        assert_eq!((stream.head().offset, stream.bytes()), (Offset(3), 0));

        let tight = Retention { bytes_max: 2 * publication().memory(), ..retention(10) };
        for _ in 0..5 {
            stream.append(publication(), &tight, Time::ZERO);
        }
        assert_eq!(read(&stream, Some("a.6"), ALL), (vec![7, 8], false, None));
    }
}
