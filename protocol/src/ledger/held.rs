//! The tags that a client's entries have, and what it knows of each.

use std::collections::{BTreeMap, BTreeSet};

use super::watch::Question;
use crate::{Offset, Tag};

/// What is known of one tag, in offsets of the present epoch. It is forgotten as a whole with the last entry that has the
/// tag: who holds it again asks again.
#[derive(Clone, Debug)]
pub(super) struct Knowledge<K> {
    /// The last mutation known to have touched it.
    pub(super) version: Option<Offset>,
    /// Every mutation above this that touches it is told on this connection; `None` until an answer says so.
    pub(super) covered: Option<Offset>,
    /// The server does not let this connection watch it.
    pub(super) denied: bool,
    /// The server was asked to watch it on this connection.
    pub(super) watched: bool,
    /// What is asked of it and has no answer, each with the number of the watch.
    pub(super) asked: Vec<(Question, u64)>,
    /// The entries that have it.
    pub(super) keys: BTreeSet<K>,
}

/// Tags and what is known of them.
#[derive(Clone, Debug)]
pub(super) struct Held<K> {
    tags: BTreeMap<Tag, Knowledge<K>>,
}

impl<K> Default for Held<K> {
    fn default() -> Self {
        Held { tags: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Held<K> {
    pub(super) fn get(&self, tag: &Tag) -> Option<&Knowledge<K>> {
        self.tags.get(tag)
    }

    pub(super) fn get_mut(&mut self, tag: &Tag) -> Option<&mut Knowledge<K>> {
        self.tags.get_mut(tag)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Knowledge<K>> {
        self.tags.values_mut()
    }

    /// An entry has these tags. Returns those that nobody had.
    pub(super) fn hold(&mut self, key: &K, tags: &BTreeSet<Tag>) -> Vec<Tag> {
        let mut added = Vec::new();
        for tag in tags {
            let knowledge = self.tags.entry(tag.clone()).or_insert_with(|| {
                added.push(tag.clone());
                Knowledge::nothing()
            });
            knowledge.keys.insert(key.clone());
        }
        added
    }

    /// An entry has them no more. Returns those that nobody has now, and whether the server watches each.
    pub(super) fn release(&mut self, key: &K, tags: &BTreeSet<Tag>) -> Vec<(Tag, bool)> {
        let mut left = Vec::new();
        for tag in tags {
            if let Some(knowledge) = self.tags.get_mut(tag) {
                knowledge.keys.remove(key);
                if knowledge.keys.is_empty() {
                    left.push((tag.clone(), knowledge.watched));
                    self.tags.remove(tag);
                }
            }
        }
        left
    }

    /// The held tags that `fits` takes.
    pub(super) fn matching(&self, fits: impl Fn(&Tag) -> bool) -> Vec<Tag> {
        self.tags.keys().filter(|tag| fits(tag)).cloned().collect()
    }
}

impl<K> Knowledge<K> {
    fn nothing() -> Self {
        Knowledge {
            version: None,
            covered: None,
            denied: false,
            watched: false,
            asked: Vec::new(),
            keys: BTreeSet::new(),
        }
    }

    /// Whether this question has no answer yet.
    pub(super) fn is_asked(&self, question: &Question) -> bool {
        self.asked.iter().any(|(asked, _)| asked == question)
    }

    /// The watch of this number is answered. Whether it asked this of the tag.
    pub(super) fn is_answered(&mut self, question: &Question, id: u64) -> bool {
        let count = self.asked.len();
        self.asked.retain(|(asked, of)| *of != id || asked != question);
        self.asked.len() < count
    }

    /// What touches it above `offset` is told from now on, if it was not before.
    pub(super) fn cover(&mut self, offset: Offset) {
        self.covered = Some(self.covered.map_or(offset, |covered| covered.min(offset)));
    }

    /// What touches it above `offset` is told, and something up to there may have.
    pub(super) fn cover_from(&mut self, offset: Offset) {
        self.covered = self.covered.max(Some(offset));
    }

    /// A new connection: nothing of it is told yet.
    pub(super) fn uncover(&mut self) {
        (self.covered, self.denied, self.watched) = (None, false, false);
        self.asked.clear();
    }
}
