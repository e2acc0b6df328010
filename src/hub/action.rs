//! What passes between a session and those who act and write for it.

use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{
    Ack, Channel, CloseCode, Envelope, LogName, Offset, Position, PresenceMembers, Problem, PublishCommand,
    PublishedFrame, Tag, TokenText, WatchGroup,
};

use super::{Batch, ChannelGrant, Grant, Page, PageLimit};

/// A user, and its tenant.
pub type Holder = (Arc<str>, Option<Arc<str>>);

/// What must be done outside; each is answered once.
#[derive(Clone, Debug)]
pub enum Action {
    /// Check a credential.
    Authenticate {
        /// A JWT or an API key.
        token: TokenText,
        /// The user and tenant that it must be of, where it takes the place of another credential: before that is known, nothing
        /// of the connection may change.
        of: Option<Holder>,
    },
    /// Check a token that is for one channel.
    Admit {
        /// A JWT.
        token: TokenText,
    },
    /// Attach to the channel, then read what follows `since` (or where it stands).
    Join {
        /// The channel.
        channel: Channel,
        /// The last position that the client has.
        since: Option<Position>,
        /// The bounds of the answer.
        limit: PageLimit,
        /// Who joins.
        user: Arc<str>,
        /// Attach to the channel's companion first, where its presence is announced.
        presence: bool,
    },
    /// Detach from the channel, and from its companion.
    Leave {
        /// The channel.
        channel: Channel,
    },
    /// Read what follows `since` on a channel that the session is attached to.
    Resume {
        /// The channel.
        channel: Channel,
        /// The last position that the session passed on.
        since: Position,
        /// The bounds of the answer.
        limit: PageLimit,
    },
    /// Read history, with everything that was acknowledged before.
    Read {
        /// The channel.
        channel: Channel,
        /// The last position that the reader has.
        since: Option<Position>,
        /// The bounds of the answer.
        limit: PageLimit,
    },
    /// Read who is in the channel.
    Members {
        /// The channel.
        channel: Channel,
        /// The most members wanted.
        limit: usize,
    },
    /// Publish, in this user's name.
    Publish(PublishCommand),
    /// Watch tags.
    Watch {
        /// The log.
        log: LogName,
        /// The tags.
        groups: Vec<WatchGroup>,
        /// What the session may watch.
        granted: Vec<Tag>,
    },
    /// Take watches back.
    Unwatch {
        /// The log.
        log: LogName,
        /// The tags.
        tags: Vec<Tag>,
        /// Subtrees that are watched in the place of tags.
        escalated: Vec<Tag>,
    },
    /// Take back what is watched and not covered any more.
    Narrow {
        /// The log.
        log: LogName,
        /// What the session may watch.
        granted: Vec<Tag>,
    },
    /// Have it confirmed that everything up to now was told; the logs say so as news.
    Confirm {
        /// The logs.
        logs: Vec<LogName>,
        /// Counts the session's pings.
        ping: u64,
    },
}

/// What became of an action.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Of `Authenticate`.
    Authenticated(Result<Grant, Problem>),
    /// Of `Admit`.
    Admitted(Result<ChannelGrant, Problem>),
    /// Of `Join`; `None` for a volatile channel.
    Joined(Result<Option<Page>, Problem>),
    /// Of `Leave`.
    Left,
    /// Of `Resume` and of `Read`.
    Read(Result<Page, Problem>),
    /// Of `Members`.
    Members(Result<PresenceMembers, Problem>),
    /// Of `Publish`.
    Published(Result<Published, Problem>),
    /// Of `Watch`.
    Watched(Result<Watched, Problem>),
    /// Of `Unwatch`.
    Unwatched,
    /// Of `Narrow`: what is watched no more.
    Narrowed(Vec<Tag>),
    /// Of `Confirm`: it is asked for.
    Asked,
}

/// What is known of tags that a session asked to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// As of here.
    pub at: Position,
    /// Touched since, or perhaps.
    pub stale: Vec<Tag>,
    /// Not watched.
    pub denied: Vec<Tag>,
    /// Watched in place of what is in them.
    pub escalated: Vec<Tag>,
    /// How many watch the one of the stale tags that most watch: they all read again.
    pub watchers: usize,
    /// Reading again should be spread over so many milliseconds.
    pub spread_ms: u64,
}

impl Watched {
    /// Nothing was touched, and nothing refused.
    pub fn nothing(at: Position) -> Self {
        let (stale, denied, escalated) = (Vec::new(), Vec::new(), Vec::new());
        Watched { at, stale, denied, escalated, watchers: 0, spread_ms: 0 }
    }
}

/// What is known of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The publication's place, where the channel has places.
    pub position: Option<Position>,
    /// The level that was reached.
    pub ack: Ack,
    /// Whether it was stored before, under the same idempotency key: this is the first one's answer.
    pub duplicate: bool,
}

impl From<Published> for PublishedFrame {
    fn from(Published { position, ack, duplicate }: Published) -> PublishedFrame {
        PublishedFrame { position, ack, duplicate }
    }
}

/// What must be said.
#[derive(Clone, Debug)]
pub enum Transmit {
    /// A frame of this session alone.
    Frame(Box<Envelope>),
    /// A batch, without what comes before `from`.
    Batch {
        /// Shared with everybody else who gets it.
        batch: Arc<Batch>,
        /// The first offset that the client has not seen; `None` for all.
        from: Option<Offset>,
    },
    /// A sign of life that asks for one.
    Ping,
    /// The last word; nothing follows.
    Close(Close),
}

/// How long a client that found no room should wait before it comes back; `jitter` (0 to 1) spreads those who came together.
pub fn come_back_after(jitter: f64) -> Duration {
    Duration::from_millis(1_000 + (jitter.clamp(0.0, 1.0) * 4_000.0) as u64)
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: CloseCode,
    /// A sentence for people.
    pub message: String,
    /// How long the client should wait before it comes back.
    pub after: Option<Duration>,
}

impl Close {
    /// A close without advice when to come back.
    pub fn new(code: CloseCode, message: impl Into<String>) -> Close {
        Close { code, message: message.into(), after: None }
    }

    /// A close for want of something that will be there again: whoever asks all at once for what is missing must not come
    /// back all at once. `jitter` (0 to 1) spreads the comebacks.
    pub fn for_now(message: impl Into<String>, jitter: f64) -> Close {
        Close { after: Some(come_back_after(jitter)), ..Close::new(CloseCode::Overloaded, message) }
    }

    /// A close of a connection that is as old as any may become.
    pub fn for_age(jitter: f64) -> Close {
        // The client has a place already: only those who came together must not come back together.
        let after = Duration::from_millis((jitter.clamp(0.0, 1.0) * 1_000.0) as u64);
        let message = "the connection is as old as it may become: come back by a new one";
        Close { after: Some(after), ..Close::new(CloseCode::Reconnect, message) }
    }

    /// A close of a peer that goes on though it is refused.
    pub fn for_flood(message: impl Into<String>, jitter: f64) -> Close {
        Close { after: Some(come_back_after(jitter)), ..Close::new(CloseCode::RateLimited, message) }
    }

    /// What the close frame carries: the slug first, at most 123 bytes as RFC 6455 allows.
    pub fn reason(&self) -> String {
        let mut reason = match self.message.is_empty() {
            true => self.code.slug().to_owned(),
            false => format!("{}: {}", self.code.slug(), self.message),
        };
        reason.truncate(reason.floor_char_boundary(123));
        reason
    }
}
