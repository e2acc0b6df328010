//! What this instance has that all of its cluster must have, as the others are told.

use sha2::{Digest, Sha256};
use tidings_protocol::{Alike, FORMAT};

use crate::config::Config;

/// Bytes of a fingerprint: enough to tell two configurations apart, too few to find a secret by.
const FINGERPRINT_BYTES: usize = 8;

/// What `config` says of it.
pub fn alike(config: &Config) -> Alike {
    let mut namespaces = Fingerprint::of("namespaces");
    // Whether a channel has positions is what instances must agree on; how much it keeps may differ for a while.
    let mut kinds: Vec<_> =
        config.namespaces.iter().map(|namespace| (namespace.name.clone(), namespace.is_volatile())).collect();
    kinds.sort();
    for (name, is_volatile) in kinds {
        namespaces.add(name.as_bytes());
        namespaces.add(&[u8::from(is_volatile)]);
    }
    let mut secrets = Fingerprint::of("secrets");
    if let Some(secret) = &config.auth.hmac_secret {
        secrets.add(secret.expose());
    }
    // In any order: which comes first means nothing.
    let mut keys: Vec<_> = config.token_keys.iter().map(|key| (key.kid.clone(), key.key.expose())).collect();
    keys.sort();
    for (kid, key) in keys {
        secrets.add(kid.unwrap_or_default().as_bytes());
        secrets.add(key);
    }
    let mut hashes: Vec<_> = config.api_keys.iter().map(|key| (key.name.as_str(), key.hash)).collect();
    hashes.sort_unstable();
    for (name, hash) in hashes {
        secrets.add(name.as_bytes());
        secrets.add(&hash);
    }
    Alike { format: FORMAT, namespaces: namespaces.text(), secrets: secrets.text() }
}

/// The hash of parts, each with its length before it: no two lists of parts are taken for each other.
struct Fingerprint(Sha256);

impl Fingerprint {
    fn of(what: &str) -> Self {
        let mut fingerprint = Fingerprint(Sha256::new());
        fingerprint.add(b"tidings");
        fingerprint.add(what.as_bytes());
        fingerprint
    }

    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn text(self) -> String {
        self.0.finalize().iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn of(toml: &str) -> Alike {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, toml).unwrap();
        let sources = Sources { file: Some(path), ..Sources::default() };
        alike(&Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config)
    }

    #[test]
    fn instances_are_alike_in_what_they_must_agree_on_and_may_differ_in_the_rest() {
        const SECRET: &str = "[auth]\nhmac_secret = \"canary-canary-canary-canary-canary\"\n";
        let here = of(&format!("{SECRET}[namespace.chat]\nhistory_size = 5\n"));
        for (toml, expected) in [
            (format!("{SECRET}[namespace.chat]\nhistory_size = 9\nhistory_age = \"1m\"\n"), &[][..]),
            (format!("{SECRET}[namespace.chat]\nhistory_size = 0\n"), &["namespaces"]),
            (SECRET.to_owned(), &["namespaces"]),
            ("[namespace.chat]\nhistory_size = 5\n".to_owned(), &["secrets"]),
            (format!("{}[namespace.chat]\n", SECRET.replace("canary\"", "canary2\"")), &["secrets"]),
        ] {
            assert_eq!(here.differences(&of(&toml)), expected, "{toml}");
        }
        assert!(!format!("{here:?}").contains("canary"));
    }
}
