//! Keys that issuers of tokens publish: the sets that are known, and the task that fetches them.

mod fetch;
mod sets;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::Authenticator;
use super::jws::VerificationKey;
use crate::clock::Clock;
use crate::config::JwksConfig;
use crate::hub::Time;
use crate::observe::IssuersHealth;
use sets::KeySets;

/// How long whoever brings a token with an unknown key waits for the keys.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the task looks whether another configuration has come.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of issuers' keys.
pub(super) struct Jwks {
    sets: Mutex<KeySets>,
    bytes_max: usize,
    /// Somebody misses a key.
    wanted: Notify,
    /// Counts answers.
    answered: watch::Sender<u64>,
}

impl Jwks {
    pub(super) fn new(config: &JwksConfig, bytes_max: usize) -> Self {
        let sets = Mutex::new(KeySets::new(config));
        Jwks { sets, bytes_max, wanted: Notify::new(), answered: watch::Sender::new(0) }
    }

    pub(super) fn take_over(&self, before: &Jwks) {
        self.sets().take_over(&before.sets());
    }

    /// The keys called so; `None` where none is known, and one may be once they were fetched again.
    pub(super) fn keys(&self, kid: &str) -> Option<Vec<VerificationKey>> {
        self.sets().keys(kid)
    }

    /// Whether one of the fetched keys has this mark.
    pub(super) fn has(&self, mark: u64) -> bool {
        self.sets().has(mark)
    }

    /// Returns once keys were fetched; false where that is not to be waited for.
    pub(super) async fn fetched(&self, now: Time) -> bool {
        let mut answered = self.answered.subscribe();
        if !self.sets().want(now) {
            return false;
        }
        self.wanted.notify_one();
        timeout(PATIENCE, answered.changed()).await.is_ok()
    }

    pub(super) fn health(&self, now: Time) -> Option<IssuersHealth> {
        self.sets().health(now)
    }

    fn sets(&self) -> MutexGuard<'_, KeySets> {
        self.sets.lock().expect("nothing panics while it holds the keys")
    }

    /// Asks all who are due.
    async fn fetch_due(&self, clock: Clock) {
        let due = self.sets().begin(clock.now());
        let fetches = due.iter().map(async |url| {
            let answer = fetch::fetch(url, self.bytes_max).await;
            let answer = answer.as_deref().map_err(Clone::clone);
            match self.sets().handle_answer(url, answer, clock.now()) {
                Ok(keys) => info!(%url, keys, "keys of tokens fetched"),
                Err(why) => warn!(%url, why, "keys of tokens cannot be fetched: those that were known stay"),
            }
        });
        join_all(fetches).await;
        if !due.is_empty() {
            self.answered.send_modify(|answers| *answers += 1);
        }
    }

    /// Returns when somebody is due, or another configuration may have come.
    async fn pause(&self, clock: Clock) {
        let due = self.sets().next_due();
        let latest = clock.now().after(LOOK_INTERVAL);
        let until = clock.instant(due.map_or(latest, |due| due.min(latest)));
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.wanted.notified() => {}
        }
    }
}

/// Keeps the keys of the authenticator that holds at the moment, until dropped.
pub async fn keep_fetching(current: impl Fn() -> Arc<Authenticator>, clock: Clock) {
    loop {
        let jwks = current().jwks.clone();
        jwks.fetch_due(clock).await;
        jwks.pause(clock).await;
    }
}
