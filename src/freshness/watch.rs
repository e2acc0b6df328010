//! Who watches what: from a touched tag to those who watch it, and from a session to what it watches.
//!
//! Each watch is two entries of eight bytes that point at each other, one with the tag and one with the session, so that a
//! session that ends, or a tag that is taken back, is removed without a search.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Bound;

use indexmap::IndexMap;
use slab::Slab;
use tidings_protocol::Tag;

use super::Allowance;
use crate::hub::SessionId;

/// Subtrees that take the place of a session's tags before everything does, where that is granted. Each looks at all that the
/// session watches: many would take the time of everybody else.
const NARROW_ESCALATIONS: usize = 32;

/// The most such subtrees of a session; then what does not fit is denied.
const ESCALATIONS_MAX: usize = 64;

/// See the module. `M` is how a watcher is reached; the index only keeps it.
#[derive(Debug)]
pub(super) struct WatchIndex<M> {
    by_tag: IndexMap<Tag, u32>,
    /// The same tags in order: those of a subtree stand together.
    in_order: BTreeSet<Tag>,
    /// By small numbers that stay the same while a tag is watched.
    tags: Slab<Watched>,
    by_session: IndexMap<SessionId, u32>,
    sessions: Slab<Watcher<M>>,
}

#[derive(Debug)]
struct Watched {
    tag: Tag,
    by: Vec<Link>,
}

#[derive(Debug)]
struct Watcher<M> {
    session: SessionId,
    mailbox: M,
    tags: Vec<Link>,
    /// Subtrees that took the place of tags in them.
    escalated: Vec<Tag>,
}

impl<M> Watcher<M> {
    /// The subtree that took the place of tags, if the tag is in one.
    fn escalated_over(&self, tag: &Tag) -> Option<&Tag> {
        self.escalated.iter().find(|subtree| subtree.covers(tag))
    }
}

/// What became of a request to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Watched,
    /// This subtree is watched in its place.
    Escalated(Tag),
    /// It is watched, and this subtree in the place of others.
    MadeRoom(Tag),
    Denied,
}

/// From one side of a watch to the other.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// The tag, or the session, by its slot.
    slot: u32,
    /// The place of the link back in that one's list.
    place: u32,
}

impl<M> Default for WatchIndex<M> {
    fn default() -> Self {
        WatchIndex {
            by_tag: IndexMap::new(),
            in_order: BTreeSet::new(),
            tags: Slab::new(),
            by_session: IndexMap::new(),
            sessions: Slab::new(),
        }
    }
}

impl<M> WatchIndex<M> {
    /// The session watches the tag or subtree from now on.
    fn watch(&mut self, session: SessionId, mailbox: impl FnOnce() -> M, tag: &Tag) {
        let session = *self.by_session.entry(session).or_insert_with(|| {
            let mailbox = mailbox();
            self.sessions.insert(Watcher { session, mailbox, tags: Vec::new(), escalated: Vec::new() }) as u32
        });
        let tag = match self.by_tag.get(tag) {
            Some(slot) => *slot,
            None => {
                let slot = self.tags.insert(Watched { tag: tag.clone(), by: Vec::new() }) as u32;
                self.by_tag.insert(tag.clone(), slot);
                self.in_order.insert(tag.clone());
                slot
            }
        };
        if self.place_of(session, tag).is_some() {
            return;
        }
        let (watched, watcher) = (&mut self.tags[tag as usize], &mut self.sessions[session as usize]);
        let (at_tag, at_session) = (watched.by.len() as u32, watcher.tags.len() as u32);
        watched.by.push(Link { slot: session, place: at_session });
        watcher.tags.push(Link { slot: tag, place: at_tag });
    }

    /// The place of the tag in the session's list, by the shorter of the two lists.
    fn place_of(&self, session: u32, tag: u32) -> Option<u32> {
        let (by, tags) = (&self.tags[tag as usize].by, &self.sessions[session as usize].tags);
        if by.len() < tags.len() {
            return by.iter().find(|link| link.slot == session).map(|link| link.place);
        }
        tags.iter().position(|link| link.slot == tag).map(|place| place as u32)
    }

