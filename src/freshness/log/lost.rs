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
        if let Some((before, fork)) = turn {
            let is_held = before.head <= fork || before.recent.reaches(fork);
            match is_held && self.acknowledged.is_some() {
                true => {
                    let events = before.recent.after_offset(fork);
                    events.for_each(|event| lose(&before.epoch, event, &mut lost));
                }
                false => lose_everything(&before.epoch, fork, &mut lost),
            }
        } else if let Some(before) = before.filter(|before| next.parts_from(before)) {
            lose_everything(&before.epoch, Offset(0), &mut lost);
        }
        // What was announced while this instance was behind, and what it acknowledged itself, in whichever numbering.
        for (epoch, event) in self.waiting.iter().chain(self.acknowledged.iter().flatten()) {
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

fn lose_everything(epoch: &Epoch, after: Offset, lost: &mut Lost) {
    lost.insert(format!("again:{epoch}.{after}+").into(), [Tag::all()].into());
}

/// The key is the same wherever it is written from.
fn lose(epoch: &Epoch, event: &Event, lost: &mut Lost) {
    lost.insert(format!("again:{epoch}.{}", event.offset).into(), event.tags.clone());
}
