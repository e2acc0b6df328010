//! What an operator may know of a connection.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tidings_protocol::{ConnectionInfo, Transport, Which};

use crate::hub::Credential;

/// Whose connection it is, how and since when it is connected, and to how many channels: 64 bytes, and a share of the
/// names.
#[derive(Debug)]
pub struct Profile {
    transport: Transport,
    since: u64,
    channels: AtomicU32,
    user: OnceLock<Arc<str>>,
    /// The name of the API key that it came by.
    key: OnceLock<Arc<str>>,
}

impl Profile {
    /// A connection of nobody yet, made at `since`, in milliseconds since 1970.
    pub fn new(transport: Transport, since: u64) -> Self {
        Profile { transport, since, channels: AtomicU32::new(0), user: OnceLock::new(), key: OnceLock::new() }
    }

    /// Its credential was accepted. A connection stays its first user's: a token of another is refused.
    pub(super) fn identify(&self, user: &Arc<str>, credential: &Credential) {
        self.user.get_or_init(|| user.clone());
        if let Credential::ApiKey(name) = credential {
            self.key.get_or_init(|| name.clone());
        }
    }

    /// The name of the API key that it came by.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.get().map(|name| &**name)
    }

    /// It is attached to so many channels.
    pub(super) fn set_channels(&self, channels: usize) {
        self.channels.store(u32::try_from(channels).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether it is one of those, where they are not named one by one.
    pub(super) fn is_of(&self, which: &Which) -> bool {
        match which {
            Which::Every => true,
            Which::OfUser(user) => self.user.get() == Some(user),
            Which::Session(_) => false,
        }
    }

    /// All of it, with the name of the session.
    pub(super) fn info(&self, session: String) -> ConnectionInfo {
        ConnectionInfo {
            session,
            user: self.user.get().cloned(),
            transport: self.transport,
            since: self.since,
            channels: self.channels.load(Ordering::Relaxed),
        }
    }
}
