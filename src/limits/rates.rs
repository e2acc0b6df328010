//! All rates of an instance: each limit of the configuration that is not 0 has its meter.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, DefaultClock, Reference};
use smallvec::SmallVec;

use super::meter::{Meter, cells, quota};
use super::{Caller, Count, Limited, Scope, Standing};
use crate::config::Limits;

/// The standings that one event has: rarely more than two.
pub type Standings = SmallVec<[Standing; 2]>;

/// What may come per second.
pub struct Rates<C: Clock = DefaultClock> {
    /// The narrowest first: what a wider one refuses is counted at the narrower ones, for it was sent.
    meters: Vec<Arc<Meter<C>>>,
    connection: Arc<ConnectionLimits<C>>,
    clock: C,
}

/// What one connection may send.
struct ConnectionLimits<C: Clock> {
    commands: Option<Quota>,
    bytes: Option<Quota>,
    window: Duration,
    clock: C,
    start: C::Instant,
}

/// The meters of one connection, made when it first sends something. There are as many as connections: all that they have in
/// common they share.
pub struct ConnectionRates<C: Clock = DefaultClock> {
    limits: Arc<ConnectionLimits<C>>,
    commands: Bucket,
    bytes: Bucket,
    /// Bytes that came and were not counted yet.
    owed: usize,
}

/// A bucket as the moment at which it is full again, in nanoseconds since its clock's start (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket(u64);

impl Bucket {
    /// Takes so much, or says when there is as much.
    fn take(&mut self, quota: Quota, n: NonZeroU32, now: u64) -> Result<(), Duration> {
        let interval = quota.replenish_interval().as_nanos() as u64;
        let full_at = self.0.max(now) + interval * u64::from(n.get());
        let missing = full_at - now;
        match missing.checked_sub(interval * u64::from(quota.burst_size().get())) {
            Some(wait @ 1..) => Err(Duration::from_nanos(wait)),
            Some(0) | None => {
                self.0 = full_at;
                Ok(())
            }
        }
    }
}

impl<C: Clock> ConnectionLimits<C> {
    fn now(&self) -> u64 {
        self.clock.now().duration_since(self.start).as_u64()
    }
}