    /// The session asks to watch; what does not fit is watched by a subtree around it that is granted, or not at all.
    pub(super) fn admit(
        &mut self,
        session: SessionId,
        mailbox: &M,
        tag: &Tag,
        allowance: Allowance<'_>,
    ) -> Admitted
    where
        M: Clone,
    {
        let is_granted = |tag: &Tag| allowance.granted.iter().any(|grant| grant.covers(tag));
        if !is_granted(tag) {
            return Admitted::Denied;
        }
        let watcher = self.by_session.get(&session).map(|slot| &self.sessions[*slot as usize]);
        if let Some(subtree) = watcher.and_then(|watcher| watcher.escalated_over(tag)) {
            return Admitted::Escalated(subtree.clone());
        }
        let count = watcher.map_or(0, |watcher| watcher.tags.len());
        if count < allowance.tags_max || self.is_watched_by(session, tag) {
            self.watch(session, || mailbox.clone(), tag);
            return Admitted::Watched;
        }
        let wide = || Some(Tag::all()).filter(is_granted);
        let subtree = match self.escalations(session) {
            ESCALATIONS_MAX.. => None,
            NARROW_ESCALATIONS.. => wide().or_else(|| self.largest_subtree(session, tag, is_granted)),
            _ => self.largest_subtree(session, tag, is_granted).or_else(wide),
        };
        let Some(subtree) = subtree.filter(|subtree| self.escalate(session, subtree)) else {
            return Admitted::Denied;
        };
        if subtree.covers(tag) {
            return Admitted::Escalated(subtree);
        }
        self.watch(session, || mailbox.clone(), tag);
        Admitted::MadeRoom(subtree)
    }

    /// The granted subtree that holds the most of what the session watches and of the tag that it asks for: those right
    /// around a tag, and those of first segments. `None` where no two are together.
    fn largest_subtree(
        &self,
        session: SessionId,
        asked: &Tag,
        is_granted: impl Fn(&Tag) -> bool,
    ) -> Option<Tag> {
        let slot = *self.by_session.get(&session)?;
        let watched = self.sessions[slot as usize].tags.iter();
        let watched = watched.map(|link| &self.tags[link.slot as usize].tag);
        let mut counts: IndexMap<&str, usize> = IndexMap::new();
        for name in watched.chain([asked]).map(Tag::name) {
            let (around, top) = (name.rsplit_once(':'), name.split_once(':'));
            let (around, top) = (around.map(|(name, _)| name), top.map(|(name, _)| name));
            for name in around.into_iter().chain(top.filter(|_| top != around)) {
                *counts.entry(name).or_default() += 1;
            }
        }
        let mut counts: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
        counts.sort_by_key(|(name, count)| (Reverse(*count), Reverse(name.len())));
        let subtrees = counts.into_iter().filter_map(|(name, _)| Tag::parse(&format!("{name}:*")).ok());
        subtrees.into_iter().find(is_granted)
    }

    fn escalations(&self, session: SessionId) -> usize {
        self.by_session.get(&session).map_or(0, |slot| self.sessions[*slot as usize].escalated.len())
    }

    fn is_watched_by(&self, session: SessionId, tag: &Tag) -> bool {
        let slots = self.by_session.get(&session).zip(self.by_tag.get(tag));
        slots.is_some_and(|(session, tag)| self.place_of(*session, *tag).is_some())
    }

    /// Takes one watch back, unless it is a subtree that took the place of tags: whoever asked for those tags does not ask
    /// for them again, and may not know of the subtree yet.
    pub(super) fn unwatch(&mut self, session: SessionId, tag: &Tag) {
        let slot = self.by_session.get(&session).map(|slot| *slot as usize);
        if slot.is_some_and(|slot| !self.sessions[slot].escalated.contains(tag)) {
            self.revoke(session, tag);
        }
    }

    /// Takes back a subtree that took the place of tags: the session asks anew for those that it still wants.
    pub(super) fn unwatch_escalated(&mut self, session: SessionId, subtree: &Tag) {
        let slot = self.by_session.get(&session).map(|slot| *slot as usize);
        if slot.is_some_and(|slot| self.sessions[slot].escalated.contains(subtree)) {
            self.revoke(session, subtree);
        }
    }

    /// Takes one watch away, whatever it stands for.
    pub(super) fn revoke(&mut self, session: SessionId, tag: &Tag) {
        let Some((session, slot)) = self.by_session.get(&session).copied().zip(self.by_tag.get(tag).copied())
        else {
            return;
        };
        if let Some(place) = self.place_of(session, slot) {
            self.sessions[session as usize].escalated.retain(|subtree| subtree != tag);
            self.remove(session, place);
            self.forget_if_idle(session);
        }
    }

