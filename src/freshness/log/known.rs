//! What an instance knows of a log.

use tidings_protocol::{Epoch, Offset, Position, Tag};

use crate::freshness::recent::{Event, Recent};
use crate::freshness::{Snapshot, VersionTable};
use crate::hub::Lineage;

#[derive(Debug)]
pub(super) struct Known {
    pub(super) epoch: Epoch,
    pub(super) head: Offset,
    pub(super) lineage: Lineage,
    pub(super) table: VersionTable,
    pub(super) recent: Recent,
    /// Up to where the log was confirmed: by then no other numbering had begun without it.
    pub(super) confirmed: Option<Offset>,
}

impl Known {
    pub(super) fn new(snapshot: Snapshot, events_max: usize) -> Known {
        let Snapshot { position: Position { epoch, offset: head }, lineage, table } = snapshot;
        Known { epoch, head, lineage, table, recent: Recent::after(head, events_max), confirmed: None }
    }

    /// Takes over what was confirmed in the view before this one, as far as it means the same.
    pub(super) fn succeed(&mut self, before: &Known) {
        let shared = if before.epoch == self.epoch { Some(before.head) } else { self.shared_with(before) };
        self.confirmed = before.confirmed.zip(shared).map(|(confirmed, shared)| confirmed.min(shared));
    }

    /// The broker confirmed that the log stands there.
    pub(super) fn confirm(&mut self, head: &Position) {
        if head.epoch == self.epoch {
            self.confirmed = self.confirmed.max(Some(head.offset));
        }
    }

    /// Where the log stands.
    pub(super) fn position(&self) -> Position {
        self.epoch.at(self.head)
    }

    /// Up to where positions of the numbering `before` mean the same in this one; `None` if it is not a later one, or follows
    /// from nothing that is known.
    pub(super) fn shared_with(&self, before: &Known) -> Option<Offset> {
        if before.epoch == self.epoch || before.lineage.reach(&self.epoch).is_some() {
            return None;
        }
        // This one continues that one, or both continue a third that this instance did not see the end of.
        self.lineage.reach(&before.epoch).or_else(|| self.lineage.shared_with(&before.lineage))
    }

    /// Whether this is a later numbering than the one before, and does not follow from it: others may have held values as valid here
    /// while mutations were still written there.
    pub(super) fn parts_from(&self, before: &Known) -> bool {
        let is_later = before.epoch != self.epoch && before.lineage.reach(&self.epoch).is_none();
        is_later && self.shared_with(before).is_none()
    }

    /// Takes in the next mutation.
    pub(super) fn take(&mut self, event: &Event) {
        self.head = event.offset;
        event.tags.iter().for_each(|tag| self.table.touch(tag, event.offset));
        self.recent.push(event.clone());
    }

    /// Whether the tag was touched after `since` by another mutation than `except`, for all that is known.
    pub(super) fn is_touched(&self, tag: &Tag, since: &Position, except: Option<&Position>) -> bool {
        // Above the fork there is nothing that both numberings mean.
        let Some(shared) = self.shared_up_to(&since.epoch) else { return true };
        if since.epoch == self.epoch && since.offset > self.head {
            // Of what nobody has written yet, nobody can say what it will touch.
            return true;
        }
        let since = since.offset.min(shared);
        // The table never misses anything, and is the cheaper question; the exact map knows its collisions.
        if self.table.version(tag) <= since {
            return false;
        }
        let except = except.and_then(|except| {
            Some(except.offset).filter(|except_at| Some(*except_at) <= self.shared_up_to(&except.epoch))
        });
        !self.recent.reaches(since)
            || match except {
                Some(except) => self.recent.is_touched_but_by(except, tag, since),
                None => self.recent.version(tag) > since,
            }
    }

    /// Whether a position means anything here.
    pub(super) fn means(&self, position: Option<&Position>) -> bool {
        position.is_some_and(|position| self.shared_up_to(&position.epoch).is_some())
    }

    /// Up to where offsets of that numbering mean the same in this one; `None` where nobody can tell.
    fn shared_up_to(&self, epoch: &Epoch) -> Option<Offset> {
        match *epoch == self.epoch {
            true => Some(self.head),
            false => self.lineage.reach(epoch),
        }
    }
}
