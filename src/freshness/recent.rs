//! The last mutations of a log, word for word: for positions that are not older, they answer without the version table's
//! collisions. They are also what is told again where the log has lost them.

use std::collections::VecDeque;
use std::sync::Arc;

use indexmap::IndexMap;
use tidings_protocol::{Offset, Tag};

use super::table::{asked, touched};
use crate::ablation::{Safeguard, ablated};

/// Tags per mutation that are counted on: whoever touches more in each keeps fewer mutations.
const TAGS_PER_EVENT: usize = 8;

/// One mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place.
    pub offset: Offset,
    /// What it touched.
    pub tags: Arc<[Tag]>,
    /// Under which it was written, if under one.
    pub key: Option<Arc<str>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Recent {
    events_max: usize,
    /// Every mutation after this one is here.
    from: Offset,
    events: VecDeque<Event>,
    /// Tags of all events.
    tags: usize,
    /// By the hashes of the version table, all 64 bits of them: of a thousand million tags, two have the same one time in
    /// forty, and then somebody reads a value again in vain.
    versions: IndexMap<u64, Touches>,
}

/// The last mutation that touched a tag, and the one before it; 0 where that is not known any more, and then it is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touches {
    last: Offset,
    previous: Offset,
}

impl Recent {
    /// None yet, after `from`.
    pub(super) fn after(from: Offset, events_max: usize) -> Self {
        Recent { events_max, from, events: VecDeque::new(), tags: 0, versions: IndexMap::new() }
    }

    /// Takes in the next mutation; the oldest make room.
    pub(super) fn push(&mut self, event: Event) {
        for hash in event.tags.iter().flat_map(touched) {
            let none = Touches { last: event.offset, previous: Offset(0) };
            let touches = self.versions.entry(hash).or_insert(none);
            // An event may touch the same tag by several names.
            if touches.last < event.offset {
                *touches = Touches { last: event.offset, previous: touches.last };
            }
        }
        self.tags += event.tags.len();
        self.events.push_back(event);
        while self.events.len() > self.events_max || self.tags > self.events_max * TAGS_PER_EVENT {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        self.from = oldest.offset;
        self.tags -= oldest.tags.len();
        for hash in oldest.tags.iter().flat_map(touched) {
            if self.versions.get(&hash).is_some_and(|touches| touches.last == oldest.offset) {
                self.versions.swap_remove(&hash);
            }
        }
    }

    /// Whether every mutation after `offset` is here.
    pub(super) fn reaches(&self, offset: Offset) -> bool {
        self.from <= offset
    }

    /// The last of these mutations that touched the tag, or anything in the subtree; 0 for none.
    pub(super) fn version(&self, tag: &Tag) -> Offset {
        self.touches(tag).map(|touches| touches.last).max().unwrap_or_default()
    }

    /// Whether one of these mutations after `since`, other than `except`, touched the tag, or anything in the subtree. Every mutation
    /// after `since` must be here.
    pub(super) fn is_touched_but_by(&self, except: Offset, tag: &Tag, since: Offset) -> bool {
        self.touches(tag).any(|Touches { last, previous }| {
            last > since && (last != except || (previous > since && !ablated(Safeguard::Exception)))
        })
    }

    fn touches(&self, tag: &Tag) -> impl Iterator<Item = Touches> {
        asked(tag).filter_map(|hash| self.versions.get(&hash)).copied()
    }

    /// The mutations after `offset`.
    pub(super) fn after_offset(&self, offset: Offset) -> impl Iterator<Item = &Event> {
        let begin = self.events.partition_point(|event| event.offset <= offset);
        self.events.range(begin..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: u64, tags: &[&str]) -> Event {
        let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        Event { offset: Offset(offset), tags, key: None }
    }

    fn version(recent: &Recent, tag: &str) -> u64 {
        recent.version(&Tag::parse(tag).unwrap()).0
    }

    #[test]
    fn the_last_mutation_of_a_tag_is_known_until_it_makes_room() {
        let mut recent = Recent::after(Offset(4), 2);
        recent.push(event(5, &["a:1", "b"]));
        recent.push(event(6, &["a:2", "b"]));
        assert_eq!((version(&recent, "a:1"), version(&recent, "a:*"), version(&recent, "b")), (5, 6, 6));
        assert!(recent.reaches(Offset(4)));
        recent.push(event(7, &["c"]));
        assert_eq!((version(&recent, "a:1"), version(&recent, "b"), version(&recent, "*")), (0, 6, 7));
        assert!(!recent.reaches(Offset(4)) && recent.reaches(Offset(5)));
        assert_eq!(recent.after_offset(Offset(6)).map(|event| event.offset.0).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn many_tags_make_room_as_many_events_do() {
        let tags: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let mut recent = Recent::after(Offset(0), 4);
        recent.push(event(1, &tags));
        recent.push(event(2, &tags));
        assert!(!recent.reaches(Offset(0)) && recent.reaches(Offset(1)));
    }
}
