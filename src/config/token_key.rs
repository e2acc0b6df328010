//! `[[auth.key]]`: keys that tokens are signed with, each for one algorithm.
//!
//! Which of them a token was signed with is found out by `auth`.

use std::fmt;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};

use super::auth::Secret;
use super::kind::{Fault, Form, Kind, Words, quoted, text, unexpected};
use super::raw::Raw;
use super::section::section;

section! {
    /// Keys that tokens are signed with, one section each. Two hold at once while one takes the place of the other.
    pub struct TokenKey: List "auth.key" {
        /// The one algorithm that this key is for; what a token says of itself changes nothing.
        algorithm: TokenAlgorithm;
        /// The `kid` of tokens signed with it. A key with none is tried for every token of its algorithm.
        kid: Option<String> as Option<Kid>;
        /// For HS256, HS384 and HS512 the secret, at least 32 bytes; for all others the public key, as PEM.
        key: KeyText;
    }
}

/// The algorithm of a key, by its name among JSON Web Algorithms (RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAlgorithm(pub Algorithm);

impl Words for TokenAlgorithm {
    const EXPECTED: &'static str =
        "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA";
    const EXAMPLE: &'static str = "\"HS256\"";
    const WORDS: &'static [(&'static str, TokenAlgorithm)] = &[
        ("HS256", TokenAlgorithm(Algorithm::HS256)),
        ("HS384", TokenAlgorithm(Algorithm::HS384)),
        ("HS512", TokenAlgorithm(Algorithm::HS512)),
        ("RS256", TokenAlgorithm(Algorithm::RS256)),
        ("RS384", TokenAlgorithm(Algorithm::RS384)),
        ("RS512", TokenAlgorithm(Algorithm::RS512)),
        ("PS256", TokenAlgorithm(Algorithm::PS256)),
        ("PS384", TokenAlgorithm(Algorithm::PS384)),
        ("PS512", TokenAlgorithm(Algorithm::PS512)),
        ("ES256", TokenAlgorithm(Algorithm::ES256)),
        ("ES384", TokenAlgorithm(Algorithm::ES384)),
        ("EdDSA", TokenAlgorithm(Algorithm::EdDSA)),
    ];
}

impl TokenAlgorithm {
    /// The algorithm called so; `None` for one that no key can have.
    pub fn named(name: &str) -> Option<TokenAlgorithm> {
        TokenAlgorithm::WORDS.iter().find(|(word, _)| *word == name).map(|(_, algorithm)| *algorithm)
    }
}

/// The fewest bits of an RSA modulus (RFC 7518, 3.3).
const RSA_BITS_MIN: usize = 2_048;

impl TokenKey {
    /// The key as signatures are checked with it, or why it is none for its algorithm.
    pub fn decoding_key(&self) -> Result<DecodingKey, String> {
        let (TokenAlgorithm(algorithm), bytes) = (self.algorithm, self.key.expose());
        if algorithm.family() == AlgorithmFamily::Hmac {
            if bytes.len() < Secret::BYTES_MIN {
                return Err(format!("expected at least {} bytes, saw {}", Secret::BYTES_MIN, bytes.len()));
            }
            return Ok(DecodingKey::from_secret(bytes));
        }
        let read = match algorithm.family() {
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(bytes),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(bytes),
            AlgorithmFamily::Ed | AlgorithmFamily::Hmac => DecodingKey::from_ed_pem(bytes),
        };
        // The library's words may repeat what it saw.
        let key = read.map_err(|_| format!("expected a public key for {algorithm:?}, as PEM"))?;
        check_key(&key, algorithm).map(|()| key)
    }
}

/// Whether a public key fits its algorithm and is long enough.
pub fn check_key(key: &DecodingKey, algorithm: Algorithm) -> Result<(), String> {
    if key.family() != algorithm.family() {
        return Err(format!("the key is none for {algorithm:?}"));
    }
    let bytes = match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => bytes.as_slice(),
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.as_slice(),
    };
    let expected = match algorithm.family() {
        AlgorithmFamily::Hmac => return Ok(()),
        AlgorithmFamily::Rsa => {
            let modulus = match key.kind() {
                DecodingKeyKind::SecretOrDer(der) => modulus_of(der).unwrap_or_default(),
                DecodingKeyKind::RsaModulusExponent { n, .. } => n,
            };
            let bits = bits(modulus);
            return match bits >= RSA_BITS_MIN {
                true => Ok(()),
                false => Err(format!("expected an RSA key of at least {RSA_BITS_MIN} bits, saw {bits}")),
            };
        }
        // A point of the curve, not compressed: a byte that says so, and two coordinates.
        AlgorithmFamily::Ec if algorithm == Algorithm::ES384 => 1 + 2 * 48,
        AlgorithmFamily::Ec => 1 + 2 * 32,
        AlgorithmFamily::Ed => 32,
    };
    match bytes.len() == expected {
        true => Ok(()),
        false => Err(format!("the key is of another curve than that of {algorithm:?}")),
    }
}

