//! What an operator may know of a connection.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tidings_protocol::{ConnectionInfo, Transport, Which};

use crate::hub::{Credential, Revocations};

/// Whose connection it is, how and since when it is connected, to how many channels, and with what credential; strings are
/// shared with its session.
#[derive(Debug)]
pub struct Profile {
    transport: Transport,
    since: u64,
    channels: AtomicU32,
    identity: Mutex<Option<Identity>>,
    /// It brought a token for a single channel.
    has_passes: AtomicBool,
}

/// Whose it is, and by what it was let in.
#[derive(Debug)]
struct Identity {
    user: Arc<str>,
    credential: Credential,
}

impl Profile {
    /// A connection of nobody yet, made at `since`, in milliseconds since 1970.
    pub fn new(transport: Transport, since: u64) -> Self {
        Profile {
            transport,
            since,
            channels: AtomicU32::new(0),
            identity: Mutex::default(),
            has_passes: AtomicBool::new(false),
        }
    }

    /// Whether it came by an API key of such a name.
    pub(super) fn came_by_key(&self, named: impl Fn(&str) -> bool) -> bool {
        let is_named =
            |known: &Identity| matches!(&known.credential, Credential::ApiKey(name) if named(name));
        self.identity().as_ref().is_some_and(is_named)
    }

    /// Its credential was accepted. A connection stays its first user's: a token of another is refused, but where it was let in
    /// without any.
    pub(super) fn identify(&self, user: &Arc<str>, credential: &Credential) {
        let mut identity = self.identity();
        let is_its_own = |known: &Identity| known.user == *user || known.credential == Credential::Anonymous;
        if identity.as_ref().is_none_or(is_its_own) {
            *identity = Some(Identity { user: user.clone(), credential: credential.clone() });
        }
    }

    /// It brought a token for a single channel.
    pub(super) fn add_pass(&self) {
        self.has_passes.store(true, Ordering::Release);
    }

    /// Whether it may hold something by a token of its own.
    pub(super) fn has_passes(&self) -> bool {
        self.has_passes.load(Ordering::Acquire)
    }

    /// Whether it was let in with a credential that is revoked.
    pub(super) fn is_covered_by(&self, revocations: &Revocations) -> bool {
        self.identity().as_ref().is_some_and(|known| revocations.cover(&known.user, &known.credential))
    }

    fn user(&self) -> Option<Arc<str>> {
        self.identity().as_ref().map(|known| known.user.clone())
    }

    fn identity(&self) -> MutexGuard<'_, Option<Identity>> {
        self.identity.lock().expect("nothing panics while it holds an identity")
    }

    /// It is attached to so many channels.
    pub(super) fn set_channels(&self, channels: usize) {
        self.channels.store(u32::try_from(channels).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether it is one of those, where they are not named one by one.
    pub(super) fn is_of(&self, which: &Which) -> bool {
        match which {
            Which::Every => true,
            Which::OfUser(user) => self.user().as_ref() == Some(user),
            Which::Session(_) => false,
        }
    }

    /// All of it, with the name of the session.
    pub(super) fn info(&self, session: String) -> ConnectionInfo {
        ConnectionInfo {
            session,
            user: self.user(),
            transport: self.transport,
            since: self.since,
            channels: self.channels.load(Ordering::Relaxed),
        }
    }
}
