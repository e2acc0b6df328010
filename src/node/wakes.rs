//! Connections to be woken: at the end of this round of the event loop, or at a later moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SharedMailbox;
use crate::hub::{Time, Wake};

/// See the module.
#[derive(Default)]
pub(super) struct Wakes {
    /// To wake when everything of this round is in: one wake-up, hence one write, for all of it.
    now: Vec<Arc<SharedMailbox>>,
    /// Mailboxes that hold something until a moment.
    owed: BTreeMap<Time, Vec<Arc<SharedMailbox>>>,
}

impl Wakes {
    /// Remembers what a mailbox asked for.
    pub(super) fn note(&mut self, mailbox: &Arc<SharedMailbox>, wake: Wake) {
        match wake {
            Wake::Now => self.now.push(mailbox.clone()),
            Wake::At(time) => self.owed.entry(time).or_default().push(mailbox.clone()),
            Wake::No => {}
        }
    }

    /// The next moment at which somebody is owed a wake-up.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.owed.first_key_value().map(|(due, _)| *due)
    }

    /// Calls for those whose moment has come.
    pub(super) fn call_due(&mut self, now: Time) {
        while let Some(entry) = self.owed.first_entry().filter(|entry| *entry.key() <= now) {
            for mailbox in entry.remove() {
                if mailbox.with(|inside| inside.call()) == Wake::Now {
                    self.now.push(mailbox);
                }
            }
        }
    }

    /// Wakes everybody of this round.
    pub(super) fn wake_all(&mut self) {
        self.now.drain(..).for_each(|mailbox| mailbox.wake());
    }
}
