//! A stream against a plain list of all that was ever appended.

use std::time::Duration;

use proptest::prelude::*;
use tidings::hub::{PageLimit, Retention, Stream, Time};
use tidings_protocol::{GapReason, Offset, Position};

use super::{config, epoch, ms, offsets, publication};

#[derive(Clone, Debug)]
enum Step {
    Append { bytes: usize },
    Pass { ms: u64 },
    DropOldest,
    Read { since: Option<(u64, u64)>, publications: usize, bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let since = prop::option::of((0..2_u64, 0..30_u64));
    prop_oneof![
        6 => (0..300_usize).prop_map(|bytes| Step::Append { bytes }),
        2 => (0..400_u64).prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::DropOldest),
        6 => (since, 0..8_usize, 1..2_000_usize)
            .prop_map(|(since, publications, bytes)| Step::Read { since, publications, bytes }),
    ]
}

/// What is kept, oldest first; nothing clever.
struct Model {
    retention: Retention,
    head: u64,
    kept: Vec<Kept>,
}

struct Kept {
    offset: u64,
    memory: usize,
    json_len: usize,
    appended: Time,
}

impl Model {
    fn append(&mut self, bytes: usize, now: Time) {
        self.head += 1;
        let publication = publication(Some(self.head), bytes);
        let (memory, json_len) = (publication.memory(), publication.json_len());
        self.kept.push(Kept { offset: self.head, memory, json_len, appended: now });
        let fits = |kept: &[Kept]| {
            let sum: usize = kept.iter().map(|kept| kept.memory).sum();
            kept.len() == 1
                || (kept.len() <= self.retention.publications_max && sum <= self.retention.bytes_max)
        };
        let from =
            (0..self.kept.len()).find(|from| fits(&self.kept[*from..])).expect("the newest always fits");
        self.kept.drain(..from);
    }

    fn expire(&mut self, now: Time) {
        self.kept.retain(|kept| now.since(kept.appended) < self.retention.age_max);
    }

    /// The offset before the page, the offsets in it, and why it does not continue `since`.
    fn read(&self, since: Option<(u64, u64)>, limit: PageLimit) -> (u64, Vec<u64>, Option<GapReason>) {
        let oldest = self.kept.first().map_or(self.head, |kept| kept.offset - 1);
        let (from, gap) = match since {
            None => (self.head.saturating_sub(limit.publications as u64).max(oldest), None),
            Some((1.., _)) => (oldest, Some(GapReason::Epoch)),
            Some((0, offset)) if offset > self.head => (self.head, Some(GapReason::Lost)),
            Some((0, offset)) if offset < oldest => (oldest, Some(GapReason::Trimmed)),
            Some((0, offset)) => (offset, None),
        };
        let after: Vec<&Kept> = self.kept.iter().filter(|kept| kept.offset > from).collect();
        let bytes = |count: usize| after[..count].iter().map(|kept| kept.json_len).sum::<usize>();
        let most = limit.publications.min(after.len());
        let count = (0..=most).rev().find(|count| *count <= 1 || bytes(*count) <= limit.bytes).unwrap_or(0);
        (from, after[..count].iter().map(|kept| kept.offset).collect(), gap)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_stream_keeps_and_reads_what_a_plain_list_does(
        publications_max in 1..8_usize,
        bytes_max in 1..2_000_usize,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let retention = Retention { publications_max, bytes_max, age_max: Duration::from_secs(1) };
        let mut stream = Stream::new(epoch(0));
        let mut model = Model { retention: retention.clone(), head: 0, kept: Vec::new() };
        let mut now = ms(0);
        for step in steps {
            match step {
                Step::Append { bytes } => {
                    let appended = stream.append(publication(None, bytes), &retention, now);
                    model.append(bytes, now);
                    model.expire(now);
                    prop_assert_eq!(appended.offset, Some(Offset(model.head)));
                }
                Step::Pass { ms } => {
                    now = now.after(Duration::from_millis(ms));
                    stream.expire(now);
                    model.expire(now);
                }
                Step::DropOldest => {
                    let expected = if model.kept.is_empty() { 0 } else { model.kept.remove(0).memory };
                    prop_assert_eq!(stream.drop_oldest(), expected);
                }
                Step::Read { since, publications, bytes } => {
                    let limit = PageLimit { publications, bytes };
                    let position: Option<Position> = since.map(|(number, offset)| epoch(number).at(Offset(offset)));
                    let page = stream.read(position.as_ref(), limit);
                    let (from, expected, gap) = model.read(since, limit);
                    prop_assert_eq!(page.from.clone(), epoch(0).at(Offset(from)));
                    prop_assert_eq!(offsets(&page.publications), expected.clone());
                    prop_assert_eq!(page.gap, gap);
                    prop_assert_eq!(page.end().offset.0, expected.last().copied().unwrap_or(from));
                    prop_assert_eq!(page.more(), page.end().offset.0 < model.head);
                }
            }
            prop_assert_eq!(stream.head(), epoch(0).at(Offset(model.head)));
            prop_assert_eq!(stream.bytes(), model.kept.iter().map(|kept| kept.memory).sum::<usize>());
            prop_assert_eq!(stream.is_empty(), model.kept.is_empty());
        }
    }
}
