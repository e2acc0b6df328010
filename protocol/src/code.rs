//! Every error that tidings can answer with: one registry of slugs and one of close codes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Position;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $slug:literal, $status:literal, $retry:literal;)+) => {
        /// What went wrong, in a word that stays the same over releases (R30).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $slug)] $name,)+
        }

        impl Code {
            /// Every code, in the order of the specification's table.
            pub const ALL: &[Code] = &[$(Code::$name,)+];

            /// The word on the wire.
            pub fn slug(self) -> &'static str {
                match self { $(Code::$name => $slug,)+ }
            }

            /// The HTTP status that carries it.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)+ }
            }

            /// Whether the same request may succeed later without a change.
            pub fn retryable(self) -> bool {
                match self { $(Code::$name => $retry,)+ }
            }

            /// What it means and who must act.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

codes! {
    /// The request or its options cannot be understood.
    BadRequest = "bad_request", 400, false;
    /// The frame is no command: not JSON, a wrong type, two commands, or a server's frame.
    BadFrame = "bad_frame", 400, false;
    /// The frame names a command that this server does not have.
    UnknownCommand = "unknown_command", 400, false;
    /// The body is not JSON.
    InvalidJson = "invalid_json", 400, false;
    /// No credential, or one that does not hold.
    Unauthorized = "unauthorized", 401, false;
    /// The token was good and has expired: come back with a new one.
    TokenExpired = "token_expired", 401, true;
    /// The page's origin is not in `server.allowed_origins`.
    OriginNotAllowed = "origin_not_allowed", 403, false;
    /// The credential does not grant this on this channel.
    ChannelNotAllowed = "channel_not_allowed", 403, false;
    /// The credential does not grant this on this tag.
    TagNotAllowed = "tag_not_allowed", 403, false;
    /// The credential does not grant this operation.
    OperationNotAllowed = "operation_not_allowed", 403, false;
    /// There is nothing at this path.
    NotFound = "not_found", 404, false;
    /// The path exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, false;
    /// The channel keeps no history.
    HistoryDisabled = "history_disabled", 409, false;
    /// The channel tracks no presence.
    PresenceDisabled = "presence_disabled", 409, false;
    /// The asked level of acknowledgement does not exist here.
    AckNotPossible = "ack_not_possible", 409, false;
    /// The connection already holds this subscription.
    AlreadySubscribed = "already_subscribed", 409, false;
    /// The connection holds no such subscription.
    NotSubscribed = "not_subscribed", 409, false;
    /// The data or the body is larger than allowed.
    TooLarge = "too_large", 413, false;
    /// The request carries more items than allowed.
    TooManyItems = "too_many_items", 413, false;
    /// The body's type or encoding is not supported.
    UnsupportedMediaType = "unsupported_media_type", 415, false;
    /// The channel's name is outside the grammar.
    ChannelInvalid = "channel_invalid", 422, false;
    /// A tag outside the grammar.
    TagInvalid = "tag_invalid", 422, false;
    /// The data has a number that no double can hold.
    NumberOutOfRange = "number_out_of_range", 422, false;
    /// Text that is not UTF-8.
    InvalidUtf8 = "invalid_utf8", 422, false;
    /// The idempotency key was used for other data.
    IdempotencyMismatch = "idempotency_mismatch", 422, false;
    /// The path is for WebSockets, and the request asks for none.
    UpgradeRequired = "upgrade_required", 426, false;
    /// A header block larger than allowed.
    HeadersTooLarge = "headers_too_large", 431, false;
    /// Too many requests in too short a time.
    RateLimited = "rate_limited", 429, true;
    /// A configured bound is reached.
    LimitReached = "limit_reached", 429, true;
    /// A defect of the server.
    Internal = "internal", 500, true;
    /// The broker cannot be reached; the publication is surely not stored.
    BrokerUnavailable = "broker_unavailable", 503, true;
    /// Stored, but no replica confirmed it in time; the position says where.
    ReplicationUnconfirmed = "replication_unconfirmed", 503, true;
    /// The server takes no more work at the moment.
    Overloaded = "overloaded", 503, true;
    /// The server is shutting down.
    Draining = "draining", 503, true;
    /// Whether the publication was stored is unknown; a retry with the same idempotency key is safe.
    OutcomeUnknown = "outcome_unknown", 504, true;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// A code with its circumstances: what happened, what was seen, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What went wrong.
    pub code: Code,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// Where the publication was stored that went wrong after that.
    pub position: Option<Box<Position>>,
}

