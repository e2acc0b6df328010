//! What a client asks of a log about its values: what to ask with the next commands, what is out, and what is answered.

use std::collections::{BTreeMap, BTreeSet};

use super::held::Held;
use super::watch::{Question, Watch, commands, parts};
use super::{Effect, Entry};
use crate::{Tag, WatchGroup};

/// An entry asks of each of its tags that is not proven: was it touched after the entry's basis, but for its exception? The
/// same question is asked once, for all entries that have it.
#[derive(Clone, Debug)]
pub(super) struct Questions<K> {
    /// The groups of the watches without an answer.
    out: BTreeMap<u64, Vec<WatchGroup>>,
    last: u64,
    /// Entries to ask about with the next commands.
    open: BTreeSet<K>,
    /// To ask where the log stands, if there is nothing else to ask.
    asks_head: bool,
    /// Tags that nobody has any more.
    left: BTreeSet<Tag>,
    /// Subtrees that are not to stand for tags any more.
    subtrees: BTreeSet<Tag>,
}

impl<K> Default for Questions<K> {
    fn default() -> Self {
        let (open, left, subtrees) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Questions { out: BTreeMap::new(), last: 0, open, asks_head: false, left, subtrees }
    }
}

impl<K: Ord + Clone> Questions<K> {
    /// Whether any watch has no answer.
    pub(super) fn is_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the watch of this number has no answer.
    pub(super) fn has(&self, id: u64) -> bool {
        self.out.contains_key(&id)
    }

    /// Asks for what is not proven of an entry by the time of the next commands.
    pub(super) fn ask(&mut self, key: K) {
        self.open.insert(key);
    }

    /// Asks where the log stands, if there is nothing else to ask.
    pub(super) fn ask_head(&mut self) {
        self.asks_head = true;
    }

    /// Tags that no entry has: they are taken back, unless one has them again by then.
    pub(super) fn leave(&mut self, tags: impl Iterator<Item = Tag>) {
        self.left.extend(tags);
    }

    /// The subtree, which the server watches in place of tags, is taken back.
    pub(super) fn leave_subtree(&mut self, subtree: Tag) {
        self.subtrees.insert(subtree);
    }

    /// Nothing that is out will be answered.
    pub(super) fn disconnected(&mut self) {
        self.out.clear();
        self.open.clear();
        self.left.clear();
        self.subtrees.clear();
        self.asks_head = false;
    }

    /// What is to be sent, in order.
    pub(super) fn commands(&mut self, held: &mut Held<K>, entries: &BTreeMap<K, Entry>) -> Vec<Effect<K>> {
        let left = std::mem::take(&mut self.left).into_iter().filter(|tag| match held.get_mut(tag) {
            Some(knowledge) => {
                // An entry has it again, and the server watches it still.
                knowledge.watched = true;
                false
            }
            None => true,
        });
        let left = parts(left.collect()).into_iter().map(Effect::Unwatch);
        let subtrees: Vec<Tag> = std::mem::take(&mut self.subtrees).into_iter().collect();
        let over = (!subtrees.is_empty()).then_some(Effect::UnwatchEscalated(subtrees));
        let mut effects: Vec<_> = over.into_iter().chain(left).collect();
        let open = std::mem::take(&mut self.open);
        let open = open.iter().filter_map(|key| entries.get(key)).filter(|entry| !entry.is_stale);
        let mut watches = commands(open.flat_map(|entry| questions(entry, held)).collect());
        if std::mem::take(&mut self.asks_head) && watches.is_empty() {
            watches.push(Vec::new());
        }
        effects.extend(watches.into_iter().map(|groups| Effect::Watch(self.send(groups, held))));
        effects
    }

    fn send(&mut self, groups: Vec<WatchGroup>, held: &mut Held<K>) -> Watch {
        self.last += 1;
        let id = self.last;
        for group in &groups {
            for (tag, question) in group.tags.iter().zip(std::iter::repeat(question_of(group))) {
                if let Some((knowledge, question)) = held.get_mut(tag).zip(question) {
                    knowledge.watched = true;
                    knowledge.asked.push((question, id));
                }
            }
        }
        self.out.insert(id, groups.clone());
        Watch { id, groups }
    }

    /// The questions of a watch that has its answer, by tag. What was taken back after the watch was sent is none: the answer
    /// says nothing of who has it now.
    pub(super) fn answered(&mut self, id: u64, held: &mut Held<K>) -> Vec<(Tag, Question)> {
        let mut answered = Vec::new();
        for group in self.out.remove(&id).unwrap_or_default() {
            let Some(question) = question_of(&group) else { continue };
            for tag in group.tags {
                if held.get_mut(&tag).is_some_and(|knowledge| knowledge.is_answered(&question, id)) {
                    answered.push((tag, question.clone()));
                }
            }
        }
        answered
    }
}

fn question_of(group: &WatchGroup) -> Option<Question> {
    Some(Question { since: group.since.clone()?, except: group.except.clone() })
}

/// What is not proven of an entry, and not asked already.
fn questions<K: Ord + Clone>(entry: &Entry, held: &Held<K>) -> Vec<(Question, Tag)> {
    let question = Question { since: entry.basis.clone(), except: entry.except.clone() };
    let is_open = |tag: &&Tag| {
        held.get(tag).is_some_and(|knowledge| !knowledge.denied && !knowledge.is_asked(&question))
    };
    entry.unproven.iter().filter(is_open).map(|tag| (question.clone(), tag.clone())).collect()
}
