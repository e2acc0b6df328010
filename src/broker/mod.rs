//! The broker stores what is published, gives it positions, and tells every node that listens.
//!
//! # Contract
//! - `publish` is one atomic step: the key is looked up, the next offset taken, the publication stored and announced.
//!   Two publishes of a channel are announced in the order of their offsets.
//! - An announcement may be lost; whoever loses one says [`BrokerEvent::Lost`] as soon as it knows.
//! - `history` never returns less than what was acknowledged before it was called, or says why (a gap, a new epoch).
//!   `resume` may return less to somebody who listens: what is missing at the end is announced, or said to be lost.
//! - Who enters or exits a channel is announced on the channel's companion ([`Channel::presence`]), in the order of the
//!   channel. A member may be announced to enter or exit once more than it did, and never once less: what is said last of
//!   a session holds.
//! - An error says whether the publication is surely not stored ([`BrokerError::Unavailable`] and the refusals) or perhaps
//!   ([`BrokerError::OutcomeUnknown`]).

mod alike;
mod attendance;
mod card;
mod epochs;
mod intake;
mod memory;
mod peers;
mod redis;
mod retentions;
mod roster;
mod store;
mod streams;
mod wanted;

pub use alike::alike;
pub use attendance::Attendance;
pub use card::InstanceCard;
pub use intake::{Intake, IntakeLimits, IntakeRead, Interest};
pub use memory::MemoryBroker;
pub use peers::{Heard, Peer, Peers};
#[cfg(feature = "ablation")]
pub use redis::read_redis_answers;
pub use redis::{RedisBroker, RedisRefused};
pub use retentions::Retentions;
pub use roster::{Roster, Update};
pub use store::{Publisher, Store, StoreLimits, Stored};
pub use wanted::Wanted;

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, ready};
use tidings_protocol::{
    Channel, ClusterMessage, Code, Epoch, LogName, MutateCommand, Position, PresenceMember, PresenceMembers,
    Problem, Publication, PublishCommand, Revocation,
};

use crate::freshness::Snapshot;
use crate::hub::{BrokerServers, BrokerState, Page, PageLimit, Published};
use crate::limits::{Caller, Refused};

/// Stores and announces publications. See the module for what an implementation promises.
pub trait Broker: Send + Sync {
    /// Stores and announces a publication; a repeated idempotency key gets the first answer again. What is stored of it in
    /// this process is counted to the caller.
    fn publish(
        &self,
        command: PublishCommand,
        caller: Caller,
    ) -> BoxFuture<'_, Result<Published, BrokerError>>;

    /// What the channel holds after `since`; `None` for a volatile channel.
    fn history(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>>;

    /// What the channel holds after `since`, or without it where the channel stands, for somebody who listens to it
    /// already. The answer may end before what was acknowledged last: the rest will be announced. With a gap it need not
    /// hold any publications.
    fn resume(
        &self,
        channel: Channel,
        since: Option<Position>,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Option<Page>, BrokerError>>;

    /// Whether what is published on the channel is to be announced here. The last call holds: nothing is counted, and the
    /// broker works until it is so, however long that takes. Never waits.
    ///
    /// For a channel that is wanted, returns what to wait for: once [`BrokerEvent::Listening`] came with this number or a
    /// higher one, what is published on the channel is announced here. `None` where it is so already.
    fn set_interest(&self, channel: &Channel, wanted: bool) -> Option<u64>;

    /// Channels that hold something, with their heads, in no particular order; at most `limit`.
    fn channels(&self, limit: usize) -> BoxFuture<'_, Result<ChannelHeads, BrokerError>>;

    /// Writes a mutation into its log: one atomic step with the log's version table. The event is announced on the log's
    /// channel ([`tidings_protocol::LogName::channel`]), which can be listened to and read like any other, and is kept in the form of
    /// [`tidings_protocol::encode_tags`], with the idempotency key as its id.
    fn mutate(&self, command: MutateCommand, caller: Caller)
    -> BoxFuture<'_, Result<Published, BrokerError>>;

    /// The log as it stands, with every mutation that was acknowledged before, or under a new epoch.
    fn snapshot(&self, log: &LogName) -> BoxFuture<'_, Result<Snapshot, BrokerError>>;

    /// Where the log stands, with every mutation that was acknowledged before this was called, or under a new epoch; and where
    /// replicas are configured, they have confirmed that nobody else writes it.
    fn confirm(&self, log: &LogName) -> BoxFuture<'_, Result<Position, BrokerError>>;

    /// The member is in the channel, until it exits or this instance dies. Returns when that is known to all, or could not be
    /// made known: then it is tried again, for as long as it is true.
    fn enter(&self, channel: &Channel, member: PresenceMember) -> BoxFuture<'_, ()>;

    /// The member that entered is in the channel no more. Returns likewise.
    fn exit(&self, channel: &Channel, session: &Arc<str>) -> BoxFuture<'_, ()>;

    /// Who is in the channel, on all instances; at most `limit` of them.
    fn members(&self, channel: &Channel, limit: usize)
    -> BoxFuture<'_, Result<PresenceMembers, BrokerError>>;

    /// Tells all instances something, this one too, by [`BrokerEvent::Told`]. It may be lost on its way to any of them;
    /// an error but [`BrokerError::OutcomeUnknown`] says that it surely was, on every way.
    fn tell(&self, message: ClusterMessage) -> BoxFuture<'_, Result<(), BrokerError>>;

    /// The instances that were heard of, this one among them as soon as it heard itself; each once, in no particular order.
    fn peers(&self) -> Vec<Peer>;

    /// Keeps revocations for those who ask later, until no token lives any more that they refuse. A broker that no other
    /// instance shares keeps none: this one remembers them itself.
    fn revoke(&self, revocations: Vec<Revocation>) -> BoxFuture<'_, Result<(), BrokerError>> {
        drop(revocations);
        ready(Ok(())).boxed()
    }

    /// All revocations that are kept; `None` where no other instance could have made one.
    fn revoked(&self, known: Option<&str>) -> BoxFuture<'_, Result<Option<RevokedSince>, BrokerError>> {
        let _known = known;
        ready(Ok(None)).boxed()
    }

