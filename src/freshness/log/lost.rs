//! Mutations that the log has lost: those above the place where another numbering begins. Who saw or acknowledged them writes
//! them again.

use std::sync::Arc;

use indexmap::IndexMap;
use tidings_protocol::{Epoch, Offset, Position, Tag};

use super::known::Known;
use super::{Log, RETRY_AFTER, Rewrite};
use crate::freshness::Event;
use crate::hub::Time;

/// By the key under which each is written again.
type Lost = IndexMap<Arc<str>, Arc<[Tag]>>;

impl<M: Clone> Log<M> {
    /// What this instance saw or acknowledged and `next` does not have is to be written again; of what it does not hold any
    /// more, that everything was touched.
    pub(super) fn note_lost(&mut self, before: Option<&Known>, next: &Known) {
        let mut lost = Lost::new();
        let turn = before.and_then(|before| Some((before, next.shared_with(before)?)));
        let parted =
            || before.filter(|before| next.parts_from(before)).map(|before| (before, before.confirmed));
        if let Some((before, fork)) = turn.map(|(before, fork)| (before, Some(fork))).or_else(parted) {
            match fork.filter(|fork| {
                self.unheld.is_none() && (before.head <= *fork || before.recent.reaches(*fork))
            }) {
                Some(fork) => {
                    let events = before.recent.after_offset(fork);
                    events.for_each(|event| lose(&before.epoch, event, &mut lost));
                }
                None => self.lose_everything(before, fork.unwrap_or_default(), &mut lost),
            }
        }
        // What was announced while this instance was behind, and what it acknowledged itself, in whichever numbering.
        for (epoch, event) in self.waiting.iter().chain(&self.acknowledged) {
            let reach = match turn.filter(|(before, _)| before.epoch == *epoch) {
                Some((_, fork)) => Some(fork),
                None => next.lineage.reach(epoch),
            };
            if *epoch != next.epoch && reach.is_none_or(|reach| reach < event.offset) {
                lose(epoch, event, &mut lost);
            }
        }
        self.lost.extend(lost.into_iter().map(|(key, tags)| Rewrite { tags, key }));
    }

    /// Something after that place of what this instance knew. Who saw more of the same numbering before it was lost has more to tell of: under a
    /// key without the end, what he writes would be taken for a repetition of what somebody wrote before that.
    fn lose_everything(&self, before: &Known, after: Offset, lost: &mut Lost) {
        let unheld = self.unheld.as_ref().map(|last| format!("+{last}")).unwrap_or_default();
        let key = format!("again:{}.{after}-{}{unheld}", before.epoch, before.head);
        lost.insert(key.into(), [Tag::all()].into());
    }

    /// A mutation was written again, there, or was not: `Err`.
    pub fn handle_rewritten(&mut self, written: Result<Position, ()>, now: Time) {
        self.is_write_out = false;
        let Ok(position) = written else {
            self.retry_at = now.after(RETRY_AFTER);
            return;
        };
        if let Some(rewrite) = self.lost.pop_front() {
            // It may be lost once more before it is announced.
            self.handle_acknowledged(&position, rewrite.tags);
        }
    }
}

/// The key is the same wherever it is written from.
fn lose(epoch: &Epoch, event: &Event, lost: &mut Lost) {
    lost.insert(format!("again:{epoch}.{}", event.offset).into(), event.tags.clone());
}
