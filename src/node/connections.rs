//! Everybody who is connected, and what all of them must know: the state of the broker.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::multiple::RefMulti;

use super::SharedMailbox;
use super::wakes::Wakes;
use crate::hub::{BrokerState, Close, Revocations, SessionId, Time, Wake};

/// The mailboxes of all connections.
pub(super) struct Connections {
    mailboxes: DashMap<SessionId, Arc<SharedMailbox>>,
    /// What everybody was told, or is about to be.
    broker: Mutex<BrokerState>,
    /// What is revoked.
    pub(super) revocations: RwLock<Revocations>,
    /// Something was revoked since all was compared with what the broker keeps.
    pub(super) is_unread: AtomicBool,
}

impl Connections {
    /// Nobody, with a broker in this state.
    pub(super) fn new(broker: BrokerState) -> Self {
        let revocations = RwLock::new(Revocations::new(usize::MAX, u64::MAX));
        let (mailboxes, broker) = (DashMap::new(), Mutex::new(broker));
        Connections { mailboxes, broker, revocations, is_unread: AtomicBool::new(false) }
    }

    /// With room for `most` revocations, each remembered for `life` seconds.
    pub(super) fn remembering(self, most: usize, life: u64) -> Self {
        Connections { revocations: RwLock::new(Revocations::new(most, life)), ..self }
    }

    /// Adds a connection, and tells it of an outage that is not over.
    pub(super) fn insert(&self, session: SessionId, mailbox: &Arc<SharedMailbox>) {
        // Added first: a change from here on finds it. The lock is held while it is told, so that a change which finds it
        // comes after, and not before what it replaces.
        self.mailboxes.insert(session, mailbox.clone());
        let broker = self.broker.lock().expect("nothing panics while it holds the broker's state");
        if !broker.is_up() && mailbox.with(|inside| inside.set_broker_state(*broker)) == Wake::Now {
            mailbox.wake();
        }
    }

    /// Tells everybody, and whoever comes later; `wakes` gets the mailboxes that must be woken for it.
    pub(super) fn tell(&self, state: BrokerState, wakes: &mut Wakes) {
        *self.broker.lock().expect("nothing panics while it holds the broker's state") = state;
        for mailbox in &self.mailboxes {
            wakes.note(&mailbox, mailbox.with(|inside| inside.set_broker_state(state)));
        }
    }

    /// The mailbox of a connection; `None` once it is gone.
    pub(super) fn mailbox(&self, session: SessionId) -> Option<Arc<SharedMailbox>> {
        self.mailboxes.get(&session).map(|entry| entry.value().clone())
    }

    /// Forgets a connection.
    pub(super) fn remove(&self, session: SessionId) {
        self.mailboxes.remove(&session);
    }

    /// The connections that hold something because their peers are slow, and how much.
    pub(super) fn slow(&self, patience: Duration, now: Time) -> Vec<(usize, Arc<SharedMailbox>)> {
        let held = |entry: RefMulti<'_, SessionId, Arc<SharedMailbox>>| {
            let held = entry.held_bytes(patience, now);
            (held > 0).then(|| (held, entry.value().clone()))
        };
        self.mailboxes.iter().filter_map(held).collect()
    }

    /// Tells those who came by an API key of such a name to end.
    pub(super) fn close_those_by_key(
        &self,
        named: impl Fn(&str) -> bool,
        close: &Close,
    ) -> Vec<Arc<SharedMailbox>> {
        let came_by = |mailbox: &Arc<SharedMailbox>| mailbox.profile().came_by_key(&named);
        // Listed first: closing takes the lock of a mailbox, and no lock is taken under that of the list.
        let all = self.mailboxes.iter().map(|entry| entry.value().clone());
        let theirs: Vec<_> = all.filter(came_by).collect();
        theirs.iter().for_each(|mailbox| mailbox.close(close.clone()));
        theirs
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Mail;
    use crate::node::Profile;
    use tidings_protocol::Transport;

    const DOWN: BrokerState = BrokerState::Down { since_ms: 5 };

    fn told(mailbox: &SharedMailbox) -> Option<BrokerState> {
        let mut mail = Mail::default();
        mailbox.take(&mut mail);
        mail.broker
    }

    fn enter(connections: &Connections, session: u64) -> Arc<SharedMailbox> {
        let mailbox = Arc::new(SharedMailbox::new(1_000, Profile::new(Transport::WebSocket, 0)));
        connections.insert(SessionId(session), &mailbox);
        mailbox
    }

    #[test]
    fn whoever_comes_during_an_outage_is_told_and_whoever_comes_after_is_not() {
        let connections = Connections::new(BrokerState::Up);
        let (before, mut wakes) = (enter(&connections, 1), Wakes::default());
        assert_eq!(told(&before), None);
        connections.tell(DOWN, &mut wakes);
        wakes.wake_all();
        let during = enter(&connections, 2);
        assert_eq!((told(&before), told(&during)), (Some(DOWN), Some(DOWN)));
        connections.tell(BrokerState::Up, &mut wakes);
        wakes.wake_all();
        assert_eq!((told(&before), told(&during)), (Some(BrokerState::Up), Some(BrokerState::Up)));
        assert_eq!(told(&enter(&connections, 3)), None);
        assert_eq!(told(&enter(&Connections::new(DOWN), 1)), Some(DOWN), "the broker was never there");
    }

    #[test]
    fn who_holds_something_because_its_peer_is_slow_is_listed() {
        let connections = Connections::new(BrokerState::Up);
        let mailboxes = [(1, 300), (2, 0), (3, 900), (4, 500)].map(|(session, bytes)| {
            let mailbox = enter(&connections, session);
            mailbox.set_receiving(bytes);
            mailbox
        });
        mailboxes[1].set_unread(200, || Time::ZERO);
        let held = |ms| {
            let slow = connections.slow(Duration::from_millis(100), Time(Duration::from_millis(ms)));
            let mut held: Vec<usize> = slow.into_iter().map(|(held, _)| held).collect();
            held.sort_unstable();
            held
        };
        assert_eq!(held(99), [300, 500, 900], "what is being written is no sign of a slow reader");
        assert_eq!(held(100), [200, 300, 500, 900]);
        mailboxes[1].set_unread(150, || Time(Duration::from_millis(150)));
        assert_eq!(held(200), [150, 300, 500, 900], "it takes something, and has not taken all since");
        mailboxes[1].set_unread(0, || Time(Duration::from_millis(200)));
        mailboxes[3].set_receiving(0);
        assert_eq!(held(1_000), [300, 900], "who keeps up is not among them");
    }

    #[test]
    fn whoever_is_gone_is_not_told() {
        let connections = Connections::new(BrokerState::Up);
        enter(&connections, 1);
        connections.remove(SessionId(1));
        connections.tell(DOWN, &mut Wakes::default());
        assert!(connections.len() == 0 && connections.mailbox(SessionId(1)).is_none());
    }
}
