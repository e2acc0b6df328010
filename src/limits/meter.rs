//! One limit of one level: a bucket for each name, of which no more are kept than may be.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::{Count, Limited, Name, Scope, Standing};

/// How often the number of buckets is looked at: every so many events. Between two looks it grows by no more.
const LOOK_EVERY: u32 = 64;

/// A limit of a level, for all who are counted there.
pub(super) struct Meter<C: Clock> {
    pub(super) scope: Scope,
    pub(super) count: Count,
    per_second: usize,
    burst: NonZeroU32,
    window: Duration,
    buckets: RateLimiter<Name, DashMapStateStore<Name>, C, StateInformationMiddleware>,
    clock: C,
    names_max: usize,
    /// Holds nothing but the seed of a hash, so that nobody chooses with whom a rate is shared.
    seeded: HashMap<Name, ()>,
    events: AtomicU32,
    is_full: AtomicBool,
}

/// A rate that may be saved up for `window`; `None` where nothing is limited.
pub(super) fn quota(per_second: usize, window: Duration) -> Option<Quota> {
    let per_second = NonZeroU32::new(u32::try_from(per_second).unwrap_or(u32::MAX))?;
    let burst = (f64::from(per_second.get()) * window.as_secs_f64()).clamp(1.0, f64::from(u32::MAX));
    Some(Quota::per_second(per_second).allow_burst(NonZeroU32::new(burst as u32)?))
}

/// As much of it as any bucket holds: what is larger must wait for a whole one, not for ever.
pub(super) fn cells(n: usize, burst: NonZeroU32) -> NonZeroU32 {
    NonZeroU32::new(u32::try_from(n).unwrap_or(u32::MAX)).map_or(NonZeroU32::MIN, |n| n.min(burst))
}

impl<C: Clock + Clone> Meter<C> {
    pub(super) fn new(
        (scope, count): (Scope, Count),
        per_second: usize,
        window: Duration,
        names_max: usize,
        clock: C,
    ) -> Option<Meter<C>> {
        let quota = quota(per_second, window)?;
        Some(Meter {
            scope,
            count,
            per_second,
            burst: quota.burst_size(),
            window,
            buckets: RateLimiter::dashmap_with_clock(quota, clock.clone()).with_middleware(),
            clock,
            names_max,
            seeded: HashMap::new(),
            events: AtomicU32::new(0),
            is_full: AtomicBool::new(false),
        })
    }

    /// Whether another one limits the same in the same way.
    pub(super) fn is_as(&self, other: &Meter<C>) -> bool {
        let of =
            |meter: &Meter<C>| (meter.scope, meter.count, meter.per_second, meter.window, meter.names_max);
        of(self) == of(other)
    }

    /// Counts `n` events of this name, or says when it may come again; then nothing was counted.
    pub(super) fn check(&self, name: Name, n: usize) -> Result<Standing, Limited> {
        let standing = |remaining, after| Standing {
            scope: self.scope,
            count: self.count,
            quota: self.burst.get(),
            window: self.window,
            remaining,
            after,
        };
        let name = self.place(name);
        let checked = self.buckets.check_key_n(&name, cells(n, self.burst));
        match checked.expect("no more is asked for than a bucket holds") {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let missing = f64::from(self.burst.get().saturating_sub(remaining));
                Ok(standing(remaining, Duration::from_secs_f64(missing / self.per_second as f64)))
            }
            Err(until) => {
                let after = until.wait_time_from(self.clock.now());
                Err(Limited { standing: standing(0, after), per_second: self.per_second })
            }
        }
    }

    /// Where a name is counted. Once there are more names than places, several share one.
    fn place(&self, name: Name) -> Name {
        if self.events.fetch_add(1, Ordering::Relaxed).is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        if !self.is_full.load(Ordering::Relaxed) {
            return name;
        }
        Name::Shared(self.seeded.hasher().hash_one(&name) as u8)
    }

    fn look(&self) {
        self.is_full.store(self.buckets.len() >= self.names_max, Ordering::Relaxed);
    }

    /// Forgets the buckets that are as good as new.
    pub(super) fn retain_recent(&self) {
        self.buckets.retain_recent();
        self.buckets.shrink_to_fit();
        self.look();
    }

    /// The number of buckets.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }
}
