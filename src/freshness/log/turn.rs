//! How a log goes on after a snapshot: from where it stood, in the same numbering or in another one.

use tidings_protocol::Offset;

use super::known::Known;
use super::{Log, News, RETRY_AFTER, Tell};
use crate::ablation::{Safeguard, ablated};
use crate::freshness::Snapshot;
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
        let mut next = Known::new(snapshot, self.events_max);
        let before = self.known.take();
        if !ablated(Safeguard::Rewrite) {
            self.note_lost(before.as_ref(), &next);
        }
        if let Some(before) = before {
            next.succeed(&before);
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
        let Some(fork) = next.shared_with(before) else {
            let watchers = self.index.sessions().count();
            self.index.sessions().for_each(|mailbox| tell(mailbox, &at, News::Reset { watchers }));
            return next.head;
        };
        let shared = before.head.min(fork);
        let from = before.epoch.at(shared);
        self.index.sessions().for_each(|mailbox| tell(mailbox, &at, News::Continued(from.clone())));
        shared
    }

    /// What this instance acknowledged is in the snapshot, or will be written again.
    fn forget_acknowledged(&mut self, next: &Known) {
        self.acknowledged.retain(|(epoch, event)| *epoch == next.epoch && event.offset > next.head);
        self.unheld = None;
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
