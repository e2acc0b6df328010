//! What an instance asks of all others, and what each answers: operations on connections, whichever instance has them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What is asked of every instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterAsk {
    /// Which connections there are.
    List {
        /// The connections.
        which: Which,
        /// The most that one answer lists; it counts all.
        limit: usize,
    },
    /// To end connections.
    Disconnect {
        /// The connections.
        which: Which,
        /// Whether their clients may come back by themselves.
        reconnect: bool,
        /// A sentence for whoever is disconnected.
        reason: Arc<str>,
    },
    /// To refuse credentials from now on, and to end what they were given.
    Revoke(Revocation),
}

/// Says that credentials hold no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Which.
    pub revoked: Revoked,
    /// Since when, in seconds since 1970.
    pub at: u64,
}

/// Which credentials hold no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Revoked {
    /// All tokens of the user that were not surely issued later.
    User(Arc<str>),
    /// The token of this name.
    Token(Arc<str>),
}

/// Connections of one or of all instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// All of them.
    Every,
    /// Those of a user; the empty name is that of anonymous ones.
    OfUser(Arc<str>),
    /// The one that `hello` called so.
    Session(Arc<str>),
}

/// What one instance answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterAnswer {
    /// The connections that were asked for, of this instance; where they were to end, the order is given.
    pub count: u64,
    /// The first of them, where they were to be listed.
    pub connections: Vec<ConnectionInfo>,
}

/// A connection, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// What `hello` called it.
    pub session: String,
    /// Whose it is: empty for an anonymous one, `None` before it said so.
    pub user: Option<Arc<str>>,
    /// How it is connected.
    pub transport: Transport,
    /// When it connected, in milliseconds since 1970.
    pub since: u64,
    /// The channels that it is attached to.
    pub channels: u32,
}

/// How a subscriber is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// A stream of server-sent events.
    Sse,
}
