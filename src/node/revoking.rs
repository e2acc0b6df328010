//! Revocations: noted here first, kept by the broker for those who come later, and told to all instances.
//!
//! Telling is what makes it quick, and what was kept makes it sure: every instance compares what it knows with what the
//! broker keeps, twice a second, and writes again what the broker has lost.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLockReadGuard, Weak};
use std::time::Duration;

use tidings_protocol::{ClusterAsk, Code, Problem, Revocation, Revoked};
use tracing::{debug, info, warn};

use super::connections::Connections;
use super::{Findings, Node};
use crate::broker::{BrokerError, RevokedSince};
use crate::hub::{Credential, Revocations, RevocationsFull};

/// How often an instance looks at what the broker keeps. Whoever was not told learns of it within a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What became of a revocation.
#[derive(Clone, Debug)]
pub struct Revoking {
    /// Tokens of the user that were issued in this second or before are refused; in seconds since 1970.
    pub at: u64,
    /// Whether the broker has it, and with it every instance that starts later.
    pub is_kept: bool,
    /// The connections that end for it, and the instances that answered.
    pub findings: Findings,
}

impl Connections {
    /// What is revoked, as far as is known here.
    pub(super) fn revocations(&self) -> RwLockReadGuard<'_, Revocations> {
        self.revocations.read().expect("nothing panics while it holds the revocations")
    }

    /// Notes revocations, and has those connections look at their credentials that they may concern. The number of those that
    /// were let in with one that is revoked now.
    pub(super) fn revoke(
        &self,
        revocations: impl IntoIterator<Item = Revocation>,
        now: u64,
    ) -> Result<u64, RevocationsFull> {
        // Noted first, looked for then: whoever comes in between looks by itself.
        let noted = self.note(revocations, now);
        let covered = self.recheck();
        noted.map(|_| covered)
    }

    /// Notes revocations. Whether one of them refuses something that was not refused before.
    fn note(
        &self,
        revocations: impl IntoIterator<Item = Revocation>,
        now: u64,
    ) -> Result<bool, RevocationsFull> {
        let mut noted = Ok(false);
        let mut known = self.revocations.write().expect("nothing panics while it holds the revocations");
        for revocation in revocations {
            noted = match (noted, known.note(revocation, now)) {
                (Ok(before), Ok(new)) => Ok(before || new),
                (Err(full), _) | (_, Err(full)) => Err(full),
            };
        }
        // What the broker keeps now, it may have lost again before anybody looks.
        self.is_unread.store(true, Ordering::Release);
        noted
    }

    /// What is known here, counts still at `now`, and is not among these.
    fn lacking(&self, kept: &[Revocation], now: u64) -> Vec<Revocation> {
        let kept: HashMap<&Revoked, u64> =
            kept.iter().map(|revocation| (&revocation.revoked, revocation.at)).collect();
        let is_lacking = |own: &Revocation| kept.get(&own.revoked).is_none_or(|at| *at < own.at);
        self.revocations().standing(now).filter(is_lacking).collect()
    }

    fn recheck(&self) -> u64 {
        let mut covered = 0;
        for session in self.sessions() {
            let Some(mailbox) = self.mailbox(session) else { continue };
            let is_covered = mailbox.profile().is_covered_by(&self.revocations());
            covered += u64::from(is_covered);
            if is_covered || mailbox.profile().has_passes() {
                mailbox.recheck();
            }
        }
        covered
    }
}

impl Node {
    /// Has every connection look at its credential.
    pub fn recheck_credentials(&self) {
        let mailboxes =
            self.connections.sessions().into_iter().filter_map(|session| self.connections.mailbox(session));
        mailboxes.for_each(|mailbox| mailbox.recheck());
    }

    /// Whether what was presented for this user holds no more.
    pub fn is_revoked(&self, user: &Arc<str>, credential: &Credential) -> bool {
        self.connections.revocations().cover(user, credential)
    }

    /// Shows what is revoked.
    pub fn with_revocations<T>(&self, look: impl FnOnce(&Revocations) -> T) -> T {
        look(&self.connections.revocations())
    }

