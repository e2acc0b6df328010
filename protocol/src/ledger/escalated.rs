//! Subtrees that the server watches in place of the tags in them, because there were too many.

use std::collections::BTreeMap;

use crate::Tag;

/// See the module. Whoever holds half as many of the tags by now asks for each again: a subtree tells of mutations that touch
/// nothing that is held.
#[derive(Clone, Debug, Default)]
pub(super) struct Escalated {
    subtrees: BTreeMap<Tag, Count>,
}

/// The held tags in a subtree, now and at most.
#[derive(Clone, Copy, Debug)]
struct Count {
    held: usize,
    most: usize,
}

impl Escalated {
    pub(super) fn contains(&self, tag: &Tag) -> bool {
        self.subtrees.contains_key(tag)
    }

    /// The server watches the subtree from now on, in which so many tags are held.
    pub(super) fn begin(&mut self, subtree: &Tag, held: usize) {
        self.subtrees.entry(subtree.clone()).or_insert(Count { held, most: held });
    }

    /// These tags are held from now on.
    pub(super) fn hold(&mut self, tags: &[Tag]) {
        for (subtree, count) in &mut self.subtrees {
            count.held += tags.iter().filter(|tag| subtree.covers(tag)).count();
            count.most = count.most.max(count.held);
        }
    }

    /// These tags are not held any more. Returns the subtrees that are not needed now.
    pub(super) fn leave(&mut self, tags: &[Tag]) -> Vec<Tag> {
        let mut over = Vec::new();
        for (subtree, count) in &mut self.subtrees {
            let left = tags.iter().filter(|tag| subtree.covers(tag)).count();
            count.held -= left.min(count.held);
            if left > 0 && count.held <= count.most / 2 {
                over.push(subtree.clone());
            }
        }
        self.subtrees.retain(|subtree, _| !over.contains(subtree));
        over
    }

    pub(super) fn clear(&mut self) {
        self.subtrees.clear();
    }
}
