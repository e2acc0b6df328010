//! Tokens of clients: JSON Web Tokens (RFC 7519) that a backend makes and the server only checks.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use tidings_protocol::{Channel, Code, Problem, Tag};

use super::jws::{Signed, VerificationKey};
use super::{Now, refused};
use crate::config::Config;
use crate::hub::{ChannelGrant, Credential, Expiry, Grant, Pattern};

/// How far in the future a token may have been issued: clocks differ. More would outlive a revocation that comes between.
const AHEAD_MAX: u64 = 60;

/// Checks tokens against the configured keys, and those that are handed in.
pub(super) struct Tokens {
    keys: Vec<VerificationKey>,
    issuer: Option<String>,
    audience: Option<String>,
    life_max: u64,
}

/// What a token says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Claims {
    /// The user; empty for an anonymous one.
    #[serde(default)]
    pub sub: String,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// When it begins, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was issued, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Whom limits count it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it grants.
    #[serde(default)]
    pub tidings: Rights,
}

/// Whom a token is for: one, or several.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// What a token grants: patterns of channels, and tags; or one channel alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Rights {
    /// Channels to subscribe to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// Channels to publish to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Channels whose history may be read; those of `subscribe` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<String>>,
    /// Channels of which it may be known who is in them; those of `subscribe` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Vec<String>>,
    /// Tags and subtrees to watch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watch: Vec<String>,
    /// Tags and subtrees to mutate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutate: Vec<String>,
    /// Channels subscribed to without asking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// The one channel that the token is for: it goes with a `subscribe`, and is no credential of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

impl Audience {
    fn has(&self, name: &str) -> bool {
        match self {
            Audience::One(one) => one == name,
            Audience::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

impl Tokens {
    /// Checks by the keys of the configuration.
    pub(super) fn new(config: &Config) -> Self {
        let auth = &config.auth;
        let shorthand = auth.hmac_secret.iter().map(|secret| {
            let key = jsonwebtoken::DecodingKey::from_secret(secret.expose());
            VerificationKey::new(Algorithm::HS256, None, key, secret.expose())
        });
        let named = config.token_keys.iter().map(|configured| {
            let key = configured.decoding_key().expect("the configuration was checked");
            let kid = configured.kid.as_deref().map(Arc::from);
            VerificationKey::new(configured.algorithm.0, kid, key, configured.key.expose())
        });
        Tokens {
            keys: shorthand.chain(named).collect(),
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            life_max: auth.token_life_max.as_secs(),
        }
    }

    /// What a connection or a request with this token may do now. `fetched` gives the fetched keys of a name.
    pub(super) fn authenticate(
        &self,
        token: &str,
        fetched: impl FnOnce(&str) -> Vec<VerificationKey>,
        now: Now,
    ) -> Result<Grant, Problem> {
        let (claims, expires, mark) = self.claims(token, fetched, now)?;
        match claims.tidings.channel {
            // It was given for one subscription, and says nothing of all else.
            Some(_) => Err(refused()),
            None => grant(claims, expires, mark).ok_or_else(refused),
        }
    }

    /// Whether one of the configured keys has this mark.
    pub(super) fn has(&self, mark: u64) -> bool {
        self.keys.iter().any(|key| key.mark() == mark)
    }

    /// The one channel that this token grants now.
    pub(super) fn admit(
        &self,
        token: &str,
        fetched: impl FnOnce(&str) -> Vec<VerificationKey>,
        now: Now,
    ) -> Result<ChannelGrant, Problem> {
        let (claims, expires, _) = self.claims(token, fetched, now)?;
        let channel = claims.tidings.channel.as_deref().and_then(|name| Channel::parse(name).ok());
        let credential = claims.credential();
        let channel = channel.ok_or_else(refused)?;
        Ok(ChannelGrant { channel, user: claims.sub.into(), credential, expires })
    }

    fn claims(
        &self,
        token: &str,
        fetched: impl FnOnce(&str) -> Vec<VerificationKey>,
        now: Now,
    ) -> Result<(Claims, Expiry, u64), Problem> {
        let signed = Signed::parse(token).ok_or_else(refused)?;
        let (words, mark) = match signed.verified(self.keys.iter()) {
            Some(verified) => verified,
            None => {
                let kid = signed.kid().ok_or_else(refused)?;
                let keys = fetched(kid);
                signed.verified(keys.iter()).ok_or_else(refused)?
            }
        };
        let claims: Claims = serde_json::from_slice(&words).map_err(|_| refused())?;
        if !self.is_meant(&claims) || claims.is_early(now.unix) {
            return Err(refused());
        }
        // Without leeway: a permission ends when it says.
        let left = claims.exp.checked_sub(now.unix).filter(|left| *left > 0);
        let left = left.ok_or_else(|| Problem::from(Code::TokenExpired))?;
        if left > self.life_max {
            return Err(refused());
        }
        let expires = Expiry { at: now.time.after(Duration::from_secs(left)), exp: claims.exp };
        Ok((claims, expires, mark))
    }

    /// Whether it comes from whom, and is for whom, the configuration says.
    fn is_meant(&self, claims: &Claims) -> bool {
        let from = self.issuer.as_ref().is_none_or(|issuer| claims.iss.as_ref() == Some(issuer));
        let for_us = |audience: &String| claims.aud.as_ref().is_some_and(|aud| aud.has(audience));
        from && self.audience.as_ref().is_none_or(for_us)
    }
}

impl Claims {
    /// Whether it does not hold yet, or was issued later than clocks can differ.
    fn is_early(&self, now: u64) -> bool {
        self.nbf.is_some_and(|nbf| nbf > now) || self.iat.is_some_and(|iat| iat > now + AHEAD_MAX)
    }

    fn credential(&self) -> Credential {
        Credential::Token { id: self.jti.as_deref().map(Arc::from), issued: self.iat }
    }
}

/// `None` where a pattern, a tag or a name is outside the grammar: a token whose words mean nothing grants nothing.
fn grant(claims: Claims, expires: Expiry, mark: u64) -> Option<Grant> {
    let patterns =
        |texts: &[String]| texts.iter().map(|text| Pattern::parse(text).ok()).collect::<Option<Vec<_>>>();
    let tags = |texts: &[String]| texts.iter().map(|text| Tag::parse(text).ok()).collect::<Option<Vec<_>>>();
    let credential = claims.credential();
    let rights = claims.tidings;
    let subscribe = patterns(&rights.subscribe)?;
    let or_subscribe = |texts: &Option<Vec<String>>| match texts {
        Some(texts) => patterns(texts),
        None => Some(subscribe.clone()),
    };
    Some(Grant {
        user: claims.sub.into(),
        tenant: claims.tenant.map(Arc::from),
        credential,
        publish: patterns(&rights.publish)?,
        history: or_subscribe(&rights.history)?,
        presence: or_subscribe(&rights.presence)?,
        subscribe,
        watch: tags(&rights.watch)?,
        mutate: tags(&rights.mutate)?,
        channels: rights.channels.iter().map(|name| Channel::parse(name).ok()).collect::<Option<_>>()?,
        admin: false,
        expires: Some(expires),
        mark,
    })
}

/// Makes a token, as `tidings token` and backends do.
pub fn sign(claims: &Claims, secret: &[u8]) -> Result<String, jsonwebtoken::errors::Error> {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret))
}

#[cfg(test)]
mod tests;
