//! What a client says on a connection.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Channel, Code, Payload, Position, Problem, UnwatchCommand, WatchCommand};

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

/// A credential as somebody presents it. `Debug` does not give it away.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TokenText(String);

impl<T: Into<String>> From<T> for TokenText {
    fn from(text: T) -> Self {
        TokenText(text.into())
    }
}

impl Deref for TokenText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(***)")
    }
}

/// One command. The `id` that asks for a reply travels beside it.
#[derive(Clone, Debug)]
pub enum Command {
    /// Presents a credential on a connection that brought none.
    Connect {
        /// A JWT or an API key.
        token: TokenText,
    },
    /// Replaces the credential by a later one of the same user.
    Refresh {
        /// A JWT.
        token: TokenText,
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
        /// The most members wanted.
        limit: Option<usize>,
    },
    /// Asks to be told what touches tags.
    Watch(WatchCommand),
    /// Takes some of that back.
    Unwatch(UnwatchCommand),
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
    /// Whether it wants to hear who comes and goes, too.
    pub presence: bool,
    /// A token for this one channel, where the connection's own credential does not grant it.
    pub token: Option<TokenText>,
}

impl SubscribeCommand {
    /// A subscription from now on, or from after `since`.
    pub fn new(channel: Channel, since: Option<Position>) -> Self {
        SubscribeCommand { channel, since, presence: false, token: None }
    }
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

impl PublishCommand {
    /// The most bytes of an id, a key or an idempotency key.
    pub const NAME_BYTES_MAX: usize = 255;

    /// Whether the publish is within the limits (R23).
    pub fn check(&self, message_bytes_max: usize) -> Result<(), Problem> {
        let bytes = self.payload.as_bytes().len();
        if bytes > message_bytes_max {
            let message = format!("the data has {bytes} bytes, the limit is {message_bytes_max}");
            return Err(Problem::new(Code::TooLarge, message));
        }
        let names = [("id", &self.id), ("key", &self.key), ("idempotency_key", &self.idempotency_key)];
        for (field, name) in names {
            let length = name.as_ref().map_or(1, |name| name.len());
            if !(1..=Self::NAME_BYTES_MAX).contains(&length) {
                let message =
                    format!("`{field}` has 1 to {} bytes, this one has {length}", Self::NAME_BYTES_MAX);
                return Err(Problem::new(Code::BadRequest, message));
            }
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_gives_its_token_away() {
        let token = || TokenText::from("canary");
        let channel = Channel::parse("a").unwrap();
        let subscribe = SubscribeCommand { token: Some(token()), ..SubscribeCommand::new(channel, None) };
        for command in [
            Command::Connect { token: token() },
            Command::Refresh { token: token() },
            Command::Subscribe(subscribe),
        ] {
            let text = format!("{command:?}");
            assert!(text.contains("***") && !text.contains("canary"), "{text}");
        }
        assert_eq!(&*token(), "canary");
    }
}
