//! The tidings wire protocol: what is said over a connection or a request, and the rules both ends follow.
//!
//! `protocol/README.md` is the specification; rules are cited by number (R1, R2 …). Nothing here knows of a runtime, a socket or a clock.

mod channel;
mod cluster;
mod code;
mod codec;
mod command;
mod continuity;
mod frame;
mod inquiry;
mod ledger;
mod mutation;
mod position;
mod presence;
mod publication;
mod tag;
mod watch;

pub use channel::{Channel, ChannelInvalid};
pub use cluster::{
    Alike, Beacon, ClusterMessage, FORMAT, InstanceInfo, StoredInvalid, decode_stored, encode_stored,
};
pub use code::{CloseCode, Code, Problem};
pub use codec::{
    CommandRefused, MutationDraft, decode_command, decode_frame, decode_invalidation, decode_mutations,
    decode_publish, encode_command, encode_frame, log_of, tags_of,
};
pub use command::{Ack, Command, HistoryCommand, PublishCommand, SubscribeCommand, TokenText};
pub use continuity::{Continuity, Outstanding, Reaction};
pub use frame::{
    BatchFrame, COMMAND_BYTES_MIN, ContinuedFrame, DegradedFrame, DisconnectFrame, Envelope, ErrorFrame,
    Frame, GapFrame, GapReason, HelloFrame, HistoryFrame, PublishedFrame, RefreshedFrame, RestoredFrame,
    SubscribedFrame, UnsubscribedFrame,
};
pub use inquiry::{ClusterAnswer, ClusterAsk, ConnectionInfo, Revocation, Revoked, Transport, Which};
pub use ledger::{Effect, Freshness, LeaseClock, Ledger, Reading, Stored, Watch};
pub use mutation::{
    Invalidation, MutateCommand, Mutation, Mutations, Operation, Row, decode_tags, encode_tags,
};
pub use position::{Epoch, Offset, Position, PositionInvalid};
pub use presence::{PresenceChange, PresenceChanges, PresenceFrame, PresenceMember, PresenceMembers};
pub use publication::{Payload, PayloadInvalid, Publication};
pub use tag::{LogName, LogNameInvalid, Tag, TagInvalid};
pub use watch::{
    AtFrame, InvalidatedFrame, ResetFrame, ResetReason, ResetScope, UnwatchCommand, WatchCommand, WatchGroup,
    WatchedFrame,
};

/// The subprotocol of text frames that carry JSON.
pub const SUBPROTOCOL_JSON: &str = "tidings.v1.json";

/// The largest integer that every JSON reader can hold exactly: 2^53 - 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
