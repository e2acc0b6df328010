//! Sets of keys, each from one address: what is known, since when, and when to ask again.
//!
//! It does not fetch. A set that cannot be had, or holds nothing of use, leaves those keys in place that were there before.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::jws::VerificationKey;
use crate::config::{JwksConfig, JwksUrl, TokenAlgorithm, check_key, is_kid};
use crate::hub::Time;
use crate::observe::IssuersHealth;

/// The least time between two questions to one address: whoever makes up names of keys costs nobody more than that.
const PAUSE: Duration = Duration::from_secs(10);

/// Keys of one set that count: issuers have a handful.
const KEYS_MAX: usize = 64;

/// The sets of all addresses.
pub(super) struct KeySets {
    sources: Vec<Source>,
    refresh: Duration,
}

struct Source {
    url: JwksUrl,
    keys: Vec<VerificationKey>,
    /// Not asked again before.
    due: Time,
    /// When it was asked last.
    asked: Option<Time>,
    /// It is asked just now.
    is_asked: bool,
    /// Since when it does not answer as it should.
    failing: Option<Time>,
}

impl KeySets {
    pub(super) fn new(config: &JwksConfig) -> Self {
        let source = |url: &JwksUrl| Source {
            url: url.clone(),
            keys: Vec::new(),
            due: Time::ZERO,
            asked: None,
            is_asked: false,
            failing: None,
        };
        KeySets { sources: config.url.iter().map(source).collect(), refresh: config.refresh }
    }

    /// Takes over what `before` knows of the same addresses.
    pub(super) fn take_over(&mut self, before: &KeySets) {
        for source in &mut self.sources {
            if let Some(known) = before.sources.iter().find(|known| known.url == source.url) {
                source.keys.clone_from(&known.keys);
                (source.asked, source.failing) = (known.asked, known.failing);
            }
        }
    }

    /// The keys called so; `None` where none is, and it may be worth a question.
    pub(super) fn keys(&self, kid: &str) -> Option<Vec<VerificationKey>> {
        if self.sources.is_empty() {
            return Some(Vec::new());
        }
        let all = self.sources.iter().flat_map(|source| &source.keys);
        let named: Vec<_> = all.filter(|key| key.kid().is_some_and(|own| **own == *kid)).cloned().collect();
        (!named.is_empty()).then_some(named)
    }

    /// Whether one of the keys has this mark.
    pub(super) fn has(&self, mark: u64) -> bool {
        self.sources.iter().flat_map(|source| &source.keys).any(|key| key.mark() == mark)
    }

    /// A key was missing. True where an answer is on its way, or is asked for from now on.
    pub(super) fn want(&mut self, now: Time) -> bool {
        let mut wanted = false;
        for source in &mut self.sources {
            let may_be_asked = source.asked.is_none_or(|asked| asked.after(PAUSE) <= now);
            if may_be_asked {
                source.due = source.due.min(now);
            }
            wanted |= source.is_asked || may_be_asked;
        }
        wanted
    }

    /// The addresses to be asked now; each is answered by [`KeySets::handle_answer`].
    pub(super) fn begin(&mut self, now: Time) -> Vec<JwksUrl> {
        let due = self.sources.iter_mut().filter(|source| source.due <= now && !source.is_asked);
        let begun = due.map(|source| {
            source.is_asked = true;
            source.asked = Some(now);
            source.url.clone()
        });
        begun.collect()
    }

    /// When the next address is to be asked.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.sources.iter().filter(|source| !source.is_asked).map(|source| source.due).min()
    }

    /// An address answered, or why it did not. The number of its keys, or what is wrong.
    pub(super) fn handle_answer(
        &mut self,
        url: &JwksUrl,
        answer: Result<&[u8], String>,
        now: Time,
    ) -> Result<usize, String> {
        let Some(source) = self.sources.iter_mut().find(|source| source.url == *url) else { return Ok(0) };
        source.is_asked = false;
        match answer.and_then(keys_of) {
            Ok(keys) => {
                source.due = now.after(self.refresh);
                source.failing = None;
                source.keys = keys;
                Ok(source.keys.len())
            }
            Err(why) => {
                source.due = now.after(self.refresh.min(PAUSE));
                source.failing.get_or_insert(now);
                Err(why)
            }
        }
    }

    pub(super) fn health(&self, now: Time) -> Option<IssuersHealth> {
        let failing = || self.sources.iter().filter_map(|source| source.failing);
        (!self.sources.is_empty()).then(|| IssuersHealth {
            sources: self.sources.len(),
            failing: failing().count(),
            failing_for: failing().min().map_or(Duration::ZERO, |since| now.since(since)),
            keys: self.sources.iter().map(|source| source.keys.len()).sum(),
        })
    }
}

/// The keys of a set that signatures can be checked with; others, of other uses and later kinds, are passed over.
fn keys_of(body: &[u8]) -> Result<Vec<VerificationKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    // The library's words would repeat what it saw.
    let set: Set = serde_json::from_slice(body).map_err(|_| "the answer is no set of keys".to_owned())?;
    let keys: Vec<_> = set.keys.iter().filter_map(key_of).take(KEYS_MAX).collect();
    match keys.is_empty() {
        true => Err(format!("none of its {} keys can check signatures", set.keys.len())),
        false => Ok(keys),
    }
}

fn key_of(value: &Value) -> Option<VerificationKey> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let kid = text("kid").filter(|kid| is_kid(kid))?;
    let signs = text("use").is_none_or(|usage| usage == "sig");
    let verifies = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
    let signs = signs && value.get("key_ops").and_then(Value::as_array).is_none_or(verifies);
    // A key without an algorithm is for the first of its kind, and for no other.
    let algorithm = match text("alg") {
        Some(name) => TokenAlgorithm::named(name)?.0,
        None => match (text("kty")?, text("crv")) {
            ("RSA", _) => Algorithm::RS256,
            ("EC", Some("P-256")) => Algorithm::ES256,
            ("EC", Some("P-384")) => Algorithm::ES384,
            ("OKP", Some("Ed25519")) => Algorithm::EdDSA,
            _ => return None,
        },
    };
    // A secret that everybody can fetch is none.
    if !signs || algorithm.family() == AlgorithmFamily::Hmac {
        return None;
    }
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    check_key(&key, algorithm).ok()?;
    // A set that is fetched again says the same of the same key.
    let material = serde_json::to_vec(value).ok()?;
    Some(VerificationKey::new(algorithm, Some(Arc::from(kid)), key, &material))
}

#[cfg(test)]
mod tests;
