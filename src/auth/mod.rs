//! Who may do what: credentials become grants, origins and hosts are judged. Pure: the time is an argument.

mod api_key;
mod jwt;
mod origin;

pub use api_key::{ApiKeys, hash_of, new_key};
pub use jwt::{Claims, JwtVerifier, Rights, sign};
pub use origin::{Origins, is_loopback_host};

use tidings_protocol::{Code, Problem};

use crate::config::Config;
use crate::hub::{Grant, PatternInvalid, Time};

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
    keys: ApiKeys,
    jwt: Option<JwtVerifier>,
    token_bytes_max: usize,
}

impl Authenticator {
    /// An authenticator for the configured keys and secrets. `open` lets everybody in who brings no credential: dev mode.
    pub fn new(config: &Config, open: bool) -> Result<Self, PatternInvalid> {
        Ok(Authenticator {
            open,
            keys: ApiKeys::new(&config.api_keys)?,
            jwt: config.auth.hmac_secret.as_ref().map(|secret| JwtVerifier::new(secret.expose())),
            token_bytes_max: config.limits.token_bytes_max,
        })
    }

    /// What somebody may do who brings no credential.
    pub fn anonymous(&self) -> Option<Grant> {
        self.open.then(Grant::open)
    }

    /// What the holder of a credential may do: an API key starts with `td_`, anything else is a JWT.
    pub fn authenticate(&self, token: &str, now: Now) -> Result<Grant, Problem> {
        if token.len() > self.token_bytes_max {
            return Err(refused());
        }
        let checked = match (token.strip_prefix(api_key::PREFIX), &self.jwt) {
            (Some(_), _) => self.keys.authenticate(token),
            (None, Some(jwt)) => jwt.authenticate(token, now),
            (None, None) => Err(refused()),
        };
        // Development needs no credential, so one that nothing here can check is as good as none.
        checked
            .or_else(|problem| if self.open && self.jwt.is_none() { Ok(Grant::open()) } else { Err(problem) })
    }
}

/// One answer for every cause, a missing credential among them: who guesses learns nothing.
pub fn refused() -> Problem {
    let message = "no credential that holds: send `Authorization: Bearer` with a valid token or API key";
    Problem::new(Code::Unauthorized, message)
}
