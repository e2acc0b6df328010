//! Switches that turn single safeguards off, to show that each is needed. They exist only in test builds with the
//! feature `ablation`; everywhere else [`ablated`] is a constant.

/// A safeguard that a test can switch off for its own thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// A subscriber is attached to the hub before its history is read.
    ListenBeforeRead,
    /// A batch is compared with the subscription's position by its range.
    RangeCheck,
    /// A full mailbox remembers which channels missed something.
    GapOnOverflow,
    /// A broker that starts anew begins a new epoch.
    EpochOnRestart,
    /// A write compares the store's replication id with the one that the epoch is bound to.
    Fence,
    /// So does a read.
    ReadFence,
    /// Instances tell each other of the heads they advanced, and notice a missing beacon.
    Beacon,
    /// What was touched since the basis is told when a tag is watched.
    WatchSince,
    /// An instance that misses a mutation asks its log.
    LogRepair,
    /// Another mutation behind the one that does not count is told.
    Exception,
    /// A lease is confirmed by the log itself.
    HeadProbe,
    /// What a log has lost is written again.
    Rewrite,
    /// A channel is of interest to the broker until its last subscriber is detached, whoever else ends before.
    Interest,
    /// What overflowed between the broker's connection and the instance is loss.
    Lag,
}

#[cfg(feature = "ablation")]
mod switch {
    use super::Safeguard;
    use std::cell::Cell;

    thread_local! {
        static OFF: Cell<Option<Safeguard>> = const { Cell::new(None) };
    }

    /// Switches one safeguard off (or none) for this thread.
    pub fn ablate(safeguard: Option<Safeguard>) {
        OFF.set(safeguard);
    }

    /// Whether `safeguard` is switched off.
    pub fn ablated(safeguard: Safeguard) -> bool {
        OFF.get() == Some(safeguard)
    }

    /// The channel whose publications are a defect of the server: what then happens to everybody else is tested.
    pub const DEFECT: &str = "test:defect";

    /// Panics for the channel of that name.
    pub fn defect(channel: &str) {
        assert_ne!(channel, DEFECT, "a defect that a test asked for");
    }
}

#[cfg(not(feature = "ablation"))]
mod switch {
    /// Whether `safeguard` is switched off: never, outside of test builds.
    #[inline(always)]
    pub fn ablated(_: super::Safeguard) -> bool {
        false
    }

    /// Nothing, outside of test builds.
    #[inline(always)]
    pub fn defect(_: &str) {}
}

pub use switch::*;
