//! Signatures of tokens: which key a token was signed with, and whether it was.
//!
//! A token says of itself which key it is (`kid`) and nothing else that counts: the algorithm is the key's own, and what
//! could lead elsewhere (`jku`, `jwk`, `x5u`, `x5c`) is not even read. What the signed words mean is said by `token`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use crate::config::{TokenAlgorithm, is_kid};

/// A key that signatures are checked with.
#[derive(Clone)]
pub(super) struct VerificationKey {
    algorithm: Algorithm,
    kid: Option<Arc<str>>,
    key: DecodingKey,
    mark: u64,
}

/// What is read of a token's header.
#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that must be understood: none is.
    crit: Option<IgnoredAny>,
}

/// A token in its parts, with a header that can be understood.
pub(super) struct Signed<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl VerificationKey {
    /// `material` is what the key was made of.
    pub(super) fn new(
        algorithm: Algorithm,
        kid: Option<Arc<str>>,
        key: DecodingKey,
        material: &[u8],
    ) -> Self {
        let digest = Sha256::new().chain_update(format!("{algorithm:?} ")).chain_update(material).finalize();
        VerificationKey { algorithm, kid, key, mark: mark_of(&digest) }
    }

    /// Names the key without giving it away.
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    pub(super) fn kid(&self) -> Option<&Arc<str>> {
        self.kid.as_ref()
    }

    /// Whether a token that says so may have been signed with this key.
    fn fits(&self, token: &Signed<'_>) -> bool {
        let named = match (&self.kid, &token.kid) {
            (Some(own), Some(asked)) => **own == **asked,
            // A key without a name is tried for all, and a token without one may be of any.
            (None, _) | (_, None) => true,
        };
        named && self.algorithm == token.algorithm
    }
}

impl<'a> Signed<'a> {
    /// Takes a token apart; `None` where it is none, or asks for what nobody here understands.
    pub(super) fn parse(token: &'a str) -> Option<Signed<'a>> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let is_jwt = |typ: &String| typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("at+jwt");
        let understood = header.crit.is_none()
            && header.typ.as_ref().is_none_or(is_jwt)
            && header.kid.as_deref().is_none_or(is_kid);
        let TokenAlgorithm(algorithm) = TokenAlgorithm::named(&header.alg)?;
        understood.then_some(Signed { algorithm, kid: header.kid, message, payload, signature })
    }

    /// What the token says of the key that signed it.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The signed words, if one of the keys signed them, and the mark of that one.
    pub(super) fn verified<'k>(
        &self,
        mut keys: impl Iterator<Item = &'k VerificationKey>,
    ) -> Option<(Vec<u8>, u64)> {
        let signed = |key: &VerificationKey| {
            let checked = jsonwebtoken::crypto::verify(
                self.signature,
                self.message.as_bytes(),
                &key.key,
                key.algorithm,
            );
            checked.unwrap_or(false)
        };
        let key = keys.find(|key| key.fits(self) && signed(key))?;
        Some((URL_SAFE_NO_PAD.decode(self.payload).ok()?, key.mark))
    }
}

/// The first 64 bits of a hash.
pub(super) fn mark_of(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}
