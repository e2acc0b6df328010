//! What the server says on a connection.

use std::sync::Arc;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    Ack, AtFrame, Channel, Code, Epoch, InvalidatedFrame, LogName, Offset, Position, PresenceFrame,
    Publication, ResetFrame, WatchedFrame,
};

/// A frame, and the `id` of the command that it answers.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The command's id; `None` where nobody asked.
    pub id: Option<u64>,
    /// What is said.
    pub frame: Frame,
}

/// One frame; its name is the one key of the JSON form.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The connection is ready; comes first.
    Hello(HelloFrame),
    /// A subscription begins.
    Subscribed(SubscribedFrame),
    /// A subscription ended.
    Unsubscribed(UnsubscribedFrame),
    /// Publications, in order.
    Batch(BatchFrame),
    /// Publications are lost for this client; what follows starts after `position`.
    Gap(GapFrame),
    /// The numbering changed and nothing was lost.
    Continued(ContinuedFrame),
    /// The server has lost a part that it depends on; the connection stays.
    Degraded(DegradedFrame),
    /// The part is back.
    Restored(RestoredFrame),
    /// A publish was accepted.
    Published(PublishedFrame),
    /// What the channel keeps.
    History(HistoryFrame),
    /// Who is in a channel, or who came and went.
    Presence(PresenceFrame),
    /// Tags are watched.
    Watched(WatchedFrame),
    /// Some are not any more.
    Unwatched {},
    /// Watched tags were touched.
    Invalidated(InvalidatedFrame),
    /// Where a log stands.
    At(AtFrame),
    /// What is watched may have been touched without a word.
    Reset(ResetFrame),
    /// The new credential is in force.
    Refreshed(RefreshedFrame),
    /// A command failed; the connection goes on.
    Error(ErrorFrame),
    /// The answer to `ping`.
    Pong {
        /// As it came.
        c: u64,
    },
    /// The connection is about to be closed.
    Disconnect(DisconnectFrame),
}

/// What a client must know of the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HelloFrame {
    /// Names this connection in logs.
    pub session: String,
    /// The server pings this often, in milliseconds.
    pub ping_interval_ms: u64,
    /// The server closes a connection that was silent for this long, in milliseconds.
    pub timeout_ms: u64,
    /// The window of batches where the namespace says nothing else, in milliseconds.
    pub batch_ms: u64,
    /// How long a confirmed head lets a client serve what it watches without asking, in milliseconds.
    pub lease_ms: u64,
    /// The most bytes of one publication's data.
    pub message_bytes_max: usize,
    /// The most bytes of one command, as it is sent.
    #[serde(default = "command_bytes_min")]
    pub command_bytes_max: usize,
}

/// Every server takes commands of 64 KiB, however small the publications that it takes.
pub const COMMAND_BYTES_MIN: usize = 64 << 10;

fn command_bytes_min() -> usize {
    COMMAND_BYTES_MIN
}

/// A subscription begins after `position`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubscribedFrame {
    /// The channel.
    pub channel: Channel,
    /// Where the subscription stands once `publications` are read; `None` for a channel without history.
    pub position: Option<Position>,
    /// Whether everything after the asked position is in `publications` or still to come; only where `since` was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// Whether the client must ask on with `history` before batches come.
    pub more: bool,
    /// What was missed.
    pub publications: Vec<Arc<Publication>>,
}

/// A subscription ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnsubscribedFrame {
    /// The channel.
    pub channel: Channel,
    /// Why, where the client did not ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// Publications of one channel, every offset from `first` to `last` covered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchFrame {
    /// The channel.
    pub channel: Channel,
    /// The numbering; absent, like the offsets, for a channel without history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The first offset covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Offset>,
    /// The last offset covered; the client's position from now on. Absent where it follows from the count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Offset>,
    /// The publications; their offsets count up from `first` where they carry none.
    #[serde(serialize_with = "without_offsets")]
    pub publications: Vec<Arc<Publication>>,
}

fn without_offsets<S: Serializer>(
    publications: &[Arc<Publication>],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    struct Plain<'a>(&'a Publication);

    impl Serialize for Plain<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.0.serialize_with(None, serializer)
        }
    }

    let mut seq = serializer.serialize_seq(Some(publications.len()))?;
    for publication in publications {
        seq.serialize_element(&Plain(publication))?;
    }
    seq.end()
}

/// Why publications are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// History no longer reaches back to the position.
    Trimmed,
    /// The channel's numbering began anew.
    Epoch,
    /// Publications are missing that nobody here can supply.
    Lost,
    /// More had to wait for this client than may wait.
    Overflow,
    /// The cursor could not be read.
    Cursor,
}

impl GapReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            GapReason::Trimmed => "trimmed",
            GapReason::Epoch => "epoch",
            GapReason::Lost => "lost",
            GapReason::Overflow => "overflow",
            GapReason::Cursor => "cursor",
        }
    }
}

/// Publications are lost for this client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GapFrame {
    /// The channel.
    pub channel: Channel,
    /// Why.
    pub reason: GapReason,
    /// Where the subscription goes on: what comes next follows it.
    pub position: Option<Position>,
}

/// A numbering changed, and this client missed nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContinuedFrame {
    /// The channel, if it is a channel's numbering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Channel>,
    /// The mutation log, if it is a log's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ns: Option<LogName>,
    /// Of a channel, the last position delivered on this connection; of a log, the last position that both numberings share
    /// as far as this connection was told.
    pub from: Position,
    /// The same place in the new numbering.
    pub position: Position,
}

/// The server has lost a part that it depends on (R44).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DegradedFrame {
    /// The part.
    pub component: String,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
}

/// The part is back (R44).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredFrame {
    /// The part.
    pub component: String,
}

/// A publish was accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishedFrame {
    /// The publication's place; `None` for a channel without history, or where nothing is known.
    pub position: Option<Position>,
    /// What is known.
    pub ack: Ack,
    /// Whether it was there before, under the same idempotency key (R39).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// What a channel keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryFrame {
    /// Publications in order, each with its offset.
    pub publications: Vec<Arc<Publication>>,
    /// The last publication given, or where the reader stands if there was none.
    pub position: Position,
    /// Whether there is more after it.
    pub more: bool,
    /// Why what is given does not continue `since`; only where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapReason>,
}

/// A new credential is in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefreshedFrame {
    /// When it expires, in seconds since 1970.
    pub exp: u64,
}

/// A command failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// What went wrong.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// Where the publication was stored that went wrong after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// The connection is about to be closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DisconnectFrame {
    /// The number of the close frame that follows.
    pub code: u16,
    /// The close frame's reason.
    pub reason: String,
    /// Whether to come back.
    pub reconnect: bool,
    /// How long to wait first, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}
