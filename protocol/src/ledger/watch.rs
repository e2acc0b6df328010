//! What a client asks of a log, in commands of a size that every server takes (R61).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::{Offset, Position, Tag, WatchGroup};

/// The most tags of one command, as of one that takes tags back.
const TAGS_MAX: usize = 1_000;

/// The most bytes of the tags of one command: every server takes 64 KiB, and groups and frame need some of them.
const BYTES_MAX: usize = 40 << 10;

/// What a group of its own costs beside its tags: two positions with the longest epochs.
const GROUP_BYTES: usize = 256;

/// A `watch` to be sent. Its answer is handed to [`Ledger::watched`](super::Ledger::watched) with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Counts this ledger's watches, from 1.
    pub id: u64,
    /// What to watch, by what is known of it.
    pub groups: Vec<WatchGroup>,
}

/// What is asked about a tag: was it touched after `since`, but for the mutation `except`?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) since: Position,
    pub(super) except: Option<Position>,
}

/// The groups of as many commands as it takes. An answer names a stale tag without saying as of which position, so no
/// command names a tag twice.
pub(super) fn commands(mut wanted: Vec<(Question, Tag)>) -> Vec<Vec<WatchGroup>> {
    wanted.sort_by(in_order);
    wanted.dedup();
    let mut named: BTreeMap<Tag, usize> = BTreeMap::new();
    let mut rounds: Vec<Vec<(Question, Tag)>> = Vec::new();
    for (question, tag) in wanted {
        let round = named.entry(tag.clone()).or_default();
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push((question, tag));
        *round += 1;
    }
    rounds.into_iter().flat_map(chunks).collect()
}

/// The tags of as many commands as it takes to take them back.
pub(super) fn parts(tags: Vec<Tag>) -> Vec<Vec<Tag>> {
    let mut parts: Vec<Vec<Tag>> = Vec::new();
    let mut room = Room::NONE;
    for tag in tags {
        if !room.take(&tag, false) {
            room = Room::FULL;
            room.take(&tag, false);
            parts.push(Vec::new());
        }
        parts.last_mut().expect("the first tag finds no room").push(tag);
    }
    parts
}

fn in_order((one, tag): &(Question, Tag), (other, other_tag): &(Question, Tag)) -> Ordering {
    fn place(position: &Position) -> (&str, Offset) {
        (position.epoch.as_str(), position.offset)
    }

    let by_since = place(&one.since).cmp(&place(&other.since));
    let by_exception = || one.except.as_ref().map(place).cmp(&other.except.as_ref().map(place));
    by_since.then_with(by_exception).then_with(|| tag.cmp(other_tag))
}

/// What is left of a command.
struct Room {
    tags: usize,
    bytes: usize,
}

impl Room {
    const NONE: Room = Room { tags: 0, bytes: 0 };
    const FULL: Room = Room { tags: TAGS_MAX, bytes: BYTES_MAX };

    /// Takes what a tag needs, in quotes and with what follows; a backslash counts twice. False where there is no room.
    fn take(&mut self, tag: &Tag, is_new_group: bool) -> bool {
        let escapes = tag.as_str().bytes().filter(|byte| *byte == b'\\').count();
        let bytes = tag.as_str().len() + escapes + 3 + if is_new_group { GROUP_BYTES } else { 0 };
        let fits = self.tags > 0 && bytes <= self.bytes;
        if fits {
            (self.tags, self.bytes) = (self.tags - 1, self.bytes - bytes);
        }
        fits
    }
}

/// Tags that are asked about in the same way are one group; groups are cut where a command would be too large.
fn chunks(wanted: Vec<(Question, Tag)>) -> Vec<Vec<WatchGroup>> {
    let mut commands: Vec<Vec<WatchGroup>> = Vec::new();
    let mut room = Room::NONE;
    let mut last: Option<Question> = None;
    for (question, tag) in wanted {
        let mut is_new_group = last.as_ref() != Some(&question);
        if !room.take(&tag, is_new_group) {
            (room, is_new_group) = (Room::FULL, true);
            room.take(&tag, true);
            commands.push(Vec::new());
        }
        let groups = commands.last_mut().expect("the first tag finds no room");
        if is_new_group {
            let Question { since, except } = question.clone();
            groups.push(WatchGroup { since: Some(since), except, tags: Vec::new() });
        }
        groups.last_mut().expect("each tag has a group").tags.push(tag);
        last = Some(question);
    }
    commands
}
