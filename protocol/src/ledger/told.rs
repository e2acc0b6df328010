//! What the frames of a log do to the books.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::watch::Question;
use super::{Effect, Entry, Ledger};
use crate::{
    AtFrame, ContinuedFrame, InvalidatedFrame, Offset, Position, ResetFrame, ResetReason, ResetScope, Tag,
    WatchedFrame,
};

impl<K: Ord + Clone> Ledger<K> {
    /// The answer to the watch of this number.
    pub fn watched(&mut self, id: u64, frame: &WatchedFrame) {
        if !self.questions.has(id) {
            return;
        }
        // What is asked already is not asked again, should this be another epoch.
        self.enter(&frame.at);
        let questions = self.questions.answered(id, &mut self.held);
        for subtree in &frame.escalated {
            self.escalated.begin(subtree, self.held.matching(|held| subtree.covers(held)).len());
        }
        let denied: BTreeSet<&Tag> = frame.denied.iter().collect();
        let stale: BTreeSet<&Tag> = frame.stale.iter().collect();
        let is_subtree = |tag: &&Tag| self.escalated.contains(tag);
        let subtrees: Vec<&Tag> = frame.stale.iter().filter(is_subtree).collect();
        let is_stale = |tag: &Tag| stale.contains(tag) || subtrees.iter().any(|subtree| subtree.covers(tag));
        for (tag, question) in &questions {
            match (denied.contains(tag), is_stale(tag)) {
                (true, _) => self.deny(tag),
                (false, true) => self.found_stale(tag, question, &frame.at),
                (false, false) => self.found_clean(tag, question, &frame.at),
            }
        }
        self.ask_late();
    }

    /// The server refused the watch of this number for good: its tags are not watched on this connection.
    pub fn refused(&mut self, id: u64) {
        for (tag, _) in self.questions.answered(id, &mut self.held) {
            self.deny(&tag);
        }
    }

    /// Watched tags were touched.
    pub fn invalidated(&mut self, frame: &InvalidatedFrame) {
        self.enter(&frame.at);
        for (tag, version) in &frame.tags {
            let position = frame.at.epoch.at(*version);
            for held in self.named(tag) {
                self.touch(&held, &position);
            }
        }
        self.echoed(frame.c);
        self.ask_late();
    }

    /// The server said where the log stands.
    pub fn at(&mut self, frame: &AtFrame) {
        self.enter(&frame.position);
        self.echoed(frame.c);
        self.ask_late();
    }

    /// What is held may be stale, for all that the server knows, or is not to be shown any more.
    pub fn reset(&mut self, frame: &ResetFrame) {
        let (tags, is_all): (Vec<Tag>, bool) = match &frame.scope {
            ResetScope::All => (self.held.matching(|_| true), true),
            ResetScope::Tags(tags) => (tags.iter().flat_map(|tag| self.named(tag)).collect(), false),
        };
        let concerns = |entry: &Entry| is_all || tags.iter().any(|tag| entry.tags.contains(tag));
        let entries = self.entries.iter().filter(|(_, entry)| concerns(entry));
        let keys: Vec<K> = entries.map(|(key, _)| key.clone()).collect();
        for key in keys {
            match frame.reason {
                ResetReason::Auth => {
                    self.forget(&key);
                    self.effects.push(Effect::Forget(key));
                }
                ResetReason::Epoch | ResetReason::Admin | ResetReason::Limit => self.spoil(&key),
            }
        }
        self.enter(&frame.at);
        let floor = if is_all { frame.at.offset } else { Offset(0) };
        self.floor = self.floor.max(floor);
        if let ResetScope::Tags(tags) = &frame.scope {
            tags.iter().for_each(|tag| self.remember(&frame.at, tag.clone()));
        }
        for tag in &tags {
            if let Some(knowledge) = self.held.get_mut(tag) {
                // It may be watched no more: who reads it again asks again.
                (knowledge.version, knowledge.covered) = (knowledge.version.max(Some(frame.at.offset)), None);
            }
        }
        self.ask_late();
    }

