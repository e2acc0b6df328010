//! Who may do what: credentials become grants, origins and hosts are judged. Pure: the time is an argument, and keys that are
//! fetched are handed in by `jwks`, the one part that waits for something.

mod anonymous;
mod api_key;
mod jwks;
mod jws;
mod origin;
mod token;

pub use api_key::{ApiKeys, hash_of, is_api_key, new_key};
pub use jwks::keep_fetching;
pub use origin::{Origins, is_loopback_host};
pub use token::{Audience, Claims, Rights, sign};

use std::sync::Arc;

use tidings_protocol::{Code, Problem};

use crate::config::Config;
use crate::hub::{ChannelGrant, Credential, Grant, PatternInvalid, Time};
use crate::observe::IssuersHealth;
use jwks::Jwks;
use jws::Signed;
use token::Tokens;

/// The moment at which a credential is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// On this process's clock.
    pub time: Time,
    /// Seconds since 1970.
    pub unix: u64,
}

/// Checks credentials.
pub struct Authenticator {
    open: bool,
    anonymous: Option<Grant>,
    keys: ApiKeys,
    /// `None` where no key is known that could have signed one.
    tokens: Option<Tokens>,
    jwks: Arc<Jwks>,
    token_bytes_max: usize,
}

impl Authenticator {
    /// An authenticator for the configured keys and secrets. `open` lets everybody in who brings no credential: dev mode.
    pub fn new(config: &Config, open: bool) -> Result<Self, PatternInvalid> {
        Ok(Authenticator {
            open,
            anonymous: anonymous::grant(&config.namespaces),
            keys: ApiKeys::new(&config.api_keys)?,
            tokens: config.has_token_keys().then(|| Tokens::new(config)),
            jwks: Arc::new(Jwks::new(&config.jwks, config.limits.jwks_bytes_max)),
            token_bytes_max: config.limits.token_bytes_max,
        })
    }

    /// Takes over the keys that another one has fetched, before it takes that one's place.
    pub fn succeed(&self, before: &Authenticator) {
        self.jwks.take_over(&before.jwks);
    }

    /// What somebody may do who brings no credential.
    pub fn anonymous(&self) -> Option<Grant> {
        if self.open { Some(Grant::open()) } else { self.anonymous.clone() }
    }

    /// What the holder of a credential may do: an API key starts with `td_`, anything else is a JWT.
    pub fn authenticate(&self, token: &str, now: Now) -> Result<Grant, Problem> {
        let checked = match (token.strip_prefix(api_key::PREFIX), &self.tokens) {
            _ if token.len() > self.token_bytes_max => return Err(refused()),
            (Some(_), _) => self.keys.authenticate(token),
            (None, Some(tokens)) => {
                tokens.authenticate(token, |kid| self.jwks.keys(kid).unwrap_or_default(), now)
            }
            (None, None) => Err(refused()),
        };
        // Development needs no credential, so one that nothing here can check is as good as none.
        checked.or_else(
            |denied| if self.open && self.tokens.is_none() { Ok(Grant::open()) } else { Err(denied) },
        )
    }

    /// What a grant that was given before is by the keys and secrets of now; `None` where the one that it was checked with is
    /// gone. A key that has another name is the same key.
    pub fn grant_now<'a>(&'a self, grant: &'a Grant) -> Option<&'a Grant> {
        match &grant.credential {
            Credential::None => Some(grant),
            Credential::Anonymous => self.anonymous.as_ref(),
            Credential::ApiKey(_) => self.keys.grant_of(grant.mark),
            Credential::Token { .. } => {
                let is_configured = self.tokens.as_ref().is_some_and(|tokens| tokens.has(grant.mark));
                (is_configured || self.jwks.has(grant.mark)).then_some(grant)
            }
        }
    }

    /// The one channel that a token grants which came with a `subscribe`.
    pub fn admit(&self, token: &str, now: Now) -> Result<ChannelGrant, Problem> {
        match &self.tokens {
            Some(tokens) if token.len() <= self.token_bytes_max => {
                tokens.admit(token, |kid| self.jwks.keys(kid).unwrap_or_default(), now)
            }
            Some(_) | None => Err(refused()),
        }
    }

    /// Whether a token that was refused names a key which nobody knows. Returns once keys were fetched again; at once, and with
    /// false, where that is not to be waited for.
    pub async fn may_know_more_of(&self, token: &str, now: Now) -> bool {
        let is_unknown = || Signed::parse(token)?.kid().map(|kid| self.jwks.keys(kid).is_none());
        let is_short = token.len() <= self.token_bytes_max;
        is_short && is_unknown().unwrap_or(false) && self.jwks.fetched(now.time).await
    }

    /// How the fetching of keys stands; `None` where there is none.
    pub fn issuers(&self, now: Now) -> Option<IssuersHealth> {
        self.jwks.health(now.time)
    }
}

/// One answer for every cause, a missing credential among them: who guesses learns nothing.
pub fn refused() -> Problem {
    let message = "no credential that holds: send `Authorization: Bearer` with a valid token or API key";
    Problem::new(Code::Unauthorized, message)
}
