//! Operations on the connections of this instance, for whichever instance an operator has asked.

use std::sync::Arc;

use tidings_protocol::{CloseCode, ClusterAnswer, ClusterAsk, Revocation, Which};
use tracing::warn;

use super::SharedMailbox;
use super::connections::Connections;
use crate::hub::{Close, RevocationsFull, SessionId};

/// What `hello` calls a session of the instance `id`: no session of any other start is called so.
pub(super) fn name_of(id: &str, session: SessionId) -> String {
    let SessionId(number) = session;
    format!("{id}-{number}")
}

/// The session of the instance `id` that is called so; `None` if it is another's.
fn named(id: &str, name: &str) -> Option<SessionId> {
    let number = name.strip_prefix(id)?.strip_prefix('-')?.parse().ok()?;
    // Numbers have several spellings, names have one.
    Some(SessionId(number)).filter(|session| name_of(id, *session) == name)
}

impl Connections {
    /// Does what is asked on this instance, whose name is `id`.
    pub(super) fn perform(&self, id: &str, ask: &ClusterAsk) -> ClusterAnswer {
        match ask {
            ClusterAsk::List { which, limit } => {
                let mut answer = ClusterAnswer::default();
                for (session, mailbox) in self.which(id, which) {
                    answer.count += 1;
                    if answer.connections.len() < *limit {
                        answer.connections.push(mailbox.profile().info(name_of(id, session)));
                    }
                }
                answer
            }
            ClusterAsk::Disconnect { which, reconnect, reason } => {
                let code = if *reconnect { CloseCode::Reconnect } else { CloseCode::Disconnected };
                let close = Close::new(code, &**reason);
                let closed = self.which(id, which).map(|(_, mailbox)| mailbox.close(close.clone()));
                ClusterAnswer { count: closed.count() as u64, connections: Vec::new() }
            }
            ClusterAsk::Revoke(revocation) => self.carry_out(revocation.clone()),
        }
    }

    /// Refuses credentials from now on, and ends what they were given here.
    fn carry_out(&self, revocation: Revocation) -> ClusterAnswer {
        let now = revocation.at;
        let count = self.revoke([revocation], now).unwrap_or_else(|RevocationsFull| {
            // Whoever asked had room, and the broker keeps it.
            warn!("a revocation of another instance finds no room: raise limits.revocations_max");
            0
        });
        ClusterAnswer { count, connections: Vec::new() }
    }

    /// A scan: operators are few, and an index of users would cost memory for each connection.
    fn which(&self, id: &str, which: &Which) -> impl Iterator<Item = (SessionId, Arc<SharedMailbox>)> {
        let (candidates, by_name) = match which {
            Which::Session(name) => (named(id, name).into_iter().collect(), true),
            Which::Every | Which::OfUser(_) => (self.sessions(), false),
        };
        let found = candidates.into_iter().filter_map(|session| Some((session, self.mailbox(session)?)));
        found.filter(move |(_, mailbox)| by_name || mailbox.profile().is_of(which))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{BrokerState, Credential, Mail};
    use crate::node::Profile;
    use tidings_protocol::Transport;

    /// Sessions 1 to 3: ada's, bob's, and of somebody who did not say.
    fn connections() -> (Connections, Vec<Arc<SharedMailbox>>) {
        let connections = Connections::new(BrokerState::Up);
        let enter = |(session, user): (u64, Option<&str>)| {
            let profile = Profile::new(Transport::WebSocket, 7);
            user.into_iter().for_each(|user| profile.identify(&user.into(), &Credential::None));
            let mailbox = Arc::new(SharedMailbox::new(1_000, profile));
            connections.insert(SessionId(session), &mailbox);
            mailbox
        };
        let mailboxes = [(1, Some("ada")), (2, Some("bob")), (3, None)].map(enter).to_vec();
        (connections, mailboxes)
    }

    fn user(name: &str) -> Which {
        Which::OfUser(name.into())
    }

    fn session(name: &str) -> Which {
        Which::Session(name.into())
    }

    #[test]
    fn those_that_are_meant_are_closed_and_nobody_else() {
        for (which, closed) in [
            (user("ada"), [true, false, false]),
            (session("x-2"), [false, true, false]),
            (session("x-3"), [false, false, true]),
            (user(""), [false; 3]),
            (user("eve"), [false; 3]),
            (session("x-4"), [false; 3]),
            (session("y-1"), [false; 3]),
            (session("x-+1"), [false; 3]),
            (session("x-01"), [false; 3]),
            (session("ada"), [false; 3]),
        ] {
            let (connections, mailboxes) = connections();
            let ask = ClusterAsk::Disconnect { which, reconnect: false, reason: "go".into() };
            let answer = connections.perform("x", &ask);
            let closes = mailboxes.iter().map(|mailbox| {
                let mut mail = Mail::default();
                mailbox.take(&mut mail);
                mail.close
            });
            let closes: Vec<_> = closes.collect();
            assert_eq!(closes.iter().map(Option::is_some).collect::<Vec<_>>(), closed, "{ask:?}");
            assert_eq!(answer.count, closes.iter().flatten().count() as u64, "{ask:?}");
            assert!(closes.iter().flatten().all(|close| close.code == CloseCode::Disconnected));
        }
    }

    #[test]
    fn a_list_is_bounded_and_counts_what_it_leaves_off() {
        let (connections, mailboxes) = connections();
        mailboxes[1].profile().set_channels(5);
        let list = |which, limit| connections.perform("x", &ClusterAsk::List { which, limit });
        assert_eq!((list(Which::Every, 2).count, list(Which::Every, 2).connections.len()), (3, 2));
        let bob = &list(user("bob"), 9).connections[0];
        assert_eq!((bob.session.as_str(), bob.user.as_deref()), ("x-2", Some("bob")));
        assert_eq!((bob.transport, bob.since, bob.channels), (Transport::WebSocket, 7, 5));
    }

    #[test]
    fn a_connection_stays_its_first_users() {
        let (connections, mailboxes) = connections();
        mailboxes[0].profile().identify(&"eve".into(), &Credential::None);
        let list = |which| connections.perform("x", &ClusterAsk::List { which, limit: 9 }).count;
        assert_eq!((list(user("ada")), list(user("eve"))), (1, 0));
    }
}
