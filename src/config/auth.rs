//! `[auth]` and `[[api_key]]`: what the server knows of credentials.
//!
//! How a credential is checked is not said here.

use std::fmt;
use std::time::Duration;

use tidings_protocol::Tag;

use super::kind::{Fault, Form, Kind, quoted, text, unexpected};
use super::names::{Pattern, TagPattern};
use super::raw::Raw;
use super::section::section;

section! {
    /// How the tokens (JWT) of clients are checked.
    pub struct AuthConfig: Single "auth" {
        /// Secret of tokens signed with HS256, at least 32 bytes long: short for a [[auth.key]] of that algorithm.
        hmac_secret: Option<Secret>;
        /// The `iss` that every token must have.
        issuer: Option<String>;
        /// The `aud` that every token must have, alone or among others.
        audience: Option<String>;
        /// A token that ends later than so long from now is refused; a revocation is remembered for so long.
        token_life_max: Duration = "366days" in "1m" to "36500days";
    }
}

section! {
    /// Keys of backends, one section each: `tidings keys new` prints one.
    pub struct ApiKey: List "api_key" {
        /// Names the key in logs. No two keys share a name.
        name: String as Label;
        /// SHA-256 of the key: the key itself is in no file of the server.
        hash: [u8; 32] as KeyHash;
        /// Limits count the key's requests to this tenant.
        tenant: Option<String>;
        /// Channels it may publish to: exact names, or beginnings that end in `*`.
        publish: Vec<String> as Vec<Pattern> = [];
        /// Channels it may subscribe to.
        subscribe: Vec<String> as Vec<Pattern> = [];
        /// Channels whose history it may read; those that it may publish or subscribe to if absent.
        history: Option<Vec<String>> as Option<Vec<Pattern>>;
        /// Channels of which it may know who is in them; those that it may publish or subscribe to if absent.
        presence: Option<Vec<String>> as Option<Vec<Pattern>>;
        /// Tags that it may watch, and ask after; all of them if absent.
        watch: Option<Vec<Tag>> as Option<Vec<TagPattern>>;
        /// Tags it may invalidate and mutate: exact tags, or subtrees that end in `:*`, or "*".
        mutate: Vec<Tag> as Vec<TagPattern> = [];
        /// May read the state of channels and connections, and close connections.
        /// It may also revoke tokens.
        admin: bool = false;
    }
}

/// Bytes that sign tokens. Neither `Debug` nor `config show` gives them away.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// As many bytes as the shortest hash gives out: a shorter secret would be easier to guess than the signature.
    pub const BYTES_MIN: usize = 32;

    /// The secret itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(***)")
    }
}

impl Kind for Secret {
    type Value = Secret;
    const EXPECTED: &'static str = "a string of at least 32 bytes";
    const EXAMPLE: &'static str = "\"at least 32 bytes that nobody can guess\"";
    const FORM: Form = Form::Text;
    const SENSITIVE: bool = true;
    const SECRET: bool = true;

    fn parse(raw: &Raw) -> Result<Secret, Fault> {
        let text = text::<Secret>(raw)?;
        if text.len() < Secret::BYTES_MIN {
            let message = format!("expected at least {} bytes, saw {}", Secret::BYTES_MIN, text.len());
            return Err(Fault::new(raw, message).with_hint("`openssl rand -hex 32` makes one"));
        }
        Ok(Secret(text.as_bytes().into()))
    }

    fn show(_: &Secret) -> Option<String> {
        Some(quoted("***"))
    }
}

/// The name of an API key.
pub(crate) struct Label;

impl Kind for Label {
    type Value = String;
    const EXPECTED: &'static str = "a name of 1 to 64 letters, digits, `-`, `_` and `.`";
    const EXAMPLE: &'static str = "\"backend\"";
    const FORM: Form = Form::Text;

    fn parse(raw: &Raw) -> Result<String, Fault> {
        let text = text::<Label>(raw)?;
        let legal = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        match text.len() {
            1..=64 if legal => Ok(text.to_owned()),
            _ => Err(unexpected::<Label>(raw)),
        }
    }

    fn show(name: &String) -> Option<String> {
        Some(quoted(name))
    }
}

/// `sha256:` and 64 hexadecimal digits. Sensitive, since the key itself is what one writes there by mistake.
pub(crate) struct KeyHash;

impl Kind for KeyHash {
    type Value = [u8; 32];
    const EXPECTED: &'static str = "\"sha256:\" and 64 hexadecimal digits";
    const EXAMPLE: &'static str =
        "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"";
    const FORM: Form = Form::Text;
    const SENSITIVE: bool = true;

    fn parse(raw: &Raw) -> Result<[u8; 32], Fault> {
        let digits = text::<KeyHash>(raw)?.strip_prefix("sha256:").and_then(bytes_of_hex);
        digits.ok_or_else(|| {
            unexpected::<KeyHash>(raw)
                .with_hint("the hash of the key, not the key: `tidings keys new` prints it")
        })
    }

    fn show(hash: &[u8; 32]) -> Option<String> {
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(quoted(&format!("sha256:{digits}")))
    }
}

fn bytes_of_hex(digits: &str) -> Option<[u8; 32]> {
    let nibbles: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let nibbles = nibbles.filter(|nibbles| nibbles.len() == 64)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(nibbles.chunks_exact(2)) {
        *byte = u8::try_from(pair[0] * 16 + pair[1]).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Option<[u8; 32]> {
        KeyHash::parse(&Raw::text(text)).ok()
    }

    #[test]
    fn a_hash_is_read_as_it_is_shown() {
        let text = format!("sha256:{}0aff", "00".repeat(30));
        let bytes = hash(&text).expect("is a hash");
        assert_eq!(bytes[29..], [0, 0x0a, 0xff]);
        assert_eq!(KeyHash::show(&bytes), Some(format!("\"{text}\"")));
    }

    #[test]
    fn what_is_no_hash_is_refused_without_repeating_it() {
        for text in ["td_canary", "sha256:canary", &format!("sha256:{}", "0".repeat(63)), &"0".repeat(64)] {
            assert!(hash(text).is_none(), "{text}");
        }
        let fault = KeyHash::parse(&Raw::text("td_canary")).expect_err("is the key");
        assert!(!format!("{fault:?}").contains("canary"));
    }

    #[test]
    fn a_secret_has_32_bytes_and_is_never_shown() {
        assert!(Secret::parse(&Raw::text("c".repeat(31))).is_err());
        let secret = Secret::parse(&Raw::text("c".repeat(32))).expect("is long enough");
        assert_eq!(secret.expose(), [b'c'; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(Secret::show(&secret).as_deref(), Some("\"***\""));
    }
}
