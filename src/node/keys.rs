//! How many idempotency keys this instance's callers have the broker remember, and who may add to them.
//!
//! A broker remembers a key for its window, in this process or in Redis. Here is counted what that takes, for both alike;
//! the broker alone knows the keys themselves.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tidings_protocol::{Channel, Code, Problem};

use crate::broker::BrokerError;
use crate::hub::Time;
use crate::limits::{Account, Caller, Shares};

/// Bytes of a key beside its name and its channel's: 300 in this process (two maps, four allocations), 258 in Redis.
const KEY_BYTES: usize = 300;

/// The keys that were used here and are in their window.
pub(super) struct IdempotencyKeys {
    keys: Mutex<Keys>,
    window: Duration,
}

/// A key that was counted, in case nothing is stored under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted(u64);

/// What became of something that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is stored, or perhaps it is.
    Stored,
    /// Surely it is not.
    NotStored,
}

impl Settled {
    /// What the broker's answer says of it.
    pub(super) fn of<T>(outcome: &Result<T, BrokerError>) -> Settled {
        match outcome {
            Ok(_) | Err(BrokerError::OutcomeUnknown | BrokerError::ReplicationUnconfirmed(_)) => {
                Settled::Stored
            }
            Err(_) => Settled::NotStored,
        }
    }
}

#[derive(Debug)]
struct Keys {
    shares: Shares,
    /// By a hash of the channel, the key and whose it is: two that meet are counted as one.
    counted: HashMap<u64, Held>,
    /// The same, by when their windows end.
    by_age: BTreeSet<(Time, u64)>,
}

#[derive(Debug)]
struct Held {
    until: Time,
    account: Account,
    bytes: usize,
}

impl IdempotencyKeys {
    /// None yet; all of them may take so many bytes, each for `window`.
    pub(super) fn new(bytes_max: usize, window: Duration) -> IdempotencyKeys {
        let keys = Keys { shares: Shares::new(bytes_max), counted: HashMap::new(), by_age: BTreeSet::new() };
        IdempotencyKeys { keys: Mutex::new(keys), window }
    }

    /// Counts a key before it is used; `None` where there is none, or it is counted already.
    pub(super) fn count(
        &self,
        caller: &Caller,
        channel: &Channel,
        key: Option<&str>,
        now: Time,
    ) -> Result<Option<Counted>, Problem> {
        let Some(key) = key else { return Ok(None) };
        self.keys().count(caller, channel, key, now, self.window)
    }

    /// What became of the publish. Where surely nothing was stored, its key is not counted.
    pub(super) fn settle<T>(&self, counted: Option<Counted>, outcome: &Result<T, BrokerError>) -> Settled {
        let settled = Settled::of(outcome);
        if let (Settled::NotStored, Some(Counted(name))) = (settled, counted) {
            self.keys().forget(name);
        }
        settled
    }

    /// Bytes that are taken, and all that may be.
    pub(super) fn usage(&self, now: Time) -> (usize, usize) {
        let mut keys = self.keys();
        keys.expire(now);
        (keys.shares.used(), keys.shares.total())
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().expect("nothing panics while it counts keys")
    }
}

impl Keys {
    fn count(
        &mut self,
        caller: &Caller,
        channel: &Channel,
        key: &str,
        now: Time,
        window: Duration,
    ) -> Result<Option<Counted>, Problem> {
        self.expire(now);
        let whose = (&caller.key, &caller.tenant, &caller.user);
        let name = self.counted.hasher().hash_one((channel.as_str(), key, whose));
        if self.counted.contains_key(&name) {
            return Ok(None);
        }
        let bytes = KEY_BYTES + channel.as_str().len() + key.len();
        let account = self.shares.take(caller, bytes).map_err(|refused| {
            refused.problem(Code::LimitReached, "idempotency_bytes", "bytes of idempotency keys")
        })?;
        let until = now.after(window);
        self.counted.insert(name, Held { until, account, bytes });
        self.by_age.insert((until, name));
        Ok(Some(Counted(name)))
    }

    fn expire(&mut self, now: Time) {
        while let Some((_, name)) = self.by_age.first().copied().filter(|(until, _)| *until <= now) {
            self.forget(name);
        }
    }

    fn forget(&mut self, name: u64) {
        if let Some(held) = self.counted.remove(&name) {
            self.by_age.remove(&(held.until, name));
            self.shares.close(held.account, held.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Caller {
        Caller { key: Some(name.into()), ..Caller::default() }
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn a_caller_has_its_share_of_keys_for_their_window_and_a_retry_takes_no_more() {
        let room = Channel::parse("room").unwrap();
        let keys = IdempotencyKeys::new(10 * (KEY_BYTES + 6), Duration::from_secs(600));
        let count = |caller: &str, key_name: &str, now| {
            keys.count(&key(caller), &room, Some(key_name), at(now)).map_err(|problem| problem.code)
        };
        for n in 0..5 {
            assert!(count("eve", &format!("k{n}"), n).unwrap().is_some());
        }
        assert_eq!(count("eve", "k5", 5), Err(Code::LimitReached));
        assert_eq!(count("eve", "k0", 5), Ok(None), "a retry");
        assert!(count("ada", "k0", 5).unwrap().is_some(), "others have room, and keys of their own");
        assert_eq!(
            keys.count(&key("eve"), &room, None, at(5)),
            Ok(None),
            "without a key there is always room"
        );
        assert!(count("eve", "k5", 601).unwrap().is_some(), "the first windows are over");
        keys.keys().expire(at(2_000));
        let inner = keys.keys();
        assert_eq!((inner.shares.used(), inner.shares.holders(), inner.by_age.len()), (0, 0, 0));
    }

    #[test]
    fn a_key_under_which_surely_nothing_is_stored_is_given_back() {
        let room = Channel::parse("room").unwrap();
        for (outcome, is_given_back) in [
            (Ok(()), false),
            (Err(BrokerError::OutcomeUnknown), false),
            (Err(BrokerError::ReplicationUnconfirmed(None)), false),
            (Err(BrokerError::Unavailable), true),
            (Err(BrokerError::IdempotencyMismatch), true),
        ] {
            let keys = IdempotencyKeys::new(1 << 20, Duration::from_secs(600));
            let counted = keys.count(&key("eve"), &room, Some("k"), at(0)).unwrap();
            keys.settle(counted, &outcome);
            assert_eq!(keys.usage(at(0)).0 == 0, is_given_back, "{outcome:?}");
            let again = keys.count(&key("eve"), &room, Some("k"), at(1)).unwrap();
            assert_eq!(again.is_some(), is_given_back);
        }
    }
}
