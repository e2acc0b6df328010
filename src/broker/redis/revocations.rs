//! Revocations in Redis: one hash, for instances that come later and those that were not there to be told.
//!
//! Nothing is fenced: two instances that disagree both refuse. What a failover lost is written again by every instance
//! that knows it, since the stamp in the hash is then another one, and so is what was evicted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fred::types::{Key, Value};
use tidings_protocol::{Revocation, Revoked};
use tracing::warn;

use super::RedisBroker;
use super::answer;
use super::keys::REVOKED;
use super::script::Script;
use super::shard::Shard;
use super::store::RedisStore;
use crate::broker::{BrokerError, RevokedSince};
use crate::clock::Clock;
use crate::config::Config;

/// Revocations that one step writes: each takes a microsecond or two, and nobody else is served meanwhile.
const STEP_MAX: usize = 1_000;

/// The field of the hash that tells one state of it from another. No revocation is called so.
const STAMP: &str = "stamp";

/// The scripts with what they are told.
pub(super) struct RevocationStore {
    keep: Script,
    read: Script,
    keys: Vec<Key>,
    life: u64,
    most: usize,
    /// This start's id, and a count: no two stamps are alike.
    seed: String,
    stamps: AtomicU64,
    clock: Clock,
}

impl RevocationStore {
    pub(super) fn new(store: &RedisStore, config: &Config, clock: Clock) -> Self {
        RevocationStore {
            keep: Script::new(include_str!("lua/revoke.lua"), true),
            read: Script::new(include_str!("lua/revoked.lua"), true),
            keys: vec![store.keys.revocations()],
            life: config.auth.token_life_max.as_secs(),
            most: config.limits.revocations_max,
            seed: store.seed.clone(),
            stamps: AtomicU64::new(0),
            clock,
        }
    }

    fn arguments(&self, revocations: &[Revocation]) -> Vec<Value> {
        let stamp = format!("{}-{}", self.seed, self.stamps.fetch_add(1, Ordering::Relaxed));
        let now = (self.clock.unix_ms() / 1_000).to_string();
        let mut arguments =
            vec![now.into(), self.life.to_string().into(), self.most.to_string().into(), stamp.into()];
        for Revocation { revoked, at } in revocations {
            arguments.extend([name_of(revoked).into(), at.to_string().into()]);
        }
        arguments
    }
}

impl RedisBroker {
    pub(super) async fn keep_revocations(&self, revocations: Vec<Revocation>) -> Result<(), BrokerError> {
        let store = &self.revocations;
        let mut full = 0;
        for step in revocations.chunks(STEP_MAX) {
            let arguments = store.arguments(step);
            let keep = |shard: Arc<Shard>| {
                let (keys, arguments) = (store.keys.clone(), arguments.clone());
                async move {
                    let kept = store.keep.run(&shard.commands, keys, arguments).await;
                    kept.map_err(|error| answer::write_failed(&error))
                }
            };
            full += self.shards.at_tag(REVOKED, keep).await?.as_u64().unwrap_or_default();
        }
        if full > 0 { Err(BrokerError::TooManyRevocations) } else { Ok(()) }
    }

    pub(super) async fn read_revocations(
        &self,
        known: Option<String>,
    ) -> Result<Option<RevokedSince>, BrokerError> {
        let store = &self.revocations;
        // No stamp is called so.
        let known = known.unwrap_or_else(|| "?".to_owned());
        let read = |shard: Arc<Shard>| {
            let (keys, known) = (store.keys.clone(), known.clone());
            async move {
                let answer = store.read.run(&shard.commands, keys, vec![known.into()]).await;
                answer.map_err(|error| answer::read_failed(&error))
            }
        };
        let answer = self.shards.at_tag(REVOKED, read).await?;
        understood(answer).map(Some).ok_or(BrokerError::Unavailable)
    }
}

/// What a revocation is called in Redis; what is revoked comes after the first `:`, whatever it holds.
fn name_of(revoked: &Revoked) -> String {
    match revoked {
        Revoked::User(user) => format!("u:{user}"),
        Revoked::Token(id) => format!("t:{id}"),
    }
}

fn revoked_by(name: &str) -> Option<Revoked> {
    match name.split_once(':')? {
        ("u", user) => Some(Revoked::User(user.into())),
        ("t", id) => Some(Revoked::Token(id.into())),
        _ => None,
    }
}

/// What the read script gave; `None` for what no version of ours gives.
fn understood(answer: Value) -> Option<RevokedSince> {
    let mut answer = answer.into_array().into_iter();
    let stamp = answer.next()?.into_string()?;
    let Some(all) = answer.next() else { return Some(RevokedSince { stamp, all: None }) };
    let words: Vec<String> = all.into_array().into_iter().filter_map(Value::into_string).collect();
    let (pairs, _) = words.as_chunks::<2>();
    let read = |[name, at]: &[String; 2]| {
        let revoked = revoked_by(name).zip(at.parse().ok());
        if revoked.is_none() {
            // A later version may know more kinds; what is not understood is not obeyed, and that is worth a word.
            warn!("redis holds a revocation that cannot be read");
        }
        revoked.map(|(revoked, at)| Revocation { revoked, at })
    };
    let revocations = pairs.iter().filter(|[name, _]| name != STAMP).filter_map(read);
    Some(RevokedSince { stamp, all: Some(revocations.collect()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_whatever_users_and_tokens_are_called() {
        for text in ["ada", "", ":", "u:t:x", "a b\n}{*\u{0}", "\u{1f600}"] {
            for revoked in [Revoked::User(text.into()), Revoked::Token(text.into())] {
                assert_eq!(revoked_by(&name_of(&revoked)), Some(revoked), "{text:?}");
            }
        }
        assert_eq!((revoked_by("x:ada"), revoked_by("ada")), (None, None));
    }

    #[test]
    fn an_answer_is_read_and_garbage_is_refused() {
        let text = |text: &str| Value::from(text);
        let all = Value::Array(vec![
            text("u:ada"),
            text("12"),
            text("x:y"),
            text("1"),
            text("stamp"),
            text("s-1"),
            text("t:7"),
            text("z"),
        ]);
        let read = understood(Value::Array(vec![text("s-1"), all])).unwrap();
        let ada = Revocation { revoked: Revoked::User("ada".into()), at: 12 };
        assert_eq!(read, RevokedSince { stamp: "s-1".to_owned(), all: Some(vec![ada]) });
        let same = understood(Value::Array(vec![text("s-1")])).unwrap();
        assert_eq!(same.all, None);
        assert_eq!(understood(Value::Array(Vec::new())), None);
    }
}
