//! How long a client may serve what it holds without asking, on its own clock (R62, R63).

use std::collections::BTreeSet;

/// Pings that may be unanswered; three are sent in a lease, so older ones could renew nothing.
const PINGS_MAX: usize = 16;

/// The two clocks do not tick together: a wall clock that is ahead by no more, in milliseconds, since they were last read has
/// not slept. Without that, a clock that is read often would add up the larger of every two roundings.
const TICK: u64 = 16;

/// A client's clock for leases, made of two clocks that may each stand still: the monotonic one while the machine sleeps,
/// the wall clock while somebody sets it back.
///
/// It never goes back, and advances by whatever is clearly more. So no lease outlives a sleep.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseClock {
    seen: Option<(u64, u64)>,
    now: u64,
}

impl LeaseClock {
    /// The time in milliseconds, given what the two clocks say now, in milliseconds since whenever.
    pub fn read(&mut self, monotonic: u64, wall: u64) -> u64 {
        let (monotonic_before, wall_before) =
            self.seen.replace((monotonic, wall)).unwrap_or((monotonic, wall));
        let passed = monotonic.saturating_sub(monotonic_before);
        let ahead = wall.saturating_sub(wall_before).saturating_sub(passed);
        self.now += if ahead > TICK { passed + ahead } else { passed };
        self.now
    }
}

/// The lease of one log on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    duration: u64,
    until: u64,
    /// The `c` of the last ping of this connection.
    last_ping: Option<u64>,
    /// The `c` of pings of this connection that were not echoed yet.
    pings: BTreeSet<u64>,
}

impl Lease {
    /// No lease yet, on a new connection whose leases last so many milliseconds.
    pub(super) fn new(duration: u64) -> Lease {
        Lease { duration, ..Lease::default() }
    }

    /// A ping was sent.
    pub(super) fn pinged(&mut self, c: u64) {
        self.last_ping = Some(c);
        self.pings.insert(c);
        if self.pings.len() > PINGS_MAX {
            self.pings.pop_first();
        }
    }

    /// The server confirmed where the log stands after this ping arrived. What was never sent renews nothing: false.
    pub(super) fn echoed(&mut self, c: u64) -> bool {
        let is_known = self.pings.contains(&c);
        if is_known {
            self.until = self.until.max(c + self.duration);
            self.pings = self.pings.split_off(&(c + 1));
        }
        is_known
    }

    /// The `c` of the last ping; `None` before the first.
    pub(super) fn last_ping(&self) -> Option<u64> {
        self.last_ping
    }

    /// When it ends, on the client's clock; 0 where there is none.
    pub(super) fn until(&self) -> u64 {
        self.until
    }
}
