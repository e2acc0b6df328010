//! How a log goes on after a snapshot: from where it stood, in the same numbering or in another one.

use std::collections::BTreeMap;

use tidings_protocol::{Offset, Tag};

use super::known::Known;
use super::{Log, News, RETRY_AFTER, Rewrite, Tell};
use crate::ablation::{Safeguard, ablated};
use crate::freshness::{Event, Snapshot};
use crate::hub::Time;

impl<M: Clone> Log<M> {
    /// The broker's view of the log came, or did not: `Err`.
    pub fn handle_snapshot(&mut self, snapshot: Result<Snapshot, ()>, now: Time, tell: Tell<'_, M>) {
        self.is_snapshot_out = false;
        let Ok(snapshot) = snapshot else {
            self.retry_at = now.after(RETRY_AFTER);
            return;
        };
        self.is_behind = false;
        let next = Known::new(snapshot, self.events_max);
        if let Some(before) = self.known.take() {
            let told = self.turn(&before, &next, tell);
            self.tell_touched_after(told, &next, tell);
        }
        self.forget_acknowledged(&next);
        self.known = Some(next);
        for (epoch, event) in std::mem::take(&mut self.waiting) {
            // What came before the snapshot, of whichever numbering, is in it.
            let is_later = self.known.as_ref().is_some_and(|known| known.epoch == epoch);
            if is_later {
                self.handle_event(epoch, event, tell);
            }
        }
        self.release(tell);
    }

    /// Goes over to another view of the log; returns up to where in its numbering the watchers were told everything.
    fn turn(&mut self, before: &Known, next: &Known, tell: Tell<'_, M>) -> Offset {
        if before.epoch == next.epoch && before.head <= next.head {
            return before.head;
        }
        // What was confirmed of the old numbering proves nothing of what this one has lost.
        self.confirmations.ask_again();
        let at = next.position();
        let Some(fork) = next.lineage.reach(&before.epoch) else {
            self.index.sessions().for_each(|mailbox| tell(mailbox, &at, News::Reset));
            return next.head;
        };
        let shared = before.head.min(fork);
        let from = before.epoch.at(shared);
        self.index.sessions().for_each(|mailbox| tell(mailbox, &at, News::Continued(from.clone())));
        if !ablated(Safeguard::Rewrite) {
            self.note_lost(before, fork);
        }
        shared
    }

    /// What is lost above the fork is to be written again.
    fn note_lost(&mut self, before: &Known, fork: Offset) {
        let Known { epoch, head, recent, .. } = before;
        let is_held = recent.reaches(fork) && self.acknowledged.is_some();
        if !is_held && *head > fork || self.acknowledged.is_none() {
            let everything = Tag::all();
            let key = format!("again:{epoch}.{fork}+").into();
            self.lost.push_back(Rewrite { tags: [everything].into(), key });
        } else {
            // What was announced while this instance was behind, and what it acknowledged itself.
            let unseen = self.waiting.iter().chain(self.acknowledged.iter().flatten());
            let unseen = unseen.filter(|(of, event)| of == epoch && event.offset > fork.max(*head));
            let lost = recent.after_offset(fork).chain(unseen.map(|(_, event)| event));
            let lost: BTreeMap<Offset, &Event> = lost.map(|event| (event.offset, event)).collect();
            self.lost.extend(lost.into_iter().map(|(offset, event)| Rewrite {
                tags: event.tags.clone(),
                key: format!("again:{epoch}.{offset}").into(),
            }));
        }
    }

    /// What this instance acknowledged is in the snapshot, or will be written again.
    fn forget_acknowledged(&mut self, next: &Known) {
        let acknowledged = self.acknowledged.get_or_insert_default();
        acknowledged.retain(|(epoch, event)| *epoch == next.epoch && event.offset > next.head);
    }

    fn tell_touched_after(&self, told: Offset, next: &Known, tell: Tell<'_, M>) {
        let at = next.position();
        for tag in self.index.each_tag() {
            let version = next.table.version(tag);
            if version > told {
                let watchers = self.index.watchers_of(tag).count();
                let news = || News::Touched { tag, offset: version, watchers };
                self.index.watchers_of(tag).for_each(|mailbox| tell(mailbox, &at, news()));
            }
        }
    }
}
