//! API keys of backends: random, shown once, known to the server by their hash.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tidings_protocol::{Problem, Tag};

use super::jws::mark_of;
use super::refused;
use crate::config::ApiKey;
use crate::hub::{Credential, Grant, Pattern, PatternInvalid};

/// What every key starts with, so that people and secret scanners know one when they see it.
pub(super) const PREFIX: &str = "td_";

/// Whether a credential is an API key, or wants to be one.
pub fn is_api_key(credential: &str) -> bool {
    credential.starts_with(PREFIX)
}

/// The keys that the server knows.
pub struct ApiKeys(Vec<([u8; 32], Grant)>);

impl ApiKeys {
    /// The configured keys with what they grant.
    pub fn new(keys: &[ApiKey]) -> Result<Self, PatternInvalid> {
        let grant = |key: &ApiKey| {
            let publish = patterns(&key.publish)?;
            let user: Arc<str> = key.name.as_str().into();
            let credential = Credential::ApiKey(user.clone());
            let tenant = key.tenant.as_deref().map(Arc::from);
            let subscribe = patterns(&key.subscribe)?;
            // A backend may read back what it may write, and know for whom it writes.
            let read_back = || publish.iter().chain(&subscribe).cloned().collect();
            let or_read_back = |texts: &Option<Vec<String>>| match texts {
                Some(texts) => patterns(texts),
                None => Ok(read_back()),
            };
            let (history, presence) = (or_read_back(&key.history)?, or_read_back(&key.presence)?);
            // Backends keep caches too, and the names of tags are their own.
            let watch = key.watch.clone().unwrap_or_else(|| vec![Tag::all()]);
            let mutate = key.mutate.clone();
            let admin = key.admin;
            let grant = Grant {
                user,
                tenant,
                credential,
                subscribe,
                publish,
                history,
                presence,
                watch,
                mutate,
                admin,
                mark: mark_of(&key.hash),
                ..Grant::default()
            };
            Ok((key.hash, grant))
        };
        keys.iter().map(grant).collect::<Result<_, _>>().map(ApiKeys)
    }

    /// What the key grants. A plain hash is enough for keys of 256 random bits; every known hash is compared in
    /// constant time.
    pub fn authenticate(&self, key: &str) -> Result<Grant, Problem> {
        let hash = hash_of(key);
        let mut found = None;
        for (known, grant) in &self.0 {
            if bool::from(known.ct_eq(&hash)) {
                found = Some(grant);
            }
        }
        found.cloned().ok_or_else(refused)
    }

    /// What the key with this mark grants now.
    pub fn grant_of(&self, mark: u64) -> Option<&Grant> {
        self.0.iter().map(|(_, grant)| grant).find(|grant| grant.mark == mark)
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, PatternInvalid> {
    texts.iter().map(|text| Pattern::parse(text)).collect()
}

/// What the configuration holds of a key.
pub fn hash_of(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// A key made of 32 random bytes.
pub fn new_key(random: [u8; 32]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_protocol::Channel;

    #[test]
    fn a_key_grants_what_its_entry_says() {
        let key = new_key([7; 32]);
        let entry = ApiKey {
            name: "backend".to_owned(),
            hash: hash_of(&key),
            tenant: Some("acme".to_owned()),
            publish: vec!["tickets".to_owned()],
            subscribe: vec!["news:*".to_owned()],
            history: None,
            presence: Some(Vec::new()),
            watch: None,
            mutate: vec![Tag::parse("ticket:*").unwrap()],
            admin: false,
        };
        let keys = ApiKeys::new(&[entry]).unwrap();
        let grant = keys.authenticate(&key).unwrap();
        let channel = |name| Channel::parse(name).unwrap();
        assert!(grant.may_publish(&channel("tickets")) && !grant.may_publish(&channel("other")));
        assert!(grant.may_subscribe(&channel("news:1")) && !grant.may_publish(&channel("news:1")));
        assert!(grant.may_read_history(&channel("news:1")) && grant.may_read_history(&channel("tickets")));
        assert!(!grant.may_see_presence(&channel("tickets")), "it says that it sees none");
        assert!(!grant.may_subscribe(&channel("tickets")) && !grant.admin);
        assert_eq!(grant.tenant.as_deref(), Some("acme"));
        assert_eq!(grant.credential, Credential::ApiKey("backend".into()));
        let tag = |text| Tag::parse(text).unwrap();
        assert!(grant.may_mutate(&tag("ticket:42")) && !grant.may_mutate(&tag("user:1")));
        assert!(grant.may_watch(&tag("user:1")));
        assert!(keys.authenticate(&new_key([8; 32])).is_err());
        assert!(keys.authenticate(PREFIX).is_err());
    }
}