/// The modulus of an RSA key in the form of PKCS #1: a sequence that begins with it.
fn modulus_of(der: &[u8]) -> Option<&[u8]> {
    let sequence = element(der, 0x30)?;
    element(sequence, 0x02)
}

/// The content of the DER element that `der` begins with, if its tag is this.
fn element(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (bytes, rest) =
                rest.split_at_checked(usize::from(long & 0x7f)).filter(|(b, _)| b.len() <= 4)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    rest.get(..length).filter(|_| *first == tag)
}

fn bits(number: &[u8]) -> usize {
    let digits = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    digits.first().map_or(0, |first| digits.len() * 8 - first.leading_zeros() as usize)
}

/// A secret, or a public key as PEM. Neither `Debug` nor `config show` gives it away.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(Box<[u8]>);

impl KeyText {
    /// The text itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyText(***)")
    }
}

impl Kind for KeyText {
    type Value = KeyText;
    const EXPECTED: &'static str = "a secret of at least 32 bytes, or a public key as PEM";
    const EXAMPLE: &'static str = "\"at least 32 bytes that nobody can guess\"";
    const FORM: Form = Form::Text;
    const SENSITIVE: bool = true;
    const SECRET: bool = true;

    fn parse(raw: &Raw) -> Result<KeyText, Fault> {
        Ok(KeyText(text::<KeyText>(raw)?.as_bytes().into()))
    }

    fn show(_: &KeyText) -> Option<String> {
        Some(quoted("***"))
    }
}

/// What tells keys apart. No path, no URL: nobody is tempted to look for a key where it says.
pub(crate) struct Kid;

impl Kind for Kid {
    type Value = String;
    const EXPECTED: &'static str = "1 to 128 letters, digits, `-`, `_`, `.`, `=`, `+` and `:`";
    const EXAMPLE: &'static str = "\"2026-01\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<String, Fault> {
        let text = text::<Kid>(raw)?;
        match is_kid(text) {
            true => Ok(text.to_owned()),
            false => Err(unexpected::<Kid>(raw)),
        }
    }

    fn show(kid: &String) -> Option<String> {
        Some(quoted(kid))
    }
}

/// Whether a key can be called so.
pub fn is_kid(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+:".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(algorithm: Algorithm, key: &str) -> Option<String> {
        let key = KeyText::parse(&Raw::text(key)).expect("is text");
        let key = TokenKey { algorithm: TokenAlgorithm(algorithm), kid: None, key };
        key.decoding_key().err()
    }

    #[test]
    fn a_key_fits_its_algorithm_and_is_long_enough() {
        let keys = [
            (include_str!("tests/keys/rsa2048.pub.pem"), &[Algorithm::RS256, Algorithm::PS512][..]),
            (include_str!("tests/keys/p256.pub.pem"), &[Algorithm::ES256]),
            (include_str!("tests/keys/p384.pub.pem"), &[Algorithm::ES384]),
            (include_str!("tests/keys/ed25519.pub.pem"), &[Algorithm::EdDSA]),
        ];
        for (pem, fits) in keys {
            for (_, TokenAlgorithm(algorithm)) in TokenAlgorithm::WORDS {
                let is_public = algorithm.family() != AlgorithmFamily::Hmac;
                let family = fits.iter().any(|fit| fit.family() == algorithm.family());
                let expected =
                    fits.contains(algorithm) || (family && algorithm.family() == AlgorithmFamily::Rsa);
                if is_public {
                    assert_eq!(refused(*algorithm, pem).is_none(), expected, "{algorithm:?} {pem}");
                }
            }
        }
        let short = refused(Algorithm::RS256, include_str!("tests/keys/rsa1024.pub.pem"));
        assert!(short.is_some_and(|why| why.contains("at least 2048 bits, saw 1024")));
        assert_eq!(refused(Algorithm::HS256, &"x".repeat(32)), None);
        for (algorithm, key) in
            [(Algorithm::HS256, "canary"), (Algorithm::RS256, "canary"), (Algorithm::ES256, "")]
        {
            let why = refused(algorithm, key).expect("is no key");
            assert!(!why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn the_name_of_a_key_is_no_path() {
        for (kid, legal) in [
            ("2026-01", true),
            ("a.b_C=", true),
            ("", false),
            ("../x", false),
            ("/etc/x", false),
            ("a b", false),
        ] {
            assert_eq!(is_kid(kid), legal, "{kid}");
        }
    }
}
