//! Everybody who is connected.

use std::sync::Arc;

use dashmap::DashMap;

use super::SharedMailbox;
use crate::hub::SessionId;

/// The mailboxes of all connections.
#[derive(Default)]
pub(super) struct Connections {
    mailboxes: DashMap<SessionId, Arc<SharedMailbox>>,
}

impl Connections {
    /// Adds a connection.
    pub(super) fn insert(&self, session: SessionId, mailbox: &Arc<SharedMailbox>) {
        self.mailboxes.insert(session, mailbox.clone());
    }

    /// The mailbox of a connection; `None` once it is gone.
    pub(super) fn mailbox(&self, session: SessionId) -> Option<Arc<SharedMailbox>> {
        self.mailboxes.get(&session).map(|entry| entry.value().clone())
    }

    /// Forgets a connection.
    pub(super) fn remove(&self, session: SessionId) {
        self.mailboxes.remove(&session);
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// All connections as they are now.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.mailboxes.iter().map(|entry| *entry.key()).collect()
    }
}
