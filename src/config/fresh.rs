//! `[fresh]`: how long a client may trust what it was told of its tags.

use std::time::Duration;

use super::kind::Count;
use super::section::section;

section! {
    /// Clients that watch tags serve what they hold without asking as long as they have a lease.
    pub struct FreshConfig: Single "fresh" {
        /// How long a lease lasts. Shorter: less time in which a client that was cut off serves what is stale. Longer: fewer
        /// pings, three in this time from each client that watches.
        lease: Duration = "15s" in "1s" to "10m";
        /// Values read again per second, by all clients of an instance, after something was touched that many of them watch:
        /// they are asked to spread their reads so far that no more come.
        refetch_rate: usize as Count = 2_000 in 1 to 10_000_000;
        /// The longest time over which they are asked to spread them.
        refetch_spread_max: Duration = "5s" in "0s" to "1m";
    }
}
