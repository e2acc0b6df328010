//! What a session does when its credential is worth less than it was: revoked, or checked with a key that is gone.

use tidings_protocol::{Code, Problem};

use super::{Session, State};
use crate::hub::{Grant, Revocations};

impl Session {
    /// Credentials were revoked, its own or a channel's perhaps among them.
    pub fn handle_revocations(&mut self, revocations: &Revocations) {
        if self.state == State::Open && revocations.cover(&self.grant.user, &self.grant.credential) {
            return self.turn_away(None, Problem::new(Code::Unauthorized, "the credential was revoked"));
        }
        self.end_revoked_passes(revocations);
    }

    /// The keys and rights of the server are others now: this is what its credential grants by them, and `None` where nothing
    /// vouches for it any more.
    pub fn handle_grant(&mut self, grant: Option<&Grant>) {
        match grant {
            _ if self.state != State::Open => {}
            None => {
                let message = "the key that the credential was checked with is no longer valid";
                self.turn_away(None, Problem::new(Code::Unauthorized, message));
            }
            Some(grant) if *grant != self.grant => self.narrow(grant.clone()),
            Some(_) => {}
        }
    }
}
