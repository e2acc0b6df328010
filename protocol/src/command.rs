//! What a client says on a connection.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Channel, Payload, Position};

/// How much must be known before a publish is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// Nothing: the answer says only that the request was understood.
    None,
    /// The broker has it.
    #[default]
    Stored,
    /// A replica of the broker has it too.
    Replicated,
}

/// One command. The `id` that asks for a reply travels beside it.
#[derive(Clone, Debug)]
pub enum Command {
    /// Presents a credential on a connection that brought none.
    Connect {
        /// A JWT or an API key.
        token: String,
    },
    /// Replaces the credential by a later one of the same user.
    Refresh {
        /// A JWT.
        token: String,
    },
    /// Asks for a channel's publications.
    Subscribe(SubscribeCommand),
    /// Ends a subscription.
    Unsubscribe {
        /// The channel to leave.
        channel: Channel,
    },
    /// Publishes.
    Publish(PublishCommand),
    /// Reads what a channel keeps.
    History(HistoryCommand),
    /// Asks who is in a channel.
    Presence {
        /// The channel asked about.
        channel: Channel,
    },
    /// The client's own probe; `pong` carries `c` back.
    Ping {
        /// Anything; clients send their clock in milliseconds.
        c: u64,
    },
}

/// Asks for a channel's publications, from now on or from after `since`.
#[derive(Clone, Debug)]
pub struct SubscribeCommand {
    /// The channel.
    pub channel: Channel,
    /// The last position that the client has.
    pub since: Option<Position>,
}

/// Publishes on a channel.
#[derive(Clone, Debug)]
pub struct PublishCommand {
    /// The channel.
    pub channel: Channel,
    /// The data.
    pub payload: Payload,
    /// What conflation by key groups it by.
    pub key: Option<Arc<str>>,
    /// Shown to subscribers.
    pub id: Option<Arc<str>>,
    /// Makes retries safe; not shown to subscribers.
    pub idempotency_key: Option<Arc<str>>,
    /// What must be known before the reply.
    pub ack: Ack,
}

/// Reads what a channel keeps: after `since`, or the newest.
#[derive(Clone, Debug)]
pub struct HistoryCommand {
    /// The channel.
    pub channel: Channel,
    /// The last position that the client has.
    pub since: Option<Position>,
    /// The most publications wanted.
    pub limit: Option<usize>,
}
