//! A running instance takes on another configuration, as far as that can be done without ending it.

use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::CloseCode;

use super::{Instance, answers_bytes, bodies_bytes, sse_sessions, websocket_sessions};
use crate::auth::{Authenticator, Origins};
use crate::broker::alike;
use crate::config::{ApiKey, Config};
use crate::freshness::Rules;
use crate::hub::{Close, PatternInvalid};

/// How long a connection whose key is gone may take to say so to its peer.
const LAST_WORDS_TIME: Duration = Duration::from_millis(700);

/// What came of a reload: names of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// In effect from now on.
    pub changed: Vec<String>,
    /// Different from what the server was started with, and without effect until it is started again.
    pub needs_restart: Vec<String>,
}

/// Why a legal configuration is not taken on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It would not have started the server.
    #[error("{0}")]
    Unusable(crate::config::Problems),
    /// An API key has a pattern outside the grammar.
    #[error("[[api_key]]: {0:?}")]
    Pattern(PatternInvalid),
}

impl Instance {
    /// Takes on what of `new` can be; on an error nothing changes. Connections that came by a key or secret that is gone end
    /// within a second; those whose key grants less lose what it does not grant any more.
    pub fn reload(&self, new: &Config) -> Result<Reloaded, ReloadError> {
        let unusable = if self.dev { new.problems_for_dev() } else { new.problems_for_serve() };
        if !unusable.is_empty() {
            return Err(ReloadError::Unusable(unusable));
        }
        let config = Arc::new(self.config.reloaded(new));
        let authenticator = Authenticator::new(&config, self.dev).map_err(ReloadError::Pattern)?;
        authenticator.succeed(&self.authenticator.load());
        self.authenticator.store(Arc::new(authenticator));
        let before = self.effective.swap(config.clone());
        self.node.card().set_alike(alike(&config));
        let gone: Vec<&ApiKey> = before.api_keys.iter().filter(|key| is_gone(key, &config)).collect();
        self.end_connections_of(&gone);

        // Those of other credentials go on with what these grant now.
        self.node.recheck_credentials();

        let limits_differ = before.limits != config.limits;
        if limits_differ {
            self.limits.store(Arc::new(config.limits.clone()));
            self.bodies.pot.set_total(bodies_bytes(&config.limits));
            self.answers.shares.pot.set_total(answers_bytes(&config.limits));
            self.rates.store(Arc::new(self.rates.load().reloaded(&config.limits)));
            self.arrivals.lock().expect("nobody panics with the arrivals").set(&config.limits);
            self.memory.set_budget(crate::observe::memory_budget(config.limits.memory_bytes));
        }
        let allowed = config.server.allowed_origins.iter().map(|origin| origin.as_str().to_owned());
        self.origins.store(Arc::new(Origins::new(allowed.collect(), self.dev)));
        self.websocket.store(Arc::new(websocket_sessions(&config, self.node.broker_name())));
        self.sse.store(Arc::new(sse_sessions(&config, self.node.broker_name())));
        if before.rules != config.rules {
            self.rules.send_replace(Arc::new(Rules::new(config.rules.clone())));
        }
        Ok(Reloaded { changed: before.differences(&config), needs_restart: config.differences(new) })
    }

    fn end_connections_of(&self, gone: &[&ApiKey]) {
        let named = |name: &str| gone.iter().any(|key| key.name == name);
        let close = Close::new(CloseCode::Unauthorized, "the API key is no longer valid");
        let ended = self.node.close_those_by_key(named, &close);
        if ended.is_empty() {
            return;
        }
        // Whoever does not read its last words does not get to keep its connection.
        self.tasks.spawn(async move {
            tokio::time::sleep(LAST_WORDS_TIME).await;
            ended.iter().for_each(|mailbox| mailbox.give_up());
        });
    }
}

/// A key of another hash is another key, and one of another name is the same.
fn is_gone(key: &ApiKey, config: &Config) -> bool {
    !config.api_keys.iter().any(|other| other.hash == key.hash)
}