    /// What callers of this instance hold of the broker's bounded resources in this process.
    fn usage(&self) -> Vec<Usage> {
        Vec::new()
    }

    /// This instance is about to end: those that share the broker need not wonder why it falls silent.
    fn leave(&self) -> BoxFuture<'_, ()>;

    /// Whether the broker can be reached. A broker announces each change of it by [`BrokerEvent::State`].
    fn state(&self) -> BrokerState;

    /// The servers that the broker consists of. While some are lost, only the channels that they hold cannot be used.
    fn servers(&self) -> BrokerServers {
        BrokerServers { lost: usize::from(!self.state().is_up()), of: 1 }
    }

    /// Why nothing can be stored at the moment in a broker that can be read.
    fn refusal(&self) -> Option<String> {
        None
    }

    /// What the broker is called in health reports, and to clients.
    fn name(&self) -> &'static str;
}

/// How much of a bounded resource is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The key in `[limits]`.
    pub limit: &'static str,
    /// What is held by all callers.
    pub used: usize,
    /// All there is.
    pub total: usize,
}

/// Channels with their heads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelHeads {
    /// In no particular order.
    pub heads: Vec<(Channel, Position)>,
    /// Whether there are, or may be, others that are not listed.
    pub more: bool,
}

/// What a broker keeps of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedSince {
    /// Tells this state from any other.
    pub stamp: String,
    /// All of them; `None` where they are as they were at the stamp that was given.
    pub all: Option<Vec<Revocation>>,
}

/// What a broker announces.
#[derive(Clone, Debug)]
pub enum BrokerEvent {
    /// A publication, in the order of the channel.
    Publication {
        /// Where.
        channel: Channel,
        /// The numbering that its offset belongs to; `None` for a volatile channel.
        epoch: Option<Epoch>,
        /// What.
        publication: Arc<Publication>,
    },
    /// The broker listens to a channel, as it was asked to by the call of [`Broker::set_interest`] of that number.
    Listening {
        /// The channel.
        channel: Channel,
        /// The number of the last such call that the broker had taken in.
        number: u64,
    },
    /// Announcements of this channel may have been lost.
    Lost(Channel),
    /// Something went wrong that may have cost announcements. Nothing is asked of who hears it: what the broker cannot
    /// make good it says by `Lost`.
    Interrupted(Interruption),
    /// What an instance told all.
    Told(ClusterMessage),
    /// The broker was lost, or is back. While it is lost, what needs it fails as [`BrokerError::Unavailable`].
    State(BrokerState),
}

/// What may cost announcements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The connection that announcements come by was lost; there is another one.
    LinkLost,
    /// More came than could be taken in.
    Lag,
    /// A beacon is missing: what was announced around it may be, too.
    BeaconMissed,
    /// Another instance fell silent.
    Silence,
    /// Something was announced that no instance announces.
    Garbage,
    /// Another instance keeps the history of a channel otherwise than this one.
    Foreign,
}

impl Interruption {
    /// What it is called among the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Interruption::LinkLost => "link_lost",
            Interruption::Lag => "lag",
            Interruption::BeaconMissed => "beacon_missed",
            Interruption::Silence => "silence",
            Interruption::Garbage => "garbage",
            Interruption::Foreign => "foreign",
        }
    }
}

/// Why a broker did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Surely nothing was stored: the broker cannot be reached.
    #[error("the broker cannot be reached; nothing was stored: try again later")]
    Unavailable,
    /// Surely nothing was stored: those who announce are behind.
    #[error("more was published than can be announced; nothing was stored: slow down and try again")]
    Overloaded,
    /// Perhaps it was stored.
    #[error("the broker did not answer in time; a retry with the same idempotency key is safe")]
    OutcomeUnknown,
    /// It was stored there, and too few replicas confirmed it in time.
    #[error("the publication is stored, but too few replicas confirmed it: it may be lost with the primary")]
    ReplicationUnconfirmed(Option<Box<Position>>),
    /// The asked level of acknowledgement does not exist here.
    #[error("ack \"replicated\" needs a broker with replicas: ask for \"stored\"")]
    AckNotPossible,
    /// The idempotency key was used for other data.
    #[error("the idempotency key was used for other data on this channel: use a new key")]
    IdempotencyMismatch,
    /// No more channels can exist, or the caller has made its share of them.
    #[error("{}", .0.message("limits.channels_max", "channels"))]
    TooManyChannels(Refused),
    /// No more revocations can be remembered.
    #[error("limits.revocations_max revocations are remembered: take the user's rights away at the source")]
    TooManyRevocations,
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Problem {
        let code = match &error {
            BrokerError::Unavailable => Code::BrokerUnavailable,
            BrokerError::Overloaded => Code::Overloaded,
            BrokerError::OutcomeUnknown => Code::OutcomeUnknown,
            BrokerError::ReplicationUnconfirmed(_) => Code::ReplicationUnconfirmed,
            BrokerError::AckNotPossible => Code::AckNotPossible,
            BrokerError::IdempotencyMismatch => Code::IdempotencyMismatch,
            BrokerError::TooManyChannels(_) | BrokerError::TooManyRevocations => Code::LimitReached,
        };
        let mut problem = Problem::new(code, error.to_string());
        if let BrokerError::ReplicationUnconfirmed(position) = error {
            problem.position = position;
        }
        problem
    }
}