    /// The log goes on in another epoch.
    pub fn continued(&mut self, frame: &ContinuedFrame) {
        self.go_on(frame);
        self.ask_late();
    }

    fn go_on(&mut self, frame: &ContinuedFrame) {
        let is_rename = self.numbering.learn(frame);
        if !is_rename || self.numbering.epoch() != Some(&frame.from.epoch) {
            return self.enter(&frame.position);
        }
        let shared = frame.from.offset;
        for knowledge in self.held.values_mut() {
            knowledge.covered = knowledge.covered.map(|covered| covered.min(shared));
        }
        for entry in self.entries.values_mut() {
            entry.proven_at = entry.proven_at.map(|proven_at| proven_at.min(shared));
        }
        // What was said above the fork is said again in the new epoch, above the fork.
        self.turn_to(&frame.position, |offset| offset.min(shared.next()));
    }

    /// A position was told: of the present epoch, or of one that nobody announced.
    fn enter(&mut self, position: &Position) {
        if self.numbering.epoch() == Some(&position.epoch) {
            self.horizon = self.horizon.max(position.offset);
            self.told = self.told.max(position.offset);
            return;
        }
        self.held.values_mut().for_each(|knowledge| knowledge.covered = None);
        // What was touched before was touched before this, whatever it is called now.
        self.turn_to(position, |_| position.offset);
    }

    /// Another epoch begins, in which what was touched has the offsets that `renumber` gives. What was known as of a position
    /// that means nothing in it is to be proven anew.
    fn turn_to(&mut self, position: &Position, renumber: impl Fn(Offset) -> Offset) {
        if self.floor > Offset(0) {
            self.floor = renumber(self.floor);
        }
        for knowledge in self.held.values_mut() {
            knowledge.version = knowledge.version.map(&renumber);
        }
        let others = self.recent.iter_mut().map(|recent| &mut recent.position);
        for touched in others.filter(|touched| touched.epoch != position.epoch) {
            // What nobody has said how to compare may be of an epoch that is yet to come.
            if let Some(before) = self.numbering.offset_of(touched) {
                *touched = position.epoch.at(renumber(before));
            }
        }
        self.numbering.enter(position.epoch.clone());
        (self.horizon, self.told) = (position.offset, position.offset);
        let numbering = self.numbering.clone();
        self.doubt(|entry| numbering.offset_of(&entry.basis).is_none());
    }

    fn echoed(&mut self, c: Option<u64>) {
        let Some(c) = c.filter(|_| self.is_connected) else { return };
        let Some(horizon) = self.horizon().filter(|_| self.lease.echoed(c)) else { return };
        // The log was looked at after the ping: what was touched before the ping is not yet to come, whatever it is called now.
        for recent in self.recent.iter_mut().filter(|recent| recent.last_ping < Some(c)) {
            if self.numbering.offset_of(&recent.position).is_none() {
                recent.position = horizon.clone();
            }
        }
    }

    /// The held tags that a frame means: the tag itself, or all in a subtree that is watched in their place. Of that the
    /// answer to a watch may not have come yet.
    fn named(&self, tag: &Tag) -> Vec<Tag> {
        let is_itself = self.held.get(tag).is_some() && !self.escalated.contains(tag);
        match is_itself && (!self.questions.is_out() || !tag.is_subtree()) {
            true => vec![tag.clone()],
            false => self.held.matching(|held| tag.covers(held)),
        }
    }

    /// A held tag was touched: what was read before is stale.
    pub(super) fn touch(&mut self, tag: &Tag, position: &Position) {
        let offset = self.numbering.offset_of(position);
        let Some(knowledge) = self.held.get_mut(tag) else { return };
        knowledge.version = knowledge.version.max(offset);
        for key in knowledge.keys.clone() {
            let misses = |entry: &Entry| self.numbering.misses(&entry.basis, entry.except.as_ref(), position);
            if self.entries.get(&key).is_some_and(misses) {
                self.spoil(&key);
            }
        }
    }

