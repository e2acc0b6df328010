//! New connections per second: a bucket for the instance, of which one address gets as much as is still in it.
//!
//! Each arrival fills the bucket by one, and it leaks at the configured rate, from all addresses in proportion to what each
//! has put in. An address is admitted as long as it has put in no more than there is room left: the rule of `share.rs`. So
//! one that comes alone gets the whole rate, and one that comes too often leaves half of the bucket to others.

use std::collections::HashMap;
use std::time::Duration;

use super::Name;
use crate::config::Limits;

/// Below this scale the numbers of all addresses are written anew, long before they lose precision.
const SCALE_MIN: f64 = 1e-6;

/// An address that has put in less than this is as good as new.
const FORGOTTEN_BELOW: f64 = 0.05;

/// Who has come lately.
#[derive(Debug)]
pub struct Arrivals {
    capacity: f64,
    per_second: f64,
    level: f64,
    /// What an address has put in is its number here times `scale`: so all leak at once.
    addresses: HashMap<Name, f64>,
    scale: f64,
    /// Since the start of the process, as every moment here.
    at: Duration,
}

impl Arrivals {
    /// Nobody has come yet.
    pub fn new(limits: &Limits) -> Arrivals {
        let mut arrivals = Arrivals {
            capacity: 0.0,
            per_second: 0.0,
            level: 0.0,
            addresses: HashMap::new(),
            scale: 1.0,
            at: Duration::ZERO,
        };
        arrivals.set(limits);
        arrivals
    }

    /// Other limits hold from now on; who has come lately stays known.
    pub fn set(&mut self, limits: &Limits) {
        self.capacity = limits.connections_burst as f64;
        self.per_second = limits.connections_per_second as f64;
    }

    /// Whether one more may come from this address, which is counted then; one without a name has no share of its own.
    pub fn admit(&mut self, address: Option<Name>, now: Duration) -> bool {
        self.leak(now);
        let room = self.capacity - self.level;
        if room < 1.0 {
            return false;
        }
        if let Some(name) = address {
            let put_in = self.addresses.get(&name).map_or(0.0, |number| number * self.scale);
            if put_in + 1.0 > room {
                return false;
            }
            *self.addresses.entry(name).or_default() += 1.0 / self.scale;
        }
        self.level += 1.0;
        true
    }

    /// How many count still.
    pub fn level(&mut self, now: Duration) -> f64 {
        self.leak(now);
        self.level
    }

    fn leak(&mut self, now: Duration) {
        let leaked = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.at = now;
        if leaked >= self.level {
            self.level = 0.0;
            self.scale = 1.0;
            self.addresses.clear();
            return;
        }
        self.scale *= 1.0 - leaked / self.level;
        self.level -= leaked;
        // Together they have put in no more than the capacity, so twenty times as many remain at most.
        if self.scale < SCALE_MIN || self.addresses.len() as f64 > 40.0 * self.capacity {
            let scale = std::mem::replace(&mut self.scale, 1.0);
            self.addresses.retain(|_, number| {
                *number *= scale;
                *number >= FORGOTTEN_BELOW
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn arrivals(per_second: usize, burst: usize) -> Arrivals {
        let mut limits = crate::config::Config::default().limits;
        (limits.connections_per_second, limits.connections_burst) = (per_second, burst);
        Arrivals::new(&limits)
    }

    fn address(number: u32) -> Option<Name> {
        Some(Name::Address(IpAddr::V4(Ipv4Addr::from_bits(number))))
    }

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn one_address_alone_gets_half_of_the_burst_and_then_the_whole_rate() {
        let mut arrivals = arrivals(100, 1_000);
        let at_once = (0..5_000).filter(|_| arrivals.admit(address(1), ms(0))).count();
        assert_eq!(at_once, 500);
        let later = (0..10_000).filter(|n| arrivals.admit(address(1), ms(*n))).count();
        assert!((990..=1_001).contains(&later), "{later} in ten seconds of 100");
    }

    #[test]
    fn an_address_that_comes_too_often_does_not_keep_others_out() {
        let mut arrivals = arrivals(100, 1_000);
        let (mut greedy, mut honest) = (0, 0);
        for n in 0..20_000 {
            greedy += u32::from(arrivals.admit(address(1), ms(n)));
            if n % 20 == 0 {
                honest += u32::from(arrivals.admit(address(2), ms(n)));
            }
        }
        assert_eq!(honest, 1_000, "50 a second came for 20 seconds");
        assert!(
            (1_400..=1_750).contains(&greedy),
            "{greedy}: the burst's half, and what the other one leaves"
        );
    }

    #[test]
    fn the_instance_takes_no_more_than_its_rate_however_many_addresses_there_are() {
        let mut arrivals = arrivals(100, 1_000);
        let admitted = (0..100_000).filter(|n| arrivals.admit(address(*n), ms(u64::from(*n / 10)))).count();
        assert!((1_990..=2_001).contains(&admitted), "{admitted} in ten seconds of 100 and a burst of 1,000");
        assert!(arrivals.addresses.len() <= 40_000);
        assert!(!arrivals.admit(None, ms(9_999)), "whoever has no share meets the same bound");
        assert!(arrivals.admit(None, ms(11_000)));
    }

    #[test]
    fn a_reload_keeps_who_has_come() {
        let mut arrivals = arrivals(1, 10);
        (0..10).for_each(|n| assert!(arrivals.admit(address(n), ms(0))));
        let mut limits = crate::config::Config::default().limits;
        (limits.connections_per_second, limits.connections_burst) = (1, 11);
        arrivals.set(&limits);
        assert!(arrivals.admit(address(77), ms(0)) && !arrivals.admit(address(78), ms(0)));
    }
}