    /// Removes the watch at this place of the session's list.
    fn remove(&mut self, session: u32, place: u32) {
        let tags = &mut self.sessions[session as usize].tags;
        let link = tags.swap_remove(place as usize);
        if let Some(moved) = tags.get(place as usize).copied() {
            self.tags[moved.slot as usize].by[moved.place as usize].place = place;
        }
        let watched = &mut self.tags[link.slot as usize];
        watched.by.swap_remove(link.place as usize);
        if let Some(moved) = watched.by.get(link.place as usize).copied() {
            self.sessions[moved.slot as usize].tags[moved.place as usize].place = link.place;
        }
        if watched.by.is_empty() {
            let watched = self.tags.remove(link.slot as usize);
            self.by_tag.swap_remove(&watched.tag);
            self.in_order.remove(&watched.tag);
        }
    }

    fn forget_if_idle(&mut self, slot: u32) {
        let watcher = &self.sessions[slot as usize];
        if watcher.tags.is_empty() {
            let watcher = self.sessions.remove(slot as usize);
            self.by_session.swap_remove(&watcher.session);
        }
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        let Some(slot) = self.by_session.get(&session).copied() else { return };
        while let Some(last) = self.sessions[slot as usize].tags.len().checked_sub(1) {
            self.remove(slot, last as u32);
        }
        self.forget_if_idle(slot);
    }

    /// The session watches a subtree in place of all that it watches in it. False if it watches nothing in it.
    fn escalate(&mut self, session: SessionId, subtree: &Tag) -> bool {
        let covered = self.tags_of(session, |tag| subtree.covers(tag));
        let Some(slot) = self.by_session.get(&session).copied().filter(|_| !covered.is_empty()) else {
            return false;
        };
        for tag in &covered {
            let tag = self.by_tag.get(tag).copied();
            if let Some(place) = tag.and_then(|tag| self.place_of(slot, tag)) {
                self.remove(slot, place);
            }
        }
        let watcher = &mut self.sessions[slot as usize];
        watcher.escalated.retain(|other| !subtree.covers(other));
        watcher.escalated.push(subtree.clone());
        // The session is still known: its mailbox is not asked for.
        self.watch(session, || unreachable!("a session is forgotten only when it asked for that"), subtree);
        true
    }

    /// What the session watches, where `wanted`.
    pub(super) fn tags_of(&self, session: SessionId, wanted: impl Fn(&Tag) -> bool) -> Vec<Tag> {
        let Some(slot) = self.by_session.get(&session) else { return Vec::new() };
        let tags = self.sessions[*slot as usize].tags.iter().map(|link| &self.tags[link.slot as usize].tag);
        tags.filter(|tag| wanted(tag)).cloned().collect()
    }

    /// Calls for everyone who watches something that a mutation of `touched` touches, with what they watch and how many
    /// watch the same; returns how often. A mutation looks at nothing that it does not touch.
    pub(super) fn each_watcher(&self, touched: &Tag, mut call: impl FnMut(&M, &Tag, usize)) -> usize {
        let mut calls = 0;
        let mut watched = |slot: u32| {
            let watched = &self.tags[slot as usize];
            calls += watched.by.len();
            let watchers = watched.by.len();
            let mailbox = |link: &Link| &self.sessions[link.slot as usize].mailbox;
            watched.by.iter().for_each(|link| call(mailbox(link), &watched.tag, watchers));
        };
        let mut of = |name: &str| self.by_tag.get(name).into_iter().for_each(|slot| watched(*slot));
        let name = touched.name();
        if touched.is_subtree() {
            of(name);
            let begin = if name.is_empty() { String::new() } else { format!("{name}:") };
            let inside = self.in_order.range::<str, _>((Bound::Included(begin.as_str()), Bound::Unbounded));
            let inside = inside.take_while(|tag| tag.as_str().starts_with(&begin));
            inside.for_each(|tag| of(tag.as_str()));
        } else {
            of(touched.as_str());
            of(&format!("{touched}:*"));
        }
        let mut around = name;
        while let Some((above, _)) = around.rsplit_once(':') {
            of(&format!("{above}:*"));
            around = above;
        }
        if !name.is_empty() {
            of("*");
        }
        calls
    }

    /// Calls for each tag or subtree that somebody watches.
    pub(super) fn each_tag(&self) -> impl Iterator<Item = &Tag> {
        self.tags.iter().map(|(_, watched)| &watched.tag)
    }

    /// How many may read again when this tag is found stale: those who watch it, or everybody where nothing that was known before
    /// means anything.
    pub(super) fn watchers(&self, tag: &Tag, is_known: bool) -> usize {
        if is_known { self.watchers_of(tag).count() } else { self.sessions.len() }
    }

