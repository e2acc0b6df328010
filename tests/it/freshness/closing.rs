//! What closes the ways in which a cache goes stale, as far as others than the server do it.

use std::fmt;

/// One of them, which a test can leave open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The basis is taken before the read.
    BasisBefore,
    /// What was invalidated while a read was on its way is not stored.
    InFlight,
    /// A client serves without asking only while it holds a lease.
    Lease,
    /// A lease looks at the wall clock too, which goes on while the machine sleeps.
    WallClock,
    /// A mutation is acknowledged once the replica has it.
    Wait,
    /// What was committed by somebody who died then is published by others.
    Outbox,
    /// A mutation is published after its commit.
    CommitFirst,
    /// What is read from a lagging replica of the database has the basis up to which it has applied the log.
    ReplicaBasis,
    /// What is put into a shared cache has the basis of its read.
    SharedBasis,
    /// What comes from an HTTP cache has the basis that it says.
    HeaderBasis,
    /// What the answer to a mutation shows has the position before the transaction as its basis.
    AnswerBasis,
    /// An exception is believed only where the server knows everything between.
    ExceptUnproven,
    /// An answer from before the exception proves nothing.
    ExceptEarly,
    /// A value without tags is not fresh.
    NoTags,
    /// A forced read does not join one that began before.
    ForcedJoins,
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