impl Rates {
    /// What the configuration says.
    pub fn new(limits: &Limits) -> Rates {
        Rates::with_clock(limits, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    /// As [`Rates::new`], by another clock.
    pub fn with_clock(limits: &Limits, clock: C) -> Rates<C> {
        Rates::succeeding(None, limits, clock)
    }

    /// What another configuration says. What it limits as before goes on as it stands.
    pub fn reloaded(&self, limits: &Limits) -> Rates<C> {
        Rates::succeeding(Some(self), limits, self.clock.clone())
    }

    fn succeeding(before: Option<&Rates<C>>, limits: &Limits, clock: C) -> Rates<C> {
        use Count::{Bytes, Commands, Connections, Mutations, Publishes};
        let rates = [
            (Scope::User, Commands, limits.user_commands_per_second),
            (Scope::User, Publishes, limits.user_publishes_per_second),
            (Scope::User, Mutations, limits.user_mutations_per_second),
            (Scope::Key, Commands, limits.key_commands_per_second),
            (Scope::Key, Publishes, limits.key_publishes_per_second),
            (Scope::Key, Mutations, limits.key_mutations_per_second),
            (Scope::Address, Connections, limits.address_connections_per_second),
            (Scope::Address, Commands, limits.address_commands_per_second),
            (Scope::Address, Publishes, limits.address_publishes_per_second),
            (Scope::Address, Bytes, limits.address_bytes_per_second),
            (Scope::Address, Mutations, limits.address_mutations_per_second),
            (Scope::Tenant, Connections, limits.tenant_connections_per_second),
            (Scope::Tenant, Commands, limits.tenant_commands_per_second),
            (Scope::Tenant, Publishes, limits.tenant_publishes_per_second),
            (Scope::Tenant, Bytes, limits.tenant_bytes_per_second),
            (Scope::Tenant, Mutations, limits.tenant_mutations_per_second),
            (Scope::Instance, Publishes, limits.instance_publishes_per_second),
            (Scope::Instance, Mutations, limits.instance_mutations_per_second),
        ];
        let window = limits.rate_burst;
        let meter = |(scope, count, per_second)| {
            let new = Meter::new((scope, count), per_second, window, limits.rate_names_max, clock.clone())?;
            let known = before.and_then(|before| before.meters.iter().find(|meter| meter.is_as(&new)));
            Some(known.cloned().unwrap_or_else(|| Arc::new(new)))
        };
        Rates {
            meters: rates.into_iter().filter_map(meter).collect(),
            connection: Arc::new(ConnectionLimits {
                commands: quota(limits.connection_commands_per_second, window),
                bytes: quota(limits.connection_bytes_per_second, window),
                window,
                clock: clock.clone(),
                start: clock.now(),
            }),
            clock,
        }
    }

    /// Counts `n` events of the caller at each level that counts them; how it stands there.
    pub fn admit(&self, caller: &Caller, count: Count, n: usize) -> Result<Standings, Limited> {
        let mut standings = Standings::new();
        for meter in self.meters.iter().filter(|meter| meter.count == count) {
            if let Some(name) = caller.name(meter.scope) {
                standings.push(meter.check(name, n)?);
            }
        }
        Ok(standings)
    }

    /// The meters of a new connection.
    pub fn connection(&self) -> ConnectionRates<C> {
        ConnectionRates {
            limits: self.connection.clone(),
            commands: Bucket::default(),
            bytes: Bucket::default(),
            owed: 0,
        }
    }

    /// Forgets all buckets that are as good as new. To be called about once a second.
    pub fn retain_recent(&self) {
        self.meters.iter().for_each(|meter| meter.retain_recent());
    }
}

impl<C: Clock + Clone> ConnectionRates<C> {
    /// Counts a command that costs as much as so many.
    pub fn admit_command(&mut self, n: usize) -> Result<(), Limited> {
        let Some(quota) = self.limits.commands else { return Ok(()) };
        let taken = self.commands.take(quota, cells(n, quota.burst_size()), self.limits.now());
        taken.map_err(|after| {
            let standing = Standing {
                scope: Scope::Connection,
                count: Count::Commands,
                quota: quota.burst_size().get(),
                window: self.limits.window,
                remaining: 0,
                after,
            };
            let per_second = Duration::from_secs(1).as_nanos() / quota.replenish_interval().as_nanos();
            Limited { standing, per_second: per_second as usize }
        })
    }

    /// Counts bytes that came, and those that are owed; how long nothing more should be read.
    pub fn take_bytes(&mut self, n: usize) -> Option<Duration> {
        let quota = self.limits.bytes?;
        self.owed += n;
        if self.owed == 0 {
            return None;
        }
        let taken = self.bytes.take(quota, cells(self.owed, quota.burst_size()), self.limits.now());
        if taken.is_ok() {
            self.owed = 0;
        }
        taken.err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn rates(change: impl FnOnce(&mut Limits)) -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let mut limits = crate::config::Config::default().limits;
        limits.rate_burst = Duration::from_secs(2);
        change(&mut limits);
        let clock = FakeRelativeClock::default();
        (Rates::with_clock(&limits, clock.clone()), clock)
    }

    fn of(tenant: &str, user: &str) -> Caller {
        Caller { user: Some(user.into()), tenant: Some(tenant.into()), ..Caller::default() }
    }

    #[test]
    fn a_tenant_beyond_its_limit_is_refused_and_its_neighbour_is_not() {
        let (rates, clock) = rates(|limits| limits.tenant_publishes_per_second = 10);
        let publish = |caller: &Caller| rates.admit(caller, Count::Publishes, 1);
        let granted = (0..200).filter(|n| publish(&of("loud", &n.to_string())).is_ok()).count();
        assert_eq!(granted, 20, "what two seconds bring");
        let limited = publish(&of("loud", "x")).unwrap_err();
        assert_eq!((limited.standing.scope, limited.per_second), (Scope::Tenant, 10));
        assert!(limited.problem().message.contains("limits.tenant_publishes_per_second, which is 10"));
        assert!(publish(&of("quiet", "a")).is_ok());
        clock.advance(limited.standing.after);
        assert!(publish(&of("loud", "x")).is_ok(), "it was told how long to wait");
        assert!(publish(&of("loud", "x")).is_err());
    }

    #[test]
    fn what_is_off_counts_nothing_and_what_is_on_says_how_one_stands() {
        let (rates, _) = rates(|limits| {
            limits.user_publishes_per_second = 5;
            limits.tenant_bytes_per_second = 0;
        });
        let standings = rates.admit(&of("a", "ada"), Count::Publishes, 3).unwrap();
        assert_eq!(
            standings.iter().map(|at| (at.scope, at.quota, at.remaining)).collect::<Vec<_>>(),
            [(Scope::User, 10, 7)]
        );
        assert_eq!(standings[0].after, Duration::from_millis(600));
        assert!(rates.admit(&of("a", "ada"), Count::Bytes, 1 << 30).unwrap().is_empty());
        assert!(
            rates.admit(&Caller::default(), Count::Publishes, 100).unwrap().is_empty(),
            "nobody in particular"
        );
    }

    #[test]
    fn a_reload_leaves_what_is_limited_as_before_as_it_stands() {
        let limits = |per_second| Limits {
            user_publishes_per_second: 3,
            user_commands_per_second: per_second,
            rate_burst: Duration::from_secs(1),
            ..crate::config::Config::default().limits
        };
        let rates = Rates::with_clock(&limits(2), FakeRelativeClock::default());
        let count = |rates: &Rates<FakeRelativeClock>, count| {
            (0..10).take_while(|_| rates.admit(&of("a", "ada"), count, 1).is_ok()).count()
        };
        assert_eq!((count(&rates, Count::Publishes), count(&rates, Count::Commands)), (3, 2));
        let reloaded = rates.reloaded(&limits(5));
        assert_eq!(count(&reloaded, Count::Publishes), 0, "that limit is the same");
        assert_eq!(count(&reloaded, Count::Commands), 5, "this one is another");
    }

    #[test]
    fn what_is_larger_than_a_bucket_takes_a_whole_one() {
        let (rates, clock) = rates(|limits| limits.tenant_bytes_per_second = 1_000);
        let send = || rates.admit(&of("a", "ada"), Count::Bytes, 1_000_000).is_ok();
        assert!(send() && !send());
        clock.advance(Duration::from_secs(2));
        assert!(send());
    }

    #[test]
    fn buckets_are_bounded_and_forgotten() {
        let (rates, clock) = rates(|limits| {
            (limits.user_commands_per_second, limits.rate_names_max) = (5, 500);
        });
        let meter = rates.meters.iter().find(|meter| meter.count == Count::Commands).unwrap();
        for n in 0..20_000 {
            rates.admit(&of("a", &n.to_string()), Count::Commands, 1).ok();
        }
        assert!((500..=500 + 64 + 256).contains(&meter.len()), "{}", meter.len());
        clock.advance(Duration::from_secs(10));
        rates.retain_recent();
        assert_eq!(meter.len(), 0);
        assert!(rates.admit(&of("a", "late"), Count::Commands, 1).is_ok());
    }

    #[test]
    fn a_connection_that_sends_too_fast_is_read_more_slowly() {
        let (rates, clock) = rates(|limits| {
            limits.connection_bytes_per_second = 1_000;
            limits.connection_commands_per_second = 3;
        });
        let mut connection = rates.connection();
        assert_eq!(connection.take_bytes(2_000), None);
        let pause = connection.take_bytes(500).expect("the bucket is empty");
        assert_eq!(pause, Duration::from_millis(500));
        clock.advance(pause);
        assert_eq!(connection.take_bytes(0), None, "what was owed is paid");
        let granted = (0..50).filter(|_| connection.admit_command(1).is_ok()).count();
        assert_eq!(granted, 6);
        assert_eq!(connection.admit_command(1).unwrap_err().per_second, 3);
    }
}