    /// Refuses credentials from now on, everywhere, and ends what they were given.
    pub async fn revoke(&self, revoked: Revoked) -> Result<Revoking, Problem> {
        let at = self.clock.unix_ms() / 1_000;
        let revocation = Revocation { revoked, at };
        // The connections of this instance are counted when it is asked, like those of all others.
        let noted = self.connections.note([revocation.clone()], at);
        noted.map_err(|RevocationsFull| Problem::from(BrokerError::TooManyRevocations))?;
        let kept = self.broker.revoke(vec![revocation.clone()]);
        let (kept, findings) = tokio::join!(kept, self.ask_all(ClusterAsk::Revoke(revocation)));
        if let Err(error) = &kept {
            warn!(%error, "a revocation is not kept yet: it is written again as soon as that is possible");
        }
        Ok(Revoking { at, is_kept: kept.is_ok(), findings: findings? })
    }

    /// Takes in what the broker keeps. The stamp of it; `None` where no other instance could have revoked anything.
    pub async fn learn_revocations(&self, known: Option<&str>) -> Result<Option<String>, Problem> {
        let Some(RevokedSince { stamp, all }) = self.broker.revoked(known).await? else { return Ok(None) };
        let Some(all) = all else { return Ok(Some(stamp)) };
        let (count, now) = (all.len(), self.clock.unix_ms() / 1_000);
        let lacking = self.connections.lacking(&all, now);
        match self.connections.note(all, now) {
            Ok(false) => {}
            Ok(true) => {
                let ended = self.connections.recheck();
                debug!(count, ended, "revocations read");
            }
            Err(RevocationsFull) => {
                let ended = self.connections.recheck();
                warn!(count, ended, "more is revoked than limits.revocations_max: raise it");
            }
        }
        self.connections.is_unread.store(!lacking.is_empty(), Ordering::Release);
        if !lacking.is_empty() {
            info!(count = lacking.len(), "the broker lacks revocations: they are written again");
            self.broker.revoke(lacking).await?;
        }
        Ok(Some(stamp))
    }
}

/// Keeps what is known of revocations and what the broker keeps alike, for as long as the node is there.
pub async fn keep_revocations(node: Weak<Node>, mut known: Option<String>) {
    let mut is_behind = false;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(node) = node.upgrade() else { return };
        let is_unread = node.connections.is_unread.load(Ordering::Acquire);
        match node.learn_revocations(known.as_deref().filter(|_| !is_behind && !is_unread)).await {
            Ok(Some(stamp)) => (known, is_behind) = (Some(stamp), false),
            // Nobody else revokes anything.
            Ok(None) => return,
            Err(Problem { code: Code::LimitReached, .. }) => is_behind = false,
            Err(problem) => {
                debug!(%problem, "revocations cannot be compared");
                is_behind = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{BrokerState, Mail, SessionId};
    use crate::node::{Profile, SharedMailbox};
    use tidings_protocol::Transport;

    fn token(id: &str, issued: u64) -> Credential {
        Credential::Token { id: Some(id.into()), issued: Some(issued) }
    }

    fn rechecks(mailbox: &SharedMailbox) -> bool {
        let mut mail = Mail::default();
        mailbox.take(&mut mail);
        mail.revoked
    }

    #[test]
    fn whoever_may_be_concerned_looks_again_and_nobody_else() {
        let connections = Connections::new(BrokerState::Up);
        let enter = |(number, user, credential): (u64, &str, Credential)| {
            let profile = Profile::new(Transport::WebSocket, 0);
            profile.identify(&user.into(), &credential);
            let mailbox = Arc::new(SharedMailbox::new(1_000, profile));
            connections.insert(SessionId(number), &mailbox);
            mailbox
        };
        let old = enter((1, "ada", token("t-1", 5)));
        let new = enter((2, "ada", token("t-2", 11)));
        let other = enter((3, "bob", token("t-3", 5)));
        let key = enter((4, "ada", Credential::ApiKey("ada".into())));
        let with_pass = enter((5, "eve", Credential::Anonymous));
        with_pass.profile().add_pass();
        let ada = Revocation { revoked: Revoked::User("ada".into()), at: 10 };
        assert_eq!(connections.revoke([ada], 10), Ok(1));
        let looked = [&old, &new, &other, &key, &with_pass].map(|mailbox| rechecks(mailbox));
        assert_eq!(looked, [true, false, false, false, true]);
        let named = Revocation { revoked: Revoked::Token("t-3".into()), at: 10 };
        assert_eq!(connections.revoke([named], 10), Ok(2), "those that were covered before are still there");
        assert!(rechecks(&other));
    }
}