    fn spoil(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| !entry.is_stale) {
            entry.is_stale = true;
            self.effects.push(Effect::Stale(key.clone()));
        }
    }

    fn deny(&mut self, tag: &Tag) {
        if let Some(knowledge) = self.held.get_mut(tag) {
            knowledge.denied = true;
        }
    }

    /// A tag was touched between `since` and `at`, by others than `except`.
    fn found_stale(&mut self, tag: &Tag, question: &Question, at: &Position) {
        let Question { since, except } = question;
        let Some(knowledge) = self.held.get_mut(tag) else { return };
        knowledge.cover_from(at.offset);
        for key in knowledge.keys.clone() {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            // What the tag was touched by may be the very mutation that the value reflects.
            let own = entry.except.as_ref();
            let concerns = own.is_none() || self.numbering.is_same(own, except.as_ref());
            let is_asked = self.numbering.order(&entry.basis, since).is_some_and(Ordering::is_le);
            if concerns && is_asked {
                self.spoil(&key);
            } else if self.numbering.precedes(&entry.basis, at)
                && !entry.is_stale
                && entry.unproven.insert(tag.clone())
            {
                // Read between the two, with no answer of its own on its way: the tag may have been touched after that.
                self.questions.ask(key);
            }
        }
    }

    /// A tag was not touched between `since` and `at`, or by `except` alone.
    fn found_clean(&mut self, tag: &Tag, question: &Question, at: &Position) {
        let Question { since, except } = question;
        let offset = |position| self.numbering.offset_of(position).unwrap_or(at.offset);
        // The answer does not tell of the exception.
        let from = offset(since).max(except.as_ref().map_or(Offset(0), offset));
        let Some(knowledge) = self.held.get_mut(tag) else { return };
        knowledge.cover(from);
        for key in knowledge.keys.clone() {
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.is_stale) else { continue };
            let reaches =
                |position| self.numbering.order(&entry.basis, position).is_some_and(Ordering::is_ge);
            let own = entry.except.as_ref();
            let concerns = |except| self.numbering.is_same(own, Some(except)) || reaches(except);
            if !reaches(since) || !except.as_ref().is_none_or(concerns) || !entry.unproven.contains(tag) {
                continue;
            }
            let is_known = |own| self.numbering.offset_of(own).is_some_and(|own| own <= at.offset);
            if !own.is_none_or(is_known) {
                // The server did not know the own mutation yet, nor what came between.
                self.early.insert(key);
                continue;
            }
            entry.unproven.remove(tag);
            let proven_at = entry.proven_at.map_or(at.offset, |oldest| oldest.min(at.offset));
            entry.proven_at = Some(proven_at);
            if entry.unproven.is_empty() {
                // The value did not change up to here: as if it had been read now.
                entry.raise(at.epoch.at(proven_at), &self.numbering);
                self.effects.push(Effect::Proven(key));
            }
        }
    }

    /// The entries that fit and are not stale are to be proven from their basis on.
    pub(super) fn doubt(&mut self, fits: impl Fn(&Entry) -> bool) {
        for (key, entry) in self.entries.iter_mut().filter(|(_, entry)| !entry.is_stale && fits(entry)) {
            (entry.unproven, entry.proven_at) = (entry.tags.clone(), None);
            self.questions.ask(key.clone());
        }
    }

    /// Asks again about what was answered before the server knew the exception, where it does by now.
    fn ask_late(&mut self) {
        let is_known = |except| self.numbering.offset_of(except).is_some_and(|except| except <= self.told);
        let is_late = |key: &K| {
            let except = self.entries.get(key).and_then(|entry| entry.except.as_ref());
            except.is_none_or(is_known)
        };
        let late: Vec<K> = self.early.iter().filter(|key| is_late(key)).cloned().collect();
        for key in late {
            self.early.remove(&key);
            self.questions.ask(key);
        }
    }

    pub(super) fn is_denied(&self, tag: &Tag) -> bool {
        self.held.get(tag).is_some_and(|knowledge| knowledge.denied)
    }
}
