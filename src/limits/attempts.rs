//! Credentials that failed: how many of one address are looked into, for each costs the time of a signature.
//!
//! Whoever failed too often is refused before its token is verified, until so many are due again. Tokens that held a short
//! while ago are looked into all the same: who has one does not pay for a neighbour behind the same address. An API key
//! costs no signature, so keys are always looked into.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::Duration;

use super::{Count, Limited, Name, Scope, Standing};
use crate::config::Limits;

/// Tokens of one generation. There are two: what held lately is in the younger one, or was when that was the older's.
const GENERATION_MAX: usize = 32_768;

/// The failures of each address, as the moment at which all of them are made up for (the generic cell rate algorithm).
/// Moments are counted from the start of the process.
#[derive(Debug, Default)]
pub struct Attempts {
    made_up_at: HashMap<Name, Duration>,
    /// Hashes by the seed of the other map: nobody who does not know it finds another text with the hash of a good token.
    young: HashSet<u64>,
    old: HashSet<u64>,
}

/// How often an address may fail.
#[derive(Clone, Copy, Debug)]
pub struct AttemptLimits {
    /// Failures a second; 0 for any number.
    pub per_second: usize,
    /// Time for which they may be saved up.
    pub window: Duration,
    /// Addresses that are known at once; beyond it they share 256 places.
    pub names_max: usize,
}

impl From<&Limits> for AttemptLimits {
    fn from(limits: &Limits) -> AttemptLimits {
        AttemptLimits {
            per_second: limits.address_failed_credentials_per_second,
            window: limits.rate_burst,
            names_max: limits.rate_names_max,
        }
    }
}

impl Attempts {
    /// Whether a token that came from `name` may be verified.
    pub fn admit(
        &self,
        name: &Name,
        token: &str,
        limits: AttemptLimits,
        now: Duration,
    ) -> Result<(), Limited> {
        if limits.per_second == 0 || self.made_up_at.is_empty() {
            return Ok(());
        }
        let Some(made_up_at) = self.made_up_at.get(&self.place(name.clone(), limits)) else { return Ok(()) };
        let wait = made_up_at.saturating_sub(now + limits.window);
        match wait.is_zero() || self.held_lately(token) {
            true => Ok(()),
            false => Err(limited(wait, limits)),
        }
    }

    /// A token that came from `name` did not hold, whatever it did before.
    pub fn fail(&mut self, name: &Name, token: &str, limits: AttemptLimits, now: Duration) {
        if limits.per_second > 0 {
            let hash = self.hash(token);
            self.young.remove(&hash);
            self.old.remove(&hash);
            let place = self.place(name.clone(), limits);
            let made_up_at = self.made_up_at.entry(place).or_insert(now);
            *made_up_at = (*made_up_at).max(now) + Duration::from_secs(1) / limits.per_second as u32;
        }
    }

    /// A token held.
    pub fn hold(&mut self, token: &str) {
        let hash = self.hash(token);
        if self.young.insert(hash) && self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// Forgets the addresses that have made up for their failures. To be called about once a second.
    pub fn forget(&mut self, now: Duration) {
        self.made_up_at.retain(|_, made_up_at| *made_up_at > now);
        if self.made_up_at.is_empty() {
            self.made_up_at.shrink_to_fit();
        }
    }

    fn held_lately(&self, token: &str) -> bool {
        let hash = self.hash(token);
        self.young.contains(&hash) || self.old.contains(&hash)
    }

    fn hash(&self, token: &str) -> u64 {
        self.made_up_at.hasher().hash_one(token)
    }

    fn place(&self, name: Name, limits: AttemptLimits) -> Name {
        match self.made_up_at.len() < limits.names_max || self.made_up_at.contains_key(&name) {
            true => name,
            false => Name::Shared(self.made_up_at.hasher().hash_one(&name) as u8),
        }
    }
}

fn limited(after: Duration, limits: AttemptLimits) -> Limited {
    let AttemptLimits { per_second, window, .. } = limits;
    let quota = (per_second as f64 * window.as_secs_f64()) as u32;
    let (scope, count) = (Scope::Address, Count::FailedCredentials);
    Limited { standing: Standing { scope, count, quota, window, remaining: 0, after }, per_second }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AttemptLimits =
        AttemptLimits { per_second: 10, window: Duration::from_secs(2), names_max: 3 };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(last: u8) -> Name {
        Name::Address([10, 0, 0, last].into())
    }

    /// Tries wrong tokens until they are refused unread; how many were looked into.
    fn guess(attempts: &mut Attempts, name: &Name, now: Duration) -> usize {
        let looked_into = (0..10_000).take_while(|n| {
            let token = format!("wrong {n}");
            let is_admitted = attempts.admit(name, &token, LIMITS, now).is_ok();
            if is_admitted {
                attempts.fail(name, &token, LIMITS, now);
            }
            is_admitted
        });
        looked_into.count()
    }

    #[test]
    fn an_address_that_fails_too_often_is_refused_unread_and_others_are_not() {
        let mut attempts = Attempts::default();
        attempts.hold("good");
        // What two seconds bring, and the one that shows it.
        assert_eq!(guess(&mut attempts, &at(1), ms(0)), 21);
        let limited = attempts.admit(&at(1), "wrong", LIMITS, ms(0)).unwrap_err();
        assert_eq!(limited.standing.after, Duration::from_millis(100));
        assert!(
            limited.problem().message.contains("limits.address_failed_credentials_per_second, which is 10")
        );
        assert!(attempts.admit(&at(1), "good", LIMITS, ms(0)).is_ok(), "it held a short while ago");
        assert!(attempts.admit(&at(1), "another good one", LIMITS, ms(0)).is_err(), "nobody knows that");
        assert!(attempts.admit(&at(2), "wrong", LIMITS, ms(0)).is_ok());
        attempts.fail(&at(2), "good", LIMITS, ms(0));
        assert!(attempts.admit(&at(1), "good", LIMITS, ms(0)).is_err(), "it has expired since");
        assert_eq!(guess(&mut attempts, &at(1), ms(100)), 1, "it was told how long to wait");
        assert_eq!(guess(&mut attempts, &at(1), ms(10_000)), 21, "a quiet time makes up for all");
    }

    #[test]
    fn where_nothing_is_limited_nothing_is_remembered() {
        let mut attempts = Attempts::default();
        let off = AttemptLimits { per_second: 0, ..LIMITS };
        for _ in 0..1_000 {
            assert!(attempts.admit(&at(1), "wrong", off, ms(0)).is_ok());
            attempts.fail(&at(1), "wrong", off, ms(0));
        }
        assert!(attempts.made_up_at.is_empty());
    }

    #[test]
    fn addresses_and_tokens_are_bounded_and_forgotten() {
        let mut attempts = Attempts::default();
        for last in 0..=255 {
            attempts.fail(&at(last), "wrong", LIMITS, ms(0));
        }
        assert!(attempts.made_up_at.len() <= 3 + 256);
        attempts.forget(ms(50));
        assert!(!attempts.made_up_at.is_empty());
        attempts.forget(ms(100_000));
        assert!(attempts.made_up_at.is_empty());
        for n in 0..3 * GENERATION_MAX {
            attempts.hold(&n.to_string());
            assert!(attempts.held_lately(&n.to_string()));
        }
        assert!(attempts.young.len() + attempts.old.len() <= 2 * GENERATION_MAX);
        assert!(!attempts.held_lately("0"), "it is long ago");
    }
}