    /// Calls for each session that watches this very tag.
    pub(super) fn watchers_of(&self, tag: &Tag) -> impl Iterator<Item = &M> {
        let by = self.by_tag.get(tag).map_or(&[][..], |slot| &self.tags[*slot as usize].by);
        by.iter().map(|link| &self.sessions[link.slot as usize].mailbox)
    }

    /// Everyone who watches anything.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &M> {
        self.sessions.iter().map(|(_, watcher)| &watcher.mailbox)
    }

    /// The number of watches.
    pub(super) fn watches(&self) -> usize {
        self.sessions.iter().map(|(_, watcher)| watcher.tags.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    fn index(watches: &[(u64, &str)]) -> WatchIndex<u64> {
        let mut index = WatchIndex::default();
        for (session, text) in watches {
            index.watch(SessionId(*session), || *session, &tag(text));
        }
        index
    }

    fn touched(index: &WatchIndex<u64>, text: &str) -> Vec<(u64, String)> {
        let mut touched = Vec::new();
        let calls =
            index.each_watcher(&tag(text), |session, tag, _| touched.push((*session, tag.to_string())));
        assert_eq!(calls, touched.len());
        touched.sort();
        touched
    }

    fn escalated_over<'a>(index: &'a WatchIndex<u64>, session: u64, text: &str) -> Option<&'a Tag> {
        let slot = *index.by_session.get(&SessionId(session))?;
        index.sessions[slot as usize].escalated_over(&tag(text))
    }

    #[test]
    fn a_mutation_reaches_those_who_watch_the_tag_or_a_subtree_around_it_and_nobody_else() {
        let index =
            index(&[(1, "a:b"), (2, "a:*"), (3, "*"), (4, "a"), (5, "a:b:c"), (6, "a:b:*"), (7, "ab")]);
        for (mutation, sessions) in [
            ("a:b", vec![1, 2, 3, 6]),
            ("a", vec![2, 3, 4]),
            ("a:b:*", vec![1, 2, 3, 5, 6]),
            ("a:*", vec![1, 2, 3, 4, 5, 6]),
            ("*", vec![1, 2, 3, 4, 5, 6, 7]),
            ("x", vec![3]),
        ] {
            let reached: Vec<u64> = touched(&index, mutation).iter().map(|(session, _)| *session).collect();
            assert_eq!(reached, sessions, "{mutation}");
        }
    }

    #[test]
    fn watches_come_and_go_in_any_order() {
        let mut index = index(&[(1, "a"), (1, "b"), (1, "c"), (2, "a"), (2, "c"), (3, "a"), (3, "a")]);
        assert_eq!((index.watches(), index.tags_of(SessionId(3), |_| true).len()), (6, 1), "once is enough");
        index.unwatch(SessionId(1), &tag("a"));
        index.unwatch(SessionId(1), &tag("x"));
        assert_eq!(touched(&index, "a").len(), 2);
        index.forget(SessionId(2));
        assert_eq!(touched(&index, "c"), [(1, "c".to_owned())]);
        index.forget(SessionId(1));
        index.unwatch(SessionId(3), &tag("a"));
        assert_eq!((index.watches(), index.sessions().count(), index.each_tag().count()), (0, 0, 0));
    }

    #[test]
    fn a_subtree_takes_the_place_of_the_tags_in_it() {
        let mut index = index(&[(1, "a:1"), (1, "a:2"), (1, "b")]);
        assert!(!index.escalate(SessionId(1), &tag("c:*")), "nothing would be gained");
        assert!(index.escalate(SessionId(1), &tag("a:*")));
        assert_eq!(index.tags_of(SessionId(1), |_| true).len(), 2);
        assert_eq!(touched(&index, "a:2"), [(1, "a:*".to_owned())]);
        assert_eq!(escalated_over(&index, 1, "a:7"), Some(&tag("a:*")));
        assert_eq!(escalated_over(&index, 1, "b"), None);
        index.unwatch(SessionId(1), &tag("a:*"));
        assert_eq!(touched(&index, "a:2"), [(1, "a:*".to_owned())], "it stands for tags that are watched");
        index.revoke(SessionId(1), &tag("a:*"));
        assert_eq!((touched(&index, "a:2"), escalated_over(&index, 1, "a:7")), (vec![], None));
    }

    #[test]
    fn what_does_not_fit_is_made_room_for_by_the_subtree_that_holds_the_most() {
        let mut index: WatchIndex<u64> = WatchIndex::default();
        let mut admit = |granted: &[&str], name: &str| {
            let granted: Vec<Tag> = granted.iter().map(|name| tag(name)).collect();
            let allowance = Allowance { granted: &granted, tags_max: 10 };
            index.admit(SessionId(1), &1, &tag(name), allowance)
        };
        for name in ["a:1", "a:2", "a:3", "b:1", "b:2", "b:3", "b:4", "c", "d", "e:1"] {
            assert_eq!(admit(&["*"], name), Admitted::Watched, "{name}");
        }
        assert_eq!(admit(&["*"], "x"), Admitted::MadeRoom(tag("b:*")), "not everything");
        assert_eq!(admit(&["*"], "b:9"), Admitted::Escalated(tag("b:*")));
        assert_eq!(admit(&["*"], "y"), Admitted::Watched);
        assert_eq!(admit(&["*"], "z"), Admitted::Watched);
        assert_eq!(admit(&["b:*", "e:*", "v"], "v"), Admitted::Denied, "what holds more is not granted");
        assert_eq!(admit(&["b:*", "e:*"], "e:2"), Admitted::Escalated(tag("e:*")));
        assert_eq!(admit(&["*"], "v"), Admitted::MadeRoom(tag("a:*")));
        assert_eq!(touched(&index, "a:2"), [(1, "a:*".to_owned())]);
        assert_eq!(touched(&index, "x"), [(1, "x".to_owned())]);
    }

    #[test]
    fn subtrees_in_the_place_of_tags_get_wider_and_then_no_more() {
        let mut index: WatchIndex<u64> = WatchIndex::default();
        let mut admit = |granted: &[Tag], n: usize, name: &str| {
            let allowance = Allowance { granted, tags_max: 100 };
            index.admit(SessionId(1), &1, &tag(&format!("t{n}:{name}")), allowance)
        };
        let all = [Tag::all()];
        for n in 0..100 {
            assert_eq!(admit(&all, n, "a"), Admitted::Watched);
        }
        for n in 0..NARROW_ESCALATIONS {
            assert_eq!(admit(&all, n, "b"), Admitted::Escalated(tag(&format!("t{n}:*"))));
        }
        let each: Vec<Tag> = (0..100).map(|n| tag(&format!("t{n}:*"))).collect();
        for n in NARROW_ESCALATIONS..ESCALATIONS_MAX {
            assert_eq!(
                admit(&each, n, "b"),
                Admitted::Escalated(tag(&format!("t{n}:*"))),
                "no wider is granted"
            );
        }
        assert_eq!(admit(&each, 99, "b"), Admitted::Denied);
        assert_eq!(admit(&each, 99, "a"), Admitted::Watched, "it is watched already");
    }

    #[test]
    fn a_subtree_that_took_the_place_of_tags_is_taken_back_by_name() {
        let mut index = index(&[(1, "a:1"), (1, "a:2"), (1, "b:*")]);
        index.escalate(SessionId(1), &tag("a:*"));
        index.unwatch_escalated(SessionId(1), &tag("b:*"));
        index.unwatch_escalated(SessionId(2), &tag("a:*"));
        assert_eq!(
            (touched(&index, "a:1").len(), touched(&index, "b:1").len()),
            (1, 1),
            "that one is its own"
        );
        index.unwatch_escalated(SessionId(1), &tag("a:*"));
        assert_eq!((touched(&index, "a:1"), escalated_over(&index, 1, "a:1")), (vec![], None));
    }

    /// The two lists of each watch point at each other, whatever was removed between.
    #[test]
    fn links_stay_together_over_a_long_history() {
        let mut index: WatchIndex<u64> = WatchIndex::default();
        let mut model = BTreeSet::new();
        let mut dice = 7_u64;
        for _ in 0..20_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (session, name) = ((dice >> 33) % 9, format!("t{}", (dice >> 40) % 13));
            match (dice >> 60) % 8 {
                0 => {
                    index.forget(SessionId(session));
                    model.retain(|(watcher, _)| *watcher != session);
                }
                1..4 => {
                    index.unwatch(SessionId(session), &tag(&name));
                    model.remove(&(session, name));
                }
                _ => {
                    index.watch(SessionId(session), || session, &tag(&name));
                    model.insert((session, name));
                }
            }
        }
        let mut watches = Vec::new();
        index.each_watcher(&tag("*"), |session, tag, _| watches.push((*session, tag.to_string())));
        watches.sort();
        assert_eq!(watches, model.into_iter().collect::<Vec<_>>());
    }
}