impl Problem {
    /// A problem with its sentence.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Problem {
        Problem { code, message: bounded(message.into()), position: None }
    }
}

/// The most bytes of a sentence. What was seen is told, but nobody gets all that they sent sent back.
const MESSAGE_BYTES_MAX: usize = 500;

fn bounded(message: Cow<'static, str>) -> Cow<'static, str> {
    match message.len() <= MESSAGE_BYTES_MAX {
        true => message,
        false => format!("{}…", &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)]).into(),
    }
}

/// The code alone, in the registry's words.
impl From<Code> for Problem {
    fn from(code: Code) -> Problem {
        Problem::new(code, code.meaning())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Problem {}

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $slug:literal;)+) => {
        /// Why the server ends a connection (R31). 4000 to 4499 invite to reconnect, 4500 to 4999 forbid it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[doc = $doc])+ $name,)+
        }

        impl CloseCode {
            /// Every close code, in the order of the specification's table.
            pub const ALL: &[CloseCode] = &[$(CloseCode::$name,)+];

            /// The number in the WebSocket close frame.
            pub fn number(self) -> u16 {
                match self { $(CloseCode::$name => $number,)+ }
            }

            /// The word that the close reason starts with.
            pub fn slug(self) -> &'static str {
                match self { $(CloseCode::$name => $slug,)+ }
            }
        }
    };
}

close_codes! {
    /// The client closed, or asked to.
    Normal = 1000, "normal";
    /// Bytes that are no WebSocket traffic.
    ProtocolError = 1002, "protocol_error";
    /// A binary message on a JSON session.
    UnsupportedData = 1003, "unsupported_data";
    /// Text that is not UTF-8.
    InvalidUtf8 = 1007, "invalid_utf8";
    /// A frame or message above the limit.
    TooLarge = 1009, "too_large";
    /// A defect of the server.
    Internal = 1011, "internal";
    /// The server restarts: reconnect after a jittered pause.
    Restart = 1012, "draining";
    /// The server takes no more connections at the moment.
    Overloaded = 1013, "overloaded";
    /// Come back by a new connection: this one is old, or an operator asks for it.
    Reconnect = 4001, "reconnect";
    /// The token expired: reconnect with a new one.
    TokenExpired = 4401, "token_expired";
    /// Nothing was accepted from us for too long.
    SlowConsumer = 4408, "slow_consumer";
    /// Nothing was heard for too long.
    TimedOut = 4409, "timed_out";
    /// More came than is allowed, and went on coming.
    RateLimited = 4429, "rate_limited";
    /// No credential in time, or one that does not hold.
    Unauthorized = 4501, "unauthorized";
    /// An operator ended the connection.
    Disconnected = 4503, "disconnected";
}

impl CloseCode {
    /// Whether the client may come back by itself.
    pub fn reconnect(self) -> bool {
        !matches!(
            self,
            CloseCode::Normal
                | CloseCode::ProtocolError
                | CloseCode::UnsupportedData
                | CloseCode::InvalidUtf8
                | CloseCode::TooLarge
                | CloseCode::Unauthorized
                | CloseCode::Disconnected
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_does_not_send_back_all_that_was_sent() {
        let told = |sent: &str| Problem::new(Code::BadRequest, format!("not {sent}")).message.into_owned();
        assert_eq!(told("this"), "not this");
        let long = told(&"ü".repeat(100_000));
        assert!(long.starts_with("not üü") && long.ends_with("ü…") && long.len() < 510, "{}", long.len());
    }
}
