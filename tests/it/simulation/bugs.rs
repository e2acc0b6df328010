//! Defects put in on purpose, to see that the checker sees them.

use crate::history::checker::Kind;

/// A defect of the simulated driver: of the broker, the instance, the transport or the client around the real machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The broker forgets idempotency keys.
    DuplicateOnRetry,
    /// The broker starts anew under the old epoch.
    EpochForgotten,
    /// The broker acknowledges some publishes before it stores them, and then does not.
    AckBeforeStore,
    /// The broker gives an offset a second time.
    OffsetReused,
    /// The broker says that it refused what it stored.
    RefusedButStored,
    /// The broker reads history from one publication too late.
    OffByOneAtResume,
    /// A session reads before its channel is announced for certain.
    ListenUnconfirmed,
    /// The node does not hear that a connection ended.
    EndUnheard,
    /// The node ignores that announcements were lost.
    LossIgnored,
    /// The node forgets to wake a connection.
    LostWakeUp,
    /// The transport drops a frame for which the link has no room.
    DropOnFullQueue,
    /// A stream's cursor is written before what it covers.
    CursorTooEarly,
    /// The client does not tell of gaps.
    GapSwallowed,
}

impl Bug {
    /// Every defect, with what the checker must call it.
    pub(crate) const ALL: [(Bug, Kind); 13] = [
        (Bug::DuplicateOnRetry, Kind::TwoOffsets),
        (Bug::EpochForgotten, Kind::TwoPayloads),
        (Bug::AckBeforeStore, Kind::TwoPayloads),
        (Bug::OffsetReused, Kind::TwoPayloads),
        (Bug::RefusedButStored, Kind::FailedButDelivered),
        (Bug::OffByOneAtResume, Kind::Jump),
        (Bug::ListenUnconfirmed, Kind::Behind),
        (Bug::EndUnheard, Kind::Astray),
        (Bug::LossIgnored, Kind::Behind),
        (Bug::LostWakeUp, Kind::Behind),
        (Bug::DropOnFullQueue, Kind::Jump),
        (Bug::CursorTooEarly, Kind::Jump),
        (Bug::GapSwallowed, Kind::Jump),
    ];
}
